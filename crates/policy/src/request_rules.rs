//! Rules for the connections and requests that a gate can read.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::NetworkConfig;

/// Rules of the section `network` that are not about hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    requires_host_match: bool,
    refuses_opaque_tunnels: bool,
    stripped: BTreeSet<String>,
    max_terminated: Option<u32>,
    handshake_timeout: Option<Duration>,
}

impl RequestRules {
    pub(crate) fn new(network: &NetworkConfig) -> Self {
        let tls = network.tls_terminate.as_ref();
        let milliseconds = tls.and_then(|tls| tls.handshake_timeout_ms);
        let stripped = network.strip_response_headers.iter().flatten();
        Self {
            requires_host_match: network.require_host_match == Some(true),
            refuses_opaque_tunnels: network.refuse_opaque_tunnels == Some(true),
            stripped: stripped.map(|name| folded(name)).collect(),
            max_terminated: tls.and_then(|tls| tls.max_tunnels),
            handshake_timeout: milliseconds.map(|time| Duration::from_millis(time.into())),
        }
    }

    /// Returns whether a request with a whole URL needs a header `Host` with the same host and port
    /// (`requireHostMatch`). Otherwise the URL alone counts.
    pub fn requires_host_match(&self) -> bool {
        self.requires_host_match
    }

    /// Returns whether connections that cannot be read are denied (`refuseOpaqueTunnels`).
    pub fn refuses_opaque_tunnels(&self) -> bool {
        self.refuses_opaque_tunnels
    }

    /// Returns whether a header of a response is removed (`stripResponseHeaders`). Names are
    /// compared without case, and `-`, `_` and `.` are the same.
    pub fn strips_header(&self, name: &str) -> bool {
        !self.stripped.is_empty() && self.stripped.contains(&folded(name))
    }

    /// Returns whether any header of a response is removed.
    pub fn strips_headers(&self) -> bool {
        !self.stripped.is_empty()
    }

    /// Returns the maximum number of terminated connections at once (`tlsTerminate.maxTunnels`).
    pub fn max_terminated(&self) -> Option<u32> {
        self.max_terminated
    }

    /// Returns the time limit of a handshake (`tlsTerminate.handshakeTimeoutMs`).
    pub fn handshake_timeout(&self) -> Option<Duration> {
        self.handshake_timeout
    }
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_headers_are_compared_like_in_srt() {
        let network = NetworkConfig {
            strip_response_headers: Some(vec!["Set-Cookie".to_owned(), "x.Y_z".to_owned()]),
            ..NetworkConfig::default()
        };
        let rules = RequestRules::new(&network);
        for (name, expected) in
            [("set-cookie", true), ("SET_COOKIE", true), ("X-Y-Z", true), ("set-cookie2", false)]
        {
            assert_eq!(rules.strips_header(name), expected, "{name}");
        }
        assert!(!RequestRules::default().strips_headers());
    }
}
