//! The `network` section of the settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Hosts and sockets that commands may connect to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Patterns `host[:port]` of the hosts that commands may reach. An empty list allows none.
    pub allowed_domains: Vec<String>,
    /// Patterns that take precedence over `allowed_domains`. `*` and `*:port` are also accepted.
    pub denied_domains: Vec<String>,
    /// Messages for denied connections, by exact entry of `denied_domains`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_domain_reasons: Option<BTreeMap<String, String>>,
    /// Denies a host in neither list without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_allowlist: Option<bool>,
    /// Addresses and CIDR blocks that no name may resolve to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_resolved_addresses: Option<Vec<String>>,
    /// macOS only; ignored on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unix_sockets: Option<Vec<String>>,
    /// Allows all Unix sockets. On Linux srt then runs without its seccomp helper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_all_unix_sockets: Option<bool>,
    /// No effect on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_local_binding: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_mach_lookup: Option<Vec<String>>,
    /// Loopback port of an HTTP proxy that replaces srt's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub http_proxy_port: Option<u16>,
    /// Loopback port of a SOCKS proxy that replaces srt's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub socks_proxy_port: Option<u16>,
    /// A proxy that reads the traffic of some domains. It excludes `tls_terminate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mitm_proxy: Option<MitmProxyConfig>,
    /// Lets `filterRequest` set headers of requests without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plaintext_header_set: Option<bool>,
    /// Names of response headers that commands do not receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_response_headers: Option<Vec<String>>,
    /// Denies tunnels whose content `filterRequest` cannot see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse_opaque_tunnels: Option<bool>,
    /// Denies requests whose host differs from that of their connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_host_match: Option<bool>,
    /// Treatment of request targets that servers read in different ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambiguous_request_target: Option<AmbiguousRequestTarget>,
    /// TLS termination in srt's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_terminate: Option<TlsTerminateConfig>,
    /// The upstream proxy of srt's proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_proxy: Option<ParentProxyConfig>,
}

/// Treatment of request targets that servers read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum AmbiguousRequestTarget {
    /// The proxy denies the request.
    Refuse,
    /// The request passes unchanged.
    AsSpelled,
    /// The proxy normalizes the target.
    Normalize,
}

/// A proxy that reads the traffic of some domains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct MitmProxyConfig {
    /// Path of its Unix socket.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub socket_path: String,
    /// Host patterns without ports; at least one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub domains: Vec<String>,
}

impl MitmProxyConfig {
    /// Creates the settings of a proxy that listens on a Unix socket.
    pub fn new(socket_path: impl Into<String>, domains: Vec<String>) -> Self {
        Self { socket_path: socket_path.into(), domains }
    }
}

/// TLS termination in srt's proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsTerminateConfig {
    /// Path of the CA certificate; requires `ca_key_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub ca_cert_path: Option<String>,
    /// Path of the CA key; requires `ca_cert_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub ca_key_path: Option<String>,
    /// Patterns of hosts whose TLS connections pass through unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_domains: Option<Vec<String>>,
    /// Paths of additional trusted certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_ca_cert_paths: Option<Vec<String>>,
    /// Maximum number of terminated tunnels at once, 1 to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_536)))]
    pub max_tunnels: Option<u32>,
    /// Time limit of a TLS handshake in milliseconds, 100 to 600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 100, max = 600_000)))]
    pub handshake_timeout_ms: Option<u32>,
}

/// The upstream proxy of srt's proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ParentProxyConfig {
    /// URL of the proxy for HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// URL of the proxy for HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// Hosts that srt connects to directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}
