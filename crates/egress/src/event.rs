//! Events of a session's connections, and the ring that keeps the last ones.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::time::{Duration, SystemTime};

use policy::{Host, Rule};
use secrets::RequestPart;

use crate::denial::{Denial, Failure};

/// Way of a connection into the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Via {
    /// HTTP to the proxy listener.
    Proxy,
    /// SOCKS5 to the proxy listener.
    Socks,
    /// The transparent listener.
    Transparent,
    /// A query to the DNS listener.
    Dns,
}

/// A connection or query that was allowed, denied, or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkEvent {
    /// Position in the session, from 0 without gaps.
    pub id: u64,
    /// Time of the event.
    pub at: SystemTime,
    /// The result.
    pub outcome: Outcome,
    /// The destination.
    pub host: Host,
    /// The port of the destination. A DNS query has none.
    pub port: Option<u16>,
    /// The way into the gate.
    pub via: Via,
    /// Bytes from the session.
    pub sent: u64,
    /// Bytes to the session.
    pub received: u64,
    /// Duration of the connection.
    pub took: Duration,
    /// Set if a parent proxy made the connection. It resolved the name, so that the gate could not
    /// judge the address.
    pub through_parent: bool,
}

/// Result of a connection or query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The connection was allowed, and is closed now.
    Allowed(Rule),
    /// The connection was refused, or cut when the policy changed.
    Denied(Denial),
    /// The connection was allowed, and could not be made.
    Failed(Failure),
    /// A request got the value of a secret in the place of a placeholder. A connection has one such
    /// event for each secret.
    #[non_exhaustive]
    Masked {
        /// The name of the secret.
        name: String,
    },
    /// A request to a host of a secret went out with its placeholder. A connection has one such
    /// event for each secret and reason.
    #[non_exhaustive]
    Intact {
        /// The name of the secret.
        name: String,
        /// The reason.
        reason: IntactReason,
    },
}

/// Reason why a placeholder stays in a request to its own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntactReason {
    /// The connection has no TLS, and the mask does not allow that.
    Plaintext,
    /// It is in the path, which never gets a value.
    Path,
    /// It is in a part of the request that the mask does not have, or in a body that cannot be
    /// changed.
    Part(RequestPart),
    /// It is encoded, and only the placeholder itself is replaced.
    Encoded,
}

impl fmt::Display for IntactReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "values go only over TLS",
            Self::Path => "no value is inserted into a path",
            Self::Part(RequestPart::Headers) => "it is not inserted into headers",
            Self::Part(RequestPart::Query) => "it is not inserted into the query",
            Self::Part(_) => "it is not inserted into this body",
            Self::Encoded => "it is encoded, and only the placeholder itself is replaced",
        })
    }
}

/// A receiver of all events of a session.
pub trait EventSink: Debug + Send + Sync {
    /// Receives an event. For a denied connection that is before its refusal is written. The method
    /// is called on a thread of the runtime, so it must not block.
    fn record(&self, event: &NetworkEvent);
}

/// Drops the events. [`Network::events_since`](crate::Network::events_since) still has the last
/// ones.
impl EventSink for () {
    fn record(&self, _: &NetworkEvent) {}
}

/// A position in the events of a session. The default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventMark(u64);

/// Events that a session keeps.
const KEPT: usize = 1024;

/// The last events of a session.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    next: u64,
    events: VecDeque<NetworkEvent>,
}

impl Ring {
    pub(crate) fn push(&mut self, mut event: NetworkEvent) -> NetworkEvent {
        event.id = self.next;
        self.next += 1;
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }

    pub(crate) fn mark(&self) -> EventMark {
        EventMark(self.next)
    }

    pub(crate) fn since(&self, mark: EventMark) -> Vec<NetworkEvent> {
        self.events.iter().filter(|event| event.id >= mark.0).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_events_and_their_numbers() {
        let mut ring = Ring::default();
        let event = NetworkEvent {
            id: 0,
            at: SystemTime::UNIX_EPOCH,
            outcome: Outcome::Denied(Denial::OwnLoopback),
            host: Host::parse("a.test").unwrap(),
            port: None,
            via: Via::Dns,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
            through_parent: false,
        };
        for _ in 0..KEPT + 3 {
            ring.push(event.clone());
        }
        let mark = ring.mark();
        assert_eq!(ring.since(EventMark::default()).len(), KEPT);
        assert_eq!(ring.since(EventMark::default())[0].id, 3);
        ring.push(event);
        let ids: Vec<_> = ring.since(mark).into_iter().map(|event| event.id).collect();
        assert_eq!(ids, [u64::try_from(KEPT).unwrap() + 3]);
    }
}
