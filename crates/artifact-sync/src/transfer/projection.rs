//! The projection: the current files as objects, for people, other programs and links.
//!
//! It is a copy that can be repaired. An object carries a marker with the token of its file
//! version. It is replaced and deleted only in the version that was last seen.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{Attributes, Error, GetOptions, ObjectMeta};
use sandbox_core::RelativePath;
use sandbox_core::with_causes;

use crate::error::SyncError;
use crate::log::{Content, FileVersion};
use crate::scan::Signature;
use crate::state::{KnownObject, Version};
use crate::transfer::attributes::{self, Marker};
use crate::transfer::blobs::{Blobs, ContentError, failed};
use crate::transfer::conditional::{self, Expected};
use crate::transfer::content::read_at;
use crate::transfer::fetch::Fetcher;
use crate::transfer::multipart::PART_BYTES;
use crate::transfer::quirks;
use crate::transfer::remote::Remote;

/// Writer of the projection.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) remote: Arc<Remote>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) fetcher: Arc<Fetcher>,
}

/// Outcome of a conditional change of the projection.
#[derive(Debug)]
pub(crate) enum Projected {
    /// The object has this version now.
    Put(Version),
    Deleted,
    /// The key holds another object than expected.
    Conflict,
}

/// Object as the store holds it now.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) meta: ObjectMeta,
    pub(crate) marker: Option<Marker>,
    pub(crate) attributes: Attributes,
}

impl Projection {
    /// Puts the object of a file version if the key holds the expected object. Reads the content
    /// from the directory if it is there, and otherwise from the log.
    pub(crate) async fn put(
        &self,
        path: &RelativePath,
        file: &FileVersion,
        expected: Option<&Version>,
    ) -> Result<Projected, ContentError> {
        let key = self.key(path)?;
        let expected = match expected {
            Some(version) => Expected::Version(version.clone()),
            None => Expected::Nothing,
        };
        if file.size > PART_BYTES {
            return self.put_large(path, &key, file, &expected).await;
        }
        let _memory = self.blobs.reserve(file.size).await;
        let content = self.content(path, file).await?;
        self.put_bytes(&key, path, file, content, &expected).await
    }

    async fn put_bytes(
        &self,
        key: &Key,
        path: &RelativePath,
        file: &FileVersion,
        content: Bytes,
        expected: &Expected,
    ) -> Result<Projected, ContentError> {
        let attributes = attributes::projected(path.as_str(), file);
        let mode = self.remote.put_mode(key, expected).await.map_err(|error| failed(&error))?;
        let Some(mode) = mode else { return Ok(Projected::Conflict) };
        match self.remote.put(key, content, attributes, &mode).await {
            Ok(put) => Ok(Projected::Put(put.into())),
            Err(error) if conditional::is_conflict(&error, &mode) => Ok(Projected::Conflict),
            Err(error) if self.remote.rejects_key(&error, key) => {
                Err(ContentError::Permanent(with_causes(&error)))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Puts a large object, for which stores have no conditions: the key is checked right before.
    async fn put_large(
        &self,
        path: &RelativePath,
        key: &Key,
        file: &FileVersion,
        expected: &Expected,
    ) -> Result<Projected, ContentError> {
        let holds = async || self.remote.holds(key, expected).await.map_err(|error| failed(&error));
        // The first check avoids a useless upload; the second one decides.
        if !holds().await? {
            return Ok(Projected::Conflict);
        }
        let attributes = attributes::projected(path.as_str(), file);
        let local = self.blobs.open(path).await.ok();
        let is_sent = match local.filter(|(_, recorded)| recorded.signature.size == file.size) {
            Some((source, recorded)) => {
                let signature = recorded.signature;
                self.blobs.put_parts(key, attributes, source, signature, file.hash).await?
            }
            None => false,
        };
        if !is_sent {
            // The file has changed, and a later version replaces the object soon.
            return Err(ContentError::Retryable("the file changes".to_owned()));
        }
        match self.remote.head(key).await.map_err(|error| failed(&error))? {
            Some(meta) => Ok(Projected::Put(Version::from(&meta))),
            None => Ok(Projected::Conflict),
        }
    }

    /// Deletes an object if the key still holds the version that was seen.
    pub(crate) async fn delete(&self, path: &str, seen: &KnownObject) -> Result<Projected, Error> {
        let Ok(key) = self.remote.key(path) else { return Ok(Projected::Deleted) };
        match self.remote.delete(&key, &seen.version).await? {
            true => Ok(Projected::Deleted),
            false => Ok(Projected::Conflict),
        }
    }

    /// Looks at the object of a path. Returns `None` if it does not exist.
    pub(crate) async fn inspect_object(&self, path: &str) -> Result<Option<Observed>, Error> {
        let Ok(key) = self.remote.key(path) else { return Ok(None) };
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.remote.store().get_opts(&key, options).await {
            Ok(got) => {
                let marker = attributes::marker(path, &got.attributes);
                Ok(Some(Observed { meta: got.meta, marker, attributes: got.attributes }))
            }
            Err(error) if quirks::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the key of a path, or an explanation if no object can represent it.
    fn key(&self, path: &RelativePath) -> Result<Key, ContentError> {
        let permanent = |reason: &str| ContentError::Permanent(reason.to_owned());
        let key = self.remote.key(path.as_str()).map_err(permanent)?;
        match self.remote.key_problem(&key) {
            None => Ok(key),
            Some(problem) => Err(permanent(problem)),
        }
    }

    /// Returns the content of a small file.
    async fn content(
        &self,
        path: &RelativePath,
        file: &FileVersion,
    ) -> Result<Bytes, ContentError> {
        if let Content::Inline(inline) = &file.content {
            return Ok(inline.0.clone());
        }
        if let Ok((source, signature)) = self.blobs.open(path).await
            && let Some(content) = self.local_content(&source, &signature.signature, file).await
        {
            return Ok(content);
        }
        self.fetcher
            .read(path.as_str(), file)
            .await
            .map_err(|error: SyncError| ContentError::Retryable(with_causes(&error)))
    }

    async fn local_content(
        &self,
        source: &Arc<std::fs::File>,
        signature: &Signature,
        file: &FileVersion,
    ) -> Option<Bytes> {
        let (source, size) = (Arc::clone(source), file.size);
        if signature.size != size {
            return None;
        }
        let content =
            sandbox_core::internal::blocking(move || read_at(&source, 0, size)).await.ok()?;
        let content = Bytes::from(content);
        (crate::log::Hash::of(&content) == file.hash).then_some(content)
    }
}
