//! Downloads of versions, verified byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact_sync::internal::is_executable;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::blobs::{Blobs, NewBlob};
use crate::digest::Digest;
use crate::error::{FileMismatch, SkillError};
use crate::id::{SkillId, Version};
use crate::layout::{CONCURRENT_DOWNLOADS, MAX_BYTES};
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError, ManifestFile};
use crate::records::manifest_name;
use crate::resolve::{Identity, Resolved};
use crate::store::{SkillStore, store_error};
use crate::version_files::VersionFiles;

/// Bytes that are collected before they are written.
const PART: usize = 256 * 1024;

/// The problem of an object with more bytes than it may have.
const TOO_LONG: &str = "is longer than its manifest or the limit says";

/// A file that was downloaded and has no name yet.
struct Downloaded {
    blob: NewBlob,
    is_executable: bool,
}

/// Failure of the download of one file.
enum DownloadFailure {
    /// The object is not what the manifest says.
    Mismatch(&'static str),
    Other(SkillError),
}

impl SkillStore {
    /// Returns the manifest of a version and keeps it in `blobs`. Downloads the files of a version
    /// without a manifest, to describe them.
    pub(crate) async fn manifest_of(
        &self,
        resolved: &Resolved,
        blobs: &Arc<Blobs>,
    ) -> Result<Manifest, SkillError> {
        let (id, version) = (&resolved.id, resolved.version);
        match &resolved.identity {
            Identity::Manifest { digest, .. } => {
                let (cached, wanted) = (Arc::clone(blobs), *digest);
                let cached = blocking(move || cached.read(&wanted, MAX_MANIFEST_BYTES)).await;
                let text = match cached {
                    Some(text) => text,
                    None => self.download_manifest(id, version, *digest, blobs).await?,
                };
                let manifest = parse_manifest(id, version, &text)?;
                manifest.check_skill_file().map_err(|source| SkillError::Manifest {
                    id: id.clone(),
                    version,
                    source,
                })?;
                Ok(manifest)
            }
            Identity::Objects(files) => self.describe(id, version, files, blobs).await,
        }
    }

    async fn download_manifest(
        &self,
        id: &SkillId,
        version: Version,
        digest: Digest,
        blobs: &Arc<Blobs>,
    ) -> Result<Vec<u8>, SkillError> {
        let key = self.record_key(id, manifest_name(version, &digest));
        let text = self.get_small(&key, MAX_MANIFEST_BYTES).await?;
        let Some(text) = text.filter(|text| Digest::of(text) == digest) else {
            let path = key.filename().unwrap_or_default().to_owned();
            let problem = "differs from the digest in its name";
            let files = vec![FileMismatch { path, problem }];
            return Err(SkillError::Mismatch { id: id.clone(), version, files });
        };
        let (blobs, kept) = (Arc::clone(blobs), text.clone());
        blocking(move || keep(&blobs, &kept)).await?;
        Ok(text)
    }

    /// Downloads the files of a manifest that `blobs` does not have. An error names every file that
    /// differs from the manifest.
    pub(crate) async fn download(
        &self,
        manifest: &Manifest,
        blobs: &Arc<Blobs>,
    ) -> Result<(), SkillError> {
        let (id, version) = (&manifest.skill, manifest.version);
        let prefix = self.version_prefix(id, version);
        let mut missing = BTreeMap::new();
        for file in &manifest.files {
            if !blobs.has(&file.sha256, file.size) {
                // Files of the same content are downloaded once, and a mismatch names the first.
                missing.entry(file.sha256).or_insert_with(|| file.clone());
            }
        }
        let mut results = futures::stream::iter(missing.into_values())
            .map(|file| self.download_file(&prefix, file, blobs).boxed())
            .buffer_unordered(CONCURRENT_DOWNLOADS);
        let mut mismatches = Vec::new();
        while let Some((file, result)) = results.next().await {
            match result {
                Ok(()) => {}
                Err(DownloadFailure::Mismatch(problem)) => {
                    let path = file.path.as_str().to_owned();
                    mismatches.push(FileMismatch { path, problem });
                }
                Err(DownloadFailure::Other(error)) => return Err(error),
            }
        }
        if mismatches.is_empty() {
            return Ok(());
        }
        mismatches.sort();
        Err(SkillError::Mismatch { id: id.clone(), version, files: mismatches })
    }

    async fn download_file(
        &self,
        prefix: &Key,
        file: ManifestFile,
        blobs: &Arc<Blobs>,
    ) -> (ManifestFile, Result<(), DownloadFailure>) {
        let result = async {
            let key = file_key(prefix, &file.path)
                .ok_or(DownloadFailure::Mismatch("has a path that no object can have"))?;
            let downloaded = self.get(&key, file.size, &AtomicU64::new(0), blobs).await?;
            let (blobs, expected) = (Arc::clone(blobs), (file.sha256, file.size));
            blocking(move || {
                let (digest, size) = downloaded.blob.identity();
                if size != expected.1 {
                    return Err(DownloadFailure::Mismatch("is shorter than its manifest says"));
                }
                if digest != expected.0 {
                    return Err(DownloadFailure::Mismatch("has another digest"));
                }
                downloaded
                    .blob
                    .keep(&blobs, &digest)
                    .map_err(|error| DownloadFailure::Other(unwritable(&blobs, error)))
            })
            .await
        };
        let result = result.await;
        (file, result)
    }

    /// Downloads the files of a version without a manifest, and describes what arrived.
    async fn describe(
        &self,
        id: &SkillId,
        version: Version,
        listed: &VersionFiles,
        blobs: &Arc<Blobs>,
    ) -> Result<Manifest, SkillError> {
        // The listing can be wrong, so what arrives is counted.
        let bytes = &AtomicU64::new(0);
        let mut files: Vec<ManifestFile> = futures::stream::iter(listed.files.clone())
            .map(|(path, key)| self.describe_file(id, version, path, key, bytes, blobs).boxed())
            .buffer_unordered(CONCURRENT_DOWNLOADS)
            .try_collect()
            .await?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest { skill: id.clone(), version, files };
        let text = manifest.to_json();
        // A file and a directory of one name fail here, not while they are installed.
        let manifest = parse_manifest(id, version, &text)?;
        let blobs = Arc::clone(blobs);
        blocking(move || keep(&blobs, &text)).await?;
        Ok(manifest)
    }

    async fn describe_file(
        &self,
        id: &SkillId,
        version: Version,
        path: RelativePath,
        key: Key,
        bytes: &AtomicU64,
        blobs: &Arc<Blobs>,
    ) -> Result<ManifestFile, SkillError> {
        let downloaded = match self.get(&key, MAX_BYTES, bytes, blobs).await {
            Ok(downloaded) => downloaded,
            Err(DownloadFailure::Other(error)) => return Err(error),
            Err(DownloadFailure::Mismatch(problem)) => {
                let path = path.as_str().to_owned();
                let files = vec![FileMismatch { path, problem }];
                return Err(SkillError::Mismatch { id: id.clone(), version, files });
            }
        };
        let blobs = Arc::clone(blobs);
        blocking(move || {
            let (sha256, size) = downloaded.blob.identity();
            let is_executable = downloaded.is_executable;
            let kept = downloaded.blob.keep(&blobs, &sha256);
            kept.map_err(|error| unwritable(&blobs, error))?;
            Ok(ManifestFile { path, sha256, size, is_executable })
        })
        .await
    }

    /// Downloads an object into a file without a name. Stops if the object has more than
    /// `max_bytes` bytes, or more than [`MAX_BYTES`] together with `others`.
    async fn get(
        &self,
        key: &Key,
        max_bytes: u64,
        others: &AtomicU64,
        blobs: &Arc<Blobs>,
    ) -> Result<Downloaded, DownloadFailure> {
        let failed = |error| match error {
            Error::NotFound { .. } => DownloadFailure::Mismatch("is absent"),
            error => DownloadFailure::Other(store_error(key)(error)),
        };
        let got = self.store.get(key).await.map_err(failed)?;
        let is_executable = is_executable(&got.attributes);
        let mut stream = got.into_stream();
        let mut blob = None;
        let mut part = Vec::new();
        let (mut size, mut start) = (0_u64, Vec::<u8>::new());
        loop {
            let chunk: Option<Bytes> = stream.try_next().await.map_err(failed)?;
            if let Some(chunk) = &chunk {
                let count = chunk.len() as u64;
                size += count;
                let together = others.fetch_add(count, Ordering::Relaxed) + count;
                if size > max_bytes || together > MAX_BYTES.max(max_bytes) {
                    return Err(DownloadFailure::Mismatch(TOO_LONG));
                }
                start.extend(chunk.iter().take(2 - start.len()));
                part.extend_from_slice(chunk);
            }
            if chunk.is_none() || part.len() >= PART {
                let (blobs, written) = (Arc::clone(blobs), std::mem::take(&mut part));
                let begun = blob.take();
                let result = blocking(move || {
                    let mut blob = match begun {
                        Some(blob) => blob,
                        None => blobs.begin().map_err(|error| unwritable(&blobs, error))?,
                    };
                    blob.write(&written).map_err(|error| unwritable(&blobs, error))?;
                    Ok(blob)
                });
                let written = result.await.map_err(DownloadFailure::Other)?;
                if chunk.is_none() {
                    // Some stores keep no attributes, but a script has an interpreter line.
                    let is_executable = is_executable || start == b"#!";
                    return Ok(Downloaded { blob: written, is_executable });
                }
                blob = Some(written);
            }
        }
    }

    /// Returns a small object, or `None` if it has more than `max_bytes` bytes.
    pub(crate) async fn get_small(
        &self,
        key: &Key,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, SkillError> {
        let got = self.store.get(key).await.map_err(store_error(key))?;
        let mut stream = got.into_stream();
        let mut content = Vec::new();
        while let Some(chunk) = stream.try_next().await.map_err(store_error(key))? {
            if content.len() as u64 + chunk.len() as u64 > max_bytes {
                return Ok(None);
            }
            content.extend_from_slice(&chunk);
        }
        Ok(Some(content))
    }
}

/// Returns the key of a file. Below the prefix, it equals the path byte for byte.
pub(crate) fn file_key(prefix: &Key, path: &RelativePath) -> Option<Key> {
    artifact_sync::internal::key_for(prefix, path).ok()
}

fn parse_manifest(id: &SkillId, version: Version, text: &[u8]) -> Result<Manifest, SkillError> {
    let invalid = |source: ManifestError| SkillError::Manifest { id: id.clone(), version, source };
    let manifest = Manifest::parse(text).map_err(invalid)?;
    manifest.check_version(id, version).map_err(invalid)?;
    Ok(manifest)
}

fn keep(blobs: &Blobs, content: &[u8]) -> Result<(), SkillError> {
    blobs.insert(content).map(drop).map_err(|error| unwritable(blobs, error))
}

pub(crate) fn unwritable(blobs: &Blobs, source: std::io::Error) -> SkillError {
    SkillError::State { path: blobs.dir().to_owned(), source }
}
