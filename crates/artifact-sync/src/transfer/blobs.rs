//! Contents of files in the store: blobs under names that are never reused.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{Attributes, Error};
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, FileErrorKind, RelativePath, SessionDir};

use crate::error::{is_transient, with_causes};
use crate::log::{Content, Hash, Inline, LogStore, MAX_INLINE_BYTES, Token};
use crate::scan::{RecordedSignature, Signature};
use crate::transfer::attributes;
use crate::transfer::budget::{MemoryBudget, Reserved};
use crate::transfer::content::read_at;
use crate::transfer::known::KnownContents;
use crate::transfer::multipart::{
    FreshUploadError, FreshUploads, PART_BYTES, UploadRecord, UploadStep, Uploaded,
};
use crate::transfer::remote::Remote;

/// Attempts to read a file that changes meanwhile.
const ATTEMPTS: usize = 3;

/// Uploader of contents.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(super) dir: Arc<SessionDir>,
    log: LogStore,
    remote: Arc<Remote>,
    pub(super) placement: Placement,
    budget: MemoryBudget,
    fresh: FreshUploads,
}

/// Places of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Small contents are part of the log entry.
    Compact,
    /// Every content is a blob that a link can open, with the media type and the name of its file.
    Linkable,
}

/// Content of a file that is ready to be recorded in the log.
#[derive(Debug)]
pub(crate) struct StoredContent {
    pub(crate) signature: RecordedSignature,
    pub(crate) hash: Hash,
    pub(crate) content: Content,
}

/// Error of reading or storing a content.
#[derive(Debug)]
pub(crate) enum ContentError {
    /// The file no longer exists.
    Gone,
    /// A retry may succeed. The text explains the failure to a user.
    Retryable(String),
    /// No retry can succeed.
    Permanent(String),
}

/// Journal of uploads.
pub(crate) trait UploadJournal: Sync {
    /// Returns an upload of this file that an earlier attempt has begun.
    fn interrupted(&self, path: &str) -> Option<(Token, UploadRecord)>;

    /// Records a blob before its upload begins.
    fn begin(&self, path: &str, blob: Token);

    /// Records a step of a multipart upload.
    fn step(&self, blob: Token, step: UploadStep<'_>);

    /// Ends an upload that failed. If it has a record, a later attempt may resume it.
    fn release(&self, blob: Token);

    /// Forgets an upload that was aborted.
    fn forget(&self, blob: Token);
}

impl Blobs {
    pub(crate) fn new(
        dir: Arc<SessionDir>,
        log: LogStore,
        remote: Arc<Remote>,
        placement: Placement,
    ) -> Self {
        let budget = MemoryBudget::default();
        let (store, capabilities) = (Arc::clone(log.store()), remote.capabilities().clone());
        let fresh = FreshUploads::new(store, capabilities, budget.clone());
        Self { dir, log, remote, placement, budget, fresh }
    }

    /// Returns whether a content is to become part of the log entry.
    fn is_inline(&self, size: u64, inline_left: &AtomicU64) -> bool {
        self.placement == Placement::Compact && size <= MAX_INLINE_BYTES && take(inline_left, size)
    }

    /// Returns a known content, if links can open it where they must.
    fn attributes(&self, path: &str) -> Attributes {
        match self.placement {
            Placement::Compact => Attributes::new(),
            Placement::Linkable => attributes::linked(path),
        }
    }

    /// Aborts the multipart upload of an ended process.
    pub(crate) async fn abort(&self, record: &UploadRecord) -> Result<(), Error> {
        self.fresh.abort(record).await
    }

    /// Aborts multipart uploads whose records the journal no longer holds. The parts of one that
    /// cannot be aborted are left to the rules of the bucket.
    pub(crate) async fn abort_all(&self, records: &[UploadRecord]) {
        for record in records {
            if let Err(error) = self.abort(record).await {
                tracing::warn!(key = record.key, %error, "cannot abort an upload");
            }
        }
    }

    /// Returns a number that grows while uploads make progress.
    pub(crate) fn progress(&self) -> u64 {
        self.budget.sent()
    }

    /// Reserves memory for a content.
    pub(crate) async fn reserve(&self, bytes: u64) -> Reserved {
        self.budget.reserve(bytes).await
    }

    /// Stores the current content of a file. Small contents are returned inline while `inline_left`
    /// has bytes left. The journal learns of a blob before its upload begins.
    pub(crate) async fn store(
        &self,
        path: &RelativePath,
        known: &dyn KnownContents,
        inline_left: &AtomicU64,
        journal: &dyn UploadJournal,
    ) -> Result<StoredContent, ContentError> {
        for _ in 0..ATTEMPTS {
            let (file, recorded) = self.open(path).await?;
            let (signature, path) = (&recorded.signature, path.as_str());
            let stored = if signature.size <= PART_BYTES {
                self.store_whole(path, &file, signature, known, inline_left, journal).await?
            } else {
                self.store_in_parts(path, &file, signature, known, journal).await?
            };
            if let Some((hash, content)) = stored {
                return Ok(StoredContent { signature: recorded, hash, content });
            }
        }
        Err(ContentError::Retryable("it changes while it is read".to_owned()))
    }

    /// Stores a content that is in memory, like [`Self::store`].
    pub(crate) async fn store_bytes(
        &self,
        path: &str,
        content: Bytes,
        inline_left: &AtomicU64,
        journal: &dyn UploadJournal,
    ) -> Result<Content, Error> {
        let size = content.len() as u64;
        if self.is_inline(size, inline_left) {
            return Ok(Content::Inline(Box::new(Inline(content))));
        }
        self.put(path, content, journal).await
    }

    /// Opens a file with its signature.
    pub(crate) async fn open(
        &self,
        path: &RelativePath,
    ) -> Result<(Arc<File>, RecordedSignature), ContentError> {
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
        opened.await.map_err(|error: FileError| match error.kind() {
            FileErrorKind::NotFound | FileErrorKind::NotAFile => ContentError::Gone,
            _ => ContentError::Retryable(with_causes(&error)),
        })
    }

    /// Stores a file in one request. Returns `None` if it changed meanwhile.
    async fn store_whole(
        &self,
        path: &str,
        file: &Arc<File>,
        signature: &Signature,
        known: &dyn KnownContents,
        inline_left: &AtomicU64,
        journal: &dyn UploadJournal,
    ) -> Result<Option<(Hash, Content)>, ContentError> {
        let size = signature.size;
        let _memory = self.reserve(size).await;
        let source = Arc::clone(file);
        let content = blocking(move || read_at(&source, 0, size)).await.map_err(unreadable)?;
        if has_changed(file, signature)? || content.len() as u64 != size {
            return Ok(None);
        }
        let hash = Hash::of(&content);
        if let Some(content) = self.find_known(known, &hash) {
            return Ok(Some((hash, content)));
        }
        if self.is_inline(size, inline_left) {
            return Ok(Some((hash, Content::Inline(Box::new(Inline(content.into()))))));
        }
        let content =
            self.put(path, content.into(), journal).await.map_err(|error| failed(&error))?;
        Ok(Some((hash, content)))
    }

    async fn put(
        &self,
        path: &str,
        content: Bytes,
        journal: &dyn UploadJournal,
    ) -> Result<Content, Error> {
        let name = Token::random();
        journal.begin(path, name);
        let key = self.log.blob_key(name);
        match self.remote.put_fresh(&key, content, self.attributes(path)).await {
            Ok(_) => {
                self.budget.count_sent();
                Ok(Content::Blob(name))
            }
            Err(error) => {
                // The request may still arrive, but the retry uses another name.
                journal.release(name);
                Err(error)
            }
        }
    }

    /// Stores a large file in parts. Returns `None` if it changed meanwhile.
    async fn store_in_parts(
        &self,
        path: &str,
        file: &Arc<File>,
        signature: &Signature,
        known: &dyn KnownContents,
        journal: &dyn UploadJournal,
    ) -> Result<Option<(Hash, Content)>, ContentError> {
        if known.has_size(signature.size) {
            // Reading costs less than an upload.
            let source = Arc::clone(file);
            let (hash, _) = blocking(move || Hash::of_file(&source)).await.map_err(unreadable)?;
            if has_changed(file, signature)? {
                return Ok(None);
            }
            if let Some(content) = self.find_known(known, &hash) {
                return Ok(Some((hash, content)));
            }
        }
        self.store_open_file(path, file, journal).await
    }

    /// Stores a large open file as a blob, and resumes an earlier upload of the same path. Returns
    /// `None` if the file changed meanwhile.
    pub(crate) async fn store_open_file(
        &self,
        path: &str,
        file: &Arc<File>,
        journal: &dyn UploadJournal,
    ) -> Result<Option<(Hash, Content)>, ContentError> {
        let mut denied = None;
        if let Some((name, record)) = journal.interrupted(path) {
            let key = self.log.blob_key(name);
            let on_step = |step: UploadStep<'_>| journal.step(name, step);
            match self.fresh.resume(&key, Arc::clone(file), record, &on_step).await {
                // The name had another content, so the file gets a new one.
                Err(FreshUploadError::FileChanged) => journal.forget(name),
                Err(FreshUploadError::Denied(_)) => denied = Some(name),
                resumed => return end_upload(name, resumed, journal),
            }
        }
        let name = Token::random();
        journal.begin(path, name);
        let on_step = |step: UploadStep<'_>| {
            journal.step(name, step);
            // The store accepts uploads, so it denied the earlier one because that one is gone.
            if let (UploadStep::Begun(_), Some(gone)) = (step, denied) {
                journal.forget(gone);
            }
        };
        let (key, file) = (self.log.blob_key(name), Arc::clone(file));
        let uploaded = self.fresh.upload(&key, file, self.attributes(path), None, &on_step).await;
        if let Some(denied) = denied {
            journal.release(denied);
        }
        end_upload(name, uploaded, journal)
    }

    /// Uploads a large file in parts, under a key that the caller may write. Returns `false` if the
    /// file changed meanwhile or has not the expected hash; then nothing is stored.
    pub(crate) async fn put_parts(
        &self,
        key: &Key,
        attributes: Attributes,
        file: Arc<File>,
        signature: Signature,
        expected: Hash,
    ) -> Result<bool, ContentError> {
        let begun = self.remote.begin_multipart(key, attributes).await;
        let upload = begun.map_err(|error| failed(&error))?;
        match self.fresh.send_anonymous(upload, file, signature, expected).await {
            Ok(_) => Ok(true),
            Err(FreshUploadError::FileChanged) => Ok(false),
            Err(FreshUploadError::Read(error)) => Err(unreadable(error)),
            Err(FreshUploadError::Store(error) | FreshUploadError::Denied(error)) => {
                Err(failed(&error))
            }
        }
    }
}

/// Records the end of a large file's upload.
fn end_upload(
    name: Token,
    uploaded: Result<Uploaded, FreshUploadError>,
    journal: &dyn UploadJournal,
) -> Result<Option<(Hash, Content)>, ContentError> {
    match uploaded {
        Ok(uploaded) => Ok(Some((uploaded.hash.into(), Content::Blob(name)))),
        Err(FreshUploadError::FileChanged) => {
            journal.forget(name);
            Ok(None)
        }
        Err(FreshUploadError::Read(error)) => {
            journal.forget(name);
            Err(unreadable(error))
        }
        Err(FreshUploadError::Store(error) | FreshUploadError::Denied(error)) => {
            journal.release(name);
            Err(failed(&error))
        }
    }
}

/// Takes bytes from a budget if it has enough.
fn take(left: &AtomicU64, bytes: u64) -> bool {
    let take = |left: u64| left.checked_sub(bytes);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

fn has_changed(file: &File, signature: &Signature) -> Result<bool, ContentError> {
    Ok(Signature::of(file).map_err(unreadable)? != *signature)
}

fn unreadable(error: io::Error) -> ContentError {
    ContentError::Retryable(format!("it cannot be read: {error}"))
}

/// Classifies an error of the store.
pub(crate) fn failed(error: &Error) -> ContentError {
    let reason = with_causes(error);
    match error {
        Error::InvalidPath { .. } => ContentError::Permanent(reason),
        error => {
            tracing::debug!(%error, is_transient = is_transient(error), "a request failed");
            ContentError::Retryable(reason)
        }
    }
}
