//! Runs the examples of all crates.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::metadata::Metadata;
use crate::step::{Ended, Outcome, Runner};

/// Builds the examples like the tests.
pub(crate) fn build(runner: &Runner) -> Outcome {
    let mut build = runner.cargo(["build", "--locked", "--workspace", "--all-features"]);
    build.arg("--examples");
    runner.command(build)
}

/// Builds the examples, and runs each without arguments. They take seconds.
pub(crate) fn run(runner: &mut Runner) -> Outcome {
    build(runner)?;
    let programs = runner.directory().with_file_name("debug").join("examples");
    for package in Metadata::read(runner)?.members {
        for example in examples(&package.directory.join("examples"))? {
            runner.command(Command::new(programs.join(example)))?;
        }
    }
    Ok(())
}

/// Returns the names of the examples in a directory, sorted; none if there is no directory.
fn examples(directory: &Path) -> Result<Vec<String>, Ended> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Ended::Failed(error.to_string()))?;
        let name = entry.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_a_crate_are_found() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        assert_eq!(examples(&crates.join("policy/examples")).unwrap(), ["compile", "explain"]);
        assert!(examples(&crates.join("absent")).unwrap().is_empty());
    }
}
