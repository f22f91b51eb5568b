//! Release of sessions that no call has used for a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sandbox_core::SessionId;
use sandbox_core::internal::lock;

use super::{SessionCell, Sessions};

/// The shortest time between two looks for idle sessions.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);
/// The number of looks in the time after which a session is released.
const LOOKS: u32 = 4;

pub(super) type OpenSessions = Mutex<HashMap<SessionId, SessionCell>>;

impl Sessions {
    /// Releases the sessions of this value that no call has used for `idle`: ends their processes,
    /// and unlocks them. Their files stay, and so do the handles: the next call opens the session
    /// again, with another `/tmp`. Returns the ids of the released sessions.
    ///
    /// [`SessionsBuilder::idle_release`](crate::SessionsBuilder::idle_release) does this by itself.
    ///
    /// # Cancel safety
    /// Some sessions may be released.
    pub async fn release_idle(&self, idle: Duration) -> Vec<SessionId> {
        release(&self.open, idle).await
    }

    /// Begins to look for idle sessions, once.
    pub(super) fn watch_idle(&self) {
        if let Some(idle) = self.opener.settings.idle_release
            && self.idle_watch.set(()).is_ok()
        {
            tokio::spawn(watch(Arc::downgrade(&self.open), idle));
        }
    }
}

async fn watch(open: Weak<OpenSessions>, idle: Duration) {
    let period = (idle / LOOKS).max(SHORTEST_PERIOD);
    loop {
        tokio::time::sleep(period).await;
        let Some(open) = open.upgrade() else { return };
        release(&open, idle).await;
    }
}

async fn release(open: &OpenSessions, idle: Duration) -> Vec<SessionId> {
    let sessions: Vec<_> = lock(open)
        .iter()
        .filter_map(|(id, cell)| Some((id.clone(), Arc::clone(cell), Arc::clone(cell.get()?))))
        .filter(|(_, _, session)| session.idle_for().is_some_and(|time| time >= idle))
        .collect();
    let mut released = Vec::new();
    for (id, cell, session) in sessions {
        {
            let mut open = lock(open);
            if open.get(&id).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
                open.remove(&id);
            }
        }
        // A call that has begun meanwhile ends first.
        session.release().await;
        released.push(id);
    }
    released
}
