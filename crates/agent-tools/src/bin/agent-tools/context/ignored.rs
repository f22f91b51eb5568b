//! The files that are not mirrored, by the patterns of `--ignore`.

use agent_tools::IgnoreRules;

use crate::failure::Failure;
use crate::origins;

/// Creates ignore rules from the patterns of `--ignore`. All of them extend the default rules, or
/// all of them replace these.
pub(super) fn ignore_rules(patterns: &[String]) -> Result<IgnoreRules, Failure> {
    let patterns = patterns.iter().map(|pattern| pattern.trim());
    let patterns: Vec<&str> = patterns.filter(|pattern| !pattern.is_empty()).collect();
    let added: Vec<&str> =
        patterns.iter().filter_map(|pattern| pattern.strip_prefix('+')).collect();
    if added.iter().any(|pattern| pattern.trim().is_empty()) {
        let ignore = origins::name("--ignore");
        return Err(Failure::usage(format!("{ignore} has a `+` without a pattern")));
    }
    let rules = if added.is_empty() {
        IgnoreRules::from_patterns(patterns)
    } else if added.len() == patterns.len() {
        IgnoreRules::default().with_patterns(added)
    } else {
        return Err(Failure::usage(format!(
            "{} has patterns with and without `+`: with `+`, they extend the default rules, and \
             without it, they replace them",
            origins::name("--ignore")
        )));
    };
    rules.map_err(Failure::not_run)
}
