//! Permission to use a mirror, and the calls that use it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::SyncError;

/// Permission to change the store.
#[derive(Debug, Default)]
pub(super) struct Access(watch::Sender<Permission>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Permission {
    #[default]
    Open,
    /// Only calls that run already may store changes.
    Draining,
    Closing,
    /// Another owner wrote to the log. This is final.
    Lost,
}

impl Access {
    /// Returns an error if the mirror must not store anything for a call any more.
    pub(super) fn check(&self, calls: &Calls) -> Result<(), SyncError> {
        match *self.0.borrow() {
            Permission::Open => Ok(()),
            Permission::Draining if calls.is_running() => Ok(()),
            Permission::Draining | Permission::Closing => Err(SyncError::Closing),
            Permission::Lost => Err(SyncError::LeaseLost),
        }
    }

    /// Returns an error if no call may start any more.
    pub(super) fn check_start(&self) -> Result<(), SyncError> {
        match *self.0.borrow() {
            Permission::Open => Ok(()),
            Permission::Draining | Permission::Closing => Err(SyncError::Closing),
            Permission::Lost => Err(SyncError::LeaseLost),
        }
    }

    /// Returns an error if another owner wrote to the log.
    pub(super) fn check_lease(&self) -> Result<(), SyncError> {
        if self.is_lost() { Err(SyncError::LeaseLost) } else { Ok(()) }
    }

    /// Refuses everything afterwards, because another owner wrote to the log.
    pub(super) fn lose(&self) {
        self.set(Permission::Lost);
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.0.borrow() == Permission::Lost
    }

    /// Waits until another owner was found in the log.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut permission = self.0.subscribe();
        async move {
            let is_lost = |permission: &Permission| *permission == Permission::Lost;
            let is_dropped = permission.wait_for(is_lost).await.is_err();
            if is_dropped {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Refuses new calls afterwards.
    pub(super) fn begin_draining(&self) {
        self.set(Permission::Draining);
    }

    /// Refuses calls afterwards, because the mirror is being closed.
    pub(super) fn begin_closing(&self) {
        self.set(Permission::Closing);
    }

    /// Accepts calls again after closing failed.
    pub(super) fn end_closing(&self) {
        self.set(Permission::Open);
    }

    fn set(&self, permission: Permission) {
        self.0.send_if_modified(|current| {
            let changes = *current != Permission::Lost && *current != permission;
            if changes {
                *current = permission;
            }
            changes
        });
    }
}

/// Calls that are running, and the lock that starts them.
#[derive(Debug, Default)]
pub(super) struct Calls(Arc<watch::Sender<Running>>);

#[derive(Clone, Copy, Debug, Default)]
struct Running {
    count: usize,
    /// The session is being released, so calls wait.
    is_releasing: bool,
}

/// Call that is running until this value is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<watch::Sender<Running>>);

/// Lock that keeps calls from starting until this value is dropped.
#[derive(Debug)]
pub(super) struct NoCalls(Arc<watch::Sender<Running>>);

impl Calls {
    pub(super) fn is_running(&self) -> bool {
        self.0.borrow().count > 0
    }

    /// Waits until no release is under way, and starts a call.
    pub(super) async fn begin(&self) -> Call {
        let mut running = self.0.subscribe();
        loop {
            let started = self.0.send_if_modified(|running| {
                running.count += usize::from(!running.is_releasing);
                !running.is_releasing
            });
            if started {
                return Call(Arc::clone(&self.0));
            }
            let _ = running.wait_for(|running| !running.is_releasing).await;
        }
    }

    /// Keeps calls from starting. Returns `None` if a call is running.
    pub(super) fn exclude(&self) -> Option<NoCalls> {
        let excluded = self.0.send_if_modified(|running| {
            let is_idle = running.count == 0 && !running.is_releasing;
            running.is_releasing |= is_idle;
            is_idle
        });
        excluded.then(|| NoCalls(Arc::clone(&self.0)))
    }

    /// Waits until no call is running.
    pub(super) async fn finished(&self) {
        let _ = self.0.subscribe().wait_for(|running| running.count == 0).await;
    }

    /// Waits until no call has started or ended for a time. Returns `false` if no more calls will
    /// come.
    pub(super) fn quiet_for(&self, time: Duration) -> impl Future<Output = bool> + Send + use<> {
        let mut running = self.0.subscribe();
        async move {
            loop {
                match timeout(time, running.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return false,
                    Err(_) => return true,
                }
            }
        }
    }
}

impl Clone for Call {
    fn clone(&self) -> Self {
        self.0.send_modify(|running| running.count += 1);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|running| running.count -= 1);
    }
}

impl Drop for NoCalls {
    fn drop(&mut self) {
        self.0.send_modify(|running| running.is_releasing = false);
    }
}
