//! `cargo xtask bench`: the side-by-side runs, whose tables stand in the README.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::peers;

/// A benchmark that prints a table, and the comment that stands before its table in the README.
struct Table {
    package: &'static str,
    features: &'static [&'static str],
    bench: &'static str,
    begin: &'static str,
}

const TABLES: [Table; 4] = [
    Table {
        package: "sandbox-core",
        features: &["--features", "native"],
        bench: "side_by_side",
        begin: "<!-- commands, measured by `cargo xtask bench` -->\n",
    },
    Table {
        package: "artifact-sync",
        features: &[],
        bench: "transfer",
        begin: "<!-- transfers, measured by `cargo xtask bench` -->\n",
    },
    Table {
        package: "artifact-sync",
        features: &[],
        bench: "looks",
        begin: "<!-- looks, measured by `cargo xtask bench` -->\n",
    },
    Table {
        package: "agent-tools",
        features: &[],
        bench: "calls",
        begin: "<!-- calls, measured by `cargo xtask bench` -->\n",
    },
];
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
    let built =
        cargo().args(["build", "--locked", "--release", "--package", "agent-tools"]).status()?;
    if !built.success() {
        return Err(io::Error::other("agent-tools does not build"));
    }
    let readme = workspace.join("README.md");
    for table in &TABLES {
        let mut bench = cargo();
        bench
            .args(["bench", "--locked", "--package", table.package])
            .args(table.features)
            .args(["--bench", table.bench]);
        bench.envs(peers::variables(workspace)).stderr(Stdio::inherit());
        bench.env("AGENT_TOOLS_PROGRAM", peers::target(workspace).join("release/agent-tools"));
        let output = bench.output()?;
        let rows = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{rows}");
        if !output.status.success() {
            return Err(io::Error::other(format!("the benchmark {} failed", table.bench)));
        }
        let text = std::fs::read_to_string(&readme)?;
        let no_place =
            || io::Error::other(format!("README.md has no place for the table of {}", table.bench));
        let (before, rest) = text.split_once(table.begin).ok_or_else(no_place)?;
        let (_, after) = rest.split_once(END).ok_or_else(no_place)?;
        std::fs::write(&readme, format!("{before}{}\n{rows}\n{END}{after}", table.begin))?;
    }
    Ok(())
}
