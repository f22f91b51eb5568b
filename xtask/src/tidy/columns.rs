//! Lines of at most 100 columns in Rust and Markdown files.

use super::Finding;
use super::repository::Repository;

const MAX_COLUMNS: usize = 100;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust() {
        let lines = file.text.lines().enumerate().filter(|(_, line)| !is_one_word(line));
        findings.extend(lines.filter_map(|(index, line)| finding(&file.path, index, line)));
    }
    for file in repository.markdown() {
        let mut is_fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            let text = line.trim_start();
            if text.starts_with("```") || text.starts_with("~~~") {
                is_fenced = !is_fenced;
            }
            let is_definition = text.starts_with('[') && text.contains("]: ");
            let is_exempt =
                is_fenced || text.starts_with('|') || is_definition || is_one_word(line);
            findings.extend(finding(&file.path, index, line).filter(|_| !is_exempt));
        }
    }
    findings
}

fn finding(path: &str, index: usize, line: &str) -> Option<Finding> {
    let columns = line.chars().count();
    let message = format!("{columns} columns: wrap at {MAX_COLUMNS}");
    (columns > MAX_COLUMNS).then(|| Finding::new(path, index + 1, message))
}

/// Returns whether a line cannot be broken, such as a URL or a hash, possibly in a comment.
fn is_one_word(line: &str) -> bool {
    let text = line.trim();
    let text = ["///", "//!", "//", "-", "*"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    !text.trim().contains(' ')
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
    fn a_line_of_101_characters_is_found() {
        let fits = format!("// {}é {}", "a".repeat(48), "b".repeat(47));
        assert_eq!(fits.chars().count(), 100);
        lines("a.rs", &format!("{fits}\n{fits}c\n"), &[2]);
        lines("a.md", &format!("{fits}\n{fits}c\n"), &[2]);
        lines("a.txt", &format!("{fits}c\n"), &[]);
    }

    #[test]
    fn a_line_that_cannot_be_broken_is_accepted() {
        let url = format!("https://example.org/{}", "a".repeat(100));
        lines("a.rs", &format!("    \"{url}\",\n/// {url}\n"), &[]);
        lines("a.md", &format!("[a]: {url}\n- {url}\n"), &[]);
        lines("a.md", &format!("text {url}\n"), &[1]);
    }

    #[test]
    fn tables_and_code_blocks_of_markdown_are_accepted() {
        let long = "word ".repeat(30);
        lines("a.md", &format!("| {long} |\n```sh\n{long}\n```\n{long}\n"), &[5]);
    }
}
