//! The workspace's own tasks: checks, tests, benchmarks, and the programs that some of them need.

mod api;
mod bench;
mod ci;
mod deny;
mod dependencies;
mod diagrams;
mod examples;
mod features;
mod fuzz;
mod layers;
mod metadata;
mod package;
mod peers;
#[cfg(test)]
mod readme;
mod scan;
mod step;
mod summary;
mod tidy;
mod vm;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
The workspace's own tasks.

Usage: cargo xtask ci [TIER|STEP]...
       cargo xtask tidy [PATH]...
       cargo xtask peers
       cargo xtask bench
       cargo xtask diagrams

  ci            runs a tier of checks and tests, by default `full`, or single steps
  tidy          checks the text of all files, or of the files at PATH
  peers         installs the npm and Python packages that tests use in target/xtask/peers;
                ci finds them there
  bench         measures, and writes the tables into README.md and docs/performance.md
  diagrams      draws docs/diagrams/NAME.svg from NAME.txt
  --help        shows this text

Tiers:
  quick         minutes, before every commit: formatting, text, layers, lints and unit tests
  full          everything that a change must pass, with virtual machines and real peers;
                `.ci/run` installs what the machine lacks and runs it
  soak          by hand, an hour or more: random tests with many more cases

Steps:
  vm-arm        tests of the engine in an emulated machine with AArch64
  vm            tests of the engine in a virtual machine with control groups, and of stored files
                in one that loses its power
  fmt           formatting
  tidy          summaries, columns, words, names, file lengths, references
  layers        imports only go down, and what a crate must not contain
  deps          unused dependencies
  deny          licences and duplicates of dependencies
  clippy        lints of all crates with all features
  init          lints of the session's init
  features      lints of each crate without features, and with each feature alone
  package       packages of all crates
  doc           warnings of rustdoc
  api           public items of each crate, compared with docs/api
  fuzz          the fuzz targets, for a minute
  build         compiles tests, examples and benchmarks
  unit          tests in libraries and programs
  test          all tests
  doctest       examples in comments
  examples      the example programs of all crates
  bench         runs each benchmark once, without measuring
  soak          all tests, with many more random cases

Machines run beside the steps that only check and compile; the others follow.
Each step prints one line. Its output is in target/xtask/STEP.log and is shown if the step fails.
Checks that this machine cannot run are listed as `SKIPPED: …`; with CI=true a skip is a failure.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, names)) if command == "ci" && are_names(names) => {
            ci::run(&workspace(), names)
        }
        Some((command, paths)) if command == "tidy" && are_names(paths) => {
            tidy::run(&workspace(), paths)
        }
        Some((command, [])) if command == "bench" => bench::run(&workspace()),
        Some((command, [])) if command == "diagrams" => diagrams::run(&workspace()),
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

fn are_names(arguments: &[String]) -> bool {
    !arguments.iter().any(|argument| argument.starts_with('-'))
}

/// Returns the workspace's folder, which holds this crate's.
fn workspace() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).parent().expect("the crate lies in the workspace").to_owned()
}
