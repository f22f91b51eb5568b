//! Decisions about destinations: one canonical host for CONNECT, SOCKS, TLS, HTTP and DNS.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use policy::{Decision, Host, NetworkPolicy, Rule, Tls};

use crate::ask::Answer;
use crate::denial::{Denial, is_of_host};
use crate::event::Via;
use crate::session::Session;

/// Destination of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) via: Via,
}

/// Content of a connection, as far as the gate can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Requests that the gate reads.
    Http,
    /// TLS that the gate terminates, and requests inside it.
    Terminated,
    /// Bytes that pass through.
    Tunnel,
}

impl Target {
    /// Creates the destination for a host that a session named. An address that stands for a name
    /// is that name.
    pub(crate) fn new(session: &Session, host: Host, port: u16, via: Via) -> Self {
        let named = host.as_address().and_then(|address| session.names().name(address).cloned());
        Self { host: named.unwrap_or(host), port, via }
    }
}

/// Judges a destination before any name is resolved. The result is the allowing rule. An answer of
/// the user counts if no rule names the host.
pub(crate) fn target(
    policy: &NetworkPolicy,
    target: &Target,
    content: Content,
    answer: Option<Answer>,
) -> Result<Rule, Denial> {
    if target.host.is_loopback() {
        return Err(Denial::OwnLoopback);
    }
    if target.host.as_address().is_some_and(crate::names::stands_for_name) {
        return Err(Denial::UnknownAddress);
    }
    let (rule, tls) = match (policy.decide(&target.host, target.port), answer) {
        (Decision::Unlisted { .. }, Some(Answer::Allow)) => {
            (Rule::Answered, policy.treatment(&target.host))
        }
        (Decision::Unlisted { .. }, Some(Answer::Deny)) => return Err(Denial::Answer),
        (decision, _) => Denial::of(decision)?,
    };
    if content == Content::Tunnel && policy.requests().refuses_opaque_tunnels() {
        return Err(Denial::OpaqueTunnel);
    }
    match (tls, content) {
        (Tls::Tunnel, _) | (_, Content::Http | Content::Terminated) => Ok(rule),
        (_, Content::Tunnel) => Err(Denial::Termination),
    }
}

/// Returns whether a user may decide about a destination: no rule names the host, and a connection
/// to it could be made. Names of servers of the host lead only to exposed ones.
pub(crate) fn is_open_question(policy: &NetworkPolicy, target: &Target) -> bool {
    let can_be_dialled = |literal: IpAddr| {
        !crate::names::stands_for_name(literal)
            && address(policy, target, literal, is_own(literal)).is_ok()
    };
    !target.host.is_loopback()
        && !is_of_host(&target.host.to_string())
        && target.host.as_address().is_none_or(can_be_dialled)
        && matches!(policy.decide(&target.host, target.port), Decision::Unlisted { .. })
}

/// Judges an address before a connection to it.
pub(crate) fn address(
    policy: &NetworkPolicy,
    target: &Target,
    address: IpAddr,
    is_own: bool,
) -> Result<(), Denial> {
    let address = address.to_canonical();
    policy
        .check_resolved(address, target.port)
        .map_err(|class| Denial::Address { address, class })?;
    // No pattern covers an address, so this is an entry with the very address.
    let is_listed = || policy.decide(&address.into(), target.port).is_allowed();
    if is_own && !is_listed() {
        return Err(Denial::OwnAddress { address });
    }
    Ok(())
}

/// Returns whether an address belongs to an interface of the host. The kernel answers: a socket
/// that is connected to such an address has the same address itself. UDP sends no packet for that.
pub(crate) fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    own.is_ok_and(|own| own.ip() == address)
}

/// Compares a host in a TLS hello or a request with the destination.
pub(crate) fn same_host(target: &Target, named: &str) -> Result<(), Denial> {
    match Host::parse(named) {
        Ok(host) if host == target.host => Ok(()),
        _ => Err(Denial::other_host(named)),
    }
}

#[cfg(test)]
mod tests {
    use policy::NetworkConfig;

    use super::*;

    fn policy(allowed: &[&str], denied: &[&str]) -> NetworkPolicy {
        let mut network = NetworkConfig::default();
        network.allowed_domains = allowed.iter().map(|entry| (*entry).to_owned()).collect();
        network.denied_domains = denied.iter().map(|entry| (*entry).to_owned()).collect();
        NetworkPolicy::compile(&network).unwrap()
    }

    fn to(host: &str) -> Target {
        Target { host: Host::parse(host).unwrap(), port: 80, via: Via::Proxy }
    }

    #[test]
    fn loopback_belongs_to_the_session_even_if_it_is_listed() {
        let listed = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]:80"];
        let policy = policy(&listed, &[]);
        let own =
            ["localhost", "a.localhost", "0x7f.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"];
        for host in own {
            assert_eq!(target(&policy, &to(host), Content::Http, None), Err(Denial::OwnLoopback));
        }
    }

    #[test]
    fn an_unlisted_host_is_denied_with_the_remedy() {
        let denial = target(&policy(&[], &[]), &to("a.test"), Content::Tunnel, None).unwrap_err();
        assert_eq!(denial.to_string(), "no entry of allowedDomains covers it");
        assert_eq!(denial.remedy().unwrap(), "add a.test to network.allowedDomains");
    }

    #[test]
    fn an_unread_tunnel_is_refused_where_tls_must_be_terminated() {
        let mut network = NetworkConfig::default();
        network.allowed_domains = vec!["a.test".to_owned()];
        network.tls_terminate = Some(policy::TlsTerminateConfig::default());
        let policy = NetworkPolicy::compile(&network).unwrap();
        assert_eq!(target(&policy, &to("a.test"), Content::Tunnel, None), Err(Denial::Termination));
        assert!(target(&policy, &to("a.test"), Content::Http, None).is_ok());
        assert!(target(&policy, &to("a.test"), Content::Terminated, None).is_ok());
    }

    #[test]
    fn addresses_of_the_host_need_an_entry_of_their_own() {
        let own = "10.1.2.3".parse().unwrap();
        let denial = address(&policy(&["a.test"], &[]), &to("a.test"), own, true).unwrap_err();
        assert_eq!(denial, Denial::OwnAddress { address: own });
        let listed = policy(&["a.test", "10.1.2.3"], &[]);
        assert_eq!(address(&listed, &to("a.test"), own, true), Ok(()));
        assert_eq!(address(&policy(&["a.test"], &[]), &to("a.test"), own, false), Ok(()));
    }

    #[test]
    fn the_kernel_knows_the_addresses_of_the_host() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn names_are_compared_in_their_canonical_spelling() {
        assert!(same_host(&to("a.test"), "A.Test.").is_ok());
        let denial = same_host(&to("a.test"), "b.test\r\n").unwrap_err();
        assert_eq!(denial, Denial::OtherHost { named: "b.test??".to_owned() });
    }
}
