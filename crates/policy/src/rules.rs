//! The path rules of a policy, made absolute.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::glob;

/// One path of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathRule {
    /// A path and all below it.
    Path(PathBuf),
    /// A pattern; what it matches, and all below that.
    Glob(String),
}

impl PathRule {
    /// Reads a rule: `~` stands for `home`, `/**` at the end says nothing, `.` and `..` are folded.
    pub(crate) fn parse(text: &str, home: &Path) -> Result<Self, RuleError> {
        let error = |problem| RuleError { rule: text.to_owned(), problem };
        if text.contains('\0') {
            return Err(error("contains a NUL character"));
        }
        let expanded = match text.strip_prefix('~') {
            Some("") => home.to_string_lossy().into_owned(),
            Some(rest) if rest.starts_with('/') => format!("{}{rest}", home.display()),
            _ => text.to_owned(),
        };
        if !expanded.starts_with('/') {
            return Err(error("is relative; a session's rules are absolute, or start with `~/`"));
        }
        let trimmed = expanded.trim_end_matches("/**");
        if is_glob(trimmed) {
            return Ok(Self::Glob(trimmed.to_owned()));
        }
        let mut path = PathBuf::from("/");
        for component in Path::new(if trimmed.is_empty() { "/" } else { trimmed }).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => {
                    path.pop();
                }
                _ => {}
            }
        }
        Ok(Self::Path(path))
    }

    /// How deep the part of `path` lies that the rule covers; `None` when it does not cover it.
    pub(crate) fn depth_covering(&self, path: &Path) -> Option<usize> {
        match self {
            Self::Path(rule) => path.starts_with(rule).then(|| depth(rule)),
            Self::Glob(pattern) => path
                .ancestors()
                .find(|above| {
                    glob::matches(pattern.as_bytes(), above.as_os_str().as_encoded_bytes())
                })
                .map(depth),
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Glob(pattern) => f.write_str(pattern),
        }
    }
}

/// Whether a rule is a pattern rather than a path.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// How many components a path has.
pub(crate) fn depth(path: &Path) -> usize {
    path.components().count() - 1
}

/// Why a path rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("path rule {rule:?} {problem}")]
pub struct RuleError {
    /// The rule.
    pub rule: String,
    /// What is wrong with it.
    pub problem: &'static str,
}
