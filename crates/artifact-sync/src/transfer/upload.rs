//! Upload of one file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::path::Path as Key;
use object_store::{Attributes, MultipartUpload, ObjectStoreExt};
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, FileErrorKind, RelativePath, SessionDir, with_causes};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::scan::Signature;
use crate::state::{Origin, StoredFile, Version};
use crate::transfer::conditional::{self, Expected};
use crate::transfer::content::{hash_of, read_at};
use crate::transfer::remote::Remote;
use crate::transfer::{attributes, quirks};

/// Largest file that is read at once and put in one request; size of the parts of larger files.
const PART_BYTES: u64 = 8 << 20;
/// Most file content that all uploads hold in memory.
const BUDGET_BYTES: u64 = 48 << 20;
/// Concurrent parts of one file.
const PARTS_AT_ONCE: usize = 3;
/// Smallest renamed file that the store copies. Below this, an upload costs less.
const MIN_COPY_BYTES: u64 = 256 << 10;
/// Attempts to read a file that changes meanwhile.
const ATTEMPTS: usize = 3;

/// Uploader of a directory's files.
#[derive(Debug)]
pub(crate) struct Uploader {
    dir: Arc<SessionDir>,
    remote: Arc<Remote>,
    /// Free memory, in kibibytes.
    budget: Semaphore,
}

/// Objects that the store is known to hold of a file before its upload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PriorState<'p> {
    /// The object under the file's own key.
    pub(crate) stored: Option<&'p StoredFile>,
    /// The object under the key of the file's previous name.
    pub(crate) renamed_from: Option<&'p RenameSource>,
}

/// Object of a renamed file, under the key of its previous name.
#[derive(Clone, Debug)]
pub(crate) struct RenameSource {
    pub(crate) key: Key,
    pub(crate) stored: StoredFile,
}

/// Outcome of an upload.
#[derive(Debug)]
pub(crate) enum UploadOutcome {
    /// The store holds the file.
    Stored {
        stored: StoredFile,
        /// Set if the store held this content before.
        is_unchanged: bool,
    },
    /// The file no longer exists.
    FileGone,
    /// The key holds another object than expected, which was kept.
    Conflict,
}

/// Error of an upload, with an explanation for a user.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// A retry may succeed.
    Retryable(String),
    /// No retry can succeed.
    Permanent(String),
}

impl Uploader {
    pub(crate) fn new(dir: Arc<SessionDir>, remote: Arc<Remote>) -> Self {
        let budget = Semaphore::new((BUDGET_BYTES / 1024) as usize);
        Self { dir, remote, budget }
    }

    /// Uploads the current content if the key still holds the expected object. Calls `on_send` with
    /// the content hash before the request is sent.
    pub(crate) async fn upload(
        &self,
        path: &RelativePath,
        key: &Key,
        prior: PriorState<'_>,
        expected: &Expected,
        origin: Origin,
        on_send: &(dyn Fn(&str) + Sync),
    ) -> Result<UploadOutcome, UploadError> {
        for _ in 0..ATTEMPTS {
            let (dir, name) = (Arc::clone(&self.dir), path.clone());
            let opened = blocking(move || {
                let file = dir.open_file(&name)?;
                let signature = Signature::record(&file).map_err(|source| FileError::Io {
                    operation: "inspect",
                    path: name.as_ref().to_owned(),
                    source,
                })?;
                Ok((Arc::new(file), signature))
            });
            let (file, recorded) = match opened.await {
                Ok(opened) => opened,
                Err(error) => return gone_or_pending(&error),
            };
            let signature = recorded.signature;
            let is_executable = signature.is_executable();
            let attributes = attributes::attributes(path.as_str(), is_executable, origin);
            let attempt = Attempt {
                uploader: self,
                key,
                prior,
                expected,
                on_send,
                attributes,
                file,
                signature,
            };
            let outcome = if signature.size <= PART_BYTES {
                attempt.whole().await?
            } else {
                attempt.in_parts().await?
            };
            match outcome {
                AttemptOutcome::Stored { hash, version, is_unchanged } => {
                    return Ok(UploadOutcome::Stored {
                        stored: StoredFile { signature: recorded, hash, version, origin },
                        is_unchanged,
                    });
                }
                AttemptOutcome::Conflict => return Ok(UploadOutcome::Conflict),
                AttemptOutcome::FileChanged => {}
            }
        }
        Err(UploadError::Retryable("it changes while it is read".to_owned()))
    }

    async fn reserve(&self, bytes: u64) -> SemaphorePermit<'_> {
        let kibibytes = bytes.div_ceil(1024).clamp(1, BUDGET_BYTES / 1024) as u32;
        self.budget.acquire_many(kibibytes).await.expect("the budget is never closed")
    }
}

/// Outcome of one attempt.
enum AttemptOutcome {
    /// The store holds this content.
    Stored {
        hash: String,
        version: Version,
        is_unchanged: bool,
    },
    Conflict,
    /// The file changed while it was read.
    FileChanged,
}

/// One attempt to upload the file as it was opened.
struct Attempt<'u> {
    uploader: &'u Uploader,
    key: &'u Key,
    prior: PriorState<'u>,
    expected: &'u Expected,
    on_send: &'u (dyn Fn(&str) + Sync),
    attributes: Attributes,
    file: Arc<File>,
    signature: Signature,
}

impl Attempt<'_> {
    /// Uploads the whole file in one request.
    async fn whole(self) -> Result<AttemptOutcome, UploadError> {
        let remote = &self.uploader.remote;
        let _memory = self.uploader.reserve(self.signature.size).await;
        let (source, size) = (Arc::clone(&self.file), self.signature.size);
        let content = blocking(move || read_at(&source, 0, size)).await.map_err(unreadable)?;
        if self.has_file_changed()? || content.len() as u64 != size {
            return Ok(AttemptOutcome::FileChanged);
        }
        let hash = blake3::hash(&content).to_hex().to_string();
        if let Some(outcome) = self.without_upload(&hash).await {
            return Ok(outcome);
        }
        let mode = remote.put_mode(self.key, self.expected).await;
        let Some(mode) = mode.map_err(|error| self.failed(&error))? else {
            return Ok(AttemptOutcome::Conflict);
        };
        (self.on_send)(&hash);
        let attributes = attributes::with_hash(self.attributes.clone(), &hash);
        match remote.put(self.key, Bytes::from(content), attributes, &mode).await {
            Ok(put) => Ok(stored(hash, put.into())),
            Err(error) if conditional::is_conflict(&error, &mode) => Ok(AttemptOutcome::Conflict),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Uploads a large file in parts. Stores have no conditions for that.
    async fn in_parts(self) -> Result<AttemptOutcome, UploadError> {
        let has_same_size = self
            .prior
            .stored
            .is_some_and(|prior| prior.signature.signature.size == self.signature.size);
        if has_same_size || self.prior.renamed_from.is_some() {
            // Reading costs less than an upload.
            let source = Arc::clone(&self.file);
            let hash = blocking(move || hash_of(&source)).await.map_err(unreadable)?;
            if self.has_file_changed()? {
                return Ok(AttemptOutcome::FileChanged);
            }
            if let Some(outcome) = self.without_upload(&hash).await {
                return Ok(outcome);
            }
        }
        // The first check avoids a useless upload; the second one decides.
        if !self.is_expected().await? {
            return Ok(AttemptOutcome::Conflict);
        }
        let begun = self.uploader.remote.begin_multipart(self.key, self.attributes.clone()).await;
        let mut upload = begun.map_err(|error| self.failed(&error))?;
        let outcome = match self.send_parts(upload.as_mut()).await {
            Ok(Some(hash)) => match self.is_expected().await {
                Ok(true) => {
                    (self.on_send)(&hash);
                    let put = upload.complete().await.map_err(|error| self.failed(&error))?;
                    return Ok(stored(hash, put.into()));
                }
                other => other.map(|_| AttemptOutcome::Conflict),
            },
            other => other.map(|_| AttemptOutcome::FileChanged),
        };
        // If this fails, the bucket's lifecycle rules remove the parts.
        let _ = upload.abort().await;
        outcome
    }

    /// Uploads all parts and returns the content's hash, or `None` if the file changed meanwhile.
    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
    ) -> Result<Option<String>, UploadError> {
        let mut hasher = blake3::Hasher::new();
        let mut sending = FuturesUnordered::new();
        let mut offset = 0;
        while offset < self.signature.size {
            if sending.len() == PARTS_AT_ONCE {
                let sent = sending.next().await.unwrap_or(Ok(()));
                sent.map_err(|error| self.failed(&error))?;
            }
            let length = PART_BYTES.min(self.signature.size - offset);
            let memory = self.uploader.reserve(length).await;
            let source = Arc::clone(&self.file);
            let read = blocking(move || {
                let part = read_at(&source, offset, length)?;
                hasher.update(&part);
                Ok::<_, io::Error>((part, hasher))
            });
            let (part, returned_hasher) = read.await.map_err(unreadable)?;
            hasher = returned_hasher;
            if part.len() as u64 != length {
                return Ok(None);
            }
            offset += length;
            let part = upload.put_part(part.into());
            sending.push(async move {
                let sent = part.await;
                drop(memory);
                sent
            });
        }
        while let Some(sent) = sending.next().await {
            sent.map_err(|error| self.failed(&error))?;
        }
        let hash = hasher.finalize().to_hex().to_string();
        Ok((!self.has_file_changed()?).then_some(hash))
    }

    /// Avoids the upload if the store already holds the content, under this key or the previous
    /// one.
    async fn without_upload(&self, hash: &str) -> Option<AttemptOutcome> {
        if let Some(prior) = self.prior.stored.filter(|prior| self.is_same(prior, hash)) {
            let (hash, version) = (hash.to_owned(), prior.version.clone());
            return Some(AttemptOutcome::Stored { hash, version, is_unchanged: true });
        }
        let version = self.try_server_copy(hash).await?;
        Some(stored(hash.to_owned(), version))
    }

    /// Makes the store copy the object of the previous name. Returns `None` if a copy is not
    /// possible or fails; the file is uploaded then.
    async fn try_server_copy(&self, hash: &str) -> Option<Version> {
        let remote = &self.uploader.remote;
        let RenameSource { key: from, stored } = self.prior.renamed_from?;
        if self.signature.size < MIN_COPY_BYTES || !remote.has_server_copy() {
            return None;
        }
        // An object from another writer has other attributes.
        if stored.hash != hash || stored.origin != Origin::Local {
            return None;
        }
        let expected_source = Expected::Version(stored.version.clone());
        if !remote.holds(from, &expected_source).await.ok()? || !self.is_expected().await.ok()? {
            return None;
        }
        (self.on_send)(hash);
        remote.store().copy(from, self.key).await.ok()?;
        let meta = remote.head(self.key).await.ok()??;
        (meta.size == self.signature.size).then(|| Version::from(&meta))
    }

    async fn is_expected(&self) -> Result<bool, UploadError> {
        let held = self.uploader.remote.holds(self.key, self.expected).await;
        held.map_err(|error| self.failed(&error))
    }

    fn has_file_changed(&self) -> Result<bool, UploadError> {
        Ok(Signature::of(&self.file).map_err(unreadable)? != self.signature)
    }

    /// Returns whether the store already has this content and mode.
    fn is_same(&self, prior: &StoredFile, hash: &str) -> bool {
        prior.hash == hash
            && prior.signature.signature.is_executable() == self.signature.is_executable()
    }

    fn failed(&self, error: &object_store::Error) -> UploadError {
        let reason = with_causes(error);
        if quirks::rejects_key_permanently(error, self.key) {
            UploadError::Permanent(reason)
        } else {
            UploadError::Retryable(reason)
        }
    }
}

fn stored(hash: String, version: Version) -> AttemptOutcome {
    AttemptOutcome::Stored { hash, version, is_unchanged: false }
}

fn gone_or_pending(error: &FileError) -> Result<UploadOutcome, UploadError> {
    match error.kind() {
        FileErrorKind::NotFound => Ok(UploadOutcome::FileGone),
        _ => Err(UploadError::Retryable(with_causes(error))),
    }
}

fn unreadable(error: io::Error) -> UploadError {
    UploadError::Retryable(format!("it cannot be read: {error}"))
}
