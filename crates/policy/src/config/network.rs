//! The `network` section of the settings.

use std::collections::BTreeMap;

use super::setting::{choice, object};

/// Hosts and sockets that commands may connect to.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Patterns `host[:port]` of the hosts that commands may reach. An empty list allows none.
    pub allowed_domains: Vec<String>,
    /// Patterns that take precedence over `allowed_domains`. `*` and `*:port` are also accepted.
    pub denied_domains: Vec<String>,
    /// Messages for denied connections, by exact entry of `denied_domains`.
    pub denied_domain_reasons: Option<BTreeMap<String, String>>,
    /// Denies a host in neither list without asking.
    pub strict_allowlist: Option<bool>,
    /// Addresses and CIDR blocks that no name may resolve to.
    pub denied_resolved_addresses: Option<Vec<String>>,
    /// macOS only; ignored on Linux.
    pub allow_unix_sockets: Option<Vec<String>>,
    /// Allows all Unix sockets. On Linux srt then runs without its seccomp helper.
    pub allow_all_unix_sockets: Option<bool>,
    /// No effect on Linux.
    pub allow_local_binding: Option<bool>,
    /// macOS only.
    pub allow_mach_lookup: Option<Vec<String>>,
    /// Loopback port of an HTTP proxy that replaces srt's.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub http_proxy_port: Option<u16>,
    /// Loopback port of a SOCKS proxy that replaces srt's.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub socks_proxy_port: Option<u16>,
    /// A proxy that reads the traffic of some domains. It excludes `tls_terminate`.
    pub mitm_proxy: Option<MitmProxyConfig>,
    /// Lets `filterRequest` set headers of requests without TLS.
    pub allow_plaintext_header_set: Option<bool>,
    /// Names of response headers that commands do not receive.
    pub strip_response_headers: Option<Vec<String>>,
    /// Denies tunnels whose content `filterRequest` cannot see.
    pub refuse_opaque_tunnels: Option<bool>,
    /// Denies requests whose host differs from that of their connection.
    pub require_host_match: Option<bool>,
    /// Treatment of request targets that servers read in different ways.
    pub ambiguous_request_target: Option<AmbiguousRequestTarget>,
    /// TLS termination in srt's proxy.
    pub tls_terminate: Option<TlsTerminateConfig>,
    /// The upstream proxy of srt's proxy.
    pub parent_proxy: Option<ParentProxyConfig>,
}

object!(NetworkConfig {
    "allowedDomains" => allowed_domains,
    "deniedDomains" => denied_domains,
    "deniedDomainReasons" => denied_domain_reasons,
    "strictAllowlist" => strict_allowlist,
    "deniedResolvedAddresses" => denied_resolved_addresses,
    "allowUnixSockets" => allow_unix_sockets,
    "allowAllUnixSockets" => allow_all_unix_sockets,
    "allowLocalBinding" => allow_local_binding,
    "allowMachLookup" => allow_mach_lookup,
    "httpProxyPort" => http_proxy_port,
    "socksProxyPort" => socks_proxy_port,
    "mitmProxy" => mitm_proxy,
    "allowPlaintextHeaderSet" => allow_plaintext_header_set,
    "stripResponseHeaders" => strip_response_headers,
    "refuseOpaqueTunnels" => refuse_opaque_tunnels,
    "requireHostMatch" => require_host_match,
    "ambiguousRequestTarget" => ambiguous_request_target,
    "tlsTerminate" => tls_terminate,
    "parentProxy" => parent_proxy,
});

/// Treatment of request targets that servers read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum AmbiguousRequestTarget {
    /// The proxy denies the request.
    Refuse,
    /// The request passes unchanged.
    AsSpelled,
    /// The proxy normalizes the target.
    Normalize,
}

choice!(AmbiguousRequestTarget {
    "refuse" => Refuse,
    "asSpelled" => AsSpelled,
    "normalize" => Normalize,
});

/// A proxy that reads the traffic of some domains.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct MitmProxyConfig {
    /// Path of its Unix socket.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub socket_path: String,
    /// Host patterns without ports; at least one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub domains: Vec<String>,
}

object!(MitmProxyConfig {
    "socketPath" => socket_path,
    "domains" => domains,
});

impl MitmProxyConfig {
    /// Creates the settings of a proxy that listens on a Unix socket.
    pub fn new(socket_path: impl Into<String>, domains: Vec<String>) -> Self {
        Self { socket_path: socket_path.into(), domains }
    }
}

/// TLS termination in srt's proxy.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct TlsTerminateConfig {
    /// Path of the CA certificate; requires `ca_key_path`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub ca_cert_path: Option<String>,
    /// Path of the CA key; requires `ca_cert_path`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub ca_key_path: Option<String>,
    /// Patterns of hosts whose TLS connections pass through unread.
    pub exclude_domains: Option<Vec<String>>,
    /// Paths of additional trusted certificates.
    pub extra_ca_cert_paths: Option<Vec<String>>,
    /// Maximum number of terminated tunnels at once, 1 to 65536.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_536)))]
    pub max_tunnels: Option<u32>,
    /// Time limit of a TLS handshake in milliseconds, 100 to 600000.
    #[cfg_attr(feature = "schema", schemars(range(min = 100, max = 600_000)))]
    pub handshake_timeout_ms: Option<u32>,
}

object!(TlsTerminateConfig {
    "caCertPath" => ca_cert_path,
    "caKeyPath" => ca_key_path,
    "excludeDomains" => exclude_domains,
    "extraCaCertPaths" => extra_ca_cert_paths,
    "maxTunnels" => max_tunnels,
    "handshakeTimeoutMs" => handshake_timeout_ms,
});

/// The upstream proxy of srt's proxy.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ParentProxyConfig {
    /// URL of the proxy for HTTP.
    pub http: Option<String>,
    /// URL of the proxy for HTTPS.
    pub https: Option<String>,
    /// Hosts that srt connects to directly.
    pub no_proxy: Option<String>,
}

object!(ParentProxyConfig {
    "http" => http,
    "https" => https,
    "noProxy" => no_proxy,
});
