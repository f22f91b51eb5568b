//! Path rules of a policy, made absolute.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::error::ErrorKind;
use crate::glob;

/// One entry of a list of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathRule {
    /// A path and everything below it.
    Path(PathBuf),
    /// A pattern: every path that it matches, and everything below.
    Glob(String),
}

impl PathRule {
    /// Parses a rule. `~` is expanded to `home`, `/**` at the end is dropped, and `.` and `..` are
    /// resolved lexically.
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
            return Err(error("is relative; write an absolute path, or one that starts with `~/`"));
        }
        let trimmed = expanded.trim_end_matches("/**");
        if is_glob(trimmed) {
            return Ok(Self::Glob(trimmed.to_owned()));
        }
        Ok(Self::Path(resolve_lexically(Path::new("/"), Path::new(trimmed))))
    }

    /// Returns the depth of the deepest path that the rule matches among `path` and its ancestors,
    /// or `None` if the rule does not cover `path`.
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

/// Returns whether a rule is a pattern and not a path.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// Returns the number of components of an absolute path; that of `/` is 0.
pub(crate) fn depth(path: &Path) -> usize {
    path.components().count() - 1
}

/// Resolves `path` against `dir` without access to the file system; an absolute path replaces it.
pub(crate) fn resolve_lexically(dir: &Path, path: &Path) -> PathBuf {
    let mut resolved = dir.to_owned();
    for component in path.components() {
        match component {
            Component::RootDir => resolved = PathBuf::from("/"),
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(name) => resolved.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    resolved
}

/// Returns whether `path` lies strictly inside `dir`.
pub(crate) fn is_inside(path: &Path, dir: &Path) -> bool {
    path.starts_with(dir) && depth(path) > depth(dir)
}

/// Error for a path rule that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("path rule {rule:?} {problem}")]
pub struct RuleError {
    /// The rule as written.
    pub rule: String,
    /// Description of the problem.
    pub problem: &'static str,
}

impl RuleError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidRule
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}
