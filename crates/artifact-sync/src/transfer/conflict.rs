//! Conflict resolution: when both sides changed a file, keep both versions.
//!
//! The local version keeps the path and the key. The store's version is first copied beside it,
//! into the directory and into the store, under a name that contains its version; only then is the
//! object replaced. At every moment, each version therefore exists at two places.

use std::sync::Arc;

use object_store::path::Path as Key;
use sandbox_core::internal::blocking;
use sandbox_core::{FileErrorKind, RelativePath, with_causes};

use crate::scan::{IgnoreRules, RecordedSignature, Signature, inspect};
use crate::state::{Origin, StoredFile, Version};
use crate::transfer::conditional::Expected;
use crate::transfer::content::hash_of;
use crate::transfer::download::Download;
use crate::transfer::files::FileTransfers;
use crate::transfer::upload::{PriorState, UploadError, UploadOutcome};

/// Attempts while another writer keeps replacing the object.
const ATTEMPTS: usize = 3;
/// Longest part of the file name that the copy's name keeps, so that every store accepts the
/// result.
const MAX_STEM_BYTES: usize = 200;

/// Result of storing a file that both sides had changed.
pub(super) struct ConflictResolution {
    pub(super) stored: StoredFile,
    /// Path of the store's version; `None` if it was equal or was deleted.
    pub(super) copy: Option<RelativePath>,
}

/// Stores a file under a key that holds another object than expected. Returns `None` if the file no
/// longer exists.
pub(super) async fn keep_both(
    files: &FileTransfers,
    rules: &IgnoreRules,
    path: &RelativePath,
    key: &Key,
    origin: Origin,
) -> Result<Option<ConflictResolution>, UploadError> {
    let mut copy = None;
    for _ in 0..ATTEMPTS {
        let meta = files.remote().head(key).await.map_err(|error| retryable(&error))?;
        let mut expected = Expected::Nothing;
        if let Some(meta) = meta {
            let beside = conflict_path(path, &Version::from(&meta));
            let theirs = files.download(&beside, &meta).await.map_err(|error| retryable(&error))?;
            let Some((signature, hash)) = local_hash(files, path).await? else { return Ok(None) };
            if hash == theirs.hash() {
                let stored = StoredFile { signature, hash, version: theirs.version, origin };
                return Ok(Some(ConflictResolution { stored, copy }));
            }
            expected = Expected::Version(theirs.version.clone());
            // The object may be this mirror's own upload whose answer was lost.
            if !files.index().is_unacknowledged(path.as_str(), &theirs.hash()) {
                keep_copy(files, rules, &beside, theirs).await?;
                copy = Some(beside);
            }
        }
        match files.upload(path, key, PriorState::default(), &expected, origin).await? {
            UploadOutcome::Stored { stored, .. } => {
                return Ok(Some(ConflictResolution { stored, copy }));
            }
            UploadOutcome::FileGone => return Ok(None),
            UploadOutcome::Conflict => {}
        }
    }
    Err(UploadError::Retryable("another writer keeps changing it in the store".to_owned()))
}

/// Hashes the current content of a file. Returns `None` if the file no longer exists.
async fn local_hash(
    files: &FileTransfers,
    path: &RelativePath,
) -> Result<Option<(RecordedSignature, String)>, UploadError> {
    let (dir, name) = (Arc::clone(files.dir()), path.clone());
    let hashed = blocking(move || {
        let file = match dir.open_file(&name) {
            Err(error) if error.kind() == FileErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| with_causes(&error))?,
        };
        let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
        let signature = Signature::record(&file).map_err(unreadable)?;
        let hash = hash_of(&file).map_err(unreadable)?;
        if Signature::of(&file).map_err(unreadable)? == signature.signature {
            Ok(Some((signature, hash)))
        } else {
            Err("it changes while it is read".to_owned())
        }
    });
    hashed.await.map_err(UploadError::Retryable)
}

/// Puts the store's version into the directory and into the store, under its new name. The name may
/// be taken by an earlier attempt or by another file, so the content is verified.
async fn keep_copy(
    files: &FileTransfers,
    rules: &IgnoreRules,
    beside: &RelativePath,
    theirs: Download,
) -> Result<(), UploadError> {
    let hash = theirs.hash();
    let existing = inspect(&**files.dir(), beside, rules);
    if existing.find(beside.as_str()).is_none() && existing.skipped.is_empty() {
        theirs.commit().await.map_err(|error| retryable(&error))?;
    }
    let key = files.remote().key(beside.as_str()).map_err(|reason| {
        UploadError::Retryable(format!("the version in the store cannot be kept: {reason}"))
    })?;
    let prior = PriorState::default();
    let uploaded = files.upload(beside, &key, prior, &Expected::Nothing, Origin::Remote).await?;
    let is_kept = match uploaded {
        UploadOutcome::Stored { stored, .. } => {
            let is_kept = stored.hash == hash;
            files.index().set_stored(beside.as_str(), stored);
            is_kept
        }
        // Another machine with the same conflict may have stored it.
        UploadOutcome::Conflict => {
            let object = files.remote().hash_of(&key).await.map_err(|error| retryable(&error))?;
            object.is_some_and(|(object, _)| object == hash)
        }
        UploadOutcome::FileGone => false,
    };
    if is_kept {
        return Ok(());
    }
    let reason = format!("the version in the store cannot be kept: {beside} is taken");
    Err(UploadError::Retryable(reason))
}

fn retryable(error: &dyn std::error::Error) -> UploadError {
    UploadError::Retryable(with_causes(error))
}

/// Returns the path for the store's version, such as `report.conflict-1a2b3c4d.md`.
fn conflict_path(path: &RelativePath, version: &Version) -> RelativePath {
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
    let tag = blake3::hash(version.etag.as_deref().unwrap_or_default().as_bytes()).to_hex();
    let name = format!("{stem}.conflict-{}{extension}", &tag[..8]);
    let text = parent.map_or_else(|| name.clone(), |parent| format!("{parent}/{name}"));
    // The added characters are valid in every path, so only its length can be wrong.
    RelativePath::parse(&text).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_contains_the_version_and_keeps_the_extension() {
        let version = |etag: &str| Version { etag: Some(etag.to_owned()), version: None };
        let named = |path: &str, etag: &str| {
            conflict_path(&RelativePath::parse(path).unwrap(), &version(etag))
        };
        let tag = &blake3::hash(b"e").to_hex()[..8];
        assert_eq!(named("d/report.md", "e").as_str(), format!("d/report.conflict-{tag}.md"));
        assert_eq!(named(".bashrc", "e").as_str(), format!(".bashrc.conflict-{tag}"));
        assert_eq!(named("Makefile", "e").as_str(), format!("Makefile.conflict-{tag}"));
        assert_ne!(named("a", "e"), named("a", "f"));
        let long = "é".repeat(126) + ".a";
        assert!(named(&long[..], "e").as_str().len() < 240);
    }
}
