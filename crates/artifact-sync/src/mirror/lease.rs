//! Calls under a lease, and the end of ownership.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::Error;
use sandbox_core::internal::{blocking, lock};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::SyncError;
use crate::log::{Line, ReadError};
use crate::mirror::Mirror;
use crate::mirror::access::Call;
use crate::mirror::shared::{Appender, SentBatch, Shared, Tenure};
use crate::report::SyncReport;

/// Call that is running until this value is dropped. The session is not released meanwhile.
#[derive(Debug)]
pub struct CallGuard {
    shared: Arc<Shared>,
    deadline: Duration,
    has_followed: bool,
    _call: Call,
}

impl CallGuard {
    /// Returns whether the working copy has followed other owners, because the session was
    /// released and acquired again.
    pub fn has_followed(&self) -> bool {
        self.has_followed
    }

    /// Proves that no other home had become the owner shortly before. Call this right before the
    /// answer. Sends no request if the log was read or appended within the lease.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another process owns the session now. Returns a
    /// retryable error if the store does not answer, so that nothing is known.
    pub async fn confirm(&self) -> Result<(), SyncError> {
        self.shared.prove_lease(self.deadline).await
    }
}

impl Mirror {
    /// Begins a call. A released session is acquired first, by one request if no other home owned
    /// it meanwhile. If the lease has ended, the proof runs beside the call.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another process owns the session now,
    /// [`SyncError::Closing`] while the mirror is being closed or drained, and
    /// [`SyncError::OwnedElsewhere`] if another home took the released session and is alive.
    ///
    /// # Cancel safety
    /// The log may have the line of the new owner, and the next call continues.
    pub async fn begin_call(&self) -> Result<CallGuard, SyncError> {
        let shared = &self.shared;
        shared.access.check_start()?;
        let call = shared.calls.begin().await;
        shared.access.check_start()?;
        let has_followed = !shared.is_held() && shared.reacquire().await?;
        let deadline = self.deadline;
        // A locked appender is about to prove the lease.
        let has_lease = shared.appender.try_lock().map_or(true, |appender| {
            appender.writer.unproven_for() <= shared.ownership.timings.lease
        });
        if !has_lease {
            let shared = Arc::clone(shared);
            self.track(
                tokio::spawn(async move {
                    if let Err(error) = shared.prove_lease(deadline).await {
                        let error = sandbox_core::with_causes(&error);
                        tracing::debug!(error, "the ownership of the session is not proven");
                    }
                })
                .abort_handle(),
            );
        }
        Ok(CallGuard { shared: Arc::clone(shared), deadline, has_followed, _call: call })
    }

    /// Proves that no other home has become the owner, unless that was proven within the lease.
    /// While a call takes long, the caller repeats this, so that the call does not outlast the
    /// ownership.
    ///
    /// # Errors
    /// Like [`CallGuard::confirm`].
    ///
    /// # Cancel safety
    /// Nothing is kept.
    pub async fn confirm(&self) -> Result<(), SyncError> {
        self.shared.prove_lease(self.deadline).await
    }

    /// Returns whether another process owns the session. Then the working copy stays as it is, and
    /// nothing more is stored.
    pub fn is_lost(&self) -> bool {
        self.shared.access.is_lost()
    }

    /// Waits until it is found that another process owns the session. The caller then ends the
    /// processes of the session. The future does not keep the mirror, and never ends if the mirror
    /// is dropped first.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.access.lost()
    }

    /// Lets another mirror of this home open the directory after the session was lost. Does nothing
    /// before.
    pub fn abandon(&self) {
        if self.is_lost() {
            self.shared.ledger().release();
        }
    }

    /// Waits until no call has started or ended for a time. Returns `false` if the mirror was
    /// dropped. The future does not keep the mirror.
    pub fn quiet_for(&self, time: Duration) -> impl Future<Output = bool> + Send + use<> {
        self.shared.calls.quiet_for(time)
    }

    /// Waits until no call is running, nor the background work that calls have left.
    pub async fn idle(&self) {
        self.shared.calls.finished().await;
    }

    /// Releases the session by one append if no call is running and everything is stored. Sends
    /// nothing if this home has not become the owner. Returns whether another home can become the
    /// owner now. The next call acquires the session again.
    ///
    /// # Errors
    /// Returns the error of the store. The session counts as released then, and the next call finds
    /// out.
    ///
    /// # Cancel safety
    /// Like an error of the store.
    pub async fn release_if_idle(&self) -> Result<bool, SyncError> {
        self.shared.release_if_idle(self.deadline).await
    }

    /// Refuses new calls, waits for running ones, stores all changes, and releases the session if
    /// everything is stored. The report names what is not. The mirror accepts no calls afterwards.
    ///
    /// # Errors
    /// Returns [`SyncError::LeaseLost`] if another process owns the session now, and otherwise the
    /// error of the store.
    ///
    /// # Cancel safety
    /// The mirror accepts no calls, and a repeated call continues.
    pub async fn drain(&self, grace: Duration) -> Result<SyncReport, SyncError> {
        let shared = &self.shared;
        shared.access.begin_draining();
        if timeout(grace, shared.calls.finished()).await.is_err() {
            tracing::warn!("calls were still running at the end of the grace period");
        }
        shared.access.begin_closing();
        shared.access.check_lease()?;
        if shared.is_released() {
            return Ok(SyncReport::default());
        }
        let report = self.flush_closing(self.shared.patience).await?;
        if report.is_complete() {
            let mut appender = shared.appender.lock().await;
            shared.settle(&mut appender).await?;
            if shared.is_owner() {
                shared.release(&mut appender).await?;
            }
        }
        Ok(report)
    }

    /// Returns a sentence for each guarantee that the store cannot give, as far as it is known.
    pub fn warnings(&self) -> Vec<String> {
        let known = self.shared.remote.known_properties();
        let is_single = known.is_some_and(|properties| !properties.create);
        let warning = "The store cannot create an object only if it is absent, so only one machine \
                       may use this session.";
        is_single.then(|| warning.to_owned()).into_iter().collect()
    }

    /// Releases the session in the background whenever it was idle for a time.
    pub(super) fn release_in_background(&self, after: Duration) -> AbortHandle {
        let (weak, deadline) = (Arc::downgrade(&self.shared), self.deadline);
        let task = tokio::spawn(async move {
            loop {
                let Some(quiet) = weak.upgrade().map(|shared| shared.calls.quiet_for(after)) else {
                    return;
                };
                if !quiet.await {
                    return;
                }
                let Some(shared) = weak.upgrade() else { return };
                if shared.access.check_start().is_err() {
                    return;
                }
                if let Err(error) = shared.release_if_idle(deadline).await {
                    let error = sandbox_core::with_causes(&error);
                    tracing::debug!(error, "the release of an idle session was not confirmed");
                }
            }
        });
        task.abort_handle()
    }

    /// Starts a call that the caller may not have announced.
    pub(super) async fn enter(&self) -> Result<Call, SyncError> {
        let shared = &self.shared;
        shared.access.check(&shared.calls)?;
        // An agent cannot remove it, so its files are no removals either.
        if shared.dir.is_removed() {
            let path = shared.dir.path().to_owned();
            let source = io::Error::new(io::ErrorKind::NotFound, "the directory was removed");
            return Err(SyncError::Index { path, source });
        }
        let call = shared.calls.begin().await;
        shared.access.check_lease()?;
        if shared.is_released() {
            shared.reacquire().await?;
        }
        Ok(call)
    }
}

impl Shared {
    /// Proves that this home is still the owner, unless that was proven within the lease.
    async fn prove_lease(&self, deadline: Duration) -> Result<(), SyncError> {
        self.access.check_lease()?;
        let proof = async {
            let mut appender = self.appender.lock().await;
            self.access.check_lease()?;
            if !self.is_held() {
                // The entries of other homes are expected. The next call acquires the session.
                return Ok(());
            }
            if appender.writer.unproven_for() <= self.ownership.timings.lease {
                return Ok(());
            }
            match appender.writer.prove().await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(error)),
            }
        };
        tokio::select! {
            proven = timeout(deadline, proof) => proven.unwrap_or_else(|_| {
                let source = Error::Generic {
                    store: "session log",
                    source: "the store did not answer in time".into(),
                };
                Err(SyncError::Log { source: ReadError::Store { source } })
            }),
            () = self.access.lost() => Err(SyncError::LeaseLost),
        }
    }

    async fn release_if_idle(self: &Arc<Self>, deadline: Duration) -> Result<bool, SyncError> {
        self.access.check_start()?;
        if self.is_released() {
            return Ok(true);
        }
        let Some(_no_calls) = self.calls.exclude() else { return Ok(false) };
        if self.has_untried_work() || !self.claimed_paths().is_empty() {
            return Ok(false);
        }
        let shared = Arc::clone(self);
        let is_clean = blocking(move || shared.pending().is_empty()).await;
        let (Ok(mut appender), Ok(_projecting), Ok(_refreshing)) =
            (self.appender.try_lock(), self.projecting.try_lock(), self.refreshing.try_lock())
        else {
            return Ok(false);
        };
        if !is_clean || appender.writer.staged().is_some() {
            return Ok(false);
        }
        if !self.is_owner() {
            return Ok(true);
        }
        match timeout(deadline, self.release(&mut appender)).await {
            Ok(released) => released.map(|()| true),
            // Only the next call needs the answer.
            Err(_) => Ok(true),
        }
    }

    /// Returns whether the log names this home as the owner.
    fn is_owner(&self) -> bool {
        let ledger = self.ledger();
        ledger.log().owner.as_ref().is_some_and(|owner| owner.home == self.ownership.home)
    }

    /// Appends the line that ends the ownership, with the objects of the files that were stored
    /// meanwhile. So the next machine need not look at each of them.
    async fn release(&self, appender: &mut Appender) -> Result<(), SyncError> {
        *lock(&self.tenure) = Tenure::Released;
        let mut lines = self.ledger().objects_of_epoch();
        lines.push(Line::Release);
        self.append(appender, lines, SentBatch::default()).await.map(drop)
    }
}
