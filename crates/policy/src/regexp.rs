//! Regular expressions of JavaScript.

/// Reason for which an expression is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    #[cfg(feature = "regexp")]
    Syntax,
    #[cfg(feature = "regexp")]
    NoGroup,
    /// Without the feature `regexp`, no expression can be checked.
    #[cfg(not(feature = "regexp"))]
    NotBuilt,
}

impl Unusable {
    pub(crate) fn problem(self) -> &'static str {
        match self {
            #[cfg(feature = "regexp")]
            Self::Syntax => "is not a regular expression of JavaScript",
            #[cfg(feature = "regexp")]
            Self::NoGroup => "has no group; put the credential in parentheses",
            #[cfg(not(feature = "regexp"))]
            Self::NotBuilt => {
                "is a regular expression, which needs the feature `regexp` of `policy`"
            }
        }
    }
}

/// Checks that an expression is valid and has at least one group.
#[cfg(feature = "regexp")]
pub(crate) fn check(expression: &str) -> Result<(), Unusable> {
    let regex = |text: &str| regress::Regex::new(text).map_err(|_| Unusable::Syntax);
    regex(expression)?;
    // With an empty alternative, the expression matches the empty text, and the match has a place
    // for each group.
    let groups = regex(&format!("{expression}|"))?.find("").map_or(0, |found| found.captures.len());
    if groups == 0 { Err(Unusable::NoGroup) } else { Ok(()) }
}

#[cfg(not(feature = "regexp"))]
pub(crate) fn check(_expression: &str) -> Result<(), Unusable> {
    Err(Unusable::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[cfg(feature = "regexp")]
    #[test]
    fn an_expression_needs_a_group() {
        assert_eq!(check("token=(.+)"), Ok(()));
        assert_eq!(check("token=.+"), Err(super::Unusable::NoGroup));
        assert_eq!(check("token=(.+"), Err(super::Unusable::Syntax));
    }

    #[cfg(not(feature = "regexp"))]
    #[test]
    fn an_expression_that_cannot_be_checked_is_rejected() {
        let unusable = check("token=(.+)").unwrap_err();
        assert!(unusable.problem().contains("feature `regexp`"));
    }
}
