//! Closing of a session.

mod repair;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbox_core::internal::blocking;
use sandbox_core::{FileError, RelativePath, SessionDir};
use tokio::time::timeout;

use crate::error::SyncError;
use crate::log::{Content, Line, LogState, Token};
use crate::mirror::Mirror;
use crate::mirror::garbage::{Fence, Listing};
use crate::mirror::incoming::check_followed;
use crate::mirror::open::{is_recreated, restoring};
use crate::mirror::shared::Shared;
use crate::paths::relative;
use crate::report::{Pending, SyncReport};
use crate::scan::Skipped;
use crate::state::{Ledger, Stage};

/// Longest time without progress if changes may be discarded.
const DISCARD_PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of attempts to remove files while another thread removes them too.
const MAX_REMOVALS: usize = 100;
/// End of the name of a directory that is being deleted. Session ids cannot contain it.
const CLOSING: &str = "~closing";

/// Treatment of changes that cannot be stored when a session is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseMode {
    /// Keeps the directory if a change cannot be stored.
    #[default]
    KeepPending,
    /// Deletes the directory in any case.
    Discard,
}

impl CloseMode {
    /// Limits a time without progress. Changes that may be discarded are awaited for 5 s at most.
    #[must_use]
    pub fn limit(self, patience: Duration) -> Duration {
        match self {
            Self::KeepPending => patience,
            Self::Discard => patience.min(DISCARD_PATIENCE),
        }
    }
}

/// Result of closing a mirror.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Files that could not be mirrored, and were deleted with the directory.
    pub skipped: Vec<Skipped>,
    /// Changes that were discarded.
    pub discarded: Vec<Pending>,
}

/// Error of closing a mirror. The directory stays, and the mirror can be used further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Changes are not in the store. Deleting the directory would lose them.
    #[error("{} changes are not in the store", pending.len())]
    Pending {
        /// The changes.
        pending: Vec<Pending>,
    },
    /// The store or the disk failed.
    #[error(transparent)]
    Sync {
        /// Cause of the failure.
        #[from]
        source: SyncError,
    },
}

impl Mirror {
    /// Stores the remaining changes, releases the session, and deletes the directory with its local
    /// state.
    ///
    /// # Errors
    /// Returns [`CloseError::Pending`] if a change could not be stored. Nothing is deleted then.
    ///
    /// # Cancel safety
    /// After the log has the closing entry, the next opening finishes the deletion.
    pub async fn close(&self, mode: CloseMode) -> Result<CloseReport, CloseError> {
        self.close_within(mode, self.shared.patience).await
    }

    /// Like [`Mirror::close`], but gives up after this time without progress. With
    /// [`CloseMode::Discard`], the directory is deleted then.
    ///
    /// # Errors
    /// Like [`Mirror::close`].
    ///
    /// # Cancel safety
    /// Like [`Mirror::close`].
    pub async fn close_within(
        &self,
        mode: CloseMode,
        patience: Duration,
    ) -> Result<CloseReport, CloseError> {
        let shared = &self.shared;
        let patience = mode.limit(patience);
        remove_rest(shared.dir.path()).await?;
        shared.access.begin_closing();
        let closed = self.release(mode, patience).await;
        match &closed {
            Ok(_) => {}
            Err(_) => shared.access.end_closing(),
        }
        let (report, garbage) = closed?;
        let uploads = shared.ledger().forget_uploads();
        shared.blobs.abort_all(&uploads).await;
        let sweep = async {
            if let Some((listing, fence)) = garbage
                && let Err(error) = shared.sweep(listing, fence, shared.retention).await
            {
                let error = sandbox_core::with_causes(&error);
                tracing::debug!(
                    error,
                    "the garbage of the closed session stays for the next collection"
                );
            }
        };
        let (deleted, ()) = tokio::join!(shared.delete_local(), sweep);
        deleted?;
        Ok(report)
    }

    async fn release(
        &self,
        mode: CloseMode,
        patience: Duration,
    ) -> Result<(CloseReport, Option<(Listing, Fence)>), CloseError> {
        let shared = &self.shared;
        let SyncReport { pending, skipped, .. } = self.flush_closing(patience).await?;
        let mut discarded = match mode {
            CloseMode::KeepPending if !pending.is_empty() => {
                return Err(CloseError::Pending { pending });
            }
            _ => pending,
        };
        let ending = async {
            shared.project_all().await;
            shared.append_closing().await
        };
        let garbage = match mode {
            CloseMode::KeepPending => Some(ending.await?),
            CloseMode::Discard => match timeout(patience, ending).await {
                Ok(Ok(garbage)) => Some(garbage),
                // Another machine waits until the ownership has ended by itself.
                ended => {
                    if let Ok(Err(_)) = ended
                        && let Ok(lost) = timeout(patience, shared.lost_files()).await
                    {
                        discarded.extend(lost);
                    }
                    None
                }
            },
        };
        Ok((CloseReport { skipped, discarded }, garbage))
    }
}

impl Shared {
    /// Returns the files of the log that the store no longer has, after closing has failed.
    async fn lost_files(&self) -> Vec<Pending> {
        let position = self.ledger().position();
        let followed = check_followed(&self.log, position).await;
        let (lost, reason) = match (followed, self.list_log().await) {
            (Err(SyncError::StoreReplaced { .. }), _) => {
                let all = self.ledger().log().files().map(|(path, _)| path.clone()).collect();
                (all, "the store lost the session log")
            }
            (_, Ok(listing)) => {
                (lost_contents(self.ledger().log(), &listing), "the store lost its content")
            }
            (_, Err(_)) => return Vec::new(),
        };
        let pending =
            |path: String| Some(Pending { path: relative(&path)?, reason: reason.to_owned() });
        lost.into_iter().filter_map(pending).collect()
    }

    /// Appends the snapshot that releases the session, after checking that the store has all
    /// contents.
    async fn append_closing(self: &Arc<Self>) -> Result<(Listing, Fence), SyncError> {
        let listing = self.list_contents().await?;
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let release = vec![Line::Release];
        let fence = self.fence(&mut appender, &listing.entries, self.retention, release).await?;
        Ok((listing, fence))
    }

    /// Lists the store and checks that it has all contents. Those that it lost are stored again
    /// from the working copy.
    async fn list_contents(self: &Arc<Self>) -> Result<Listing, SyncError> {
        let list = async || {
            let failed = |source| SyncError::List { prefix: self.log.prefix().to_string(), source };
            self.list_log().await.map_err(failed)
        };
        let mut listing = list().await?;
        let lost = lost_contents(self.ledger().log(), &listing);
        if lost.is_empty() {
            return Ok(listing);
        }
        self.store_again(&lost).await?;
        listing = list().await?;
        let Some(path) = lost_contents(self.ledger().log(), &listing).into_iter().next() else {
            return Ok(listing);
        };
        let problem = format!(
            "the store lost its content, and the working copy does not have it; to give the file \
             up, create {path:?} in the session and remove it with the next command; to close \
             without it, discard it"
        );
        Err(match RelativePath::parse(&path) {
            Ok(path) => SyncError::Damaged { path, problem },
            Err(error) => SyncError::UnsafeKey { key: path, reason: error.to_string() },
        })
    }

    /// Deletes the directory and the local state.
    pub(super) async fn delete_local(self: &Arc<Self>) -> Result<(), SyncError> {
        {
            let mut ledger = self.ledger();
            // A session that is deleted everywhere is never opened again.
            if ledger.stage() != Stage::Erasing {
                ledger.set_stage(Stage::Closing);
            }
        }
        let path = self.dir.path().to_owned();
        delete_directory(&path).await?;
        self.ledger().delete();
        Ok(())
    }
}

/// Finishes the deletion that a crash has interrupted. A directory that still has its name is
/// opened again: programs may have used it since.
pub(super) async fn finish_closing(dir: &Path, ledger: &mut Ledger) -> Result<(), SyncError> {
    if ledger.stage() == Stage::Erasing {
        delete_directory(dir).await?;
        ledger.clear();
        return Ok(());
    }
    remove_rest(dir).await?;
    if dir.exists() && !is_recreated(dir, ledger) {
        ledger.set_stage(Stage::Open);
    } else {
        ledger.clear();
    }
    Ok(())
}

/// Renames a directory away and deletes it, with the rest of interrupted deletions and restores.
async fn delete_directory(dir: &Path) -> Result<(), SyncError> {
    remove_rest(dir).await?;
    match std::fs::rename(dir, closing(dir)) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(SyncError::Index { path: dir.to_owned(), source });
        }
        _ => {}
    }
    remove_rest(dir).await?;
    remove_directory(restoring(dir)).await
}

/// Removes what an interrupted close has left beside a session directory.
///
/// # Errors
/// Returns [`SyncError::Leftover`] if that fails.
pub async fn remove_rest(dir: &Path) -> Result<(), SyncError> {
    remove_directory(closing(dir)).await
}

/// Removes a directory if it exists. A dropped call may still remove it in its own thread.
async fn remove_directory(path: PathBuf) -> Result<(), SyncError> {
    blocking(move || {
        let mut attempts = 0;
        while path.exists() {
            attempts += 1;
            match SessionDir::open(&path).and_then(SessionDir::remove_all) {
                Err(error) if is_absent(&error) && attempts < MAX_REMOVALS => {}
                Err(source) => return Err(SyncError::Leftover { path, source }),
                Ok(()) => break,
            }
        }
        Ok(())
    })
    .await
}

fn is_absent(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// Returns the paths of files whose content a listing lacks.
pub(super) fn lost_contents(log: &LogState, listing: &Listing) -> Vec<String> {
    let blobs: HashSet<Token> = listing.blobs.iter().map(|blob| blob.name).collect();
    let entries: HashSet<u64> = listing.entries.iter().map(|entry| entry.number).collect();
    let lost = log.files().filter(|(_, file)| match file.content {
        Content::Blob(name) => !blobs.contains(&name),
        Content::Entry(number) => !entries.contains(&number),
        Content::Inline(_) => false,
    });
    lost.map(|(path, _)| path.clone()).collect()
}

fn closing(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(CLOSING);
    dir.with_file_name(name)
}
