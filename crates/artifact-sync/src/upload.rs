//! The way of one file into the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::path::Path as Key;
use object_store::{
    Attributes, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions,
};
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, FileErrorKind, RelativePath, SessionDir, with_causes};
use tokio::sync::Semaphore;

use crate::attributes;
use crate::conditional::{self, Expected, StoreProbe, Version};
use crate::index::{Origin, Stored};
use crate::signature::Signature;

/// Up to here a file is read whole and put in one request; larger ones go in parts of this size.
const PART_BYTES: u64 = 8 << 20;
/// How much of all files may be in memory at once.
const BUDGET_BYTES: u64 = 48 << 20;
/// How many parts of one file are on their way at once.
const PARTS_AT_ONCE: usize = 3;
/// From here on a renamed file is copied by the store; below, sending it costs less than asking.
const MIN_COPY_BYTES: u64 = 256 << 10;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// Puts files of one directory into one store.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub(crate) dir: Arc<SessionDir>,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Where the store is probed.
    prefix: Key,
    probe: StoreProbe,
    /// Kibibytes of memory that are free.
    budget: Semaphore,
    /// Cleared once the store has said that it keeps no attributes.
    keeps_attributes: AtomicBool,
}

/// What the store is known to hold of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before<'b> {
    /// Under its own key.
    pub(crate) stored: Option<&'b Stored>,
    /// Under the key of a name that it had.
    pub(crate) moved: Option<&'b Moved>,
}

/// A file as the store holds it under the key of its old name.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) from: Key,
    pub(crate) stored: Stored,
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum Upload {
    /// The store holds it.
    Stored {
        stored: Stored,
        /// Whether its content is what the store held before.
        is_unchanged: bool,
    },
    /// It is no longer there.
    Gone,
    /// The store holds something else than was expected, and was left as it is.
    Conflict,
}

/// Why a file is not in the store.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// Trying again may help.
    Pending(String),
    /// No attempt will ever help.
    Never(String),
}

impl Uploader {
    pub(crate) fn new(
        dir: Arc<SessionDir>,
        store: Arc<dyn ObjectStore>,
        prefix: Key,
        probe: StoreProbe,
    ) -> Self {
        let budget = Semaphore::new((BUDGET_BYTES / 1024) as usize);
        Self { dir, store, prefix, probe, budget, keeps_attributes: AtomicBool::new(true) }
    }

    /// Stores a file as it is now, where the key holds what is expected. `before` is the file as
    /// the store is known to hold it; `sending` is told the hash of what the store may have from
    /// now on.
    pub(crate) async fn upload(
        &self,
        path: &RelativePath,
        key: &Key,
        before: Before<'_>,
        expected: &Expected,
        origin: Origin,
        sending: &(dyn Fn(&str) + Sync),
    ) -> Result<Upload, UploadError> {
        for _ in 0..ATTEMPTS {
            let (dir, name) = (Arc::clone(&self.dir), path.clone());
            let opened = blocking(move || {
                let file = dir.open_file(&name)?;
                let signature = signature(&file).map_err(|source| FileError::Io {
                    operation: "inspect",
                    path: name.as_ref().to_owned(),
                    source,
                })?;
                Ok((Arc::new(file), signature))
            });
            let (file, signature) = match opened.await {
                Ok(opened) => opened,
                Err(error) => return gone_or_pending(&error),
            };
            let task = Task {
                uploader: self,
                key,
                before,
                expected,
                sending,
                attributes: attributes::attributes(
                    path.as_str(),
                    signature.is_executable(),
                    origin,
                ),
            };
            let outcome = if signature.size <= PART_BYTES {
                task.whole(&file, &signature).await?
            } else {
                task.in_parts(&file, &signature).await?
            };
            match outcome {
                Put::Done { hash, version, is_unchanged } => {
                    return Ok(Upload::Stored {
                        stored: Stored { signature, hash, version, origin },
                        is_unchanged,
                    });
                }
                Put::Conflict => return Ok(Upload::Conflict),
                Put::Changed => {}
            }
        }
        Err(UploadError::Pending("it changes while it is read".to_owned()))
    }
}

/// What became of one attempt.
enum Put {
    /// The store has this content now.
    Done {
        hash: String,
        version: Version,
        is_unchanged: bool,
    },
    Conflict,
    /// The file changed while it was read.
    Changed,
}

struct Task<'u> {
    uploader: &'u Uploader,
    key: &'u Key,
    before: Before<'u>,
    expected: &'u Expected,
    sending: &'u (dyn Fn(&str) + Sync),
    attributes: Attributes,
}

impl Task<'_> {
    /// The whole file in one request.
    async fn whole(self, file: &Arc<File>, signature: &Signature) -> Result<Put, UploadError> {
        let _memory = self.uploader.reserve(signature.size).await;
        let (source, size) = (Arc::clone(file), signature.size);
        let content = blocking(move || read_at(&source, 0, size)).await.map_err(unreadable)?;
        if self::signature(file).map_err(unreadable)? != *signature
            || content.len() as u64 != signature.size
        {
            return Ok(Put::Changed);
        }
        let hash = blake3::hash(&content).to_hex().to_string();
        if let Some(before) =
            self.before.stored.filter(|before| self.holds(before, &hash, signature))
        {
            return Ok(Put::Done { hash, version: before.version.clone(), is_unchanged: true });
        }
        if let Some(version) = self.copied(&hash, signature).await {
            return Ok(Put::Done { hash, version, is_unchanged: false });
        }
        let refused = |error| refused(&error, self.key);
        let Uploader { store, prefix, probe, .. } = self.uploader;
        let mode = match probe.mode(&**store, prefix, self.expected).await {
            Some(mode) => mode,
            None if conditional::holds(&**store, self.key, self.expected)
                .await
                .map_err(refused)? =>
            {
                PutMode::Overwrite
            }
            None => return Ok(Put::Conflict),
        };
        (self.sending)(&hash);
        let content = Bytes::from(content);
        let put = |attributes: Attributes| {
            let options = PutOptions { attributes, mode: mode.clone(), ..PutOptions::default() };
            store.put_opts(self.key, content.clone().into(), options)
        };
        let attributes =
            self.uploader.attributes(&attributes::with_hash(self.attributes.clone(), &hash));
        let stored = match put(attributes.clone()).await {
            Err(object_store::Error::NotImplemented { .. }) if !attributes.is_empty() => {
                self.uploader.keeps_attributes.store(false, Ordering::Relaxed);
                put(Attributes::new()).await
            }
            other => other,
        };
        match stored {
            Ok(stored) => Ok(Put::Done { hash, version: stored.into(), is_unchanged: false }),
            Err(error) if conditional::is_conflict(&error, &mode) => Ok(Put::Conflict),
            Err(error) => Err(refused(error)),
        }
    }

    /// A large file in parts, for which stores have no conditions.
    async fn in_parts(self, file: &Arc<File>, signature: &Signature) -> Result<Put, UploadError> {
        let candidate = self.before.stored.filter(|before| before.signature.size == signature.size);
        if candidate.is_some() || self.before.moved.is_some() {
            // Reading costs less than sending.
            let source = Arc::clone(file);
            let hash = blocking(move || hash_of(&source)).await.map_err(unreadable)?;
            if self::signature(file).map_err(unreadable)? != *signature {
                return Ok(Put::Changed);
            }
            if let Some(before) = candidate.filter(|before| self.holds(before, &hash, signature)) {
                return Ok(Put::Done { hash, version: before.version.clone(), is_unchanged: true });
            }
            if let Some(version) = self.copied(&hash, signature).await {
                return Ok(Put::Done { hash, version, is_unchanged: false });
            }
        }
        // Before everything is sent for nothing, and again before it counts.
        if !self.is_expected().await? {
            return Ok(Put::Conflict);
        }
        let mut upload = self.begin().await.map_err(|error| refused(&error, self.key))?;
        let outcome = match self.send(upload.as_mut(), file, signature).await {
            Ok(Some(hash)) => match self.is_expected().await {
                Ok(true) => {
                    (self.sending)(&hash);
                    let stored =
                        upload.complete().await.map_err(|error| refused(&error, self.key))?;
                    return Ok(Put::Done { hash, version: stored.into(), is_unchanged: false });
                }
                other => other.map(|_| Put::Conflict),
            },
            other => other.map(|_| Put::Changed),
        };
        // What cannot be taken back expires by the bucket's own rules.
        let _ = upload.abort().await;
        outcome
    }

    /// Has the store copy what it holds under the old name. `None` where that would not do, or did
    /// not work: then the file is sent.
    async fn copied(&self, hash: &str, signature: &Signature) -> Option<Version> {
        let Moved { from, stored } = self.before.moved?;
        let store = &self.uploader.store;
        // The local store makes a hard link of a copy.
        let is_worth_it =
            signature.size >= MIN_COPY_BYTES && !store.to_string().contains("LocalFileSystem");
        // What came from elsewhere has other attributes.
        if !is_worth_it || stored.hash != hash || stored.origin != Origin::Local {
            return None;
        }
        let from_is_as_it_was = Expected::This(stored.version.clone());
        if !conditional::holds(&**store, from, &from_is_as_it_was).await.ok()?
            || !self.is_expected().await.ok()?
        {
            return None;
        }
        (self.sending)(hash);
        store.copy(from, self.key).await.ok()?;
        let meta = store.head(self.key).await.ok()?;
        (meta.size == signature.size).then(|| Version::from(&meta))
    }

    async fn is_expected(&self) -> Result<bool, UploadError> {
        let looked = conditional::holds(&*self.uploader.store, self.key, self.expected).await;
        looked.map_err(|error| refused(&error, self.key))
    }

    async fn begin(&self) -> object_store::Result<Box<dyn MultipartUpload>> {
        let begin = |attributes: Attributes| {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            self.uploader.store.put_multipart_opts(self.key, options)
        };
        let attributes = self.uploader.attributes(&self.attributes);
        match begin(attributes.clone()).await {
            Err(object_store::Error::NotImplemented { .. }) if !attributes.is_empty() => {
                self.uploader.keeps_attributes.store(false, Ordering::Relaxed);
                begin(Attributes::new()).await
            }
            other => other,
        }
    }

    /// Sends all parts and gives the content's hash; `None` when it changed on the way.
    async fn send(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &Arc<File>,
        signature: &Signature,
    ) -> Result<Option<String>, UploadError> {
        let mut hasher = blake3::Hasher::new();
        let mut sending = FuturesUnordered::new();
        let mut offset = 0;
        while offset < signature.size {
            if sending.len() == PARTS_AT_ONCE {
                sending
                    .next()
                    .await
                    .unwrap_or(Ok(()))
                    .map_err(|error| refused(&error, self.key))?;
            }
            let length = PART_BYTES.min(signature.size - offset);
            let memory = self.uploader.reserve(length).await;
            let source = Arc::clone(file);
            let (part, read_by) = blocking(move || {
                let part = read_at(&source, offset, length)?;
                hasher.update(&part);
                Ok::<_, io::Error>((part, hasher))
            })
            .await
            .map_err(unreadable)?;
            hasher = read_by;
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
            sent.map_err(|error| refused(&error, self.key))?;
        }
        let is_same = self::signature(file).map_err(unreadable)? == *signature;
        Ok(is_same.then(|| hasher.finalize().to_hex().to_string()))
    }

    /// Whether the store already has this content and mode.
    fn holds(&self, before: &Stored, hash: &str, signature: &Signature) -> bool {
        before.hash == hash && before.signature.is_executable() == signature.is_executable()
    }
}

impl Uploader {
    async fn reserve(&self, bytes: u64) -> tokio::sync::SemaphorePermit<'_> {
        let kibibytes = bytes.div_ceil(1024).clamp(1, BUDGET_BYTES / 1024) as u32;
        self.budget.acquire_many(kibibytes).await.expect("the budget is never closed")
    }

    fn attributes(&self, wanted: &Attributes) -> Attributes {
        if self.keeps_attributes.load(Ordering::Relaxed) {
            wanted.clone()
        } else {
            Attributes::new()
        }
    }

    /// The hash of an object's content, and which object it is; `None` where there is none.
    pub(crate) async fn hash_of_object(
        &self,
        key: &Key,
    ) -> object_store::Result<Option<(String, Version)>> {
        let got = match self.store.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let version = Version::from(&got.meta);
        let mut hasher = blake3::Hasher::new();
        let mut content = got.into_stream();
        while let Some(chunk) = content.next().await {
            hasher.update(&chunk?);
        }
        Ok(Some((hasher.finalize().to_hex().to_string(), version)))
    }

    /// Removes an object; one that is gone already is removed. `false` when another object than the
    /// one that is known has the key: it is somebody else's, and stays.
    pub(crate) async fn remove(
        &self,
        key: &Key,
        version: &Version,
    ) -> Result<bool, object_store::Error> {
        match self.store.head(key).await {
            Ok(meta) if version.etag.is_some() && !version.is(&Version::from(&meta)) => {
                return Ok(false);
            }
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(true),
            Err(error) => return Err(error),
        }
        match self.store.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn signature(file: &File) -> io::Result<Signature> {
    Ok(Signature::from(&file.metadata()?))
}

/// Reads `length` bytes, or up to the end.
fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(&mut content[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

pub(crate) fn hash_of(file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let part = read_at(file, offset, 1 << 20)?;
        if part.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&part);
        offset += part.len() as u64;
    }
}

fn gone_or_pending(error: &FileError) -> Result<Upload, UploadError> {
    match error.kind() {
        FileErrorKind::NotFound => Ok(Upload::Gone),
        _ => Err(UploadError::Pending(with_causes(error))),
    }
}

fn unreadable(error: io::Error) -> UploadError {
    UploadError::Pending(format!("it cannot be read: {error}"))
}

fn refused(error: &object_store::Error, key: &Key) -> UploadError {
    if is_final(error, key) {
        UploadError::Never(with_causes(error))
    } else {
        UploadError::Pending(with_causes(error))
    }
}

/// Whether the store can never take an object of this name.
fn is_final(error: &object_store::Error, key: &Key) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidFilename)
        {
            return true;
        }
        cause = error.source();
    }
    // The local store keeps uploads that are under way in files named `<name>#<number>`, and
    // refuses such names.
    let number = key.as_ref().rsplit_once('#').map(|(_, number)| number);
    let looks_staged = number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    match error {
        object_store::Error::InvalidPath { .. } => true,
        object_store::Error::Generic { store, .. } => *store == "LocalFileSystem" && looks_staged,
        _ => false,
    }
}
