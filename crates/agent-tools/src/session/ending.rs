//! The end of a session's commands, and of its use by this process.

use std::time::Duration;

use artifact_sync::SyncReport;
use sandbox_core::SessionId;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Link, Session};
use crate::workspace::TransferError;

/// Result of ending a session before the process exits.
#[derive(Debug)]
#[non_exhaustive]
pub struct DrainReport {
    /// The session.
    pub session: SessionId,
    /// The changes that were stored last, and those that are pending.
    pub result: Result<SyncReport, TransferError>,
}

/// Sender of the request to end commands.
#[derive(Debug, Default)]
pub(crate) struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Ends the commands that wait for this request, also those that begin later.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Returns the request as a command sees it.
    pub(crate) fn request(&self) -> Stop {
        Stop(Some(self.0.subscribe()))
    }
}

/// Request to end a command. The default one never comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Option<watch::Receiver<bool>>);

impl Stop {
    /// Waits for the request.
    pub(crate) async fn requested(self) {
        if let Some(mut receiver) = self.0
            && receiver.wait_for(|is_requested| *is_requested).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Session {
    /// Kills the commands that run through this handle, here or in another process, and those that
    /// it begins later. Their calls return the output so far, and store the changed files.
    ///
    /// Other calls go on. A program does this before it exits.
    pub fn stop_commands(&self) {
        self.stopper.stop();
    }

    /// Returns the request that ends commands of this handle.
    pub(crate) fn stop(&self) -> Stop {
        self.stopper.request()
    }

    /// Waits for the running calls, also those of other processes, ends every process of the
    /// session, stores pending changes, and unlocks it for other processes and machines. Its files
    /// stay.
    ///
    /// Another process that shares the session serves it with its next call. A program that exits
    /// without waiting fails the running calls of other processes. The next call on this handle
    /// opens the session again.
    ///
    /// # Cancel safety
    /// The session admits no further calls, and ends after the last one.
    pub async fn release(&self) {
        let Link::Serving(session) = self.set_link(Link::Released) else { return };
        session.gate.drain();
        session.gate.idle().await;
        session.end().await;
        session.workspace.release().await;
    }

    /// Ends the session before the process exits; see [`Sessions::drain`](crate::Sessions::drain).
    /// This handle accepts no calls afterwards. A session that another process serves goes on
    /// there.
    ///
    /// # Cancel safety
    /// The session admits no calls, and is not released.
    pub async fn drain(&self, grace: Duration) -> DrainReport {
        let result = match self.set_link(Link::Ended) {
            Link::Serving(session) => {
                session.gate.refuse();
                if timeout(grace, session.gate.idle()).await.is_err() {
                    tracing::warn!(session = %self.id, "calls are ended after the grace period");
                }
                session.end().await;
                session.workspace.drain().await
            }
            _ => Ok(SyncReport::default()),
        };
        DrainReport { session: self.id.clone(), result }
    }
}
