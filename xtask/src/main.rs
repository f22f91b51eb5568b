//! The workspace's own tasks: `cargo xtask ci` runs every check and test, `cargo xtask peers`
//! installs what some compare with.

mod bench;
mod ci;
mod layers;
mod peers;
mod step;
mod summary;
mod tidy;
mod vm;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
The workspace's own tasks.

Usage: cargo xtask ci [STEP]...
       cargo xtask tidy [PATH]...
       cargo xtask peers
       cargo xtask bench

  ci            runs every check and test, or only the named steps
  tidy          checks the text of all files, or of the files at PATH
  peers         installs the npm and Python packages that tests use in target/xtask/peers;
                ci finds them there
  bench         measures, and writes the tables into README.md
  --help        shows this text

Steps: fmt tidy layers clippy init features test vm doctest doc bench

Each step prints one line. Its output is in target/xtask/STEP.log and is shown if the step fails.
Checks that this machine cannot run are listed as `SKIPPED: …`; with CI=true a skip is a failure.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, steps))
            if command == "ci" && !steps.iter().any(|step| step.starts_with('-')) =>
        {
            ci::run(&workspace(), steps)
        }
        Some((command, paths))
            if command == "tidy" && !paths.iter().any(|path| path.starts_with('-')) =>
        {
            tidy::run(&workspace(), paths)
        }
        Some((command, [])) if command == "bench" => bench::run(&workspace()),
        Some((command, [])) if command == "peers" => peers::install(&workspace()),
        Some((help, _)) if matches!(help.as_str(), "--help" | "-h" | "help") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The workspace's folder: the one above this crate's.
fn workspace() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).parent().expect("the crate lies in the workspace").to_owned()
}
