//! Calls of a session that other homes may own, and the end of its ownership.

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::internal::{Timings, with_causes};
use artifact_sync::{CallGuard, Mirror, SyncError, SyncReport};
use sandbox_core::internal::blocking;
use tokio::time::timeout;

use super::{TransferError, Workspace};
use crate::sharing::SharingError;
use crate::tool_error::ToolError;

/// The maximum time that a release takes, with the objects that are still being written.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses between attempts to release a session whose objects are not up to date.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// A call that runs until this value is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Option<CallGuard>);

impl Turn {
    /// Returns whether the files have followed another home, which owned the session meanwhile.
    pub(crate) fn has_followed(&self) -> bool {
        self.0.as_ref().is_some_and(CallGuard::has_followed)
    }

    /// Proves right before the answer that no other home has taken the session over. If the store
    /// does not answer, the result is the reason why that is not known.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another home owns the session now.
    pub(crate) async fn confirm(&self) -> Result<Option<String>, SyncError> {
        let Some(guard) = &self.0 else { return Ok(None) };
        match guard.confirm().await {
            Ok(()) => Ok(None),
            Err(error) if error.is_retryable() => Ok(Some(with_causes(&error))),
            Err(error) => Err(error),
        }
    }
}

impl Workspace {
    /// Begins a call. A session that this home had released is acquired first.
    ///
    /// # Errors
    /// Returns [`ToolError::LeaseLost`] if another home took the session over, and
    /// [`ToolError::OwnedElsewhere`] if another home owns the released session.
    pub(crate) async fn begin(&self) -> Result<Turn, ToolError> {
        match &self.mirror {
            Some(mirror) if self.intervals.is_some() => {
                let begun = mirror.begin_call().await;
                begun.map(|guard| Turn(Some(guard))).map_err(|error| match self.lost(error) {
                    ToolError::Store { source } => ToolError::NotBegun { source },
                    error => error,
                })
            }
            Some(mirror) => {
                mirror.check().map_err(|error| self.lost(error))?;
                Ok(Turn(None))
            }
            None => Ok(Turn(None)),
        }
    }

    /// Returns whether another home took the session over. Nothing more is stored then.
    pub(crate) fn is_lost(&self) -> bool {
        self.mirror.as_deref().is_some_and(Mirror::is_lost)
    }

    /// Lets another process of this home open a session that was lost.
    pub(crate) fn abandon(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.abandon();
            self.state.unlock();
        }
    }

    /// Returns the error of a call whose changes cannot be stored any more.
    pub(crate) fn lost(&self, error: SyncError) -> ToolError {
        let session = self.id.clone();
        match error {
            SyncError::LeaseLost => ToolError::LeaseLost { session, has_begun: false },
            SyncError::OwnedElsewhere { url } => ToolError::OwnedElsewhere { session, url },
            SyncError::Erased => ToolError::Sharing { source: SharingError::Deleted { session } },
            SyncError::Closing => ToolError::Sharing { source: SharingError::Closed { session } },
            source => ToolError::Store { source },
        }
    }

    /// Like [`Self::lost`], for a call that may have had effects.
    pub(crate) fn lost_during_call(&self, error: SyncError) -> ToolError {
        match self.lost(error) {
            ToolError::LeaseLost { session, .. } => {
                ToolError::LeaseLost { session, has_begun: true }
            }
            error => error,
        }
    }

    /// Returns the mirror if other homes may own the session.
    pub(crate) fn shared_mirror(&self) -> Option<&Arc<Mirror>> {
        self.mirror.as_ref().filter(|_| self.intervals.is_some())
    }

    /// Returns the intervals of ownership.
    pub(crate) fn intervals(&self) -> Timings {
        self.intervals.unwrap_or_default()
    }

    /// Stores what no call has stored, such as versions that opening has kept beside. Then releases
    /// the session for other homes, unless changes are pending. In that case this home stays the
    /// owner until another one finds that it does not live.
    ///
    /// # Cancel safety
    /// Another home may have to wait.
    pub(crate) async fn release(&self) {
        let Some(mirror) = &self.mirror else { return };
        let released = match timeout(RELEASE_TIMEOUT, self.store_and_release(mirror)).await {
            Ok(released) => released,
            Err(_) => Ok(false),
        };
        match released {
            Ok(true) => {}
            Ok(false) => tracing::info!(session = %self.id, "the session stays owned"),
            Err(error) => {
                let error = with_causes(&error);
                tracing::info!(session = %self.id, error, "the session was not released");
            }
        }
    }

    /// Returns whether the session was released, or need not be.
    async fn store_and_release(&self, mirror: &Arc<Mirror>) -> Result<bool, SyncError> {
        let pending = {
            let mirror = Arc::clone(mirror);
            blocking(move || mirror.pending()).await
        };
        if !pending.is_empty() && !mirror.sync().await?.is_complete() {
            return Ok(false);
        }
        let Some(mirror) = self.shared_mirror() else { return Ok(true) };
        let mut pause = FIRST_PAUSE;
        loop {
            // Objects of renamed files and garbage come after the result of a call.
            mirror.idle().await;
            if mirror.release_if_idle().await? {
                return Ok(true);
            }
            if pause > LONGEST_PAUSE || !mirror.flush().await?.is_complete() {
                return Ok(false);
            }
            // A proof of the ownership may hold the log for a moment.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Stores all changes, and releases the session. It accepts no calls afterwards.
    ///
    /// # Errors
    /// Returns [`TransferError`] if another home took the session over, or if the store fails.
    pub(crate) async fn drain(&self) -> Result<SyncReport, TransferError> {
        let Some(mirror) = &self.mirror else { return Ok(SyncReport::default()) };
        let drained = mirror.drain(Duration::ZERO).await;
        drained.map_err(|source| TransferError::from_mirror(&self.id, source))
    }
}
