//! Paths from an agent, resolved inside its session directory.

use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum length of a path in the kernel, including its NUL (`PATH_MAX`, `limits.h`).
const MAX_PATH_BYTES: usize = 4096;
/// Maximum length of one file name (`NAME_MAX`, `limits.h`).
const MAX_COMPONENT_BYTES: usize = 255;

/// A path inside a session directory: UTF-8, without NUL, and separated by `/`.
///
/// It has at least one component. No component is empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Parses a text without normalising it.
    ///
    /// # Errors
    /// Returns [`PathError::NotRelative`] if the text is not in plain form already. Returns
    /// [`PathError::Nul`] and [`PathError::TooLong`] like [`SessionPath::resolve`].
    pub fn parse(input: &str) -> Result<Self, PathError> {
        check_bytes(input)?;
        if input.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return Err(PathError::NotRelative { input: input.to_owned() });
        }
        check_lengths(input, input)?;
        Ok(Self(input.to_owned()))
    }

    /// Returns the path as text, such as `reports/may.txt`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components, from the session directory down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the path without its last component, or `None` if it has only one.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Appends a relative path.
    ///
    /// # Errors
    /// Like [`RelativePath::parse`].
    pub fn join(&self, rest: &str) -> Result<Self, PathError> {
        Self::parse(&format!("{}/{rest}", self.0))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// A path that an agent wrote, resolved inside one session directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPath {
    absolute: PathBuf,
    relative: Option<RelativePath>,
}

impl SessionPath {
    /// Resolves a path that an agent wrote against its session directory, without disk access.
    ///
    /// The text is normalised first: `//`, `.` and `..` are folded. Then one of three rules
    /// applies:
    /// 1. A path below `session_dir` stays unchanged.
    /// 2. Another absolute path is anchored at `session_dir`, without its leading slash.
    /// 3. A relative path is resolved against `session_dir`.
    ///
    /// So `/notes.txt`, `notes.txt` and `<session dir>/notes.txt` name the same file.
    /// [`SessionDir`](crate::SessionDir) handles symlinks.
    ///
    /// `session_dir` is absolute and normalised, like the result of
    /// [`SessionDir::path`](crate::SessionDir::path).
    ///
    /// # Errors
    /// Returns [`PathError::Escapes`] if a relative path leads out of the session directory.
    /// Returns [`PathError::Nul`] or [`PathError::TooLong`] if no file can have the path, and
    /// [`PathError::SessionDirectory`] if `session_dir` is not an absolute path in UTF-8.
    pub fn resolve(session_dir: &Path, input: &str) -> Result<Self, PathError> {
        check_bytes(input)?;
        let root = session_dir
            .to_str()
            .filter(|root| root.starts_with('/'))
            .ok_or_else(|| PathError::SessionDirectory { path: session_dir.to_owned() })?
            .trim_end_matches('/');
        let normal = normalize(input);
        let inside = match normal.strip_prefix('/') {
            Some(_) if normal == root => "",
            Some(anchored) => {
                match normal.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')) {
                    Some(inside) => inside,
                    None => anchored,
                }
            }
            None if normal == ".." || normal.starts_with("../") => {
                return Err(PathError::Escapes {
                    input: input.to_owned(),
                    session_dir: session_dir.to_owned(),
                });
            }
            None if normal == "." => "",
            None => &normal,
        };
        if inside.is_empty() {
            return Ok(Self {
                absolute: PathBuf::from(if root.is_empty() { "/" } else { root }),
                relative: None,
            });
        }
        let absolute = format!("{root}/{inside}");
        check_lengths(input, &absolute)?;
        Ok(Self {
            absolute: PathBuf::from(absolute),
            relative: Some(RelativePath(inside.to_owned())),
        })
    }

    /// Returns the normalised path if [`SessionPath::resolve`] anchors the text at `session_dir` by
    /// the second rule. A path of the system is one of these.
    pub fn outside(session_dir: &Path, input: &str) -> Option<PathBuf> {
        let normal = PathBuf::from(normalize(input));
        (normal.is_absolute() && !normal.starts_with(session_dir)).then_some(normal)
    }

    /// Returns the absolute path, which is the same on the host and inside the sandbox.
    pub fn absolute(&self) -> &Path {
        &self.absolute
    }

    /// Returns the path below the session directory, or `None` for the session directory itself.
    pub fn relative(&self) -> Option<&RelativePath> {
        self.relative.as_ref()
    }
}

/// Errors returned for invalid paths. The texts help a model to correct the path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path leads out of the session directory.
    #[error(
        "path {input:?} leads out of the session directory {}; give a path inside it, such as \
         `notes.txt` or `skills/<name>/SKILL.md`",
        session_dir.display()
    )]
    Escapes {
        /// The path as the agent wrote it.
        input: String,
        /// The session directory.
        session_dir: PathBuf,
    },
    /// The path contains a NUL character, which no file name can contain.
    #[error("path {input:?} contains a NUL character")]
    Nul {
        /// At most 160 characters of the path as the agent wrote it.
        input: String,
    },
    /// The path, or one of its components, is longer than the kernel allows.
    #[error("path {input:?}… is too long: {limit} bytes at most for {what}")]
    TooLong {
        /// The beginning of the path as the agent wrote it.
        input: String,
        /// `a path` or `one component`.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The path is not plain and relative.
    #[error(
        "path {input:?} is not a plain relative path: it is empty, starts or ends with `/`, or has \
         a component that is empty, `.` or `..`"
    )]
    NotRelative {
        /// The invalid path.
        input: String,
    },
    /// The session directory is not an absolute path in UTF-8.
    #[error("session directory {} is not an absolute path in UTF-8", path.display())]
    SessionDirectory {
        /// The directory.
        path: PathBuf,
    },
}

/// Kinds of [`PathError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathErrorKind {
    /// The path leads out of the session directory.
    Escapes,
    /// No file can have the path.
    Invalid,
    /// The caller gave an unusable session directory.
    SessionDirectory,
}

impl PathError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> PathErrorKind {
        match self {
            Self::Escapes { .. } => PathErrorKind::Escapes,
            Self::Nul { .. } | Self::TooLong { .. } | Self::NotRelative { .. } => {
                PathErrorKind::Invalid
            }
            Self::SessionDirectory { .. } => PathErrorKind::SessionDirectory,
        }
    }

    /// Returns `false`: the same path never becomes valid.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

fn check_bytes(input: &str) -> Result<(), PathError> {
    if input.contains('\0') {
        return Err(PathError::Nul { input: beginning(input) });
    }
    Ok(())
}

fn check_lengths(input: &str, path: &str) -> Result<(), PathError> {
    let too_long = |what, limit| PathError::TooLong { input: beginning(input), what, limit };
    if path.len() >= MAX_PATH_BYTES {
        return Err(too_long("a path", MAX_PATH_BYTES - 1));
    }
    if path.split('/').any(|component| component.len() > MAX_COMPONENT_BYTES) {
        return Err(too_long("one component", MAX_COMPONENT_BYTES));
    }
    Ok(())
}

fn beginning(input: &str) -> String {
    input.chars().take(160).collect()
}

/// Folds `//`, `.` and `..` in a text.
///
/// An absolute path stays absolute and cannot climb above `/`. A relative path keeps leading `..`
/// components. The result is never empty, and only `/` itself ends in `/`.
fn normalize(input: &str) -> String {
    let absolute = input.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in input.split('/') {
        match component {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if absolute => {}
            other => kept.push(other),
        }
    }
    match (absolute, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;
    use proptest::prelude::*;

    const DIR: &str = "/srv/sessions/s1";

    #[track_caller]
    fn check(input: &str, expected: Result<&str, &str>) {
        let found = SessionPath::resolve(Path::new(DIR), input);
        match (&found, expected) {
            (Ok(path), Ok(relative)) => {
                assert_eq!(path.relative().map_or("", RelativePath::as_str), relative, "{input:?}");
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{input:?}: {error}");
            }
            _ => panic!("{input:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_three_spellings_name_the_same_file() {
        check("skills/x", Ok("skills/x"));
        check("/skills/x", Ok("skills/x"));
        check("/srv/sessions/s1/skills/x", Ok("skills/x"));
        check("./skills//./x/", Ok("skills/x"));
    }

    #[test]
    fn absolute_paths_are_anchored_and_cannot_climb() {
        check("/../etc/passwd", Ok("etc/passwd"));
        check("/etc/../../x", Ok("x"));
        check("/srv/sessions/s1/../s2/x", Ok("srv/sessions/s2/x"));
        check("/srv/sessions/s1x/y", Ok("srv/sessions/s1x/y"));
    }

    #[test]
    fn the_session_directory_itself_has_no_relative_path() {
        for input in ["", ".", "/", "a/..", DIR, "/srv/sessions/s1/"] {
            check(input, Ok(""));
        }
    }

    #[test]
    fn relative_paths_that_lead_out_are_rejected_with_a_hint() {
        for input in ["..", "../x", "a/../../x", "./../s1/x"] {
            check(input, Err("skills/<name>/SKILL.md"));
        }
    }

    #[test]
    fn nul_and_overlong_paths_are_rejected() {
        check("a\0b", Err("NUL"));
        check(&"x".repeat(256), Err("one component"));
        check(&"x/".repeat(2500), Err("a path"));
        check(&"é".repeat(127), Ok(&"é".repeat(127)));
    }

    #[test]
    fn relative_paths_are_accepted_in_plain_form_only() {
        for text in ["", "/a", "a/", "a//b", "a/./b", "..", "a/../b", "a\0"] {
            assert!(RelativePath::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(RelativePath::parse("a/b").unwrap().parent().unwrap().as_str(), "a");
    }

    /// Resolves a path like the kernel does on a tree without symlinks: one component after
    /// another.
    fn oracle(input: &str) -> Option<Vec<String>> {
        let anchored = input.starts_with('/');
        let root: Vec<&str> = DIR.split('/').filter(|c| !c.is_empty()).collect();
        // The current directory: components from `/`, or from the session directory for a relative
        // input. `above` counts the levels above the session directory.
        let mut at: Vec<&str> = Vec::new();
        let mut above = 0;
        for component in input.split('/') {
            match component {
                "" | "." => {}
                ".." => {
                    if at.pop().is_none() && !anchored {
                        above += 1;
                    }
                }
                name => at.push(name),
            }
        }
        if above > 0 {
            return None;
        }
        let inside = if anchored && at.starts_with(&root) { &at[root.len()..] } else { &at[..] };
        Some(inside.iter().map(|c| (*c).to_owned()).collect())
    }

    fn component() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "a", "b", ".", "..", "", "é", "srv", "sessions", "s1", "skills", "\0", "...",
        ])
        .prop_map(str::to_owned)
    }

    fn input() -> impl Strategy<Value = String> {
        (prop::bool::ANY, prop::bool::ANY, prop::collection::vec(component(), 0..8)).prop_map(
            |(slash, inside, parts)| {
                let prefix = if inside {
                    "/srv/sessions/s1/"
                } else if slash {
                    "/"
                } else {
                    ""
                };
                format!("{prefix}{}", parts.join("/"))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn resolution_agrees_with_the_oracle(input in input()) {
            let found = SessionPath::resolve(Path::new(DIR), &input);
            if input.contains('\0') {
                let is_rejected = matches!(found, Err(PathError::Nul { .. }));
                prop_assert!(is_rejected);
            } else {
                let components =
                    |path: &RelativePath| path.components().map(str::to_owned).collect::<Vec<_>>();
                let found = found.ok().map(|path| path.relative().map_or(vec![], components));
                prop_assert_eq!(found, oracle(&input));
            }
        }

        #[test]
        fn a_resolved_path_never_escapes_and_is_stable(input in input()) {
            let resolve = |input: &str| SessionPath::resolve(Path::new(DIR), input);
            if let Ok(path) = resolve(&input) {
                prop_assert!(path.absolute().starts_with(DIR));
                let climbs = path.absolute().components().any(|c| c == Component::ParentDir);
                prop_assert!(!climbs);
                let again = resolve(path.absolute().to_str().unwrap()).unwrap();
                prop_assert_eq!(&again, &path);
                if let Some(relative) = path.relative() {
                    prop_assert_eq!(&RelativePath::parse(relative.as_str()).unwrap(), relative);
                    // The other two spellings, unless the anchored one looks like a host path.
                    let shape = resolve(relative.as_str()).unwrap();
                    prop_assert_eq!(&shape, &path);
                    let anchored = format!("/{relative}");
                    if !anchored.starts_with(DIR) {
                        prop_assert_eq!(&resolve(&anchored).unwrap(), &path);
                    }
                }
            }
        }

        #[test]
        fn no_text_causes_a_panic(input in "\\PC*") {
            let _ = SessionPath::resolve(Path::new(DIR), &input);
            let _ = RelativePath::parse(&input);
        }
    }
}
