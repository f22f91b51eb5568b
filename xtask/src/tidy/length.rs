//! Rust files of at most 400 lines before their tests, or a stated reason.

use super::Finding;
use super::repository::Repository;

const MAX_LINES: usize = 400;
const REASON: &str = "// Long because ";
/// The reason stands within so many lines from the top.
const TOP: usize = 40;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust() {
        let count = lines_before_tests(&file.text);
        let has_reason = file.text.lines().take(TOP).any(|line| line.starts_with(REASON));
        if count > MAX_LINES && !has_reason {
            let message = format!(
                "{count} lines before the tests: split at {MAX_LINES}, or begin with `{REASON}…`"
            );
            findings.push(Finding::new(&file.path, 1, message));
        }
    }
    findings
}

/// Counts the lines before the unit tests. Other items for tests count like any code.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn count(text: &str, expected: usize) {
        assert_eq!(check(&Repository::of(&[("a.rs", text)])).len(), expected);
    }

    #[test]
    fn a_file_of_401_lines_is_found_unless_the_rest_is_tests() {
        count(&"x\n".repeat(400), 0);
        count(&"x\n".repeat(401), 1);
        count(&format!("{}#[cfg(test)]\n{}", "x\n".repeat(400), "y\n".repeat(400)), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}", "y\n".repeat(400));
        count(&format!("{}{tests}", "x\n".repeat(400)), 0);
    }

    #[test]
    fn a_reason_near_the_top_is_accepted() {
        count(&format!("//! A.\n// Long because of b.\n{}", "x\n".repeat(400)), 0);
        count(&format!("{}// Long because of b.\n", "x\n".repeat(400)), 1);
    }
}
