//! The way from the store into the directory.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::AsFd;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStoreExt};
use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, StagedFile, with_causes};

use crate::attributes;
use crate::conditional::Version;
use crate::error::SyncError;
use crate::ignore::IgnoreRules;
use crate::index::{Index, Known, Origin, Stored};
use crate::keys;
use crate::mirror::{Counter, Inner, Mirror};
use crate::objects::{Listing, list_tree};
use crate::paths::{ancestors, parents};
use crate::report::{Direction, RestoreFailure, RestoreReport};
use crate::signature::Signature;
use crate::snapshot::Snapshot;

/// How many objects are fetched at once.
const FETCHES_AT_ONCE: usize = 32;
/// More objects than this, and more than half, are not removed by hand.
const MAX_REMOVED: usize = 20;
/// How much of an object is in memory at once.
const CHUNK_BYTES: usize = 1 << 20;

impl Mirror {
    /// Fetches what the store has and the directory lacks.
    ///
    /// Local files stand: a file that is there is replaced only when the store has a newer one and
    /// it was not changed here; one that was removed here is not fetched again. A directory that
    /// was made anew gets everything but what was removed on purpose. An object that cannot be
    /// fetched is a line of the report.
    ///
    /// # Errors
    /// [`SyncError::List`] when the store cannot be listed.
    ///
    /// # Cancel safety
    /// Each file is there whole or not at all; the next call fetches the rest.
    pub async fn restore(&self) -> Result<RestoreReport, SyncError> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        let listing = list_tree(&*inner.uploader.store, &inner.prefix).await;
        let Listing { objects, unlisted } = listing
            .map_err(|source| SyncError::List { prefix: inner.prefix.to_string(), source })?;
        let snapshot = {
            let inner = std::sync::Arc::clone(inner);
            blocking(move || inner.walk()).await
        };
        let mut plan = plan(&inner.prefix, &objects, &snapshot, &inner.index(), &inner.rules);
        if unlisted.is_empty() {
            let listed: HashSet<&str> = objects
                .iter()
                .filter_map(|meta| keys::strip_prefix(&inner.prefix, &meta.location))
                .collect();
            let mut index = inner.index();
            let gone: Vec<(String, bool)> = index
                .known()
                .iter()
                .filter(|(path, _)| !listed.contains(path.as_str()))
                .map(|(path, known)| (path.clone(), matches!(known, Known::Stored(_))))
                .collect();
            // What somebody removed from the store stays removed, until it is changed here. A store
            // that lost most of what it had, or is another one, is filled again.
            let lost_most = gone.len() > MAX_REMOVED && gone.len() * 2 > index.known().len()
                || listed.is_empty();
            for (path, is_stored) in gone {
                if lost_most || !is_stored {
                    index.forget(&path);
                    // Nothing has happened to the file, and it is to be stored again.
                    inner.lookout.suspect(&path);
                }
            }
        }
        // Small ones first: most of the session is there soon.
        plan.fetch.sort_by_key(|fetch| fetch.meta.size);
        let mut report = RestoreReport {
            restored: Vec::new(),
            failed: unlisted.into_iter().chain(plan.failed).collect(),
        };
        let counter = Counter::new(inner, Direction::Download, plan.fetch.len());
        let fetched: Vec<_> = futures::stream::iter(plan.fetch)
            .map(async |fetch| {
                let outcome = inner.fetch(&fetch.path, &fetch.meta).await;
                counter.count();
                (outcome, fetch)
            })
            .buffer_unordered(FETCHES_AT_ONCE)
            .collect()
            .await;
        for (outcome, fetch) in fetched {
            match outcome {
                Ok(()) => report.restored.push(fetch.path),
                // A directory marker: listed without its slash, and not there under that name.
                Err(SyncError::Fetch { source: object_store::Error::NotFound { .. }, .. })
                    if fetch.meta.size == 0 => {}
                Err(error) => {
                    report.failed.push(RestoreFailure {
                        key: fetch.meta.location.into(),
                        reason: with_causes(&error),
                    });
                }
            }
        }
        report.restored.sort();
        report.failed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(report)
    }

    /// Fetches one object of this mirror by its whole key, and gives the path of the file; `None`
    /// for a directory marker.
    ///
    /// # Errors
    /// [`SyncError::ForeignKey`], [`SyncError::UnsafeKey`] and [`SyncError::NotMirrored`] for a key
    /// that must not be fetched, [`SyncError::LocalChange`] when the file has a change that is
    /// nowhere else, and what store and disk refuse.
    ///
    /// # Cancel safety
    /// As [`Mirror::restore`].
    pub async fn pull_key(&self, key: &str) -> Result<Option<RelativePath>, SyncError> {
        let inner = &self.inner;
        let unsafe_key = |reason: String| SyncError::UnsafeKey { key: key.to_owned(), reason };
        let parsed = Key::parse(key).map_err(|error| unsafe_key(error.to_string()))?;
        let foreign =
            || SyncError::ForeignKey { key: key.to_owned(), prefix: inner.prefix.clone() };
        if key.starts_with('/') {
            return Err(foreign());
        }
        if parsed == inner.prefix {
            return if key.ends_with('/') { Ok(None) } else { Err(foreign()) };
        }
        let path = keys::safe_path(keys::strip_prefix(&inner.prefix, &parsed).ok_or_else(foreign)?)
            .map_err(unsafe_key)?;
        if key.ends_with('/') {
            return Ok(None);
        }
        if inner.rules.covers(path.as_str()) {
            return Err(SyncError::NotMirrored { path });
        }
        let _turn = inner.turn.lock().await;
        let there = Snapshot::of_file(inner.uploader.dir.as_fd(), &path, &inner.rules);
        let is_known = match there.find(path.as_str()) {
            Some(signature) => inner
                .index()
                .stored(path.as_str())
                .is_some_and(|stored| stored.signature == *signature),
            None => there.skipped.is_empty(),
        };
        if !is_known {
            return Err(SyncError::LocalChange { path });
        }
        let meta = inner
            .uploader
            .store
            .head(&parsed)
            .await
            .map_err(|source| SyncError::Fetch { key: key.to_owned(), source })?;
        inner.fetch(&path, &meta).await?;
        Ok(Some(path))
    }
}

impl Inner {
    /// Fetches one object to a file, and records what the file is now.
    async fn fetch(&self, path: &RelativePath, meta: &ObjectMeta) -> Result<(), SyncError> {
        let Fetched { writer, executable, origin: attributed, version } =
            self.fetch_beside(path, meta).await?;
        let (signature, hash) = blocking(move || writer.finish(executable)).await?;
        let mut index = self.index();
        let origin = match index.known().get(path.as_str()) {
            Some(
                Known::Stored(Stored { version: before, origin, .. })
                | Known::Awaited { version: before, origin },
            ) if before.is(&version) => *origin,
            Some(Known::Removed { .. }) => Origin::Remote,
            _ => attributed,
        };
        index.set_stored(path.as_str(), Stored { signature, hash, version, origin });
        Ok(())
    }

    /// Fetches one object to a file that has no name yet.
    pub(crate) async fn fetch_beside(
        &self,
        path: &RelativePath,
        meta: &ObjectMeta,
    ) -> Result<Fetched, SyncError> {
        let failed = |source| SyncError::Fetch { key: meta.location.to_string(), source };
        let got = self.uploader.store.get(&meta.location).await.map_err(failed)?;
        let (executable, origin) =
            (attributes::is_executable(&got.attributes), attributes::origin(&got.attributes));
        let (version, announced) = (Version::from(&got.meta), got.meta.size);
        let mut writer = Writer {
            dir: std::sync::Arc::clone(&self.uploader.dir),
            path: path.clone(),
            staged: None,
            hasher: blake3::Hasher::new(),
        };
        let mut stream = got.into_stream();
        let (mut arrived, mut chunks, mut held) = (0, Vec::new(), 0);
        while let Some(chunk) = stream.try_next().await.map_err(failed)? {
            arrived += chunk.len() as u64;
            held += chunk.len();
            chunks.push(chunk);
            if held >= CHUNK_BYTES {
                let content = std::mem::take(&mut chunks);
                writer = blocking(move || writer.write(&content)).await?;
                held = 0;
            }
        }
        if arrived != announced {
            return Err(SyncError::SizeMismatch {
                key: meta.location.to_string(),
                expected: announced,
                received: arrived,
            });
        }
        let writer = blocking(move || writer.write(&chunks)).await?;
        Ok(Fetched { writer, executable, origin, version })
    }
}

/// An object that has arrived.
pub(crate) struct Fetched {
    pub(crate) writer: Writer,
    pub(crate) executable: bool,
    origin: Origin,
    pub(crate) version: Version,
}

/// A file that arrives in pieces.
pub(crate) struct Writer {
    dir: std::sync::Arc<sandbox_core::SessionDir>,
    path: RelativePath,
    staged: Option<StagedFile>,
    hasher: blake3::Hasher,
}

impl Writer {
    fn write(mut self, chunks: &[Bytes]) -> Result<Self, FileError> {
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.dir.stage(&self.path)?,
        };
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

    /// The hash of what has arrived.
    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    pub(crate) fn finish(mut self, executable: bool) -> Result<(Signature, String), FileError> {
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.dir.stage(&self.path)?,
        };
        if executable {
            staged.set_executable(true)?;
        }
        let metadata = staged.commit()?;
        Ok((Signature::from(&metadata), self.hasher.finalize().to_hex().to_string()))
    }
}

/// What a restore is to do.
#[derive(Debug, Default)]
struct Plan {
    fetch: Vec<Fetch>,
    failed: Vec<RestoreFailure>,
}

#[derive(Debug)]
struct Fetch {
    path: RelativePath,
    meta: ObjectMeta,
}

fn plan(
    prefix: &Key,
    objects: &[ObjectMeta],
    snapshot: &Snapshot,
    index: &Index,
    rules: &IgnoreRules,
) -> Plan {
    let known = index.known();
    let mut plan = Plan::default();
    let holders = holders(prefix, objects);
    let not_files: HashMap<&str, ()> =
        snapshot.skipped.iter().map(|skipped| (skipped.path.as_str(), ())).collect();
    for meta in objects {
        let Some(below) =
            keys::strip_prefix(prefix, &meta.location).filter(|below| !below.is_empty())
        else {
            continue;
        };
        let is_marker = meta.size == 0 && holders.contains(below);
        if rules.covers(below) || is_marker {
            continue;
        }
        let path = match keys::safe_path(below) {
            Ok(path) => path,
            Err(reason) => {
                plan.failed.push(RestoreFailure { key: meta.location.to_string(), reason });
                continue;
            }
        };
        // Something of the session's own is there that is not mirrored, a symlink for one.
        let is_taken = ancestors(below).any(|at| not_files.contains_key(at));
        let is_newer = |version: &Version| version.etag != meta.e_tag;
        let wanted = match (snapshot.find(below), known.get(below)) {
            (Some(now), Some(Known::Stored(stored))) => {
                is_newer(&stored.version) && stored.signature == *now
            }
            // Files of the session that the store may not have stand.
            (Some(_), _) => false,
            (None, Some(Known::Stored(stored))) => is_newer(&stored.version) && !is_taken,
            (None, Some(Known::Removed { version })) => is_newer(version) && !is_taken,
            // What this side has sent and removed again is not to come back; the next
            // synchronisation sees to it.
            (None, Some(Known::Awaited { .. }) | None) => {
                !is_taken && !index.may_have_been_sent(below)
            }
        };
        if wanted {
            plan.fetch.push(Fetch { path, meta: meta.clone() });
        }
    }
    plan
}

/// The paths that have objects below them.
fn holders<'o>(prefix: &Key, objects: &'o [ObjectMeta]) -> HashSet<&'o str> {
    let paths = objects.iter().filter_map(|meta| keys::strip_prefix(prefix, &meta.location));
    paths.flat_map(parents).collect()
}
