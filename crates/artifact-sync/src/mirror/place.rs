//! Changes of the working copy: nodes of the log are put in place, and other files are kept beside.

use std::cell::Cell;
use std::fs::Metadata;
use std::sync::Arc;

use sandbox_core::internal::{blocking, is_opened_by_grant};
use sandbox_core::{FileError, Found, RelativePath, Replaced, SessionDir};

use crate::log::{FileVersion, Hash, Node};
use crate::paths::name;
use crate::scan::{RecordedSignature, Signature, StampTime};
use crate::transfer::Fetched;

/// Longest part of the file name that the copy's name keeps, so that every store accepts the
/// result.
const MAX_STEM_BYTES: usize = 200;

/// Object that a path is expected to have. Any other one is kept beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Nothing,
    File {
        signature: Signature,
        /// Content that the file must have if its signature does not prove it.
        content: Option<Hash>,
    },
    Symlink,
}

impl Expected {
    /// Returns the expectation of a file with a content that was recorded under this signature.
    pub(super) fn recorded(recorded: RecordedSignature, content: Hash) -> Self {
        let RecordedSignature { signature, is_racy } = recorded;
        Self::File { signature, content: is_racy.then_some(content) }
    }
}

/// Puts a fetched file in place and returns its signature. A file with another signature than
/// `expected` is kept as `beside`.
pub(super) async fn place_file(
    fetched: Fetched,
    file: &FileVersion,
    expected: Expected,
    beside: &RelativePath,
) -> Result<(RecordedSignature, Replaced), FileError> {
    let (mode, modified) = (file.mode, file.modified);
    let keep_as = name(beside.as_str()).to_owned();
    blocking(move || {
        let mut staged = fetched.staged;
        staged.set_mode(mode)?;
        staged.set_modified(modified)?;
        let check = Check::new(expected);
        let is_expected = |found: &Found<'_>| check.passes(found);
        let now = StampTime::now();
        let (metadata, replaced) = staged.exchange(is_expected, &keep_as)?;
        Ok((Signature::from(&metadata).recorded_at(now), replaced))
    })
    .await
}

/// Puts a directory or a symlink in place.
pub(super) async fn place_other(
    dir: &Arc<SessionDir>,
    path: &RelativePath,
    node: &Node,
    expected: Expected,
    beside: &RelativePath,
) -> Result<Replaced, FileError> {
    let (dir, path, node) = (Arc::clone(dir), path.clone(), node.clone());
    let keep_as = name(beside.as_str()).to_owned();
    blocking(move || {
        let check = Check::new(expected);
        let is_expected = |found: &Found<'_>| check.passes(found);
        match node {
            Node::File(_) => Ok(Replaced::Nothing),
            Node::Symlink { target } => dir.exchange_symlink(&path, &target, is_expected, &keep_as),
            Node::Directory { mode } => {
                if dir.make_directory(&path, mode).is_ok() {
                    return Ok(Replaced::Nothing);
                }
                let replaced = dir.remove_expected(&path, is_expected, &keep_as)?;
                dir.make_directory(&path, mode)?;
                Ok(replaced)
            }
        }
    })
    .await
}

/// Removes a file or symlink. A file with another signature than `expected` is kept as `beside`.
/// Directories above that become empty are removed while `is_needless` returns true for them.
pub(super) async fn remove(
    dir: &Arc<SessionDir>,
    path: &RelativePath,
    expected: Expected,
    beside: &RelativePath,
) -> Result<Replaced, FileError> {
    let (dir, path, beside) = (Arc::clone(dir), path.clone(), beside.clone());
    blocking(move || remove_now(&dir, &path, expected, &beside)).await
}

/// Like [`remove`], on this thread.
pub(super) fn remove_now(
    dir: &SessionDir,
    path: &RelativePath,
    expected: Expected,
    beside: &RelativePath,
) -> Result<Replaced, FileError> {
    let check = Check::new(expected);
    dir.remove_expected(path, |found| check.passes(found), name(beside.as_str()))
}

/// Removes what is no directory from paths that are given from above to below. What is not expected
/// is kept beside. Returns the paths that had something, without those where this fails: the
/// placement of what belongs there reports it.
pub(super) async fn remove_obstacles(
    dir: &Arc<SessionDir>,
    paths: Vec<(RelativePath, Expected)>,
) -> Vec<(RelativePath, RelativePath, Replaced)> {
    let dir = Arc::clone(dir);
    blocking(move || {
        let mut removed = Vec::new();
        for (path, expected) in paths {
            let beside = conflict_path(&path, Hash::of(path.as_str().as_bytes()));
            let check = Check::new(expected);
            let is_expected = |found: &Found<'_>| check.passes(found);
            match dir.remove_obstacle(&path, is_expected, name(beside.as_str())) {
                Ok(Replaced::Nothing) => {}
                Ok(replaced) => removed.push((path, beside, replaced)),
                Err(error) => tracing::debug!(%error, "an obstacle stays"),
            }
        }
        removed
    })
    .await
}

/// Returns the path of an object that was kept beside. `beside` is the one that was asked for.
pub(super) fn preserved(beside: &RelativePath, replaced: &Replaced) -> Option<RelativePath> {
    let Replaced::Preserved(kept_as) = replaced else { return None };
    let path = match beside.parent() {
        Some(parent) => format!("{parent}/{kept_as}"),
        None => kept_as.clone(),
    };
    Some(RelativePath::parse(&path).unwrap_or_else(|_| beside.clone()))
}

/// Check whether an object of the working copy may be deleted. It is made before the object is
/// moved, and again afterwards.
struct Check {
    expected: Expected,
    /// Set if the content was read, and a later write moves the modification time of the file.
    is_read: Cell<bool>,
}

impl Check {
    fn new(expected: Expected) -> Self {
        Self { expected, is_read: Cell::new(false) }
    }

    fn passes(&self, found: &Found<'_>) -> bool {
        self.passes_with(found.metadata(), || {
            let read = found.open().and_then(|file| Hash::of_file(&file));
            read.ok().map(|(hash, _)| hash)
        })
    }

    fn passes_with(&self, metadata: &Metadata, read: impl FnOnce() -> Option<Hash>) -> bool {
        let (signature, content) = match self.expected {
            Expected::Nothing => return false,
            Expected::Symlink => return metadata.file_type().is_symlink(),
            Expected::File { signature, content } => (signature, content),
        };
        let current = Signature::from(metadata);
        if !signature.is_same_file(&current) {
            return false;
        }
        let Some(content) = content.filter(|_| !self.is_read.get()) else { return true };
        let now = StampTime::now();
        let is_equal = read() == Some(content);
        let is_racy = current.recorded_at(now).is_racy || is_opened_by_grant(current.mode);
        self.is_read.set(is_equal && !is_racy);
        is_equal
    }
}

/// Returns the path for a version that is kept beside, such as `report.conflict-1a2b3c4d.md`.
pub(super) fn conflict_path(path: &RelativePath, version: Hash) -> RelativePath {
    let (parent, name) = path
        .as_str()
        .rsplit_once('/')
        .map_or((None, path.as_str()), |(above, name)| (Some(above), name));
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 16 => {
            (stem, format!(".{extension}"))
        }
        _ => (name, String::new()),
    };
    let stem = &stem[..stem.floor_char_boundary(MAX_STEM_BYTES)];
    let tag = version.to_string();
    let name = format!("{stem}.conflict-{}{extension}", &tag[..8]);
    let text = parent.map_or_else(|| name.clone(), |parent| format!("{parent}/{name}"));
    // The added characters are valid in every path, so only its length can be wrong.
    RelativePath::parse(&text).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflict_paths_keep_the_directory_and_the_extension() {
        let hash = Hash::of(b"");
        let tag = &hash.to_string()[..8];
        for (path, expected) in [
            ("a/report.md", format!("a/report.conflict-{tag}.md")),
            ("Makefile", format!("Makefile.conflict-{tag}")),
            (".env", format!(".env.conflict-{tag}")),
        ] {
            let path = RelativePath::parse(path).unwrap();
            assert_eq!(conflict_path(&path, hash).as_str(), expected);
        }
    }

    #[test]
    fn a_racy_file_is_read_once_if_a_later_write_would_show() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        std::fs::write(&path, "A").unwrap();
        let metadata = || std::fs::metadata(&path).unwrap();
        let signature = Signature::from(&metadata());
        let expected = Expected::recorded(signature.racy(), Hash::of(b"A"));
        let reads = Cell::new(0);
        let passes = |check: &Check| {
            check.passes_with(&metadata(), || {
                reads.set(reads.get() + 1);
                Some(Hash::of(&std::fs::read(&path).unwrap()))
            })
        };
        while signature.recorded_at(StampTime::now()).is_racy {
            // Within a tick of the clock, a later write may not show.
            let check = Check::new(expected);
            reads.set(0);
            assert!(passes(&check) && passes(&check));
            std::thread::yield_now();
        }
        let check = Check::new(expected);
        reads.set(0);
        assert!(passes(&check) && passes(&check));
        assert_eq!(reads.get(), 1);
        std::fs::write(&path, "B").unwrap();
        assert!(!passes(&check), "the modification time has moved");
    }

    #[tokio::test]
    async fn a_racy_file_is_removed_only_with_the_recorded_content() {
        let root = tempfile::tempdir().unwrap();
        let dir = Arc::new(SessionDir::create(&root.path().join("s")).unwrap());
        let [path, beside] = ["f", "kept"].map(|name| RelativePath::parse(name).unwrap());
        let file = dir.path().join("f");
        for (content, is_racy, expected) in [
            ("A", true, Replaced::Expected),
            ("B", true, Replaced::Preserved("kept".to_owned())),
            ("B", false, Replaced::Expected),
        ] {
            std::fs::write(&file, "A").unwrap();
            let signature = Signature::from(&std::fs::metadata(&file).unwrap());
            let recorded = RecordedSignature { signature, is_racy };
            let recorded = Expected::recorded(recorded, Hash::of(content.as_bytes()));
            assert_eq!(remove(&dir, &path, recorded, &beside).await.unwrap(), expected);
        }
        assert_eq!(std::fs::read(dir.path().join("kept")).unwrap(), b"A");
    }
}
