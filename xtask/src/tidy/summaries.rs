//! Summaries of doc comments: a noun phrase or a verb in the third person, never a bare clause.

use super::Finding;
use super::repository::Repository;
use crate::scan::Style;

/// First words of a clause that names nothing.
const CLAUSES: [&str; 15] = [
    "What", "Whatever", "Whether", "Who", "Whoever", "Whom", "Whose", "Where", "How", "Why",
    "Which", "When", "That", "As", "If",
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust() {
        for block in &file.scan.comments {
            let summary = block.lines.iter().find(|(_, line)| !line.trim().is_empty());
            let Some((line, text)) = summary.filter(|_| block.style != Style::Plain) else {
                continue;
            };
            let words = text.trim_start_matches(|character: char| !character.is_alphanumeric());
            let first = words.split(|character: char| !character.is_alphanumeric()).next();
            let is_clause =
                |first: &&str| CLAUSES.iter().any(|word| word.eq_ignore_ascii_case(first));
            if let Some(first) = first.filter(is_clause) {
                let message = format!(
                    "a summary starts with {first:?}: use a noun phrase or a third-person verb"
                );
                findings.push(Finding::new(&file.path, *line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn lines(text: &str, expected: &[usize]) {
        let findings = check(&Repository::of(&[("a.rs", text)]));
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_summary_that_is_a_clause_is_found() {
        lines("//! What a mirror does.\n\n/// Whether it is ours.\nfn a() {}\n", &[1, 3]);
        lines("struct A {\n    /// Why a text is not an id.\n    b: u8,\n}\n", &[2]);
        lines("///\n/// As [`other`], later.\n", &[2]);
        lines("/// what a mirror does\n", &[1]);
    }

    #[test]
    fn a_noun_phrase_and_later_lines_are_accepted() {
        lines("/// Returns the id.\n/// What follows is not the summary.\n", &[]);
        lines("/// Asks whether. Whatsoever.\n// What plain comments say is free.\n", &[]);
        lines("const A: &str = \"/// What\";\n", &[]);
    }
}
