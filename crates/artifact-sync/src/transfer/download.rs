//! Download of one object.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir, StagedFile};

use crate::error::SyncError;
use crate::scan::{RecordedSignature, Signature, StampTime};
use crate::state::{Origin, Version};
use crate::transfer::attributes;
use crate::transfer::remote::Remote;

/// Content of one object that is held in memory before it is written.
const CHUNK_BYTES: usize = 1 << 20;

/// Downloader into a directory.
#[derive(Debug)]
pub(crate) struct Downloader {
    dir: Arc<SessionDir>,
    remote: Arc<Remote>,
}

/// Downloaded object, in a file without a name.
pub(crate) struct Download {
    writer: Writer,
    is_executable: bool,
    pub(crate) origin: Origin,
    pub(crate) version: Version,
}

impl Downloader {
    pub(crate) fn new(dir: Arc<SessionDir>, remote: Arc<Remote>) -> Self {
        Self { dir, remote }
    }

    /// Downloads an object to a file that has no name yet.
    pub(crate) async fn download(
        &self,
        path: &RelativePath,
        meta: &ObjectMeta,
    ) -> Result<Download, SyncError> {
        let failed = |source| SyncError::Fetch { key: meta.location.to_string(), source };
        let got = self.remote.store().get(&meta.location).await.map_err(failed)?;
        let is_executable = attributes::is_executable(&got.attributes);
        let origin = attributes::origin(&got.attributes);
        let (version, expected) = (Version::from(&got.meta), got.meta.size);
        let mut writer = Writer {
            dir: Arc::clone(&self.dir),
            path: path.clone(),
            staged: None,
            hasher: blake3::Hasher::new(),
        };
        let mut stream = got.into_stream();
        let (mut received, mut chunks, mut held) = (0, Vec::new(), 0);
        while let Some(chunk) = stream.try_next().await.map_err(failed)? {
            received += chunk.len() as u64;
            held += chunk.len();
            chunks.push(chunk);
            if held >= CHUNK_BYTES {
                let content = std::mem::take(&mut chunks);
                writer = blocking(move || writer.write(&content)).await?;
                held = 0;
            }
        }
        if received != expected {
            let key = meta.location.to_string();
            return Err(SyncError::SizeMismatch { key, expected, received });
        }
        let writer = blocking(move || writer.write(&chunks)).await?;
        Ok(Download { writer, is_executable, origin, version })
    }
}

impl Download {
    /// Returns the hash of the content, in hexadecimal.
    pub(crate) fn hash(&self) -> String {
        self.writer.hash()
    }

    /// Gives the file its name and returns its signature.
    pub(crate) async fn commit(self) -> Result<RecordedSignature, FileError> {
        let Self { writer, is_executable, .. } = self;
        blocking(move || writer.commit(is_executable)).await
    }
}

/// Writer of a file that arrives in pieces.
struct Writer {
    dir: Arc<SessionDir>,
    path: RelativePath,
    staged: Option<StagedFile>,
    hasher: blake3::Hasher,
}

impl Writer {
    fn write(mut self, chunks: &[Bytes]) -> Result<Self, FileError> {
        let mut staged = self.take_staged()?;
        for chunk in chunks {
            self.hasher.update(chunk);
            staged.write_all(chunk).map_err(|source| FileError::Io {
                operation: "write",
                path: self.path.as_ref().to_owned(),
                source,
            })?;
        }
        self.staged = Some(staged);
        Ok(self)
    }

    fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    fn commit(mut self, is_executable: bool) -> Result<RecordedSignature, FileError> {
        let mut staged = self.take_staged()?;
        if is_executable {
            staged.set_executable(true)?;
        }
        let now = StampTime::now();
        Ok(Signature::from(&staged.commit()?).recorded_at(now))
    }

    /// Takes the staged file, or stages it on first use.
    fn take_staged(&mut self) -> Result<StagedFile, FileError> {
        match self.staged.take() {
            Some(staged) => Ok(staged),
            None => self.dir.stage(&self.path),
        }
    }
}
