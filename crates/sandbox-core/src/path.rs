//! Paths that an agent gives, resolved to a place inside its session directory or refused.

use std::fmt;
use std::path::{Path, PathBuf};

/// The longest path that the kernel takes, its closing NUL included (`PATH_MAX`, `limits.h`).
const MAX_PATH_BYTES: usize = 4096;
/// The longest name of one directory entry (`NAME_MAX`, `limits.h`).
const MAX_COMPONENT_BYTES: usize = 255;

/// A path inside a session directory: UTF-8, `/`-separated, with at least one component, none of
/// them empty, `.` or `..`, and no NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Checks and takes over a text; nothing is normalised.
    ///
    /// # Errors
    /// [`PathError::NotRelative`] when the text is not already in its plain form,
    /// [`PathError::Nul`] and [`PathError::TooLong`] as in [`SessionPath::resolve`].
    pub fn parse(input: &str) -> Result<Self, PathError> {
        check_bytes(input)?;
        if input.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return Err(PathError::NotRelative { input: input.to_owned() });
        }
        check_lengths(input, input)?;
        Ok(Self(input.to_owned()))
    }

    /// The path as text, such as `reports/may.txt`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, from the session directory down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path without its last component; `None` when it has only one.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// This path with one more relative path after it.
    ///
    /// # Errors
    /// As [`RelativePath::parse`].
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

/// A place inside one session directory, made from what an agent wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPath {
    absolute: PathBuf,
    relative: Option<RelativePath>,
}

impl SessionPath {
    /// Resolves what an agent wrote against its session directory, without touching the disk.
    ///
    /// The input is normalised as POSIX does (`//`, `.` and `..` folded by text). Then one of three
    /// shapes applies: a path already below `session_dir` is taken as it is; another absolute path
    /// loses its leading slash and is anchored at `session_dir`; a relative path is resolved
    /// against it. So `/notes.txt`, `notes.txt` and `<session dir>/notes.txt` are one file.
    /// Symlinks are a matter for [`SessionDir`](crate::SessionDir).
    ///
    /// `session_dir` is absolute and normalised, as [`SessionDir::path`](crate::SessionDir::path)
    /// gives it.
    ///
    /// # Errors
    /// [`PathError::Escapes`] when a relative path climbs out, [`PathError::Nul`],
    /// [`PathError::TooLong`], and [`PathError::SessionDirectory`] when `session_dir` itself is not
    /// absolute UTF-8.
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

    /// The whole path on the host, which is also the path inside the sandbox.
    pub fn absolute(&self) -> &Path {
        &self.absolute
    }

    /// The path below the session directory; `None` for the session directory itself.
    pub fn relative(&self) -> Option<&RelativePath> {
        self.relative.as_ref()
    }
}

/// Why a path that an agent gave was refused; the text helps a model to correct itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path leads out of the session directory.
    #[error(
        "path {input:?} leads out of the session directory {}; give a path inside it, such as `notes.txt` or \
         `skills/<name>/SKILL.md`",
        session_dir.display()
    )]
    Escapes {
        /// What the agent wrote.
        input: String,
        /// The directory that it may use.
        session_dir: PathBuf,
    },
    /// The path contains a NUL character, which no file name can hold.
    #[error("path {input:?} contains a NUL character")]
    Nul {
        /// What the agent wrote, at most its first 160 characters.
        input: String,
    },
    /// The path, or one of its components, is longer than the kernel takes.
    #[error("path {input:?}… is too long: {limit} bytes at most for {what}")]
    TooLong {
        /// The beginning of what the agent wrote.
        input: String,
        /// `a path` or `one component`.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A path that must be plain and relative is not.
    #[error(
        "path {input:?} is not a plain relative path: it is empty, starts or ends with `/`, or has a component that is empty, `.` or `..`"
    )]
    NotRelative {
        /// The refused text.
        input: String,
    },
    /// The session directory itself cannot be used.
    #[error("session directory {} is not an absolute path in UTF-8", path.display())]
    SessionDirectory {
        /// The directory.
        path: PathBuf,
    },
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

/// Folds `//`, `.` and `..` by text. Absolute input stays absolute and cannot climb above `/`;
/// relative input keeps the `..` that it cannot fold in front. Never empty, never ends in `/` (but
/// for `/` itself).
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
    fn the_three_shapes_lead_to_one_file() {
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
    fn relative_paths_that_climb_out_are_refused_with_a_hint() {
        for input in ["..", "../x", "a/../../x", "./../s1/x"] {
            check(input, Err("skills/<name>/SKILL.md"));
        }
    }

    #[test]
    fn nul_and_over_long_paths_are_refused() {
        check("a\0b", Err("NUL"));
        check(&"x".repeat(256), Err("one component"));
        check(&"x/".repeat(2500), Err("a path"));
        check(&"é".repeat(127), Ok(&"é".repeat(127)));
    }

    #[test]
    fn relative_paths_are_taken_only_in_their_plain_form() {
        for text in ["", "/a", "a/", "a//b", "a/./b", "..", "a/../b", "a\0"] {
            assert!(RelativePath::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(RelativePath::parse("a/b").unwrap().parent().unwrap().as_str(), "a");
    }

    /// What the kernel's own walk would do, one component after another, on a tree without
    /// symlinks.
    fn oracle(input: &str) -> Option<Vec<String>> {
        let anchored = input.starts_with('/');
        let root: Vec<&str> = DIR.split('/').filter(|c| !c.is_empty()).collect();
        // Where the walk stands: components from `/`, or, for a relative input, from the session
        // directory with a count of how far above it the walk has climbed.
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
                let refused = matches!(found, Err(PathError::Nul { .. }));
                prop_assert!(refused);
            } else {
                let found = found.ok().map(|path| {
                    path.relative().map_or(vec![], |r| r.components().map(str::to_owned).collect::<Vec<_>>())
                });
                prop_assert_eq!(found, oracle(&input));
            }
        }

        #[test]
        fn a_resolved_path_never_escapes_and_is_stable(input in input()) {
            if let Ok(path) = SessionPath::resolve(Path::new(DIR), &input) {
                prop_assert!(path.absolute().starts_with(DIR));
                prop_assert!(!path.absolute().components().any(|c| c == std::path::Component::ParentDir));
                let again = SessionPath::resolve(Path::new(DIR), path.absolute().to_str().unwrap()).unwrap();
                prop_assert_eq!(&again, &path);
                if let Some(relative) = path.relative() {
                    prop_assert_eq!(&RelativePath::parse(relative.as_str()).unwrap(), relative);
                    // The other two shapes, where `/`-anchoring cannot be mistaken for the host's
                    // path.
                    let shape = SessionPath::resolve(Path::new(DIR), relative.as_str()).unwrap();
                    prop_assert_eq!(&shape, &path);
                    let anchored = format!("/{relative}");
                    if !anchored.starts_with(DIR) {
                        prop_assert_eq!(&SessionPath::resolve(Path::new(DIR), &anchored).unwrap(), &path);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(input in "\\PC*") {
            let _ = SessionPath::resolve(Path::new(DIR), &input);
            let _ = RelativePath::parse(&input);
        }
    }
}
