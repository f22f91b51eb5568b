//! Path rules of a policy, made absolute.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::config::PathEntry;
use crate::creation::literal;
use crate::error::ErrorKind;
use crate::glob;

/// One entry of a list of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathRule {
    /// A path and everything below it.
    Path(PathBuf),
    /// A pattern: every path that it matches, and everything below.
    Glob(Pattern),
}

/// A pattern in its possible readings.
///
/// A name on disk can contain the characters of patterns, such as `[1]`. So a component that does
/// not match itself is also read as a name. As in srt, a name is followed by names or patterns, and
/// a pattern by patterns only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The pattern as it is displayed, with names instead of escapes.
    text: String,
    /// Set if a component matches any number of them.
    is_deep: bool,
    /// Absolute patterns; the first one has every component as a pattern.
    readings: Vec<Reading>,
}

/// An absolute pattern, with its literal beginning and end. Most paths differ there, and need no
/// comparison with the whole pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    pattern: Vec<u8>,
    /// Length of the beginning: the directories in front of the first special character.
    head: usize,
    /// Start of the end: what follows the last special character.
    tail: usize,
}

impl Reading {
    fn new(pattern: Vec<u8>) -> Self {
        let is_special = |byte: &u8| b"*?[]".contains(byte);
        let first = pattern.iter().position(is_special).unwrap_or(pattern.len());
        let head = pattern[..first].iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        let tail = pattern.iter().rposition(is_special).map_or(0, |at| at + 1);
        Self { pattern, head, tail }
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.may_be_above(path)
            && path.ends_with(&self.pattern[self.tail..])
            && glob::matches(&self.pattern, path)
    }

    /// Returns whether a match can be at or above `path`.
    fn may_be_above(&self, path: &[u8]) -> bool {
        path.starts_with(&self.pattern[..self.head])
    }
}

/// A path with the ends of its ancestors, to be compared with many rules.
#[derive(Debug)]
pub(crate) struct Ancestry<'p> {
    path: &'p [u8],
    /// Lengths of the path and its ancestors, the longest first.
    lengths: Vec<usize>,
}

impl<'p> Ancestry<'p> {
    /// Takes an absolute path without components `.` and without slashes too many.
    pub(crate) fn new(path: &'p Path) -> Self {
        let path = path.as_os_str().as_encoded_bytes();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut lengths: Vec<usize> = slashes.map(|(at, _)| at.max(1)).collect();
        if path.len() > 1 {
            lengths.push(path.len());
        }
        lengths.reverse();
        // The root has one slash, and so has a path in it.
        lengths.dedup();
        Self { path, lengths }
    }

    /// Returns the length of the longest ancestor that a reading matches.
    fn longest(&self, reading: &Reading) -> Option<usize> {
        let last = reading.pattern[reading.tail..].last();
        let is_possible = |length: &usize| last.is_none() || self.path.get(*length - 1) == last;
        let mut possible = self.lengths.iter().copied().filter(is_possible);
        possible.find(|length| reading.matches(&self.path[..*length]))
    }
}

impl Pattern {
    /// Reads `text` below `base`, a literal path. Resolves `.` and `..` lexically.
    fn new(base: &Path, text: &str) -> Self {
        let (mut base, mut components) = (base.to_owned(), Vec::new());
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." if components.pop().is_none() => drop(base.pop()),
                ".." => {}
                part => components.push(part),
            }
        }
        let escaped = base.iter().skip(1).map(literal).collect::<Vec<_>>();
        let is_ambiguous = |part: &str| !glob::component(part.as_bytes(), part.as_bytes());
        // The name of a directory in front of a relative pattern is escaped already.
        let is_name = |part: &str| exact_name(part.as_bytes()).is_some();
        let reading = |last_name: Option<usize>, keeps_escapes: bool| {
            let parts = components.iter().enumerate().map(|(at, part)| match last_name {
                Some(last)
                    if at <= last && is_ambiguous(part) && !(keeps_escapes && is_name(part)) =>
                {
                    literal(part.as_ref())
                }
                _ => part.as_bytes().to_vec(),
            });
            let parts = escaped.iter().cloned().chain(parts);
            parts.flat_map(|part| [b"/".to_vec(), part].concat()).collect::<Vec<u8>>()
        };
        let ambiguous =
            components.iter().enumerate().filter(|(_, part)| is_ambiguous(part)).map(|(at, _)| at);
        let mut readings = vec![Reading::new(reading(None, true))];
        for last in ambiguous {
            for keeps_escapes in [true, false] {
                let found = Reading::new(reading(Some(last), keeps_escapes));
                if !readings.contains(&found) {
                    readings.push(found);
                }
            }
        }
        let shown = components.iter().map(|part| {
            let name = exact_name(part.as_bytes()).and_then(|name| name.into_string().ok());
            name.unwrap_or_else(|| (*part).to_owned())
        });
        let shown: Vec<String> = shown.collect();
        let base = base.to_string_lossy();
        let text = format!("{}/{}", base.trim_end_matches('/'), shown.join("/"));
        let is_deep = components.contains(&"**");
        Self { text, is_deep, readings }
    }

    /// Returns the readings, absolute patterns of which one must match.
    pub(crate) fn readings(&self) -> impl Iterator<Item = &[u8]> {
        self.readings.iter().map(|reading| &*reading.pattern)
    }

    /// Returns whether the pattern matches a whole path.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let path = path.as_os_str().as_encoded_bytes();
        self.readings.iter().any(|reading| reading.matches(path))
    }

    /// Returns the length of the longest path at or above a path that the pattern matches.
    fn longest_match(&self, ancestry: &Ancestry<'_>) -> Option<usize> {
        let mut readings = self.readings.iter().filter(|one| one.may_be_above(ancestry.path));
        let first = readings.next()?;
        let mut longest = ancestry.longest(first);
        for reading in readings {
            longest = longest.max(ancestry.longest(reading));
        }
        longest
    }

    /// Returns whether a path below a match can match too.
    pub(crate) fn has_deep_matches(&self) -> bool {
        self.is_deep
    }

    /// Returns the path in front of the first component that is a pattern.
    pub(crate) fn base(&self) -> PathBuf {
        let first = self.readings().next().unwrap_or_default();
        let names = first.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        names.map_while(exact_name).fold(PathBuf::from("/"), |base, name| base.join(name))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PathRule {
    /// Parses an entry of settings. `~` is expanded to `home`, `/**` at the end is dropped, and `.`
    /// and `..` are resolved lexically.
    pub(crate) fn parse(entry: &PathEntry, home: &Path) -> Result<Self, RuleError> {
        let error = |problem| RuleError { rule: entry.to_string(), problem };
        let text = match entry {
            PathEntry::Pattern(text) => text,
            PathEntry::Literal(path) => {
                let below_home = path.strip_prefix("~").map(|below| home.join(below));
                return Self::literal(below_home.as_deref().unwrap_or(path));
            }
        };
        if text.contains('\0') {
            return Err(error("contains a NUL character"));
        }
        let below_home =
            text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let (base, text) = below_home.map_or((Path::new("/"), text.as_str()), |rest| (home, rest));
        if !base.is_absolute() || (below_home.is_none() && !text.starts_with('/')) {
            return Err(error("is relative; write an absolute path, or one that starts with `~/`"));
        }
        let trimmed = text.trim_end_matches("/**");
        if is_glob(trimmed) {
            return Ok(Self::Glob(Pattern::new(base, trimmed)));
        }
        Ok(Self::Path(resolve_lexically(base, Path::new(trimmed.trim_start_matches('/')))))
    }

    /// Creates a rule for a path whose characters all belong to names.
    pub(crate) fn literal(path: &Path) -> Result<Self, RuleError> {
        let error = |problem| RuleError { rule: path.display().to_string(), problem };
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(error("contains a NUL character"));
        }
        if !path.is_absolute() {
            return Err(error("is relative; write an absolute path"));
        }
        Ok(Self::Path(resolve_lexically(Path::new("/"), path)))
    }

    /// Returns an absolute entry for settings.
    pub(crate) fn to_entry(&self) -> PathEntry {
        match self {
            Self::Path(path) => PathEntry::Literal(path.clone()),
            Self::Glob(pattern) => PathEntry::Pattern(pattern.to_string()),
        }
    }

    /// Returns the depth of the deepest path that the rule matches among a path and its ancestors,
    /// or `None` if the rule does not cover the path.
    pub(crate) fn depth_covering(&self, ancestry: &Ancestry<'_>) -> Option<usize> {
        self.root_covering(ancestry).map(depth)
    }

    /// Returns the deepest path that the rule matches among a path and its ancestors.
    pub(crate) fn root_covering<'p>(&self, ancestry: &Ancestry<'p>) -> Option<&'p Path> {
        let bytes = ancestry.path;
        let length = match self {
            Self::Path(rule) => {
                let rule = rule.as_os_str().as_encoded_bytes();
                let is_above = bytes.starts_with(rule)
                    && (rule.len() <= 1 || matches!(bytes.get(rule.len()), None | Some(b'/')));
                is_above.then_some(rule.len())
            }
            Self::Glob(pattern) => pattern.longest_match(ancestry),
        };
        length.map(|length| Path::new(OsStr::from_bytes(&bytes[..length])))
    }

    /// Returns whether the rule matches this very path.
    pub(crate) fn is_match(&self, path: &Path) -> bool {
        match self {
            Self::Path(rule) => rule.as_os_str() == path.as_os_str(),
            Self::Glob(pattern) => pattern.matches(path),
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Glob(pattern) => pattern.fmt(f),
        }
    }
}

/// Returns the name that a component of a pattern stands for, if it matches no other.
pub(crate) fn exact_name(part: &[u8]) -> Option<OsString> {
    let mut name = Vec::new();
    let mut rest = part;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'[', [inner, b']', after @ ..]) if b"*?[".contains(inner) => {
                name.push(*inner);
                after
            }
            (b'*' | b'?' | b'[', _) => return None,
            _ => {
                name.push(*first);
                after
            }
        };
    }
    Some(OsString::from_vec(name))
}

/// Returns whether a rule is a pattern and not a path.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// Returns the number of names in an absolute path without components `.`; that of `/` is 0.
pub(crate) fn depth(path: &Path) -> usize {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.windows(2).filter(|pair| pair[0] == b'/' && pair[1] != b'/').count()
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleError {
    /// The rule as written.
    pub rule: String,
    /// Description of the problem.
    pub problem: &'static str,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path rule {:?} {}", self.rule, self.problem)
    }
}

impl std::error::Error for RuleError {}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str, home: &str) -> PathRule {
        PathRule::parse(&text.into(), Path::new(home)).unwrap()
    }

    #[track_caller]
    fn check(text: &str, home: &str, path: &str, covered: Option<&str>) {
        let found = rule(text, home);
        assert_eq!(
            found.root_covering(&Ancestry::new(Path::new(path))),
            covered.map(Path::new),
            "{found:?}"
        );
    }

    #[test]
    fn a_name_with_the_characters_of_a_pattern_is_read_both_ways() {
        check("/w/p[1]", "/h", "/w/p[1]/f", Some("/w/p[1]"));
        check("/w/p[1]", "/h", "/w/p1/f", Some("/w/p1"));
        check("/w/p[1]/*.txt", "/h", "/w/p[1]/a.txt", Some("/w/p[1]/a.txt"));
        check("/w/p[1]/q[2]", "/h", "/w/p[1]/q2", Some("/w/p[1]/q2"));
        check("/w/p[1]/q[2]", "/h", "/w/p[1]/q[2]", Some("/w/p[1]/q[2]"));
        check("/w/p[1]/q[2]", "/h", "/w/p1/q[2]", None);
        check("/w/a*", "/h", "/w/a*", Some("/w/a*"));
    }

    #[test]
    fn a_pattern_in_a_directory_with_such_a_name_is_read_both_ways_too() {
        for dir in ["/w/b[1]", "/w/s*r", "/w/q?", "/w/[x] *?"] {
            for entry in ["p[1]", "p[1]/t"] {
                let entry = PathEntry::from(entry).relative_to(Path::new(dir));
                let found = PathRule::parse(&entry, Path::new("/h")).unwrap();
                for name in ["p[1]/t", "p1/t"] {
                    let path = Path::new(dir).join(name);
                    assert!(
                        found.root_covering(&Ancestry::new(&path)).is_some(),
                        "{found:?} {path:?}"
                    );
                }
                assert_eq!(
                    found.root_covering(&Ancestry::new(Path::new("/w/b1/p1/t"))),
                    None,
                    "{found:?}"
                );
                assert!(found.to_string().starts_with(dir), "{found}");
            }
        }
        check("/w/b[[]1]/p[1]", "/h", "/w/b[[]1]/p[1]", Some("/w/b[[]1]/p[1]"));
    }

    #[test]
    fn a_literal_path_begins_in_the_home_directory_with_a_tilde() {
        let rule = |path: &str| PathRule::parse(&Path::new(path).into(), Path::new("/h")).unwrap();
        assert_eq!(rule("~/a[1]"), PathRule::Path("/h/a[1]".into()));
        assert_eq!(rule("/x/~/a"), PathRule::Path("/x/~/a".into()));
    }

    #[test]
    fn a_pattern_has_no_dots_that_no_path_has() {
        check("/w/./a/../*.txt", "/h", "/w/b.txt", Some("/w/b.txt"));
        check("~/../*.pem", "/home/ann", "/home/a.pem", Some("/home/a.pem"));
        check("/../w*", "/h", "/w1", Some("/w1"));
    }

    #[test]
    fn a_home_directory_has_no_pattern_characters() {
        check("~", "/v/ho[me]", "/v/ho[me]/f", Some("/v/ho[me]"));
        check("~/.ssh", "/v/ho[me]", "/v/ho[me]/.ssh/id", Some("/v/ho[me]/.ssh"));
        check("~/*.pem", "/v/ho[me]", "/v/ho[me]/a.pem", Some("/v/ho[me]/a.pem"));
        check("~/*.pem", "/v/ho[me]", "/v/hom/a.pem", None);
        let PathRule::Glob(pattern) = rule("~/*.pem", "/v/ho[me]") else { panic!() };
        assert_eq!(pattern.base(), Path::new("/v/ho[me]"));
        assert_eq!(pattern.to_string(), "/v/ho[me]/*.pem");
    }

    #[test]
    fn a_literal_path_keeps_its_bytes() {
        let path = Path::new(OsStr::from_bytes(b"/data/\xff[1]*"));
        let rule = PathRule::literal(path).unwrap();
        assert_eq!(rule.root_covering(&Ancestry::new(&path.join("f"))), Some(path));
        assert_eq!(rule.root_covering(&Ancestry::new(Path::new("/data/x"))), None);
    }

    #[test]
    fn relative_paths_are_rejected() {
        for text in ["a", "", "./a", "~ann/x"] {
            assert!(PathRule::parse(&text.into(), Path::new("/h")).is_err(), "{text:?}");
        }
        assert!(PathRule::parse(&"~/x".into(), Path::new("h")).is_err());
    }
}
