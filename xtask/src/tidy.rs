//! `cargo xtask tidy`: the rules for text and files that neither rustfmt nor Clippy enforces.
//!
//! Each rule has a file below `tidy/` and returns its findings; the table [`RULES`] names them all.

mod columns;
mod length;
mod markers;
mod names;
mod references;
mod repository;
mod summaries;
mod words;

use std::env;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use crate::step::{Ended, Outcome, Runner};
use repository::Repository;

/// A place in a file that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Path below the workspace.
    path: String,
    /// Line number, counted from 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

/// A rule's name and the function that finds what breaks it.
type Rule = (&'static str, fn(&Repository) -> Vec<Finding>);

const RULES: [Rule; 7] = [
    ("summaries", summaries::check),
    ("columns", columns::check),
    ("words", words::check),
    ("names", names::check),
    ("length", length::check),
    ("references", references::check),
    ("markers", markers::check),
];

/// Prints every finding in the files at `paths`, or in all files, and the count for each rule.
pub(crate) fn run(workspace: &Path, paths: &[String]) -> ExitCode {
    match report(workspace, paths) {
        Ok((text, 0)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok((text, _)) => {
            print!("{text}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: cannot read the workspace: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same check as a step of `cargo xtask ci`.
pub(crate) fn check(runner: &mut Runner) -> Outcome {
    match report(runner.workspace(), &[]) {
        Ok((_, 0)) => Ok(()),
        Ok((text, _)) => Err(Ended::Failed(text.trim_end().replace('\n', "\n    "))),
        Err(error) => Err(Ended::Failed(format!("cannot read the workspace: {error}"))),
    }
}

/// Returns the text to print and the number of findings.
fn report(workspace: &Path, paths: &[String]) -> std::io::Result<(String, usize)> {
    let repository = Repository::read(workspace)?;
    let selected: Vec<String> = paths.iter().map(|path| below(workspace, path)).collect();
    let (mut text, mut counts, mut total) = (String::new(), Vec::new(), 0);
    for (rule, check) in RULES {
        let mut findings = check(&repository);
        findings.retain(|finding| is_selected(&finding.path, &selected));
        findings.sort();
        for Finding { path, line, message } in &findings {
            text += &format!("{path}:{line}: {message}\n");
        }
        total += findings.len();
        counts.push(format!("{rule} {}", findings.len()));
    }
    text += &format!("{total} findings: {}\n", counts.join(", "));
    Ok((text, total))
}

/// Turns a path from the command line into one below the workspace.
fn below(workspace: &Path, path: &str) -> String {
    let absolute = env::current_dir().unwrap_or_default().join(path);
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    let path = plain.strip_prefix(workspace).unwrap_or(Path::new(path));
    path.to_string_lossy().into_owned()
}

fn is_selected(path: &str, selected: &[String]) -> bool {
    selected.is_empty() || selected.iter().any(|prefix| Path::new(path).starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_selects_a_file_and_all_files_below_a_directory() {
        let selected = ["crates/policy".to_owned(), "README.md".to_owned()];
        assert!(is_selected("crates/policy/src/lib.rs", &selected));
        assert!(is_selected("README.md", &selected));
        assert!(!is_selected("crates/policy-other/src/lib.rs", &selected));
        assert!(is_selected("anything", &[]));
    }
}
