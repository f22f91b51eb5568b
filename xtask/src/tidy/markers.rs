//! Marks of unfinished work, and silenced lints and tests.

use super::Finding;
use super::repository::Repository;

/// Marks in comments.
const UNFINISHED: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Attributes, without their brackets, and what to do instead.
const ATTRIBUTES: [(&str, &str); 2] = [
    ("allow(", "use `expect(…, reason = \"…\")`"),
    ("ignore", "run the test, or print SKIPPED with the reason"),
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.rust() {
        for (line, text) in file.scan.comments.iter().flat_map(|block| &block.lines) {
            let words = text.split(|character: char| !character.is_alphanumeric());
            if let Some(mark) = words.into_iter().find(|word| UNFINISHED.contains(word)) {
                let message = format!("{mark} in a comment: finish it or open an issue");
                findings.push(Finding::new(&file.path, *line, message));
            }
        }
        for (index, code) in file.scan.code.iter().enumerate() {
            let code = code.trim_start();
            let attribute = code.strip_prefix("#[").or_else(|| code.strip_prefix("#!["));
            let conditional = attribute
                .filter(|text| text.starts_with("cfg_attr("))
                .and_then(|text| text.rsplit_once(", "))
                .map(|(_, text)| text);
            let found = ATTRIBUTES.iter().find(|(name, _)| {
                attribute.into_iter().chain(conditional).any(|text| text.starts_with(name))
            });
            if let Some((name, remedy)) = found {
                let message = format!("the attribute `{}`: {remedy}", name.trim_end_matches('('));
                findings.push(Finding::new(&file.path, index + 1, message));
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
    fn unfinished_work_is_found_in_comments_only() {
        lines("// TODO: later\nlet a = \"TODO\"; /// FIXME\n", &[1, 2]);
        lines("let a = \"TODO\";\n// mktemp d.XXXXXX\n", &[]);
    }

    #[test]
    fn silenced_lints_and_tests_are_found() {
        lines("#![allow(dead_code)]\n#[ignore]\n    #[ignore = \"slow\"]\n", &[1, 2, 3]);
        lines("#[expect(dead_code, reason = \"x\")]\nlet a = \"#[allow(x)]\";\n", &[]);
    }
}
