//! Ownership of sessions in a store that several homes share.

use artifact_sync::internal::Timings;
use artifact_sync::{Heartbeat, HomeId, SyncError, Takeover};

use crate::home::Home;
use crate::storage::Storage;

/// Ownership of sessions in a store that several homes share: one home at a time may change a
/// session.
///
/// A home shows in the store that it is alive while it owns sessions. It releases a session 30 s
/// after the last call, and when the session is released or drained. The default suits stores that
/// are only in this home, and shared ones.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    takeover: Option<Takeover>,
    url: Option<String>,
    is_exclusive: bool,
    timings: Option<Timings>,
}

impl Ownership {
    /// Sets the treatment of sessions that another home owns. By default, they are refused while
    /// that home is alive; in a store that belongs to this home only, they are taken over.
    #[must_use]
    pub fn takeover(mut self, takeover: Takeover) -> Self {
        self.takeover = Some(takeover);
        self
    }

    /// Sets the address under which other machines reach this one. Their error
    /// [`OwnedElsewhere`](crate::SessionError::OwnedElsewhere) names it.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Declares that no other home uses the store. This home then shows no sign of life there, and
    /// keeps sessions that it releases. If another home does use the store, it takes over at once.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.is_exclusive = true;
        self
    }

    /// Replaces the intervals of signs of life and takeovers.
    #[doc(hidden)]
    #[must_use]
    pub fn timings(mut self, timings: Timings) -> Self {
        self.timings = Some(timings);
        self
    }

    /// Returns the intervals of all homes that share the store.
    fn intervals(&self) -> Timings {
        self.timings.unwrap_or_default()
    }

    /// Returns the ownership of sessions in a store. Starts the heartbeat if other homes may use
    /// the store.
    pub(super) fn start(&self, storage: &Storage, home: &Home) -> Result<Owner, SyncError> {
        let is_shared = !self.is_exclusive && storage.reaches_beyond(home);
        let default = if is_shared { Takeover::Refuse } else { Takeover::Steal };
        let heartbeat = is_shared.then(|| self.heartbeat(storage, home.id()?)).transpose()?;
        let takeover = self.takeover.unwrap_or(default);
        Ok(Owner { takeover, heartbeat, timings: self.intervals() })
    }

    /// Starts the heartbeat of a home.
    fn heartbeat(&self, storage: &Storage, home: HomeId) -> Result<Heartbeat, SyncError> {
        let client = storage.clone();
        let (open, url) = (move || client.open_again(), self.url.clone());
        Heartbeat::start_with(open, &storage.prefix, home, url, self.intervals())
    }
}

/// Ownership of the sessions of one process, as mirrors use it.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) takeover: Takeover,
    /// `None` if the store belongs to this home only.
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) timings: Timings,
}
