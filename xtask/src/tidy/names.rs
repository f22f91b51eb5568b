//! Identifiers of `names.txt`, which stands beside this file, in code and in backticks.

use super::Finding;
use super::repository::Repository;
use super::words::{entries, paragraphs, whole_words};

const NAMES: &str = include_str!("names.txt");

/// The changelog lists renamed items by their old names too.
const CHANGELOG: &str = "CHANGELOG.md";

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let names = entries(NAMES);
    let mut findings = Vec::new();
    for file in repository.rust() {
        let code = file.scan.code.iter().enumerate();
        let code = code.map(|(index, line)| (index + 1, line.clone()));
        let comments = file.scan.comments.iter().flat_map(|block| &block.lines);
        let comments = comments.map(|(line, text)| (*line, in_backticks(text)));
        findings.extend(code.chain(comments).flat_map(|line| matches(&names, &file.path, line)));
    }
    for file in repository.markdown().filter(|file| file.path != CHANGELOG) {
        let lines = paragraphs(&file.text).into_iter().flat_map(|block| block.lines);
        let lines = lines.map(|(line, text)| (line, in_backticks(&text)));
        findings.extend(lines.flat_map(|line| matches(&names, &file.path, line)));
    }
    findings
}

fn matches(names: &[(&str, &str)], path: &str, (line, text): (usize, String)) -> Vec<Finding> {
    let found = names.iter().filter(|(name, _)| !whole_words(&text, name).is_empty());
    found
        .map(|(name, remedy)| Finding::new(path, line, format!("the name `{name}`: {remedy}")))
        .collect()
}

/// Returns what stands in backticks, separated by spaces.
fn in_backticks(text: &str) -> String {
    text.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn lines(path: &str, text: &str, expected: &[usize]) {
        let findings = check(&Repository::of(&[(path, text)]));
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_name_of_the_list_is_found_in_code_and_backticks() {
        lines("a.rs", "mod ahead;\nlet a: Lookout = b;\n// See `Tally::new`.\n", &[1, 2, 3]);
        lines("a.md", "Each `slot` waits.\n", &[1]);
    }

    #[test]
    fn prose_longer_names_and_the_changelog_are_accepted() {
        lines("a.rs", "let lookahead = 1; // The Tally of slots.\nlet a = \"slot\";\n", &[]);
        lines("CHANGELOG.md", "- `Lookout` is now `ChangeTracker`.\n", &[]);
    }

    #[test]
    fn every_entry_of_the_list_has_a_remedy() {
        let lines = NAMES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(lines.count(), entries(NAMES).len());
    }
}
