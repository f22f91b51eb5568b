//! Uploads of files to fresh keys, which resume after a crash.
//!
//! A large file is sent in parts. Each acknowledged part is a step that the caller journals. With
//! the journaled record, another process sends only the missing parts: it reads the file once, and
//! compares what was sent by its hash.

use std::fs::File;
use std::io;
use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use crate::log::Hash;
use crate::scan::Signature;
use crate::transfer::budget::MemoryBudget;
use crate::transfer::stores::StoreCapabilities;
use parts::{Content, Stopped, Upload, lacks_support, send_anonymous};

mod parts;
mod record;

pub use record::{PartRecord, UploadRecord, UploadStep};

/// Largest file that is sent in one request; size of the parts of larger files.
pub(crate) const PART_BYTES: u64 = 8 << 20;

/// Uploader of files to keys that were never used before.
#[derive(Clone, Debug)]
pub struct FreshUploads {
    store: Arc<dyn ObjectStore>,
    capabilities: StoreCapabilities,
    budget: MemoryBudget,
}

/// Treatment of a record whose upload had another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherContent {
    /// The upload begins again under the same key.
    BeginAgain,
    Stop,
}

/// Receiver of the steps of an upload.
pub type OnStep<'s> = &'s (dyn Fn(UploadStep<'_>) + Send + Sync);

/// Object that the store holds now.
#[derive(Debug)]
#[non_exhaustive]
pub struct Uploaded {
    /// BLAKE3 hash of the content.
    pub hash: blake3::Hash,
    /// Version of the object.
    pub put: PutResult,
    /// Signature of the file, which was the same before and after it was read.
    pub(crate) signature: Signature,
}

/// Error returned by [`FreshUploads::upload`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreshUploadError {
    /// The content changed while it was read. The upload is aborted.
    #[error("it changes while it is read")]
    FileChanged,
    /// The file cannot be read. The upload is aborted.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The store failed. The journaled record stays valid, if there is one.
    #[error("the store failed")]
    Store(#[source] Error),
    /// The store denied the upload of the record, which it may no longer have.
    #[error("the store denied the upload")]
    Denied(#[source] Error),
}

impl Uploaded {
    /// Size of the content in bytes.
    pub fn bytes(&self) -> u64 {
        self.signature.size
    }
}

impl FreshUploads {
    /// Creates an uploader. All uploaders of a process can share one budget.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        capabilities: StoreCapabilities,
        budget: MemoryBudget,
    ) -> Self {
        Self { store, capabilities, budget }
    }

    /// Uploads the content of a file to a key that nothing else uses. Resumes the upload of the
    /// record if the file still begins with what was sent; otherwise aborts it and begins again.
    ///
    /// # Errors
    /// Returns [`FreshUploadError`]. After [`FreshUploadError::Store`], the caller can resume.
    ///
    /// # Cancel safety
    /// A dropped upload resumes by its record. On a store without [`StoreCapabilities::multipart`]
    /// nothing can resume, and the store's rules for unfinished uploads remove the parts.
    pub async fn upload(
        &self,
        key: &Key,
        file: Arc<File>,
        attributes: Attributes,
        record: Option<UploadRecord>,
        on_step: OnStep<'_>,
    ) -> Result<Uploaded, FreshUploadError> {
        self.send(key, file, attributes, record, OtherContent::BeginAgain, on_step).await
    }

    /// Resumes the upload of a record. If the file or the upload is another one, aborts the upload
    /// and returns [`FreshUploadError::FileChanged`], because a late request could still complete
    /// it under this key. [`FreshUploadError::Denied`] leaves the upload as it is.
    pub(crate) async fn resume(
        &self,
        key: &Key,
        file: Arc<File>,
        record: UploadRecord,
        on_step: OnStep<'_>,
    ) -> Result<Uploaded, FreshUploadError> {
        let record = Some(record);
        self.send(key, file, Attributes::new(), record, OtherContent::Stop, on_step).await
    }

    async fn send(
        &self,
        key: &Key,
        file: Arc<File>,
        attributes: Attributes,
        record: Option<UploadRecord>,
        other_content: OtherContent,
        on_step: OnStep<'_>,
    ) -> Result<Uploaded, FreshUploadError> {
        let signature = Signature::of(&file).map_err(FreshUploadError::Read)?;
        let content = Content { file, signature, budget: &self.budget };
        let multipart = self.capabilities.multipart.as_deref();
        let Some(multipart) = multipart.filter(|_| signature.size > PART_BYTES) else {
            if let Some(record) = record {
                self.abandon(&record, on_step).await;
                if other_content == OtherContent::Stop {
                    return Err(FreshUploadError::FileChanged);
                }
            }
            return if signature.size > PART_BYTES {
                self.send_without_record(key, &content, attributes).await
            } else {
                self.send_whole(key, &content, attributes).await
            };
        };
        let mut earlier = None;
        if let Some(record) = record {
            if record.fits(key, signature.size) {
                earlier = Some(record);
            } else {
                self.abandon(&record, on_step).await;
                if other_content == OtherContent::Stop {
                    return Err(FreshUploadError::FileChanged);
                }
            }
        }
        let upload = Upload { multipart, key, content: &content, on_step };
        loop {
            let is_resumed = earlier.is_some();
            let mut record = match earlier.take() {
                Some(record) => record,
                None => upload.begin(attributes.clone()).await.map_err(FreshUploadError::Store)?,
            };
            let stopped = match upload.run(&mut record).await {
                Ok(sent) => return self.uploaded(sent, &content),
                Err(stopped) => stopped,
            };
            // Some servers deny requests about an upload that they no longer have.
            let is_denied =
                is_resumed && matches!(stopped, Stopped::Store(Error::PermissionDenied { .. }));
            let is_gone = is_denied || matches!(stopped, Stopped::Store(Error::NotFound { .. }));
            if is_gone && let Some(sent) = self.completed_earlier(key, &record).await {
                on_step(UploadStep::Ended);
                return self.uploaded(sent, &content);
            }
            let stopped = match stopped {
                Stopped::Store(error) if is_denied && other_content == OtherContent::Stop => {
                    return Err(FreshUploadError::Denied(error));
                }
                stopped => stopped,
            };
            if is_gone || !matches!(stopped, Stopped::Store(_)) {
                self.abandon(&record, on_step).await;
            }
            if !(is_resumed && (is_gone || matches!(stopped, Stopped::OtherContent))) {
                return Err(stopped.into());
            }
            if other_content == OtherContent::Stop {
                return Err(FreshUploadError::FileChanged);
            }
        }
    }

    /// Aborts the upload of an earlier process, so that the store drops its parts. Azure has no
    /// such request and drops them after a week.
    ///
    /// # Errors
    /// Returns the store's error. An upload that no longer exists is no error.
    pub async fn abort(&self, record: &UploadRecord) -> Result<(), Error> {
        let Some(multipart) = &self.capabilities.multipart else { return Ok(()) };
        let key = Key::parse(&record.key)?;
        match multipart.abort_multipart(&key, &record.upload_id).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Aborts an upload that cannot continue. If that fails, the record stays in the journal.
    async fn abandon(&self, record: &UploadRecord, on_step: OnStep<'_>) {
        match self.abort(record).await {
            Ok(()) => on_step(UploadStep::Ended),
            Err(error) => tracing::warn!(key = record.key, %error, "cannot abort an upload"),
        }
    }

    fn uploaded(
        &self,
        (hash, put): (blake3::Hash, PutResult),
        content: &Content<'_>,
    ) -> Result<Uploaded, FreshUploadError> {
        Ok(Uploaded { hash, put, signature: content.signature })
    }

    /// Returns the object if the upload was completed, but the answer was lost.
    async fn completed_earlier(
        &self,
        key: &Key,
        record: &UploadRecord,
    ) -> Option<(blake3::Hash, PutResult)> {
        record.part_ids()?;
        let meta = self.store.head(key).await.ok().filter(|meta| meta.size == record.bytes)?;
        // The last part's hash covers the whole content.
        let last = record.part(record.part_count().checked_sub(1)?)?;
        let hash = blake3::Hash::from_hex(&last.hash).ok()?;
        let put =
            PutResult { e_tag: meta.e_tag, version: meta.version, extensions: Default::default() };
        Some((hash, put))
    }

    async fn send_whole(
        &self,
        key: &Key,
        content: &Content<'_>,
        attributes: Attributes,
    ) -> Result<Uploaded, FreshUploadError> {
        let _memory = self.budget.reserve(content.signature.size).await;
        let (part, hasher) = content.read(0, content.signature.size, blake3::Hasher::new()).await?;
        content.check()?;
        let payload = PutPayload::from(part);
        let put = |attributes| {
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.store.put_opts(key, payload.clone(), options)
        };
        let put = match put(attributes).await {
            Err(error) if lacks_support(&error) => put(Attributes::new()).await,
            other => other,
        };
        self.uploaded((hasher.finalize(), put.map_err(FreshUploadError::Store)?), content)
    }

    /// Sends a large file to a store whose uploads have no name.
    async fn send_without_record(
        &self,
        key: &Key,
        content: &Content<'_>,
        attributes: Attributes,
    ) -> Result<Uploaded, FreshUploadError> {
        let begin = |attributes| {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            self.store.put_multipart_opts(key, options)
        };
        let begun = match begin(attributes).await {
            Err(error) if lacks_support(&error) => begin(Attributes::new()).await,
            other => other,
        };
        let upload = begun.map_err(FreshUploadError::Store)?;
        self.uploaded(send_anonymous(upload, content, None).await?, content)
    }

    /// Sends a large file as an upload without a name, to a key that may hold another object. The
    /// upload is completed only if the content has the expected hash.
    pub(crate) async fn send_anonymous(
        &self,
        upload: Box<dyn MultipartUpload>,
        file: Arc<File>,
        signature: Signature,
        expected: Hash,
    ) -> Result<Uploaded, FreshUploadError> {
        let content = Content { file, signature, budget: &self.budget };
        self.uploaded(send_anonymous(upload, &content, Some(expected)).await?, &content)
    }
}

impl From<Stopped> for FreshUploadError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::OtherContent | Stopped::FileChanged => Self::FileChanged,
            Stopped::Read(error) => Self::Read(error),
            Stopped::Store(error) => Self::Store(error),
        }
    }
}
