//! The place in which the calls of a session run, and its replacement.

use std::sync::{Arc, PoisonError};

use sandbox_core::internal::lock;

use super::{LocalSession, MAX_SERVERS, Session};
use crate::sessions::SessionError;
use crate::sharing::{Client, Departure, SessionFacts, SharingError};
use crate::workspace::WorkspaceError;

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

impl Session {
    pub(crate) fn link(&self) -> Link {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the link and returns the former one.
    pub(super) fn set_link(&self, link: Link) -> Link {
        std::mem::replace(&mut *self.link.write().unwrap_or_else(PoisonError::into_inner), link)
    }

    /// Uses a session that was opened again.
    fn relink(&self, opened: OpenedSession) -> Result<(), SharingError> {
        let mut link = self.link.write().unwrap_or_else(PoisonError::into_inner);
        if let Link::Ended = *link {
            return Err(self.ended());
        }
        *link = opened.into();
        Ok(())
    }

    pub(super) fn left(&self, departure: Departure) -> SharingError {
        self.set_link(Link::Left(departure));
        SharingError::left(&self.id, departure)
    }

    pub(super) fn ended(&self) -> SharingError {
        SharingError::Draining { session: self.id.clone() }
    }

    /// Returns an error if a call on this link must not open the session again.
    pub(super) fn check_reopening(&self, link: &Link) -> Result<(), SharingError> {
        match link {
            Link::Ended => Err(self.ended()),
            Link::Left(departure) => Err(self.left(*departure)),
            Link::Serving(_) | Link::Connected(_) | Link::Released => Ok(()),
        }
    }

    /// Returns the error of a call for which every server ended before the call began.
    pub(super) fn no_server(&self) -> SharingError {
        let reason = format!("{MAX_SERVERS} processes have ended before the call began");
        SharingError::Rejected { session: self.id.clone(), pid: 0, reason }
    }

    /// Opens the session again, unless another call has replaced `former` already.
    pub(super) async fn reopen(&self, former: &Link) -> Result<(), SharingError> {
        let _turn = self.reopening.lock().await;
        if !self.link().is(former) {
            return Ok(());
        }
        let spec = lock(&self.spec).clone();
        match self.opener.reopen(&spec).await {
            Ok(opened) => self.relink(opened),
            Err(SessionError::Workspace {
                source: WorkspaceError::Sharing { source: SharingError::Closed { .. } },
            }) => Err(self.left(Departure::Closed)),
            Err(SessionError::Workspace { source: WorkspaceError::Sharing { source } }) => {
                Err(source)
            }
            Err(source) => Err(self.cannot_reopen(source)),
        }
    }

    pub(super) fn cannot_reopen(&self, source: SessionError) -> SharingError {
        SharingError::Reopen { session: self.id.clone(), source: Box::new(source) }
    }
}
