//! Verdicts on SKILL.md beside those of the reference validator.
//!
//! `tests/reference/corpus.json` has small skills, each with the verdict that `record.py` has taken
//! from the validator, and the named difference that explains another verdict of this crate.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use skill_store::FrontMatter;

#[derive(Deserialize)]
struct Corpus {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    text: String,
    /// A character and the number of times that it stands in place of `{FILL}`.
    fill: Option<(char, usize)>,
    /// Verdict of the reference.
    valid: bool,
    /// Name of the reason for another verdict.
    difference: Option<String>,
}

/// The section of the documentation that lists the differences.
const SECTION: &str = "## Differences from the reference validator";

/// Returns the names of the differences in the documentation.
fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/skills.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split(SECTION).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

#[test]
fn verdicts_equal_those_of_the_reference_except_for_the_named_differences() {
    let corpus: Corpus = serde_json::from_str(include_str!("../reference/corpus.json")).unwrap();
    let mut wrong = Vec::new();
    for Case { case, text, fill, valid, difference } in &corpus.cases {
        let fill = fill.map(|(character, count)| character.to_string().repeat(count));
        let text = text.replace("{FILL}", &fill.unwrap_or_default());
        let found = FrontMatter::parse(text.as_bytes());
        if found.is_ok() == *valid && difference.is_some() {
            wrong.push(format!("{case}: the verdicts are equal, despite {difference:?}"));
        }
        if found.is_ok() != *valid && difference.is_none() {
            let problem = found.err().map(|error| error.to_string()).unwrap_or_default();
            let problem: String = problem.chars().take(150).collect();
            wrong.push(format!("{case}: the reference says {valid}; {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.cases.len(), wrong.join("\n"));
    let used: BTreeSet<String> =
        corpus.cases.into_iter().filter_map(|case| case.difference).collect();
    assert_eq!(used, documented());
}
