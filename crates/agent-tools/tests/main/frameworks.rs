//! `examples/frameworks` with the real agent frameworks, whose models give fixed answers, and real
//! MCP clients.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{NO_DIRECTORY_IN_SIGHT, directory_in_sight, skipped};

const EXAMPLES: &str = "../../examples/frameworks";
const CLIENTS: &str = "tests/mcp_clients";
/// The home in the output that pages show.
const ANN: &str = "/home/ann/.local/share/agent-tools";
/// Seconds after which a test has failed.
const TIME_LIMIT: &str = "60";

/// A language of scripts, with the packages that it finds.
#[derive(Clone, Copy, Debug)]
enum Language {
    JavaScript,
    Python,
    /// With the newest packages for MCP.
    PythonMcp,
}

impl Language {
    /// Returns the interpreter and the search path of packages, if both are installed.
    fn installed(self) -> Option<(OsString, OsString)> {
        let python = || {
            let directory = PathBuf::from(env::var_os("PEERS_PYTHON_DIR")?);
            Some(directory.join("bin/python").into_os_string())
        };
        match self {
            Self::JavaScript => Some((env::var_os("NODE22")?, env::var_os("PEERS_MODULES_DIR")?)),
            Self::Python => Some((python()?, OsString::new())),
            Self::PythonMcp => Some((python()?, env::var_os("PEERS_MCP_DIR")?)),
        }
    }
}

/// Runs a script of a directory of this repository in a copy of the directory.
#[track_caller]
fn run(language: Language, directory: &str, script: &str) {
    run_in_copy(language, directory, script, |_, _| {});
}

/// Runs the first example of a page in a copy of the adapters. The page shows its output.
#[track_caller]
fn run_page(language: Language, framework: &str) {
    let (name, script) = match language {
        Language::JavaScript => ("js", "try.mjs"),
        Language::Python | Language::PythonMcp => ("python", "try.py"),
    };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLES).join(framework);
    let page = fs::read_to_string(page.join("README.md")).unwrap();
    let block = |name: &str| {
        let (_, rest) = page.split_once(&format!("\n```{name}\n")).unwrap();
        rest.split_once("```\n").unwrap().0.to_owned()
    };
    run_in_copy(language, EXAMPLES, &format!("{framework}/{script}"), |path, output| {
        match output {
            None => fs::write(path, block(name)).unwrap(),
            // A page shows no blank line at the end of the output.
            Some(output) => assert_eq!(output.trim_end(), block("text").trim_end()),
        }
    });
}

/// Runs a script in a copy of its directory. `check` gets the path of the script first, and its
/// output in the end, in which the home is that of the user Ann.
#[track_caller]
fn run_in_copy(
    language: Language,
    directory: &str,
    script: &str,
    check: impl Fn(&Path, Option<&str>),
) {
    let Some((interpreter, packages)) = language.installed() else {
        return skipped(
            &format!("{script} with its packages"),
            "`cargo xtask peers` installs them",
        );
    };
    // A session sees this directory, unlike those in the host's /tmp.
    let Some(copy) = directory_in_sight(env!("CARGO_TARGET_TMPDIR")) else {
        return skipped(script, NO_DIRECTORY_IN_SIGHT);
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    copy_files(&source, copy.path()).unwrap();
    let home = tempfile::tempdir().unwrap();
    check(&copy.path().join(script), None);
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", TIME_LIMIT]).arg(interpreter).arg(copy.path().join(script));
    let programs = Path::new(env!("CARGO_BIN_EXE_agent-tools")).parent().unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
    command.env_clear().env("PATH", path).env("HOME", home.path()).env("LANG", "C.UTF-8");
    command.env("AGENT_TOOLS_HOME", home.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    match language {
        // Modules of JavaScript are searched beside the script and above it.
        Language::JavaScript => {
            std::os::unix::fs::symlink(packages, copy.path().join("node_modules")).unwrap();
        }
        Language::Python => {}
        Language::PythonMcp => {
            command.env("PYTHONPATH", packages);
        }
    }
    let output = command.current_dir(copy.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stdout = stdout.replace(&home.path().display().to_string(), ANN);
    check(&copy.path().join(script), Some(&stdout));
}

/// Copies the files of a directory and of those in it.
fn copy_files(source: &Path, target: &Path) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if !entry.file_type()?.is_dir() {
            fs::copy(from, to)?;
        } else if entry.file_name() != "node_modules" {
            fs::create_dir(&to)?;
            copy_files(&from, &to)?;
        }
    }
    Ok(())
}

#[test]
fn ai_sdk_runs_in_a_session() {
    run(Language::JavaScript, EXAMPLES, "ai-sdk/test.mjs");
}

#[test]
fn anthropic_toolset_runs_in_a_session() {
    run(Language::Python, EXAMPLES, "anthropic/test.py");
}

#[test]
fn bash_tool_runs_in_a_session() {
    run(Language::JavaScript, EXAMPLES, "bash-tool/test.mjs");
}

#[test]
fn deepagents_runs_in_a_session() {
    run(Language::Python, EXAMPLES, "deepagents/test.py");
}

#[test]
fn langchain_shell_runs_in_a_session() {
    run(Language::Python, EXAMPLES, "langchain/test.py");
}

#[test]
fn openai_agents_of_javascript_run_in_a_session() {
    run(Language::JavaScript, EXAMPLES, "openai-agents-js/test.mjs");
}

#[test]
fn openai_agents_of_python_run_in_a_session() {
    run(Language::Python, EXAMPLES, "openai-agents/test.py");
}

#[test]
fn the_first_example_of_each_page_prints_what_the_page_shows() {
    for framework in ["ai-sdk", "bash-tool", "openai-agents-js"] {
        run_page(Language::JavaScript, framework);
    }
    for framework in ["anthropic", "deepagents", "langchain", "openai-agents"] {
        run_page(Language::Python, framework);
    }
}

#[test]
fn typescript_sdk_uses_the_mcp_server() {
    run(Language::JavaScript, CLIENTS, "typescript_sdk.mjs");
}

#[test]
fn ai_sdk_uses_the_mcp_server() {
    run(Language::JavaScript, CLIENTS, "ai_sdk.mjs");
}

#[test]
fn python_sdk_uses_the_mcp_server() {
    run(Language::PythonMcp, CLIENTS, "python_sdk.py");
}

#[test]
fn fastmcp_uses_the_mcp_server() {
    run(Language::PythonMcp, CLIENTS, "fastmcp_client.py");
}

#[test]
fn langchain_adapters_use_the_mcp_server() {
    run(Language::Python, CLIENTS, "langchain_adapters.py");
}

/// Runs every scenario; `conformance.yml` lists those that do not apply, with the reasons.
#[test]
fn the_mcp_server_conforms_to_the_protocol() {
    run(Language::JavaScript, CLIENTS, "conformance.mjs");
}

/// The examples name the versions that their tests run with.
#[test]
fn examples_have_the_versions_of_the_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let json = |path: &str| serde_json::from_str::<serde_json::Value>(&read(path)).unwrap();
    let modules = json("xtask/peers/package.json");
    for example in ["ai-sdk", "bash-tool", "openai-agents-js"] {
        let package = json(&format!("examples/frameworks/{example}/package.json"));
        for (name, version) in package["dependencies"].as_object().unwrap() {
            assert_eq!(modules["dependencies"][name], *version, "{example}: {name}");
        }
    }
    let packages = read("xtask/peers/requirements.txt");
    for example in ["anthropic", "deepagents", "langchain", "openai-agents"] {
        for pin in read(&format!("examples/frameworks/{example}/requirements.txt")).lines() {
            assert!(packages.lines().any(|line| line == pin), "{example}: {pin}");
        }
    }
}
