//! What is not mirrored.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sandbox_core::STAGED_PREFIX;

use crate::paths::name;

/// Names of directories that programs make again by themselves.
const REFERENCE: [&str; 12] = [
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

/// Which paths are left alone, in both directions: patterns in the syntax of `gitignore(5)`,
/// relative to the directory.
///
/// As there, what is in an ignored directory cannot be taken back by a later pattern: ignored
/// directories are never entered.
#[derive(Clone, Debug)]
pub struct IgnoreRules {
    /// Where all patterns are plain names they are these: comparing costs less than matching.
    names: Vec<String>,
    patterns: Gitignore,
    top_level: Vec<String>,
}

/// A pattern that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no pattern of gitignore(5)")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Default for IgnoreRules {
    /// Virtual environments, installed packages, caches, and `.git`, at any depth.
    fn default() -> Self {
        Self::from_patterns(REFERENCE).expect("plain names are patterns")
    }
}

impl IgnoreRules {
    /// Rules with these patterns, one after another, and no others. Empty ones and comments are
    /// allowed, as in a file.
    ///
    /// # Errors
    /// [`PatternError`] for the first one that cannot be one.
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

    /// Whether an entry, and all in it, is left alone. `path` is relative to the directory, and no
    /// directory above it is left alone.
    pub(crate) fn covers_entry(&self, path: &str, is_directory: bool) -> bool {
        let name = name(path);
        self.names.iter().any(|ignored| ignored == name)
            || name.starts_with(STAGED_PREFIX)
            || self.top_level.iter().any(|ignored| ignored == path)
            || self.patterns.matched(path, is_directory).is_ignore()
    }

    /// Whether a file, relative to the directory, is left alone, or something above it.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.into_iter().any(|above| self.covers_entry(above, true))
            || self.covers_entry(path, false)
    }
}

/// Whether a pattern stands for entries of this name and nothing else.
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
    fn names_count_at_any_depth_and_excluded_ones_at_the_top_only() {
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
    fn patterns_mean_what_they_mean_to_git() {
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
