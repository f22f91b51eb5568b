//! View of a session's state as of one entry of its log, without owning the session.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir};
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::keys::SessionKeys;
use crate::log::{FileVersion, Hash, LogState, LogStore, StateAt};
use crate::mirror::apply::{Application, Applied, Base, DiskFailure};
use crate::mirror::history::{HistoryEntry, history};
use crate::mirror::incoming::Incoming;
use crate::mirror::numbers::not_retained;
use crate::report::RestoreReport;
use crate::scan::Changes;
use crate::transfer::{Fetcher, Remote, StoreCapabilities, StoreProbe};

/// State of a session as of one retained entry. It takes no ownership and appends nothing, so any
/// machine can read a session that another one has open.
#[derive(Debug)]
pub struct LogView {
    log: LogStore,
    keys: SessionKeys,
    at: StateAt,
}

/// Version of a file in a [`LogView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LoggedFile {
    /// Path in the session directory.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// The nine permission bits.
    pub mode: u16,
    /// Modification time in seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// BLAKE3 hash of the content, in hexadecimal.
    pub hash: String,
}

impl LogView {
    /// Reads the state as of an entry, or as of the last one. A session without a log is empty.
    ///
    /// # Errors
    /// Returns [`SyncError::NotRetained`] or [`SyncError::NoEntry`] if the log does not hold the
    /// state of this entry, [`SyncError::Erased`] if the session was deleted, and
    /// [`SyncError::Log`] if the log cannot be read.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        keys: SessionKeys,
        at: Option<u64>,
    ) -> Result<Self, SyncError> {
        Self::open_within(store, keys, at, Duration::MAX).await
    }

    /// Like [`LogView::open`], but gives the store up if it does not answer a request within
    /// `patience`.
    ///
    /// # Errors
    /// Like [`LogView::open`].
    pub async fn open_within(
        store: Arc<dyn ObjectStore>,
        keys: SessionKeys,
        at: Option<u64>,
        patience: Duration,
    ) -> Result<Self, SyncError> {
        let log = LogStore::new(store, keys.log.clone()).with_patience(patience);
        let found = log.state_at(at).await.map_err(|source| SyncError::Log { source })?;
        let at = match (found, at) {
            (Some(found), _) => found,
            (None, Some(number)) => return Err(not_retained(&log, number).await),
            (None, None) => {
                let position = Default::default();
                StateAt { state: LogState::default(), position }
            }
        };
        if at.state.is_erased {
            return Err(SyncError::Erased);
        }
        Ok(Self { log, keys, at })
    }

    /// Returns the number of the entry; zero for a session without a log.
    pub fn entry(&self) -> u64 {
        self.at.position.number
    }

    /// Returns the files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = LoggedFile> {
        self.at.state.files().map(|(path, file)| LoggedFile {
            path: path.clone(),
            size: file.size,
            mode: file.mode,
            modified: file.modified,
            hash: file.hash.to_string(),
        })
    }

    /// Reads a file and verifies its hash.
    ///
    /// # Errors
    /// Returns [`SyncError::NoVersion`] if the state has no such file, and [`SyncError::Damaged`]
    /// if the store lost its content.
    pub async fn read(&self, path: &RelativePath) -> Result<Bytes, SyncError> {
        let damaged =
            |problem: &str| SyncError::Damaged { path: path.clone(), problem: problem.to_owned() };
        let content = self.log.read_content(self.file(path)?).await;
        let content = content.map_err(|source| SyncError::Log { source })?;
        let content = content.ok_or_else(|| damaged("the store lost its content"))?;
        match Hash::of(&content) == self.file(path)?.hash {
            true => Ok(content),
            false => Err(damaged("its content has another hash")),
        }
    }

    /// Writes the files, the empty directories and the symlinks into a new or empty directory.
    /// Files whose content is lost are named in the report.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the directory has entries, and other variants if the store
    /// or the disk fails.
    pub async fn restore_to(&self, dir: &Path) -> Result<RestoreReport, SyncError> {
        let target: PathBuf = dir.to_owned();
        let created = blocking(move || {
            let created = SessionDir::create(&target)?;
            let is_empty = std::fs::read_dir(&target).map(|mut entries| entries.next().is_none());
            let not_empty = || std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            let checked =
                is_empty.and_then(|is_empty| is_empty.then_some(()).ok_or_else(not_empty));
            checked.map_err(|source| SyncError::Index { path: target, source })?;
            Ok::<_, SyncError>(created)
        });
        let dir = Arc::new(created.await?);
        let remote = Remote::new(
            Arc::clone(self.log.store()),
            self.keys.projection.clone(),
            StoreProbe::default(),
            StoreCapabilities::default(),
        );
        let fetcher = Fetcher::new(Arc::clone(&dir), self.log.clone(), Arc::new(remote));
        let application = Application {
            dir: &dir,
            fetcher: &fetcher,
            progress: None,
            disk_failure: DiskFailure::Stops,
        };
        let incoming = Incoming::complete(Arc::new(self.at.state.clone()), self.at.position);
        let applied = application.apply(&incoming, Base::default(), &Changes::default()).await?;
        let Applied { report, .. } = applied;
        Ok(report)
    }

    /// Returns the retained entries, like [`Mirror::history`](crate::Mirror::history).
    ///
    /// # Errors
    /// Returns [`SyncError::Log`] if the log cannot be read.
    pub async fn history(
        &self,
        path: Option<&RelativePath>,
    ) -> Result<Vec<HistoryEntry>, SyncError> {
        history(&self.log, path).await
    }

    fn file(&self, path: &RelativePath) -> Result<&FileVersion, SyncError> {
        let number = self.entry();
        let missing = || SyncError::NoVersion { path: path.clone(), number };
        self.at.state.file(path.as_str()).ok_or_else(missing)
    }
}
