//! Background care for the ownership of a session: its end after a takeover, and the idle release.

use std::sync::{Arc, Weak};
use std::time::Duration;

use artifact_sync::internal::Timings;
use sandbox_core::with_causes;
use tokio::time::interval;

use super::{Link, LocalSession, Session};

/// The number of times that the keeper looks for the end of a lease while it lasts. The log is
/// asked once a lease, because a younger proof counts. So a takeover is found a tenth later.
const CHECKS_PER_LEASE: u32 = 10;

/// Watches the ownership of a session until it ends. Does not keep the session open.
pub(crate) fn keep(session: &Arc<LocalSession>) {
    if session.workspace.mirror.is_some() {
        tokio::spawn(watch(Arc::downgrade(session)));
    }
}

async fn watch(session: Weak<LocalSession>) {
    let quiet = || {
        let session = session.upgrade()?;
        let Timings { idle, .. } = session.workspace.intervals();
        Some(Box::pin(session.workspace.mirror.as_ref()?.quiet_for(idle)))
    };
    let begun = session.upgrade().and_then(|session| {
        let Timings { lease, .. } = session.workspace.intervals();
        Some((session.workspace.mirror.as_ref()?.lost(), interval(lease / CHECKS_PER_LEASE)))
    });
    let (Some((lost, mut leases)), Some(mut idle)) = (begun, quiet()) else { return };
    tokio::pin!(lost);
    loop {
        let event = tokio::select! {
            () = &mut lost => Event::Lost,
            is_open = &mut idle => if is_open { Event::Idle } else { return },
            _ = leases.tick() => Event::LeaseMayEnd,
        };
        let Some(session) = session.upgrade() else { return };
        match event {
            Event::Lost => return session.fence().await,
            Event::Idle => {
                session.release_if_idle().await;
                let Some(next) = quiet() else { return };
                idle = next;
            }
            Event::LeaseMayEnd => session.confirm_if_busy().await,
        }
    }
}

/// Reason to act.
enum Event {
    /// Another home is the owner.
    Lost,
    /// No call has begun or ended for a time.
    Idle,
    /// The last proof of the ownership may be older than the lease.
    LeaseMayEnd,
}

impl Session {
    /// Returns the time since the last call; `None` while a process of the session runs, or if this
    /// process does not serve it.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        match self.link() {
            Link::Serving(session) => session.idle_for(),
            _ => None,
        }
    }
}

impl LocalSession {
    /// Ends the session here after another home took it over. The files stay for inspection.
    async fn fence(&self) {
        tracing::warn!(session = %self.workspace.id, "another machine took the session over");
        self.end().await;
        self.gate.idle().await;
        self.gate.end();
        self.workspace.abandon();
    }

    /// Returns whether a call, a process or a wrapped command runs.
    fn is_at_work(&self) -> bool {
        self.gate.is_busy() || self.runs_processes()
    }

    fn runs_processes(&self) -> bool {
        self.processes.are_running() || self.sandbox().runs_wrapped_commands()
    }

    /// Returns the time since the last call; `None` while a process of the session runs.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        if self.runs_processes() {
            return None;
        }
        self.gate.idle_for()
    }

    /// Releases the session for other homes, unless a process of it runs. Changes that wrapped
    /// commands have made are stored first, and the next idle time releases the session.
    async fn release_if_idle(&self) {
        let Some(mirror) = self.workspace.shared_mirror() else { return };
        // A long call reports its changes itself.
        if self.is_at_work() {
            return;
        }
        let released = match mirror.release_if_idle().await {
            Ok(false) => mirror.store_unreported().await,
            released => released.map(drop),
        };
        if let Err(error) = released {
            let error = with_causes(&error);
            tracing::debug!(error, "the release of an idle session was not confirmed");
        }
    }

    /// Proves the ownership while a call, a process or a wrapped command runs, so that it does not
    /// go on for long after a takeover.
    async fn confirm_if_busy(&self) {
        let Some(mirror) = self.workspace.shared_mirror() else { return };
        if !self.is_at_work() {
            return;
        }
        if let Err(error) = mirror.confirm().await {
            let error = with_causes(&error);
            tracing::debug!(error, "the ownership of the session is not proven");
        }
    }
}
