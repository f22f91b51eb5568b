//! The place in which the calls of a session run.

use std::sync::Arc;

use super::LocalSession;
use crate::sharing::{Client, Departure, SessionFacts};

/// The place in which the calls of a session run.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// This process.
    Serving(Arc<LocalSession>),
    /// Another process, or another `Sessions` of this one.
    Connected(Arc<Client>),
    /// None yet. The next call opens the session again.
    Released,
    /// None. The use of the session by this process has ended.
    Ended,
    /// None. The session was closed or deleted.
    Left(Departure),
}

/// A session that was opened.
pub(crate) enum OpenedSession {
    Serving(Arc<LocalSession>),
    Connected(Arc<Client>),
}

impl OpenedSession {
    pub(super) fn facts(&self) -> SessionFacts {
        match self {
            Self::Serving(session) => SessionFacts::of(session),
            Self::Connected(client) => client.facts().clone(),
        }
    }
}

impl From<OpenedSession> for Link {
    fn from(opened: OpenedSession) -> Self {
        match opened {
            OpenedSession::Serving(session) => Self::Serving(session),
            OpenedSession::Connected(client) => Self::Connected(client),
        }
    }
}

impl Link {
    /// Returns whether both run calls in the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Serving(a), Self::Serving(b)) => Arc::ptr_eq(a, b),
            (Self::Connected(a), Self::Connected(b)) => Arc::ptr_eq(a, b),
            (Self::Released, Self::Released)
            | (Self::Ended, Self::Ended)
            | (Self::Left(_), Self::Left(_)) => true,
            _ => false,
        }
    }
}
