//! Rules for paths that are not mirrored.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sandbox_core::STAGED_PREFIX;

use crate::paths::name;

/// Names of directories that programs can recreate.
const DEFAULT_NAMES: [&str; 12] = [
    "venv",
    ".venv",
    "env",
    "node_modules",
    "__pycache__",
    "site-packages",
    "dist-packages",
    ".cache",
    ".git",
    ".pytest_cache",
    ".mypy_cache",
    ".ipynb_checkpoints",
];

/// Paths that are ignored in both directions, as patterns in the syntax of `gitignore(5)` relative
/// to the directory.
///
/// As in git, a later pattern cannot re-include the content of an ignored directory: ignored
/// directories are never entered.
#[derive(Clone, Debug)]
pub struct IgnoreRules {
    /// The patterns, if all of them are plain names. Comparing names is cheaper than matching.
    names: Vec<String>,
    patterns: Gitignore,
    top_level: Vec<String>,
}

/// Error for text that is not a pattern of `gitignore(5)`.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is not a gitignore pattern")]
pub struct PatternError {
    /// The rejected pattern.
    pub pattern: String,
    /// Explanation of the parser.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Classification of a [`PatternError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// The pattern has a syntax error.
    Syntax,
}

impl PatternError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> PatternErrorKind {
        PatternErrorKind::Syntax
    }

    /// Returns `false`: the same pattern fails again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Default for IgnoreRules {
    /// Ignores virtual environments, installed packages, caches, and `.git`, at any depth.
    fn default() -> Self {
        Self::from_patterns(DEFAULT_NAMES).expect("plain names are patterns")
    }
}

impl IgnoreRules {
    /// Creates rules from patterns in order, without the default names. Empty patterns and comments
    /// are allowed, as in a `.gitignore` file.
    ///
    /// # Errors
    /// Returns [`PatternError`] for the first invalid pattern.
    pub fn from_patterns<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, PatternError> {
        let patterns: Vec<P> = patterns.into_iter().collect();
        if patterns.iter().all(|pattern| is_name(pattern.as_ref())) {
            let names = patterns.iter().map(|pattern| pattern.as_ref().to_owned()).collect();
            return Ok(Self { names, patterns: Gitignore::empty(), top_level: Vec::new() });
        }
        let mut builder = GitignoreBuilder::new("");
        let error = |pattern: &str, source: ignore::Error| PatternError {
            pattern: pattern.to_owned(),
            source: Box::new(source),
        };
        for pattern in patterns {
            let pattern = pattern.as_ref();
            builder.add_line(None, pattern).map_err(|source| error(pattern, source))?;
        }
        let patterns = builder.build().map_err(|source| error("", source))?;
        Ok(Self { names: Vec::new(), patterns, top_level: Vec::new() })
    }

    pub(crate) fn add_top_level(&mut self, name: String) {
        self.top_level.push(name);
    }

    /// Returns whether an entry and everything below it is ignored. `path` is relative to the
    /// directory, and none of its parent directories is ignored.
    pub(crate) fn covers_entry(&self, path: &str, is_directory: bool) -> bool {
        let name = name(path);
        self.names.iter().any(|ignored| ignored == name)
            || name.starts_with(STAGED_PREFIX)
            || self.top_level.iter().any(|ignored| ignored == path)
            || self.patterns.matched(path, is_directory).is_ignore()
    }

    /// Returns whether a file or one of its parent directories is ignored. `path` is relative to
    /// the directory.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.into_iter().any(|above| self.covers_entry(above, true))
            || self.covers_entry(path, false)
    }
}

/// Returns whether a pattern matches entries of this name and nothing else.
fn is_name(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &IgnoreRules, ignored: &[&str], mirrored: &[&str]) {
        for path in ignored {
            assert!(rules.covers(path), "{path}");
        }
        for path in mirrored {
            assert!(!rules.covers(path), "{path}");
        }
    }

    #[test]
    fn names_match_at_any_depth_and_excluded_entries_at_the_top_only() {
        let mut rules = IgnoreRules::default();
        rules.add_top_level("skills".to_owned());
        check(
            &rules,
            &[
                "node_modules/a",
                "a/.git/HEAD",
                "venv",
                "skills/x/SKILL.md",
                "a/.agent-tools-staged-1",
            ],
            &["a", "a/skills/b", "my_node_modules/a", ".gitignore", "environment/a"],
        );
    }

    #[test]
    fn patterns_match_as_in_git() {
        let rules = IgnoreRules::from_patterns([
            "# a comment",
            "",
            "*.log",
            "!keep.log",
            "/build/",
            "docs/**/*.tmp",
            "a b",
        ])
        .unwrap();
        check(
            &rules,
            &["x.log", "d/x.log", "build/x", "docs/a/b/c.tmp", "a b", "d/a b/c", "build/keep.log"],
            &["keep.log", "d/keep.log", "d/build/x", "build", "docs.tmp", "node_modules/a"],
        );
        assert!(IgnoreRules::from_patterns(["a{b"]).is_err());
        assert!(!IgnoreRules::from_patterns::<&str>([]).unwrap().covers("node_modules/a"));
    }
}
