//! Regular expressions of JavaScript.

use regress::Regex;

/// Reason for which srt rejects an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Syntax,
    NoGroup,
}

/// Checks that an expression is valid and has at least one group.
pub(crate) fn check(expression: &str) -> Result<(), Unusable> {
    let regex = |text: &str| Regex::new(text).map_err(|_| Unusable::Syntax);
    regex(expression)?;
    // With an empty alternative, the expression matches the empty text, and the match has a place
    // for each group.
    let groups = regex(&format!("{expression}|"))?.find("").map_or(0, |found| found.captures.len());
    if groups == 0 { Err(Unusable::NoGroup) } else { Ok(()) }
}
