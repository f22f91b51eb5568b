//! Reasons of refused and failed connections, as data and as text.

use std::fmt;
use std::io;
use std::net::IpAddr;

use policy::{AddressClass, Decision, Host, NetworkConfig, NetworkPolicy, Remedy, Rule};

use crate::relay::HTTP_PORT;

/// Reason of a refused connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The policy denies the host.
    #[non_exhaustive]
    Rule {
        /// The deciding rule.
        rule: Rule,
        /// The text of `deniedDomainReasons` for it.
        reason: Option<String>,
        /// The change of the settings that would allow the connection.
        remedy: Remedy,
    },
    /// The user was asked, and denied it.
    Answer,
    /// The destination is the loopback interface, which each session has for itself.
    OwnLoopback,
    /// The name leads to a refused address.
    #[non_exhaustive]
    Address {
        /// The address.
        address: IpAddr,
        /// Its class.
        class: AddressClass,
    },
    /// The name leads to an address of the host's own interfaces.
    #[non_exhaustive]
    OwnAddress {
        /// The address.
        address: IpAddr,
    },
    /// The connection or request names another host than its destination.
    #[non_exhaustive]
    OtherHost {
        /// The name in the TLS hello or in the header `Host`, in ASCII without control characters.
        named: String,
    },
    /// The connection begins like TLS, and its hello cannot be read.
    UnreadableHello,
    /// The connection is one of HTTP, and its request cannot be read. On port 80, everything but
    /// TLS counts as HTTP.
    #[non_exhaustive]
    UnreadableRequest {
        /// The part that cannot be read.
        problem: String,
        /// The port of the connection.
        port: u16,
        /// True inside TLS that the gate terminates.
        is_terminated: bool,
    },
    /// The head of a request exceeds a limit.
    #[non_exhaustive]
    LargeHead {
        /// The limit.
        max: usize,
        /// The unit of the limit: `bytes` or `headers`.
        unit: &'static str,
    },
    /// The client began the head of a request, and did not finish it.
    #[non_exhaustive]
    UnfinishedHead {
        /// True if the client has closed the connection, and false if it was late.
        is_closed: bool,
    },
    /// The client of a connection to port 80 has sent nothing, and the port is for HTTP and TLS.
    NoRequest,
    /// The first message of the client has no end, so its protocol is unknown.
    UnfinishedMessage,
    /// The gate must read the connections to the host, and this one is neither TLS nor HTTP.
    Termination,
    /// The gate must read the connections to the host, and the TLS hello has no server name.
    NoServerName,
    /// The gate must read the connections to the host, and the TLS hello offers no HTTP.
    #[non_exhaustive]
    OtherProtocols {
        /// The names of the offered protocols (ALPN).
        offered: String,
    },
    /// `network.refuseOpaqueTunnels` is set, and the gate could not read this connection.
    OpaqueTunnel,
    /// The session terminates the connections that `network.tlsTerminate.maxTunnels` allows.
    #[non_exhaustive]
    TooManyTunnels {
        /// The setting.
        max: u32,
    },
    /// The connection has the placeholder of a secret that another host receives.
    #[non_exhaustive]
    Misdirected {
        /// The name of the secret.
        name: String,
    },
    /// The connection has the placeholder of a secret that another port of the host receives.
    #[non_exhaustive]
    OtherPort {
        /// The name of the secret.
        name: String,
        /// The hosts of its mask.
        hosts: String,
    },
    /// The request does not name its host once.
    #[non_exhaustive]
    HostHeader {
        /// The problem with the header `Host`.
        problem: &'static str,
    },
    /// The request has a signature that cannot be made anew with the real key.
    #[non_exhaustive]
    Signature {
        /// The kind of signature, or the problem with it.
        problem: &'static str,
    },
    /// The value of a secret has a character that its place in the request cannot have.
    #[non_exhaustive]
    UnfitValue {
        /// The name of the part of the request.
        part: String,
    },
    /// The address stands for a name, and no name of the session has it.
    UnknownAddress,
    /// The session has asked for more names than its limit.
    TooManyNames,
}

impl Denial {
    /// Returns the refusal of a decision, or the rule that allows the connection.
    pub(crate) fn of(decision: Decision) -> Result<(Rule, policy::Tls), Self> {
        match decision {
            Decision::Allowed { rule, tls, .. } => Ok((rule, tls)),
            Decision::Denied { rule, reason, remedy, .. } => {
                Err(Self::Rule { rule, reason, remedy })
            }
            // The user had no answer, or could not be asked.
            other => {
                let verdict = other.into_verdict();
                let remedy = verdict.remedy.unwrap_or(Remedy::UseNamespaces);
                Err(Self::Rule { rule: verdict.rule, reason: None, remedy })
            }
        }
    }

    /// Creates the refusal of a name from the session. Its text goes to logs, so control
    /// characters are replaced, and a long text is cut.
    pub(crate) fn other_host(named: &str) -> Self {
        let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        Self::OtherHost { named: named.chars().take(255).map(clean).collect() }
    }

    /// Returns the change of the settings that would allow the connection, if there is one.
    pub fn change(&self) -> Option<Remedy> {
        match self {
            Self::Rule { remedy, .. } => Some(remedy.clone()),
            Self::Address { address, .. } | Self::OwnAddress { address } => {
                Some(Remedy::AllowDomain(Host::from(*address).to_pattern(None)))
            }
            _ => None,
        }
    }

    /// Returns advice on how the connection could be made, if there is any.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Rule { remedy: Remedy::AllowDomain(entry), .. } if is_of_host(entry) => {
                is_label(entry).then(|| format!("expose a server of the host as {entry}"))
            }
            // Settings have no entry for some names, such as those without a dot.
            Self::Rule { remedy: Remedy::AllowDomain(entry), .. } if !is_entry(entry) => None,
            Self::Rule { remedy, .. } => Some(remedy.to_string()),
            Self::OwnLoopback => Some("connect without a proxy, inside the session".to_owned()),
            Self::Address { .. } | Self::OwnAddress { .. } => {
                self.change().map(|change| change.to_string())
            }
            Self::OtherHost { .. } => Some("connect to that host itself".to_owned()),
            Self::Termination => {
                Some("use HTTP or HTTPS, or give the hosts of masked secrets their port".to_owned())
            }
            Self::NoServerName => Some("send one (SNI)".to_owned()),
            Self::OtherProtocols { .. } => Some(
                "offer http/1.1 or h2, or give the hosts of masked secrets their port".to_owned(),
            ),
            Self::UnreadableHello => {
                Some("use TLS 1.2 or newer, and a valid server name".to_owned())
            }
            Self::OpaqueTunnel => Some("use HTTP, or HTTPS with network.tlsTerminate".to_owned()),
            Self::TooManyTunnels { .. } => {
                Some("use fewer connections at once, or increase the limit".to_owned())
            }
            Self::Misdirected { name } => Some(format!("add the host to the hosts of {name}")),
            Self::OtherPort { .. } => Some("use https on a port of the mask".to_owned()),
            Self::HostHeader { .. } => Some("send one header Host".to_owned()),
            Self::UnknownAddress => Some("resolve the name again".to_owned()),
            Self::UnreadableRequest { is_terminated: true, .. } => {
                Some("send valid HTTP".to_owned())
            }
            Self::UnreadableRequest { port: HTTP_PORT, .. } => {
                Some("send valid HTTP or use TLS; other protocols need another port".to_owned())
            }
            Self::UnreadableRequest { .. } => Some("send valid HTTP, or use TLS".to_owned()),
            Self::LargeHead { .. } => Some("send fewer or shorter headers".to_owned()),
            Self::UnfinishedHead { .. } => {
                Some("send the whole head of the request at once".to_owned())
            }
            Self::NoRequest => {
                Some("use HTTP or TLS; other protocols need another port".to_owned())
            }
            Self::UnfinishedMessage => {
                Some("send a whole line or a whole TLS hello first".to_owned())
            }
            Self::Answer
            | Self::TooManyNames
            | Self::Signature { .. }
            | Self::UnfitValue { .. } => None,
        }
    }
}

/// The domain of servers of the host. Its names have no other addresses than
/// [exposed](crate::Destinations::expose) ones.
const HOST_DOMAIN: &str = "host.internal";

/// Returns whether a name belongs to the domain of the host's servers.
pub(crate) fn is_of_host(name: &str) -> bool {
    let below = name.strip_suffix(HOST_DOMAIN);
    below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// Returns whether a name is one label below the domain of the host's servers.
pub(crate) fn is_label(name: &str) -> bool {
    name.split('.').count() == 1 + HOST_DOMAIN.split('.').count()
}

/// Returns whether `network.allowedDomains` accepts an entry.
fn is_entry(entry: &str) -> bool {
    let mut network = NetworkConfig::default();
    network.allowed_domains.push(entry.to_owned());
    NetworkPolicy::compile(&network).is_ok()
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, reason: None, .. } => rule.fmt(f),
            Self::Rule { rule, reason: Some(reason), .. } => write!(f, "{rule}: {reason}"),
            Self::Answer => f.write_str("the user denied it"),
            Self::OwnLoopback => Rule::OwnLoopback.fmt(f),
            Self::Address { address, class } => write!(f, "it leads to {address}, {class}"),
            Self::OwnAddress { address } => {
                write!(f, "it leads to {address}, an address of the host itself")
            }
            Self::OtherHost { named } if named.is_empty() => {
                f.write_str("the connection names an empty host")
            }
            Self::OtherHost { named } => write!(f, "the connection names another host: {named}"),
            Self::UnreadableHello => f.write_str("the TLS hello cannot be read"),
            Self::UnreadableRequest { problem, .. } => {
                write!(f, "the request is not valid HTTP: {problem}")
            }
            Self::LargeHead { max, unit } => {
                write!(f, "the head of the request has more than {max} {unit}")
            }
            Self::UnfinishedHead { is_closed: true } => {
                f.write_str("the client closed before the end of the head of its request")
            }
            Self::UnfinishedHead { is_closed: false } => {
                f.write_str("the client did not finish the head of its request in time")
            }
            Self::NoRequest => {
                f.write_str("port 80 is for HTTP and TLS, and the client has sent nothing")
            }
            Self::UnfinishedMessage => {
                f.write_str("the first message of the client has no end, so it cannot be judged")
            }
            Self::Termination => {
                f.write_str("the host needs readable requests, and this is neither TLS nor HTTP")
            }
            Self::NoServerName => f.write_str(
                "the host needs readable requests, and the TLS hello has no server name",
            ),
            Self::OtherProtocols { offered } => write!(
                f,
                "the host needs readable requests, and the TLS hello offers no HTTP (ALPN: \
                 {offered})"
            ),
            Self::OpaqueTunnel => {
                f.write_str("network.refuseOpaqueTunnels is set, and this connection is unreadable")
            }
            Self::TooManyTunnels { max } => {
                write!(f, "network.tlsTerminate.maxTunnels allows {max} connections at once")
            }
            Self::Misdirected { name } => {
                write!(f, "the placeholder of {name} is for other hosts")
            }
            Self::OtherPort { name, hosts } => {
                write!(f, "the placeholder of {name} is for {hosts}")
            }
            Self::HostHeader { problem } => write!(f, "the request has {problem}"),
            Self::Signature { problem } => {
                write!(f, "the AWS signature cannot be made anew: {problem}")
            }
            Self::UnfitValue { part } => {
                write!(f, "the value of a secret does not fit into {part}")
            }
            Self::UnknownAddress => f.write_str("no name of the session has this address"),
            Self::TooManyNames => f.write_str("the session has asked for too many names"),
        }
    }
}

/// Cause of an allowed connection that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The name does not exist.
    NoSuchName,
    /// The resolver of the host failed.
    #[non_exhaustive]
    Resolver {
        /// The kind of its error.
        kind: io::ErrorKind,
    },
    /// The host cannot be reached.
    #[non_exhaustive]
    Unreachable {
        /// The kind of the error.
        kind: io::ErrorKind,
    },
    /// The host did not answer in time.
    TimedOut,
    /// The host's answer is not HTTP.
    NotHttp,
    /// No TLS connection to the host could be made, or its certificate is not valid.
    #[non_exhaustive]
    Tls {
        /// Description of the problem.
        problem: String,
    },
    /// The parent proxy refused the connection.
    #[non_exhaustive]
    ParentProxy {
        /// The status of its answer, if it was HTTP.
        status: Option<u16>,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("the name does not exist"),
            Self::Resolver { kind } => write!(f, "the name cannot be resolved: {kind}"),
            Self::Unreachable { kind } => write!(f, "the host cannot be reached: {kind}"),
            Self::TimedOut => f.write_str("the host did not answer in time"),
            Self::NotHttp => f.write_str("the host did not answer in HTTP"),
            Self::Tls { problem } => write!(f, "TLS with the host failed: {problem}"),
            Self::ParentProxy { status: Some(status) } => {
                write!(f, "the parent proxy answered {status}")
            }
            Self::ParentProxy { status: None } => f.write_str("the parent proxy failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_host_have_no_remedy_in_lists() {
        let policy = NetworkPolicy::compile(&NetworkConfig::default()).unwrap();
        for (name, remedy) in [
            ("db.host.internal", Some("expose a server of the host as db.host.internal")),
            ("a.db.host.internal", None),
            ("host.internal", None),
            ("myhost.internal", Some("add myhost.internal to network.allowedDomains")),
        ] {
            let denial = Denial::of(policy.decide(&Host::parse(name).unwrap(), 80)).unwrap_err();
            assert_eq!(denial.remedy().as_deref(), remedy, "{name}");
        }
    }
}
