//! The network of one session.

use std::sync::Arc;

use policy::NetworkPolicy;
use secrets::Masks;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::ask::Ask;
use crate::destinations::Destinations;
use crate::dns;
use crate::error::MasksError;
use crate::event::{EventMark, NetworkEvent};
use crate::listeners::{Kind, OpenListeners, accept};
use crate::masks::SessionMasks;
use crate::parent::ParentProxy;
use crate::session::Session;

/// The network of one session. Dropping it closes the listeners and all connections.
#[derive(Debug)]
pub struct Network {
    session: Arc<Session>,
    tasks: JoinSet<()>,
}

impl Network {
    pub(crate) fn open(session: Arc<Session>, listeners: OpenListeners) -> Self {
        let mut tasks = JoinSet::new();
        // The events of all connections belong to the span of the caller.
        if let Some(listener) = listeners.proxy {
            tasks.spawn(accept(Arc::clone(&session), listener, Kind::Proxy).in_current_span());
        }
        for listener in listeners.transparent {
            let accept = accept(Arc::clone(&session), listener, Kind::Transparent);
            tasks.spawn(accept.in_current_span());
        }
        if let Some(socket) = listeners.dns {
            tasks.spawn(dns::serve(Arc::clone(&session), socket).in_current_span());
        }
        Self { session, tasks }
    }

    /// Replaces the policy. Open connections that it does not allow are cut, and their events have
    /// the rule that denies them.
    pub fn set_policy(&self, policy: NetworkPolicy) {
        self.session.set_policy(policy);
    }

    /// Replaces the fixed destinations. At first, no name has one. Open connections to an address
    /// that is approved no more are cut.
    pub fn set_destinations(&self, destinations: Destinations) {
        self.session.set_destinations(destinations);
    }

    /// Sets the way to ask the user about hosts that no rule names. `None` denies them. Earlier
    /// answers still count.
    pub fn set_ask(&self, ask: Option<Arc<dyn Ask>>) {
        self.session.questions.set(ask);
    }

    /// Replaces the masks. The session must have the placeholders, and never the values.
    ///
    /// TLS to their hosts is terminated from the next connection on. A placeholder in a request to
    /// one of its hosts becomes the value, after the certificate of the host was verified. In a
    /// request to another host it is refused.
    ///
    /// # Errors
    /// Returns [`MasksError`] for a host that is invalid or shared, and changes nothing then.
    pub fn set_masks(&self, masks: &Masks) -> Result<(), MasksError> {
        self.session.set_masks(SessionMasks::compile(masks)?);
        Ok(())
    }

    /// Refuses denied names inside TLS with an alert. By default, the gate answers requests to them
    /// in HTTP, with a certificate that the programs of the session must trust
    /// ([`Gate::trust`](crate::Gate::trust)).
    pub fn alert_denied(&self) {
        self.session.alert_denied();
    }

    /// Replaces the parent proxy of the session. `None` is that of the gate, if it has one. Open
    /// connections stay.
    pub fn set_parent_proxy(&self, parent: Option<ParentProxy>) {
        self.session.set_parent(parent);
    }

    /// Returns the position after the last event.
    pub fn mark(&self) -> EventMark {
        self.session.mark()
    }

    /// Returns the events after a position, oldest first. The session keeps the last 1,024; if the
    /// first [`NetworkEvent::id`] is not the expected one, earlier ones are lost.
    pub fn events_since(&self, mark: EventMark) -> Vec<NetworkEvent> {
        self.session.events_since(mark)
    }

    /// Closes the listeners and all connections, and waits until they are closed.
    ///
    /// # Cancel safety
    /// A dropped call closes them too, without waiting.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        // Each connection has a permit until its sockets are closed.
        let all = self.session.shared.limits.max_connections;
        let _ = self.session.connections.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await;
    }
}
