//! Closing and deleting a session.

mod discard;
mod error;

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::internal::remove_rest;
use artifact_sync::{
    CloseMode, ConflictCopy, IgnoreReason, Ignored, Mirror, Pending, SkipReason, Skipped,
    SyncError, SyncReport,
};
use sandbox_core::internal::{blocking, mount_points_below};
use sandbox_core::{FileError, SessionDir};
use serde::{Deserialize, Serialize};
use skill_store::SKILLS_DIRECTORY;

use super::{Backends, Workspace, WorkspaceError, flush, mirror_builder};
use crate::home::Home;
use crate::output::ConflictNote;

pub(crate) use self::discard::Loss;
pub use self::error::CloseError;

/// Longest time without progress after a flush has given up already.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Longest time for an answer while a session is opened whose changes may be discarded.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);

/// Result of closing a session: the files that were deleted without a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Files and directories that are not mirrored on purpose.
    pub ignored: Vec<IgnoredContent>,
    /// Files that cannot be stored, such as FIFOs.
    pub skipped: Vec<Skipped>,
    /// Changes that were discarded.
    pub discarded: Vec<Pending>,
    /// Files that were changed on both sides, whose second versions the store has.
    pub conflicts: Vec<ConflictNote>,
}

/// A file or directory that is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IgnoredContent {
    /// The path below the session directory.
    pub relative_path: String,
    /// The reason, such as the rule that ignores it.
    pub reason: String,
    /// The number of files; at least that many if `is_complete` is false.
    pub files: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// True if everything was counted.
    pub is_complete: bool,
    /// True if the store has a version of the file, or of files below the directory, perhaps the
    /// same one. They return when the session is opened again.
    #[serde(default)]
    pub has_stored_version: bool,
}

impl From<Ignored> for IgnoredContent {
    fn from(ignored: Ignored) -> Self {
        let Ignored { path, reason, files, bytes, is_complete, .. } = ignored;
        let reason = match reason {
            IgnoreReason::Pattern => "a rule ignores it",
            IgnoreReason::CacheDirectory => "it is marked as a cache",
            IgnoreReason::VirtualEnvironment => "it is a Python environment",
            IgnoreReason::Excluded => "skills are not mirrored",
            _ => "it is ignored",
        };
        let (reason, has_stored_version) = (reason.to_owned(), false);
        Self { relative_path: path, reason, files, bytes, is_complete, has_stored_version }
    }
}

/// Returns the patience with which a session is opened that is closed in this mode.
pub(crate) fn opening_patience(mode: CloseMode, patience: Option<Duration>) -> Option<Duration> {
    limited(mode, patience, OPENING_PATIENCE)
}

/// Returns the patience with a store, up to a limit if changes may be discarded.
fn limited(mode: CloseMode, patience: Option<Duration>, limit: Duration) -> Option<Duration> {
    match mode {
        CloseMode::Discard => Some(patience.unwrap_or(limit).min(limit)),
        CloseMode::KeepPending => patience,
    }
}

impl Workspace {
    /// Uploads pending changes, removes the session from this machine, and deletes its state. The
    /// lock stays until the state is unlocked.
    ///
    /// # Errors
    /// Returns [`CloseError`]. Unless the directory could be removed only partly, everything stays.
    pub(crate) async fn close(
        &self,
        mode: CloseMode,
        patience: Option<Duration>,
    ) -> Result<CloseReport, CloseError> {
        if let Some(path) = self.mount_point()? {
            return Err(CloseError::MountPoint { id: self.id.clone(), path });
        }
        let Some(mirror) = &self.mirror else {
            if mode == CloseMode::KeepPending {
                self.unstored().map_or(Ok(()), Err)?;
            }
            let loss = match self.state.dir().is_claimed() {
                true => Loss::NoStore,
                false => Loss::NoState,
            };
            let report = self.inventory(loss).await;
            self.remove().await?;
            return Ok(report);
        };
        let report = match self.close_mirror(mirror, mode, patience).await {
            Err(CloseError::Store { source, .. }) if mode == CloseMode::Discard => {
                self.discard_with_store(mirror, Loss::of_mirror(&source)).await?
            }
            Err(CloseError::Workspace { source }) if mode == CloseMode::Discard => {
                self.discard_with_store(mirror, Loss::of(&source)).await?
            }
            Err(CloseError::Workspace { source: source @ WorkspaceError::StoreLost { .. } }) => {
                return Err(self.without_copy(source).await);
            }
            other => other?,
        };
        self.state.delete()?;
        Ok(report)
    }

    /// Uploads pending changes, and reports what [`close`](Self::close) would delete without a
    /// copy, or why the session would stay.
    ///
    /// # Errors
    /// Returns [`CloseError`] if the session would stay.
    pub(crate) async fn check_close(
        &self,
        patience: Option<Duration>,
    ) -> Result<CloseReport, CloseError> {
        if let Some(path) = self.mount_point()? {
            return Err(CloseError::MountPoint { id: self.id.clone(), path });
        }
        let Some(mirror) = &self.mirror else {
            self.unstored().map_or(Ok(()), Err)?;
            return Ok(CloseReport::default());
        };
        let mode = CloseMode::KeepPending;
        let SyncReport { skipped, conflicts, .. } = self.settle(mirror, mode, patience).await?;
        let ignored = ignored_content(mirror).await;
        let conflicts = conflict_notes(&conflicts);
        Ok(CloseReport { ignored, skipped, conflicts, ..CloseReport::default() })
    }

    /// Returns the error of a session with files and without a store.
    fn unstored(&self) -> Option<CloseError> {
        let id = self.id.clone();
        self.has_files().then(|| match self.state.dir().is_claimed() {
            true => CloseError::OnlyCopy { id },
            false => CloseError::Unclaimed { id },
        })
    }

    async fn close_mirror(
        &self,
        mirror: &Arc<Mirror>,
        mode: CloseMode,
        patience: Option<Duration>,
    ) -> Result<CloseReport, CloseError> {
        let mut patience = limited(mode, patience, mode.limit(Duration::MAX));
        let SyncReport { conflicts, pending, .. } = self.settle(mirror, mode, patience).await?;
        if !pending.is_empty() {
            patience = limited(mode, patience, LAST_PATIENCE);
        }
        let ignored = ignored_content(mirror).await;
        let closed = match patience {
            Some(patience) => mirror.close_within(mode, patience).await,
            None => mirror.close(mode).await,
        };
        let closed = closed.map_err(|error| match error {
            artifact_sync::CloseError::Pending { pending } => self.pending_error(&pending),
            artifact_sync::CloseError::Sync { source } => self.store_error(source),
            _ => self.pending_error(&[]),
        })?;
        let conflicts = conflict_notes(&conflicts);
        let artifact_sync::CloseReport { skipped, discarded, .. } = closed;
        Ok(CloseReport { ignored, skipped, discarded, conflicts })
    }

    /// Uploads pending changes. Fails if they must be kept and the store does not have all of them.
    async fn settle(
        &self,
        mirror: &Arc<Mirror>,
        mode: CloseMode,
        patience: Option<Duration>,
    ) -> Result<SyncReport, CloseError> {
        let flushed = flush(mirror, patience).await;
        let report = flushed.map_err(|source| self.store_error(source))?;
        let SyncReport { skipped, pending, .. } = &report;
        let mut unstorable = skipped.iter().filter(|skipped| holds_content(&skipped.reason));
        if mode == CloseMode::KeepPending
            && let Some(first) = unstorable.next()
        {
            return Err(CloseError::Unstorable {
                id: self.id.clone(),
                count: unstorable.count() + 1,
                path: first.path.clone(),
                reason: first.reason.to_string(),
            });
        }
        if mode == CloseMode::KeepPending && !pending.is_empty() {
            return Err(self.pending_error(pending));
        }
        Ok(report)
    }

    fn store_error(&self, source: SyncError) -> CloseError {
        match source {
            SyncError::StoreReplaced { number } => {
                WorkspaceError::StoreLost { id: self.id.clone(), number }.into()
            }
            source => CloseError::Store { id: self.id.clone(), source },
        }
    }

    /// Returns where another file system is mounted below the directory, also in an ignored one.
    fn mount_point(&self) -> Result<Option<String>, FileError> {
        let dir = self.dir.path();
        let found = mount_points_below(dir).map_err(|source| FileError::Io {
            operation: "find the mount points below",
            path: dir.to_owned(),
            source,
        })?;
        Ok(found.first().map(|path| path.to_string_lossy().into_owned()))
    }

    fn pending_error(&self, pending: &[Pending]) -> CloseError {
        let first = pending.first();
        CloseError::Pending {
            id: self.id.clone(),
            count: pending.len(),
            path: first.map(|pending| pending.path.to_string()).unwrap_or_default(),
            reason: first.map(|pending| pending.reason.clone()).unwrap_or_default(),
        }
    }

    /// Deletes the session everywhere, with its history.
    ///
    /// # Errors
    /// Returns [`CloseError`]. A repeated call continues.
    pub(crate) async fn delete(&self) -> Result<(), CloseError> {
        if let Some(path) = self.mount_point()? {
            return Err(CloseError::MountPoint { id: self.id.clone(), path });
        }
        if let Some(mirror) = &self.mirror {
            let failed = |source| CloseError::NotDeleted { id: self.id.clone(), source };
            mirror.erase().await.map_err(failed)?;
            return Ok(self.state.delete()?);
        }
        if !self.state.dir().is_claimed() {
            return Err(CloseError::Unclaimed { id: self.id.clone() });
        }
        self.remove().await
    }

    /// Finishes in the store the deletion that another machine has begun. Returns false if the
    /// session has begun anew since.
    ///
    /// # Errors
    /// Returns [`CloseError::NotDeleted`]. A repeated call continues.
    pub(crate) async fn finish_erasure(
        &self,
        home: &Home,
        backends: Backends<'_>,
    ) -> Result<bool, CloseError> {
        let (Some(storage), Some(user)) = (backends.storage, &self.user) else { return Ok(true) };
        let failed = |source| CloseError::NotDeleted { id: self.id.clone(), source };
        let builder = mirror_builder(home, storage, backends, self.state.dir(), &self.id, user);
        builder.map_err(failed)?.finish_erasure().await.map_err(failed)
    }

    /// Removes the directory and the state of the session from this machine.
    pub(super) async fn remove(&self) -> Result<(), CloseError> {
        self.remove_directory().await?;
        Ok(self.state.delete()?)
    }

    async fn remove_directory(&self) -> Result<(), CloseError> {
        let path = self.dir.path();
        let failed = |source| WorkspaceError::Leftover { source };
        remove_rest(path).await.map_err(failed)?;
        if !path.exists() {
            return Ok(());
        }
        let dir = SessionDir::open(path)?;
        Ok(blocking(move || dir.remove_all()).await?)
    }

    /// Returns whether the directory has anything but skills, or cannot be read.
    fn has_files(&self) -> bool {
        let Ok(mut entries) = std::fs::read_dir(self.dir.path()) else { return true };
        entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != SKILLS_DIRECTORY))
    }
}

fn conflict_notes(conflicts: &[ConflictCopy]) -> Vec<ConflictNote> {
    conflicts.iter().map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as)).collect()
}

/// Returns the content of files that a rule ignores.
async fn ignored_content(mirror: &Arc<Mirror>) -> Vec<IgnoredContent> {
    let mirror = Arc::clone(mirror);
    blocking(move || {
        let ignored = mirror.ignored().into_iter().filter(|ignored| ignored.files > 0);
        let with_copy = |ignored: Ignored| {
            let has_stored_version = mirror.has_file_below(&ignored.path);
            IgnoredContent { has_stored_version, ..ignored.into() }
        };
        ignored.map(with_copy).collect()
    })
    .await
}

/// Returns whether deleting a skipped file loses content that an agent has made.
fn holds_content(reason: &SkipReason) -> bool {
    !matches!(reason, SkipReason::Special | SkipReason::Staged)
}
