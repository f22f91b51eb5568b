//! The record of one connection.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use egress::{Denial, Failure, IntactReason, Outcome, Via};
use policy::{Host, NetworkConfig, NetworkPolicy, Remedy};
use secrets::RequestPart;
use serde::{Deserialize, Serialize};

use super::fixed::{DOMAIN, Exposed, is_below_domain};
use crate::host_lists::{HostChange, use_options};
use crate::remedies::remedy_option;
use crate::times;

/// The record of a connection of a session, or of a refused question for a name. It has no paths,
/// queries, headers or contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NetworkEvent {
    /// The time of the record, in milliseconds since 1970.
    #[serde(rename = "atMs", with = "times::milliseconds_since_1970")]
    pub at: SystemTime,
    /// The result.
    pub outcome: ConnectionOutcome,
    /// The host, as a name in lower case or an address.
    pub host: String,
    /// The port; `None` for a name that was never connected to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// The way into the gate: `proxy`, `socks`, `transparent` or `dns`.
    pub via: String,
    /// The deciding rule, or the cause of a failure.
    pub rule: String,
    /// The change that would allow the connection, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Bytes from the session.
    pub sent: u64,
    /// Bytes to the session.
    pub received: u64,
    /// The duration of the connection, in milliseconds.
    #[serde(rename = "tookMs", with = "times::milliseconds")]
    pub took: Duration,
}

/// The result of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ConnectionOutcome {
    /// It was allowed, and is closed.
    Allowed,
    /// It was refused, or cut when the rules changed.
    Denied,
    /// It was allowed, and could not be made.
    Failed,
    /// A request got the value of a masked variable, which `rule` names.
    Masked,
    /// A request to its own host went out with the placeholder of a masked variable, which `rule`
    /// names.
    Intact,
}

impl NetworkEvent {
    /// Returns the destination with its port, as in a URL.
    pub fn target(&self) -> String {
        match self.port {
            Some(port) if self.host.contains(':') => format!("[{}]:{port}", self.host),
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl From<&egress::NetworkEvent> for NetworkEvent {
    fn from(event: &egress::NetworkEvent) -> Self {
        let (outcome, rule, remedy) = match &event.outcome {
            Outcome::Allowed(rule) => (ConnectionOutcome::Allowed, rule.to_string(), None),
            Outcome::Denied(denial) => (
                ConnectionOutcome::Denied,
                denial.to_string(),
                remedy(denial, &event.host, event.port),
            ),
            Outcome::Failed(cause) => {
                (ConnectionOutcome::Failed, cause.to_string(), failure_remedy(cause))
            }
            Outcome::Masked { name, .. } => {
                (ConnectionOutcome::Masked, format!("the value of {name} was inserted"), None)
            }
            Outcome::Intact { name, reason, .. } => (
                ConnectionOutcome::Intact,
                format!("the placeholder of {name} went out as it is, because {reason}"),
                kept_remedy(*reason),
            ),
            _ => (ConnectionOutcome::Failed, "unknown".to_owned(), None),
        };
        let via = match event.via {
            Via::Proxy => "proxy",
            Via::Socks => "socks",
            Via::Transparent => "transparent",
            _ => "dns",
        };
        Self {
            at: event.at,
            outcome,
            host: event.host.to_string(),
            port: event.port,
            via: via.to_owned(),
            rule: match event.through_parent {
                true => format!("{rule}, through the parent proxy, which resolved the name"),
                false => rule,
            },
            remedy,
            sent: event.sent,
            received: event.received,
            took: event.took,
        }
    }
}

/// Returns the option that would allow a refused connection, or other advice.
fn remedy(denial: &Denial, host: &Host, port: Option<u16>) -> Option<String> {
    if let Denial::Misdirected { name, .. } = denial {
        return Some(format!(
            "add {host} to the hosts of {name} (variable set --host), if it may have the value"
        ));
    }
    match denial.change() {
        Some(change) => change_option(&change, host, port),
        None => denial.remedy(),
    }
}

/// Returns advice about an allowed connection that the gate could not make.
fn failure_remedy(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Tls { problem, .. } if problem.contains("UnknownIssuer") => Some(
            "start agent-tools with SSL_CERT_FILE, a file with the authorities to trust".into(),
        ),
        _ => None,
    }
}

/// Returns the way to a request with the value, in which a placeholder stayed.
fn kept_remedy(reason: IntactReason) -> Option<String> {
    let text = match reason {
        IntactReason::Plaintext => "use https, or set the variable with --allow-plaintext",
        IntactReason::Path => "use a header or the query",
        IntactReason::Encoded => {
            "write the variable as it is, or use the scheme Basic in the header Authorization"
        }
        IntactReason::Part(RequestPart::Body) => {
            "set the variable with --in headers,query,body (an encoded or signed body stays)"
        }
        _ => "set the variable with --in headers,query",
    };
    Some(text.to_owned())
}

/// Returns the option for a change of the settings that would allow connections to a host.
pub(crate) fn host_remedy(change: &Remedy, host: &str) -> Option<String> {
    change_option(change, &Host::parse(host).ok()?, None)
}

/// Returns the option for a change of the settings that is about a host.
fn change_option(change: &Remedy, host: &Host, port: Option<u16>) -> Option<String> {
    change_options([(change, host, port)])
}

/// Returns the options for changes of the settings that are about hosts.
pub(super) fn change_options<'c>(
    changes: impl IntoIterator<Item = (&'c Remedy, &'c Host, Option<u16>)>,
) -> Option<String> {
    let (mut opening, mut others) = (Vec::new(), Vec::new());
    for (change, host, port) in changes {
        match change {
            Remedy::AllowDomain(allowed) => opening.extend(smallest_change(allowed, host, port)),
            change => others.extend(remedy_option(change, |_| true)),
        }
    }
    others.dedup();
    let texts: Vec<String> = advice(&opening).into_iter().chain(others).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Returns the change for the smallest pattern that allows a connection.
fn smallest_change(allowed: &str, host: &Host, port: Option<u16>) -> Option<HostChange> {
    let (allowed, own_port) = Host::parse_with_port(allowed).ok()?;
    let port = own_port.or(port.filter(|_| allowed == *host));
    domain_change(&allowed.to_pattern(port))
}

/// Returns advice to make the [change](domain_change) for an entry.
pub(crate) fn domain_option(entry: &str) -> Option<String> {
    advice(&[domain_change(entry)?])
}

fn advice(changes: &[HostChange]) -> Option<String> {
    let allows = changes.iter().any(|change| matches!(change, HostChange::Allow(_)));
    let settings = if allows { " (network.allowedDomains in settings)" } else { "" };
    (!changes.is_empty()).then(|| format!("{}{settings}", use_options(changes)))
}

/// Returns the change that allows connections to an entry of `network.allowedDomains`, or another
/// way where no entry does.
pub(crate) fn domain_change(entry: &str) -> Option<HostChange> {
    let option = |text: &str| Some(HostChange::Option(text.to_owned()));
    if let Ok((host, port)) = Host::parse_with_port(entry) {
        if host.is_loopback() {
            return option("--expose NAME=HOST:PORT for a server on the host's loopback");
        }
        if is_below_domain(&host) {
            let name = host.as_name().and_then(exposed_name)?;
            let port = port.map_or_else(|| "PORT".to_owned(), |port| port.to_string());
            return option(&format!("--expose {name}=HOST:{port}"));
        }
        // Addresses of metadata services and the like are open to no name, and need a deliberate
        // entry. Those that stand for names lead nowhere by themselves.
        let is_closed = |address| stands_for_name(address) || is_refused(address);
        if host.as_address().is_some_and(is_closed) {
            return None;
        }
        if !is_pattern(entry) {
            // The grammar of the settings has no names of one label.
            return option("--expose NAME=HOST:PORT for a host whose name has no dot");
        }
    }
    Some(HostChange::Allow(entry.to_owned()))
}

/// Returns the name that gives a session a server of the host under this name, if one can.
fn exposed_name(name: &str) -> Option<&str> {
    let name = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    format!("{name}=localhost:1").parse::<Exposed>().is_ok().then_some(name)
}

/// Returns whether the gate uses an address for the name of a host (RFC 2544).
fn stands_for_name(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 198 && v4.octets()[1] & 0xfe == 18)
}

/// Returns whether an address belongs to a class to which no name may lead.
fn is_refused(address: IpAddr) -> bool {
    let none = NetworkPolicy::compile(&NetworkConfig::default());
    none.is_ok_and(|none| none.check_resolved(address, 0).is_err())
}

/// Returns whether `network.allowedDomains` accepts a pattern.
fn is_pattern(pattern: &str) -> bool {
    let mut settings = NetworkConfig::default();
    settings.allowed_domains.push(pattern.to_owned());
    NetworkPolicy::compile(&settings).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: Remedy, host: &str, port: Option<u16>, expected: &str) {
        let host = Host::parse(host).unwrap();
        assert_eq!(change_option(&change, &host, port).as_deref(), Some(expected));
    }

    #[test]
    fn a_remedy_is_the_smallest_option_that_works() {
        let allow = |host: &str| Remedy::AllowDomain(host.to_owned());
        let settings = "(network.allowedDomains in settings)";
        check(
            allow("a.test"),
            "a.test",
            Some(443),
            &format!("use --allow-host a.test:443 {settings}"),
        );
        check(allow("a.test"), "a.test", None, &format!("use --allow-host a.test {settings}"));
        check(
            allow("fd00::1"),
            "a.test",
            Some(443),
            &format!("use --allow-host '[fd00::1]' {settings}"),
        );
        for closed in ["169.254.169.254", "198.18.0.5"] {
            let host = Host::parse(closed).unwrap();
            assert_eq!(change_option(&allow(closed), &host, Some(80)), None);
        }
        // An entry of an explanation has its port.
        let option = |entry: &str| remedy_option(&allow(entry), |_| true).unwrap();
        assert_eq!(option("[fd00::1]:80"), format!("use --allow-host '[fd00::1]:80' {settings}"));
        assert_eq!(option("db.host.internal:81"), "use --expose db=HOST:81");
        assert!(option("relfile").contains("--expose NAME=HOST:PORT for a host whose name has no"));
        // No server can have these names.
        for name in ["host.internal", "a.db.host.internal", "a_b.host.internal"] {
            assert_eq!(domain_option(name), None, "{name}");
        }
        let exposed = "db.host.internal";
        check(allow(exposed), exposed, Some(81), "use --expose db=HOST:81");
        check(
            allow("127.0.0.1"),
            "a.test",
            Some(80),
            "use --expose NAME=HOST:PORT for a server on the host's loopback",
        );
        check(
            allow("intranet"),
            "intranet",
            Some(80),
            "use --expose NAME=HOST:PORT for a host whose name has no dot",
        );
    }
}
