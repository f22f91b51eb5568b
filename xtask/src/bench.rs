//! `cargo xtask bench`: the side-by-side run, whose table stands in the README.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::peers;

/// What the table stands between in the README.
const BEGIN: &str = "<!-- measured by `cargo xtask bench` -->\n";
const END: &str = "<!-- end of what was measured -->";

pub(crate) fn run(workspace: &Path) -> ExitCode {
    match try_run(workspace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(workspace: &Path) -> io::Result<()> {
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace);
        cargo
    };
    let built = cargo().args(["build", "--locked", "--release", "--package", "agent-tools"]).status()?;
    if !built.success() {
        return Err(io::Error::other("agent-tools does not build"));
    }
    let mut bench = cargo();
    bench.args(["bench", "--locked", "--package", "sandbox-core", "--features", "native", "--bench", "side_by_side"]);
    bench.envs(peers::variables(workspace)).stderr(Stdio::inherit());
    bench.env("AGENT_TOOLS_PROGRAM", peers::target(workspace).join("release/agent-tools"));
    let output = bench.output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{table}");
    if !output.status.success() {
        return Err(io::Error::other("the side-by-side run failed"));
    }
    let readme = workspace.join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    let (before, rest) =
        text.split_once(BEGIN).ok_or_else(|| io::Error::other("README.md has no place for the table"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| io::Error::other("README.md has no end of the table"))?;
    std::fs::write(readme, format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}
