//! Changes of the working copy: nodes of the log are put in place, and other files are kept beside.

use std::fs::Metadata;
use std::sync::Arc;

use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, Replaced, SessionDir};

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
    File(Signature),
    Symlink,
}

impl Expected {
    /// Returns the expectation of a file with this signature, if there is one.
    pub(super) fn file(signature: Option<Signature>) -> Self {
        signature.map_or(Self::Nothing, Self::File)
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
        let is_expected = |found: &Metadata| is_replaceable(found, expected);
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
        let is_expected = |found: &Metadata| is_replaceable(found, expected);
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
    let (dir, path) = (Arc::clone(dir), path.clone());
    let keep_as = name(beside.as_str()).to_owned();
    blocking(move || {
        let is_expected = |found: &Metadata| is_replaceable(found, expected);
        dir.remove_expected(&path, is_expected, &keep_as)
    })
    .await
}

/// Returns whether an object of the working copy may be deleted.
fn is_replaceable(found: &Metadata, expected: Expected) -> bool {
    match expected {
        Expected::Nothing => false,
        Expected::File(signature) => signature.is_same_file(&Signature::from(found)),
        Expected::Symlink => found.file_type().is_symlink(),
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
}
