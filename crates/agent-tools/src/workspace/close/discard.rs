//! Deletion of files on this machine whose store cannot be used, with a report of them.

use std::sync::Arc;

use artifact_sync::internal::Inventory;
use artifact_sync::{Mirror, Pending, SyncError, SyncErrorKind};
use sandbox_core::internal::blocking;
use skill_store::SKILLS_DIRECTORY;

use super::{CloseError, CloseReport};
use crate::home::Home;
use crate::workspace::{Backends, Workspace, WorkspaceError};

/// The reason for which files may have no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The session was opened without a store.
    NoStore,
    /// The state of the session is lost, so its store is unknown.
    NoState,
    /// The store lost the session log, or the log is damaged.
    Log,
    /// The session was deleted everywhere.
    Deleted,
    /// The store cannot be used now, or another home owns the session. The journal knows what the
    /// store has.
    Access,
}

impl Loss {
    /// Returns the loss behind a failed opening.
    pub(crate) fn of(error: &WorkspaceError) -> Self {
        match error {
            WorkspaceError::StoreLost { .. } => Self::Log,
            WorkspaceError::Deleted { .. } => Self::Deleted,
            WorkspaceError::Mirror { source } => Self::of_mirror(source),
            _ => Self::Access,
        }
    }

    /// Returns the loss behind an error of a mirror.
    pub(super) fn of_mirror(error: &SyncError) -> Self {
        match error {
            SyncError::Erased => Self::Deleted,
            // One content is lost, and not the log.
            SyncError::Damaged { .. } => Self::Access,
            error if error.kind() == SyncErrorKind::StoreDamaged => Self::Log,
            _ => Self::Access,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NoStore => "the session has no store",
            Self::NoState => "the state of the session is lost",
            Self::Log => "the store lost the session log",
            Self::Deleted => "the session was deleted everywhere",
            Self::Access => "it is not known whether the store has it",
        }
    }
}

impl Workspace {
    /// Removes the session from this machine without its store, which cannot be used.
    ///
    /// # Errors
    /// Returns [`CloseError`] if the directory or the state cannot be removed.
    pub(crate) async fn discard_without_store(
        &self,
        home: &Home,
        backends: Backends<'_>,
        loss: Loss,
    ) -> Result<CloseReport, CloseError> {
        if let Some(path) = self.mount_point()? {
            return Err(CloseError::MountPoint { id: self.id.clone(), path });
        }
        let mut report = self.inventory(loss).await;
        if loss == Loss::Access
            && let Ok(status) = Self::inspect(home, backends, &self.state, &self.id).await
        {
            report.discarded = status.pending;
        }
        self.remove().await?;
        Ok(report)
    }

    /// Removes the directory of a session whose store has failed.
    pub(super) async fn discard_with_store(
        &self,
        mirror: &Arc<Mirror>,
        loss: Loss,
    ) -> Result<CloseReport, CloseError> {
        let mut report = self.inventory(loss).await;
        if loss == Loss::Access {
            let mirror = Arc::clone(mirror);
            report.discarded = blocking(move || mirror.pending()).await;
        }
        self.remove_directory().await?;
        Ok(report)
    }

    /// Returns the error of a close that would delete files whose log is lost.
    pub(crate) async fn without_copy(&self, source: WorkspaceError) -> CloseError {
        let CloseReport { discarded, .. } = self.inventory(Loss::of(&source)).await;
        let Some(Pending { path, .. }) = discarded.first() else { return source.into() };
        CloseError::NoCopy {
            id: self.id.clone(),
            count: discarded.len(),
            path: path.to_string(),
            source: Box::new(source),
        }
    }

    /// Lists everything in the directory as discarded.
    pub(super) async fn inventory(&self, loss: Loss) -> CloseReport {
        let (dir, ignore) = (Arc::clone(&self.dir), self.ignore.clone());
        let list = move || Inventory::of(&dir, &ignore, SKILLS_DIRECTORY, loss.reason());
        let Inventory { files, skipped, ignored } = blocking(list).await;
        let ignored = ignored.into_iter().filter(|ignored| ignored.files > 0);
        let ignored = ignored.map(Into::into).collect();
        CloseReport { ignored, skipped, discarded: files, ..CloseReport::default() }
    }
}
