//! What to do where both sides have changed one file: both are kept.
//!
//! The file keeps its name and its key. The other side's version is brought beside it, into the
//! directory and into the store, under a name that tells which version it is; only then is it
//! replaced under the key. So at no moment is either of them in one place only.

use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use sandbox_core::internal::blocking;
use sandbox_core::{FileErrorKind, RelativePath, with_causes};

use crate::conditional::{Expected, Version};
use crate::index::{Origin, Stored};
use crate::keys;
use crate::mirror::Inner;
use crate::restore::Fetched;
use crate::signature::Signature;
use crate::snapshot::Snapshot;
use crate::upload::{self, Before, Upload, UploadError};

/// How often the other side may change the file while this one looks.
const ATTEMPTS: usize = 3;
/// How much of the name is kept; with what is added it is short enough for every store.
const MAX_STEM_BYTES: usize = 200;

/// A file that both sides had changed.
pub(crate) struct Kept {
    pub(crate) stored: Stored,
    /// Where the other side's version is now; `None` where it was the same, or gone.
    pub(crate) copy: Option<RelativePath>,
}

impl Inner {
    /// Stores a file under a key that holds something else than was expected. `None` when the file
    /// is no longer there.
    pub(crate) async fn keep_both(
        &self,
        path: &RelativePath,
        key: &Key,
        origin: Origin,
    ) -> Result<Option<Kept>, UploadError> {
        let pending = |error: &dyn std::error::Error| UploadError::Pending(with_causes(error));
        let mut copy = None;
        for _ in 0..ATTEMPTS {
            let meta = match self.uploader.store.head(key).await {
                Ok(meta) => Some(meta),
                Err(Error::NotFound { .. }) => None,
                Err(error) => return Err(pending(&error)),
            };
            let mut expected = Expected::Nothing;
            if let Some(meta) = meta {
                let beside = conflict_path(path, &Version::from(&meta));
                let fetched =
                    self.fetch_beside(&beside, &meta).await.map_err(|error| pending(&error))?;
                let Some((signature, hash)) = self.hash_here(path).await? else { return Ok(None) };
                if hash == fetched.writer.hash() {
                    let stored = Stored { signature, hash, version: fetched.version, origin };
                    return Ok(Some(Kept { stored, copy }));
                }
                expected = Expected::This(fetched.version.clone());
                // Its own may be there, of which it never heard.
                if !self.index().was_sent(path.as_str(), &fetched.writer.hash()) {
                    self.keep_copy(&beside, fetched).await?;
                    copy = Some(beside);
                }
            }
            match self.send(path, key, Before::default(), &expected, origin).await? {
                Upload::Stored { stored, .. } => return Ok(Some(Kept { stored, copy })),
                Upload::Gone => return Ok(None),
                Upload::Conflict => {}
            }
        }
        Err(UploadError::Pending("it is changed in the store again and again".to_owned()))
    }

    /// What the file is now; `None` when it is gone.
    async fn hash_here(
        &self,
        path: &RelativePath,
    ) -> Result<Option<(Signature, String)>, UploadError> {
        let (dir, name) = (Arc::clone(&self.uploader.dir), path.clone());
        let hashed = blocking(move || {
            let file = match dir.open_file(&name) {
                Err(error) if error.kind() == FileErrorKind::NotFound => return Ok(None),
                other => other.map_err(|error| with_causes(&error))?,
            };
            let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
            let signature = upload::signature(&file).map_err(unreadable)?;
            let hash = upload::hash_of(&file).map_err(unreadable)?;
            match upload::signature(&file).map_err(unreadable)? == signature {
                true => Ok(Some((signature, hash))),
                false => Err("it changes while it is read".to_owned()),
            }
        });
        hashed.await.map_err(UploadError::Pending)
    }

    /// Puts the other side's version into the directory and into the store, under its new name.
    /// Only what is known to be there counts: the name may be taken, by an earlier attempt, or by
    /// something else.
    async fn keep_copy(&self, beside: &RelativePath, fetched: Fetched) -> Result<(), UploadError> {
        let (hash, there) =
            (fetched.writer.hash(), Snapshot::of_file(&*self.uploader.dir, beside, &self.rules));
        if there.find(beside.as_str()).is_none() && there.skipped.is_empty() {
            let Fetched { writer, executable, .. } = fetched;
            let finished = blocking(move || writer.finish(executable)).await;
            finished.map_err(|error| UploadError::Pending(with_causes(&error)))?;
        }
        let key = keys::key(&self.prefix, beside.as_str()).map_err(|reason| {
            UploadError::Pending(format!("the version in the store cannot be kept: {reason}"))
        })?;
        let kept = match self
            .send(beside, &key, Before::default(), &Expected::Nothing, Origin::Remote)
            .await?
        {
            Upload::Stored { stored, .. } => {
                let kept = stored.hash == hash;
                self.index().set_stored(beside.as_str(), stored);
                kept
            }
            // Another machine that met the same version may have stored it.
            Upload::Conflict => {
                let there = self.uploader.hash_of_object(&key).await;
                let there = there.map_err(|error| UploadError::Pending(with_causes(&error)))?;
                there.is_some_and(|(there, _)| there == hash)
            }
            Upload::Gone => false,
        };
        match kept {
            true => Ok(()),
            false => Err(UploadError::Pending(format!(
                "the version in the store cannot be kept: {beside} is taken"
            ))),
        }
    }
}

/// `report.conflict-1a2b3c4d.md`, by the version in the store.
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
    // A name of plain characters beside a path that is one; only its length could be too much.
    RelativePath::parse(&text).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_version_and_keeps_the_extension() {
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
