//! Bounds on the connections of a session and of the whole process.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Bounds of a gate.
///
/// ```
/// use egress::Limits;
///
/// let mut limits = Limits::default();
/// limits.max_connections = 64;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of one session at once. Further ones wait in the backlog of the kernel.
    pub max_connections: usize,
    /// Descriptors for connections in the whole process; a connection counts as six. The default
    /// is half of `RLIMIT_NOFILE` when the value is made. The last quarter is for sessions with
    /// few connections.
    pub max_descriptors: usize,
    /// Names of one session that get an address, for allowed and for denied names each. At most
    /// 65,000.
    pub max_names: usize,
    /// Bytes of the head of a request, or of a TLS hello. At least 8,192.
    pub max_head_bytes: usize,
    /// Time from the first byte of a head or hello to its end, and between two pieces of a body
    /// that is read as a whole.
    pub head_timeout: Duration,
    /// Time for resolving a name and connecting to its addresses.
    pub dial_timeout: Duration,
    /// Time of a TLS handshake with a client, and of one with a server.
    pub handshake_timeout: Duration,
    /// Certificates of allowed names that the gate keeps, for all sessions.
    pub max_leaves: usize,
    /// Denied names of one session that get a certificate, so that a refusal can be read. Others
    /// get a TLS alert.
    pub max_refused_leaves: usize,
    /// Time without a byte in either direction before a connection is closed.
    pub idle_timeout: Duration,
}

/// Descriptors of a connection: two sockets, and two pipes while it is a tunnel.
pub(crate) const DESCRIPTORS_EACH: usize = 6;

/// Descriptors if the process has no limit.
const UNLIMITED: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED).min(UNLIMITED);
        Self {
            max_connections: 256,
            max_descriptors: usize::try_from(descriptors / 2).unwrap_or(usize::MAX),
            max_names: 4096,
            max_head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            max_leaves: 1024,
            max_refused_leaves: 64,
            idle_timeout: Duration::from_secs(60 * 60),
        }
    }
}

impl Limits {
    /// Returns the name of a bound with an impossible value.
    pub(crate) fn invalid(&self) -> Option<&'static str> {
        let connections = 1..=1 << 20;
        [
            ("max_connections", connections.contains(&self.max_connections)),
            ("max_descriptors", self.max_descriptors >= DESCRIPTORS_EACH),
            ("max_names", (1..=65_000).contains(&self.max_names)),
            ("max_head_bytes", self.max_head_bytes >= 8192),
            ("head_timeout", !self.head_timeout.is_zero()),
            ("handshake_timeout", !self.handshake_timeout.is_zero()),
            ("max_leaves", self.max_leaves > 0),
            ("dial_timeout", !self.dial_timeout.is_zero()),
            ("idle_timeout", !self.idle_timeout.is_zero()),
        ]
        .into_iter()
        .find_map(|(name, is_valid)| (!is_valid).then_some(name))
    }

    /// Returns the connections of the whole process at once.
    pub(crate) fn connections_of_process(&self) -> usize {
        self.max_descriptors / DESCRIPTORS_EACH
    }
}
