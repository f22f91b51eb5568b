//! Contents from the store: into memory, or into a file of the directory.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use sandbox_core::internal::{blocking, lock};
use sandbox_core::{FileError, RelativePath, SessionDir, StagedFile, with_causes};
use tokio::sync::Semaphore;

use crate::error::SyncError;
use crate::log::{Content, Entry, FileVersion, Hash, Line, LogStore};
use crate::transfer::remote::Remote;

/// Content that is held in memory before it is written.
const CHUNK_BYTES: usize = 1 << 20;
/// Concurrent requests for contents.
const REQUESTS_AT_ONCE: usize = 32;
/// Largest content that is received whole, so that the next request begins before it is written.
const SMALL_BYTES: u64 = 64 << 10;
/// Most inline contents that are kept in memory, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Reader of contents.
#[derive(Debug)]
pub(crate) struct Fetcher {
    dir: Arc<SessionDir>,
    log: LogStore,
    remote: Arc<Remote>,
    inline: Mutex<InlineCache>,
    /// Held while an entry is read for its contents.
    reading: tokio::sync::Mutex<()>,
    requests: Semaphore,
}

/// Inline contents of entries that were read.
#[derive(Debug, Default)]
struct InlineCache {
    contents: HashMap<Hash, Bytes>,
    bytes: usize,
}

/// Content in a file that has no name yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) staged: StagedFile,
    pub(crate) hash: Hash,
    pub(crate) size: u64,
}

impl Fetcher {
    pub(crate) fn new(dir: Arc<SessionDir>, log: LogStore, remote: Arc<Remote>) -> Self {
        let (inline, reading) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { dir, log, remote, inline, reading, requests: Semaphore::new(REQUESTS_AT_ONCE) }
    }

    /// Keeps the inline contents of an entry for the next fetches.
    pub(crate) fn remember(&self, entry: &Entry) {
        let mut cache = lock(&self.inline);
        for line in &entry.lines {
            if let Line::File {
                file: FileVersion { hash, content: Content::Inline(inline), .. },
                ..
            } = line
                && cache.bytes + inline.0.len() <= CACHE_BYTES
            {
                cache.bytes += inline.0.len();
                cache.contents.insert(*hash, inline.0.clone());
            }
        }
    }

    /// Forgets the remembered contents.
    pub(crate) fn forget(&self) {
        *lock(&self.inline) = InlineCache::default();
    }

    /// Fetches a file version into a file without a name, and verifies its hash. If its blob is
    /// damaged or absent, an object of the projection or a file of the working copy with the right
    /// hash replaces it.
    pub(crate) async fn fetch(
        &self,
        path: &RelativePath,
        file: &FileVersion,
    ) -> Result<Fetched, SyncError> {
        let damaged = match self.fetch_from_log(path, file).await {
            Ok(fetched) if fetched.hash == file.hash => return Ok(fetched),
            Ok(fetched) => SyncError::Damaged {
                path: path.clone(),
                problem: format!("its content has the hash {}, not {}", fetched.hash, file.hash),
            },
            // Nothing brings a content back that the store does not have.
            Err(SyncError::Fetch { source: object_store::Error::NotFound { .. }, .. }) => {
                damaged(path.as_str(), "the store no longer has its content")
            }
            Err(error) => error,
        };
        let object = match self.remote.key(path.as_str()) {
            Ok(key) => self.fetch_object(path, &key).await.ok(),
            Err(_) => None,
        };
        let copy = match object.filter(|fetched| fetched.hash == file.hash) {
            Some(object) => Some(object),
            None => self.copy_local(path).await.filter(|copy| copy.hash == file.hash),
        };
        match copy {
            Some(copy) => {
                tracing::warn!(%path, error = with_causes(&damaged), "a copy was used");
                Ok(copy)
            }
            None => Err(damaged),
        }
    }

    /// Copies a file of the working copy into a file without a name.
    async fn copy_local(&self, path: &RelativePath) -> Option<Fetched> {
        let (dir, path) = (Arc::clone(&self.dir), path.clone());
        blocking(move || {
            let mut file = dir.open_file(&path).ok()?;
            let mut staged = dir.stage_exact(&path).ok()?;
            let size = std::io::copy(&mut file, &mut staged).ok()?;
            let (hash, copied) = Hash::of_file(staged.file()).ok()?;
            (copied == size).then_some(Fetched { staged, hash, size })
        })
        .await
    }

    /// Reads a file version into memory, and verifies its hash.
    pub(crate) async fn read(&self, path: &str, file: &FileVersion) -> Result<Bytes, SyncError> {
        let content = match self.inline(path, file).await? {
            Some(content) => content,
            None => {
                let key = self.key(path, file)?;
                let fetched = async { self.log.store().get(&key).await?.bytes().await };
                fetched.await.map_err(|source| SyncError::Fetch { key: key.to_string(), source })?
            }
        };
        if Hash::of(&content) == file.hash {
            Ok(content)
        } else {
            Err(damaged(path, "its content has another hash"))
        }
    }

    async fn fetch_from_log(
        &self,
        path: &RelativePath,
        file: &FileVersion,
    ) -> Result<Fetched, SyncError> {
        if let Some(content) = self.inline(path.as_str(), file).await? {
            let size = content.len() as u64;
            let content = futures::stream::iter([Ok(content)]).boxed();
            return self.stage(path, "", size, content).await;
        }
        let key = self.key(path.as_str(), file)?;
        self.fetch_object(path, &key).await
    }

    /// Returns the hash of an object's content. Needs no place in the working copy, which may have
    /// no directory for the object.
    pub(crate) async fn hash_object(&self, key: &Key) -> Result<Hash, SyncError> {
        let failed = |source| SyncError::Fetch { key: key.to_string(), source };
        let mut content = self.log.store().get(key).await.map_err(failed)?.into_stream();
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = content.try_next().await.map_err(failed)? {
            hasher.update(&chunk);
        }
        Ok(hasher.finalize().into())
    }

    /// Fetches an object into a file without a name.
    pub(crate) async fn fetch_object(
        &self,
        path: &RelativePath,
        key: &Key,
    ) -> Result<Fetched, SyncError> {
        let failed = |source| SyncError::Fetch { key: key.to_string(), source };
        let request = self.requests.acquire().await;
        let got = self.log.store().get(key).await.map_err(failed)?;
        let size = got.meta.size;
        if size > SMALL_BYTES {
            return self.stage(path, key.as_ref(), size, got.into_stream()).await;
        }
        let content = got.bytes().await.map_err(failed)?;
        drop(request);
        let content = futures::stream::iter([Ok(content)]).boxed();
        self.stage(path, key.as_ref(), size, content).await
    }

    fn key(&self, path: &str, file: &FileVersion) -> Result<Key, SyncError> {
        match &file.content {
            Content::Blob(name) => Ok(self.log.blob_key(*name)),
            Content::Inline(_) | Content::Entry(_) => {
                Err(damaged(path, "no entry of the session log has its content"))
            }
        }
    }

    /// Returns the content of a small file that an entry holds.
    async fn inline(&self, path: &str, file: &FileVersion) -> Result<Option<Bytes>, SyncError> {
        let number = match &file.content {
            Content::Blob(_) => return Ok(None),
            Content::Inline(inline) => return Ok(Some(inline.0.clone())),
            Content::Entry(number) => *number,
        };
        let cached = || lock(&self.inline).contents.get(&file.hash).cloned();
        if let Some(content) = cached() {
            return Ok(Some(content));
        }
        // Files of one entry wait for the first of them to read it.
        let _reading = self.reading.lock().await;
        if let Some(content) = cached() {
            return Ok(Some(content));
        }
        let stored = self.log.read(number).await.map_err(|source| SyncError::Log { source })?;
        let Some(stored) = stored else {
            return Err(damaged(path, "the entry of the session log with its content is gone"));
        };
        self.remember(&stored.entry);
        Ok(stored.entry.inline(&file.hash))
    }

    async fn stage(
        &self,
        path: &RelativePath,
        key: &str,
        size: u64,
        mut content: BoxStream<'_, object_store::Result<Bytes>>,
    ) -> Result<Fetched, SyncError> {
        let failed = |source| SyncError::Fetch { key: key.to_owned(), source };
        let mut writer = Writer::new(Arc::clone(&self.dir), path.clone());
        let (mut received, mut chunks, mut held) = (0, Vec::new(), 0);
        while let Some(chunk) = content.try_next().await.map_err(failed)? {
            received += chunk.len() as u64;
            held += chunk.len();
            chunks.push(chunk);
            if held >= CHUNK_BYTES {
                let content = std::mem::take(&mut chunks);
                writer = blocking(move || writer.write(&content)).await?;
                held = 0;
            }
        }
        if received != size {
            let key = key.to_owned();
            return Err(SyncError::SizeMismatch { key, expected: size, received });
        }
        let (staged, hash) = blocking(move || writer.end(&chunks)).await?;
        Ok(Fetched { staged, hash, size })
    }
}

fn damaged(path: &str, problem: &str) -> SyncError {
    match RelativePath::parse(path) {
        Ok(path) => SyncError::Damaged { path, problem: problem.to_owned() },
        Err(error) => SyncError::UnsafeKey { key: path.to_owned(), reason: error.to_string() },
    }
}

/// Writer of a file that arrives in pieces. The first piece creates it.
struct Writer {
    dir: Arc<SessionDir>,
    path: RelativePath,
    staged: Option<StagedFile>,
    hasher: blake3::Hasher,
}

impl Writer {
    fn new(dir: Arc<SessionDir>, path: RelativePath) -> Self {
        Self { dir, path, staged: None, hasher: blake3::Hasher::new() }
    }

    fn write(mut self, chunks: &[Bytes]) -> Result<Self, FileError> {
        self.staged = Some(self.append(chunks)?);
        Ok(self)
    }

    /// Writes the last piece. Returns the file with the hash of its content.
    fn end(mut self, chunks: &[Bytes]) -> Result<(StagedFile, Hash), FileError> {
        let staged = self.append(chunks)?;
        Ok((staged, self.hasher.finalize().into()))
    }

    fn append(&mut self, chunks: &[Bytes]) -> Result<StagedFile, FileError> {
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.dir.stage_exact(&self.path)?,
        };
        for chunk in chunks {
            self.hasher.update(chunk);
            staged.write_all(chunk).map_err(|source| FileError::Io {
                operation: "write",
                path: self.path.as_ref().to_owned(),
                source,
            })?;
        }
        Ok(staged)
    }
}
