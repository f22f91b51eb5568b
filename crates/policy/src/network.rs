//! Decisions about connections, from the section `network` of the settings.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::address::{self, AddressClass, Block};
use crate::config::{NetworkConfig, SandboxRuntimeConfig};
use crate::domain;
use crate::explain::Verdict;
use crate::host::Host;
use crate::host_list::HostList;
use crate::policy::Policy;
use crate::reason::Rule;
use crate::remedy::Remedy;
use crate::request_rules::RequestRules;
use crate::validate::ValidationError;

/// Names of the two lists.
const ALLOWED: &str = "allowedDomains";
const DENIED: &str = "deniedDomains";

/// The rules for connections of one session, ready for fast decisions.
///
/// ```
/// use policy::{Decision, Host, NetworkConfig, NetworkPolicy};
///
/// let mut network = NetworkConfig::default();
/// network.allowed_domains = vec!["*.example.com:443".to_owned(), "127.0.0.1".to_owned()];
/// let rules = NetworkPolicy::compile(&network)?;
/// assert!(rules.decide(&Host::parse("API.example.com.")?, 443).is_allowed());
/// assert!(rules.decide(&Host::parse("0x7f.1")?, 8080).is_allowed());
/// assert!(matches!(
///     rules.decide(&Host::parse("example.com")?, 443),
///     Decision::Unlisted { .. }
/// ));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPolicy {
    allowed: HostList,
    denied: HostList,
    reasons: BTreeMap<String, String>,
    is_strict: bool,
    /// The hosts that stay encrypted, if the proxy terminates TLS for the others.
    excluded: Option<HostList>,
    denied_addresses: Vec<(String, Block)>,
    requests: RequestRules,
}

/// A decision about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The connection is allowed.
    #[non_exhaustive]
    Allowed {
        /// The entry of `allowedDomains`.
        rule: Rule,
        /// Treatment of TLS in the connection.
        tls: Tls,
    },
    /// The connection is denied.
    #[non_exhaustive]
    Denied {
        /// The deciding rule.
        rule: Rule,
        /// The text of `deniedDomainReasons` for the deciding entry.
        reason: Option<String>,
        /// The change of the settings that would allow the connection.
        remedy: Remedy,
    },
    /// Neither list has the host. The caller may ask its user, and else denies the connection.
    #[non_exhaustive]
    Unlisted {
        /// The change of the settings that would allow the connection.
        remedy: Remedy,
    },
}

/// Treatment of TLS in an allowed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// The connection passes through unread.
    Tunnel,
    /// The proxy terminates TLS, and reads the requests (`network.tlsTerminate`).
    Terminate,
}

impl Decision {
    /// Returns whether the connection is allowed without a question.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Returns the verdict if no user is asked: a host in neither list is denied.
    pub fn into_verdict(self) -> Verdict {
        match self {
            Self::Allowed { rule, .. } => Verdict::allowed(rule),
            Self::Denied { rule, remedy, .. } => Verdict::denied(rule, Some(remedy)),
            Self::Unlisted { remedy } => Verdict::denied(UNLISTED, Some(remedy)),
        }
    }
}

const UNLISTED: Rule = Rule::Unlisted { list: ALLOWED };

impl NetworkPolicy {
    /// Compiles the rules of the settings.
    ///
    /// # Errors
    /// Returns [`ValidationError`] if srt would reject the settings. Without the feature `idna`, an
    /// entry beyond ASCII is an error too, because it could not be compared.
    pub fn compile(network: &NetworkConfig) -> Result<Self, ValidationError> {
        let (network_only, others) = (network.clone(), SandboxRuntimeConfig::default());
        SandboxRuntimeConfig { network: network_only, ..others }.validate()?;
        Self::compile_valid(network)
    }

    /// Compiles valid settings.
    pub(crate) fn compile_valid(network: &NetworkConfig) -> Result<Self, ValidationError> {
        let tls = network.tls_terminate.as_ref();
        let excluded = tls.map(|tls| tls.exclude_domains.as_deref().unwrap_or_default());
        let excluded = excluded
            .map(|list| HostList::new("network.tlsTerminate.excludeDomains", list))
            .transpose()?;
        let addresses = network.denied_resolved_addresses.iter().flatten();
        Ok(Self {
            allowed: HostList::new("network.allowedDomains", &network.allowed_domains)?,
            denied: HostList::new("network.deniedDomains", &network.denied_domains)?,
            reasons: network.denied_domain_reasons.clone().unwrap_or_default(),
            is_strict: network.strict_allowlist == Some(true),
            excluded,
            denied_addresses: addresses
                .filter_map(|entry| {
                    let (address, bits) = domain::address_block(entry)?;
                    Some((entry.clone(), Block::new(address, bits)))
                })
                .collect(),
            requests: RequestRules::new(network),
        })
    }

    /// Returns the rules that are not about hosts.
    pub fn requests(&self) -> &RequestRules {
        &self.requests
    }

    /// Decides about a connection. It resolves no names, and does no I/O.
    ///
    /// `deniedDomains` takes precedence over `allowedDomains`. A pattern such as `*.example.com`
    /// covers the names below `example.com`, and never an address.
    pub fn decide(&self, host: &Host, port: u16) -> Decision {
        self.decide_maybe(host, Some(port))
    }

    /// Returns whether a connection to at least one port of a host is allowed without a question.
    /// It resolves no names: a resolver asks it which names it may look up.
    pub fn reaches(&self, host: &Host) -> bool {
        let is_allowed = |port: Option<u16>| self.denied.covering(host, port).is_none();
        self.allowed.all_covering(host).any(is_allowed)
    }

    /// Returns the names of set keys that deny, redirect or read connections beyond these rules. A
    /// gate that allows any host must enforce them itself, or refuse the settings.
    pub fn beyond(network: &NetworkConfig) -> Vec<&'static str> {
        let tls = network.tls_terminate.as_ref();
        [
            ("httpProxyPort", network.http_proxy_port.is_some()),
            ("socksProxyPort", network.socks_proxy_port.is_some()),
            ("mitmProxy", network.mitm_proxy.is_some()),
            ("parentProxy", network.parent_proxy.is_some()),
            ("tlsTerminate.caCertPath", tls.is_some_and(|tls| tls.ca_cert_path.is_some())),
            (
                "tlsTerminate.extraCaCertPaths",
                tls.is_some_and(|tls| tls.extra_ca_cert_paths.is_some()),
            ),
        ]
        .into_iter()
        .filter_map(|(key, is_set)| is_set.then_some(key))
        .collect()
    }

    /// Returns the treatment of TLS in a connection to a host, if the connection is allowed.
    pub fn treatment(&self, host: &Host) -> Tls {
        match &self.excluded {
            Some(excluded) if excluded.covering(host, None).is_none() => Tls::Terminate,
            _ => Tls::Tunnel,
        }
    }

    /// Returns whether `network.tlsTerminate.excludeDomains` keeps the TLS of a host unread.
    pub fn keeps_tls(&self, host: &Host) -> bool {
        self.excluded.as_ref().is_some_and(|excluded| excluded.covering(host, None).is_some())
    }

    /// Decides about a connection to a port that may be unknown.
    pub(crate) fn decide_maybe(&self, host: &Host, port: Option<u16>) -> Decision {
        if let Some(entry) = self.denied.covering(host, port) {
            return Decision::Denied {
                rule: listed(DENIED, entry),
                reason: self.reasons.get(entry).cloned(),
                remedy: Remedy::RemoveDeniedDomain(entry.to_owned()),
            };
        }
        if let Some(entry) = self.allowed.covering(host, port) {
            return Decision::Allowed { rule: listed(ALLOWED, entry), tls: self.treatment(host) };
        }
        let remedy = Remedy::AllowDomain(host.to_pattern(None));
        match self.is_strict {
            true => Decision::Denied { rule: UNLISTED, reason: None, remedy },
            false => Decision::Unlisted { remedy },
        }
    }

    /// Judges an address that an allowed name resolved to, before a connection to it. Who controls
    /// a name also controls its addresses.
    ///
    /// An address that `deniedDomains` has is refused. An entry of `allowedDomains` with this very
    /// address opens it. Otherwise loopback, link-local, multicast and metadata addresses are
    /// refused, and those of `deniedResolvedAddresses`. Refusals concern an IPv4 address inside an
    /// IPv6 one too. The caller refuses the addresses of its own interfaces.
    ///
    /// # Errors
    /// Returns the class of a refused address.
    pub fn check_resolved(&self, address: IpAddr, port: u16) -> Result<(), AddressClass> {
        let address = address.to_canonical();
        let judged: Vec<IpAddr> =
            std::iter::once(address).chain(address::embedded_ipv4(address)).collect();
        let listed = |entry: &str| Err(AddressClass::Listed { entry: entry.to_owned() });
        for &judged in &judged {
            if let Some(entry) = self.denied.literal(&judged.into(), port) {
                return listed(entry);
            }
        }
        if self.allowed.literal(&address.into(), port).is_some() {
            return Ok(());
        }
        for &judged in &judged {
            if let Some(class) = address::class(judged) {
                return Err(class);
            }
            let mut blocks = self.denied_addresses.iter();
            if let Some((entry, _)) = blocks.find(|(_, block)| block.contains(judged)) {
                return listed(entry);
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Returns the rules for connections.
    pub fn network(&self) -> &NetworkPolicy {
        &self.network
    }

    /// Decides about a connection, like [`NetworkPolicy::decide`].
    pub fn decide(&self, host: &Host, port: u16) -> Decision {
        self.network.decide(host, port)
    }

    /// Explains the decision about a connection to `host`, a name or an address in any spelling. It
    /// resolves no names. If `port` is `None`, entries with a port do not cover the connection.
    ///
    /// A host in neither list is denied. A text that is no host is denied too. The remedy opens no
    /// other port. A name that settings do not accept, such as `intranet`, has no remedy.
    pub fn explain_host(&self, host: &str, port: Option<u16>) -> Verdict {
        let Ok(host) = Host::parse(host) else { return Verdict::denied(Rule::NotAHost, None) };
        let mut verdict = self.network.decide_maybe(&host, port).into_verdict();
        if let Some(Remedy::AllowDomain(_)) = verdict.remedy {
            let pattern = Some(host.to_pattern(port));
            let pattern = pattern.filter(|one| domain::is_accepted(one, domain::List::Allowed));
            verdict.remedy = pattern.map(Remedy::AllowDomain);
        }
        verdict
    }
}

fn listed(list: &'static str, entry: &str) -> Rule {
    Rule::Listed { list, entry: entry.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(change: impl FnOnce(&mut NetworkConfig)) -> NetworkPolicy {
        let mut network = NetworkConfig::default();
        change(&mut network);
        NetworkPolicy::compile(&network).unwrap()
    }

    #[track_caller]
    fn check(entry: &str, host: &str, port: Option<u16>, expected: bool) {
        let host = Host::parse(host).unwrap();
        let denied = compile(|network| network.denied_domains = vec![entry.to_owned()]);
        let is_denied = matches!(denied.decide_maybe(&host, port), Decision::Denied { .. });
        assert_eq!(is_denied, expected, "{entry} {host} {port:?}");
        if !entry.starts_with("*:") && entry != "*" {
            let allowed = compile(|network| network.allowed_domains = vec![entry.to_owned()]);
            let is_allowed = allowed.decide_maybe(&host, port).is_allowed();
            assert_eq!(is_allowed, expected, "{entry} {host} {port:?}");
        }
    }

    #[test]
    fn entries_cover_hosts_by_whole_labels_and_ports() {
        for (entry, host, port, expected) in [
            ("github.com", "GitHub.com.", Some(443), true),
            ("github.com", "api.github.com", None, false),
            ("*.github.com", "api.github.com", None, true),
            ("*.github.com", "a.b.github.com", None, true),
            ("*.github.com", "github.com", None, false),
            ("*.github.com", "malicious-github.com", None, false),
            ("x.com:443", "x.com", Some(443), true),
            ("x.com:443", "x.com", Some(80), false),
            ("x.com:443", "x.com", None, false),
            ("*", "anything.at.all", Some(1), true),
            ("*", "10.0.0.1", Some(1), true),
            ("*:22", "x.com", Some(22), true),
            ("*:22", "x.com", Some(23), false),
            ("[::1]:443", "::1", Some(443), true),
            ("[::1]", "::1", None, true),
            ("[a.com]:443", "a.com", Some(443), true),
        ] {
            check(entry, host, port, expected);
        }
    }

    #[test]
    fn a_host_is_reached_if_one_of_its_ports_is_allowed() {
        let reaches = |allowed: &[&str], denied: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
            let rules = compile(|network| {
                network.allowed_domains = owned(allowed);
                network.denied_domains = owned(denied);
            });
            rules.reaches(&Host::parse("a.x.com").unwrap())
        };
        assert!(reaches(&["*.x.com:443"], &[]));
        assert!(reaches(&["a.x.com:443", "a.x.com:80"], &["*:443"]));
        assert!(reaches(&["a.x.com"], &["*:443"]));
        assert!(!reaches(&["a.x.com:443"], &["*:443"]));
        assert!(!reaches(&["a.x.com"], &["*.x.com"]));
        assert!(!reaches(&["x.com"], &[]));
    }

    #[test]
    fn an_entry_covers_each_spelling_of_an_address() {
        for entry in ["127.0.0.1", "127.0.1", "0x7f.1", "[127.1]", "[::ffff:127.0.0.1]"] {
            check(entry, "127.0.0.1", None, true);
        }
        for host in ["127.1", "0x7f.1", "2130706433", "[::ffff:7f00:1]", "127.0.0.1."] {
            check("127.0.0.1", host, None, true);
            check("*.0.1", host, None, false);
        }
        check("[0:0:0:0:0:0:0:1]", "::1", None, true);
        check("[fe80::1%eth0]", "fe80::1%eth1", None, true);
        check("*.0.1", "10.0.0.1", None, false);
    }

    #[cfg(feature = "idna")]
    #[test]
    fn an_entry_covers_a_name_in_unicode_and_in_ascii() {
        for entry in ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"] {
            check(entry, "bücher.example", None, true);
            check(entry, "XN--BCHER-KVA.example.", None, true);
        }
        check("*.bücher.example", "a.xn--bcher-kva.example", None, true);
    }

    #[test]
    fn the_denied_list_decides_first_and_gives_its_reason() {
        let rules = compile(|network| {
            network.allowed_domains = vec!["*.a.com".to_owned()];
            network.denied_domains = vec!["x.a.com".to_owned()];
            network.denied_domain_reasons = Some([("x.a.com".into(), "closed".into())].into());
        });
        let decide = |host: &str| rules.decide(&Host::parse(host).unwrap(), 443);
        let Decision::Denied { rule, reason, .. } = decide("X.a.com") else { panic!() };
        assert_eq!(
            (rule.to_string().as_str(), reason.as_deref()),
            ("deniedDomains has x.a.com", Some("closed"))
        );
        assert!(decide("y.a.com").is_allowed());
        assert!(matches!(decide("b.com"), Decision::Unlisted { .. }));
    }

    #[test]
    fn a_strict_list_denies_and_asks_nobody() {
        let rules = compile(|network| network.strict_allowlist = Some(true));
        let decision = rules.decide(&Host::parse("a.com").unwrap(), 443);
        assert!(matches!(decision, Decision::Denied { rule: Rule::Unlisted { .. }, .. }));
    }

    #[test]
    fn tls_is_ended_except_for_excluded_hosts() {
        let tls = |rules: &NetworkPolicy, host: &str| match rules
            .decide(&Host::parse(host).unwrap(), 443)
        {
            Decision::Allowed { tls, .. } => tls,
            other => panic!("{other:?}"),
        };
        let list = || vec!["a.com".to_owned(), "*.b.com".to_owned()];
        assert_eq!(tls(&compile(|network| network.allowed_domains = list()), "a.com"), Tls::Tunnel);
        let mut network = NetworkConfig::default();
        let terminate = network.tls_terminate.get_or_insert_default();
        terminate.exclude_domains = Some(list());
        assert_eq!(NetworkPolicy::beyond(&network), [""; 0]);
        let terminate = network.tls_terminate.get_or_insert_default();
        terminate.extra_ca_cert_paths = Some(vec!["/ca.pem".to_owned()]);
        assert_eq!(NetworkPolicy::beyond(&network), ["tlsTerminate.extraCaCertPaths"]);
        let rules = compile(|network| {
            network.allowed_domains = list();
            let terminate = network.tls_terminate.get_or_insert_default();
            terminate.exclude_domains = Some(vec!["*.b.com".to_owned()]);
        });
        assert_eq!(tls(&rules, "a.com"), Tls::Terminate);
        assert_eq!(tls(&rules, "x.b.com"), Tls::Tunnel);
    }

    #[test]
    fn a_resolved_address_is_refused_unless_it_is_public_or_allowed_by_itself() {
        let rules = compile(|network| {
            network.allowed_domains =
                vec!["*.a.com".to_owned(), "10.9.9.9:80".to_owned(), "127.0.0.1:5432".to_owned()];
            network.allowed_domains.extend(["[::1]:22".to_owned(), "[64:ff9b::a09:1]".to_owned()]);
            network.denied_domains = vec!["8.8.8.8:53".to_owned(), "10.9.9.9:82".to_owned()];
            network.allowed_domains.push("10.9.9.9:82".to_owned());
            network.denied_resolved_addresses =
                Some(vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()]);
        });
        let check =
            |address: &str, port| rules.check_resolved(address.parse().unwrap(), port).is_ok();
        for (address, port, expected) in [
            ("1.1.1.1", 443, true),
            ("192.168.1.1", 443, true),
            ("10.1.2.3", 443, false),
            ("10.9.9.9", 80, true),
            ("10.9.9.9", 81, false),
            ("127.0.0.1", 5432, true),
            ("127.0.0.1", 5433, false),
            ("::1", 443, false),
            ("169.254.169.254", 80, false),
            ("8.8.8.8", 53, false),
            ("8.8.8.8", 443, true),
            ("2001:db8::1", 443, false),
            ("64:ff9b::a00:1", 443, false),
            ("2002:7f00:1::", 443, false),
            ("64:ff9b::7f00:1", 443, false),
            // An IPv4 address that is open by itself does not open the IPv6 ones around it.
            ("64:ff9b::7f00:1", 5432, false),
            ("64:ff9b::a09:1", 443, true),
            ("2001:0:102:304::f5ff:fffe", 443, false),
            ("2001:0:7f00:1::fefd:fcfb", 443, false),
            ("2001:0:102:304::fefd:fcfb", 443, true),
            ("2606:4700::5efe:127.0.0.1", 443, false),
            ("2606:4700::200:5efe:10.0.0.1", 443, false),
            ("2606:4700::200:5efe:1.2.3.4", 443, true),
            ("::1", 22, true),
            ("10.9.9.9", 82, false),
            ("fd00:a9fe:a9fe::1", 80, false),
            ("fd00:100::100:200", 80, false),
            ("::ffff:169.254.0.1", 443, false),
            ("fd00:ec2::254", 80, false),
            ("2606:4700::1111", 443, true),
        ] {
            assert_eq!(check(address, port), expected, "{address}:{port}");
        }
    }

    #[test]
    fn a_remedy_for_a_host_is_an_entry_that_works() {
        let explain = |allowed: &[&str], denied: &[&str], host: &str, port| {
            let mut config = SandboxRuntimeConfig::default();
            config.network.allowed_domains = allowed.iter().map(|&one| one.to_owned()).collect();
            config.network.denied_domains = denied.iter().map(|&one| one.to_owned()).collect();
            let policy = Policy::from_config(config, std::path::Path::new("/root")).unwrap();
            policy.explain_host(host, port)
        };
        for (host, port, entry) in [
            ("2001:db8::1", Some(443), "[2001:db8::1]:443"),
            ("::2", None, "[::2]"),
            ("A.com", Some(443), "a.com:443"),
            ("a.com", None, "a.com"),
            ("10.0.0.1", Some(1), "10.0.0.1:1"),
        ] {
            let remedy = explain(&[], &[], host, port).remedy;
            assert_eq!(remedy, Some(Remedy::AllowDomain(entry.to_owned())));
            assert!(explain(&[entry], &[], host, port).allowed, "{entry}");
            assert!(port.is_none() || !explain(&[entry], &[], host, Some(2)).allowed, "{entry}");
        }
        let verdict = explain(&[], &[], "intranet", Some(80));
        assert!(!verdict.allowed && verdict.remedy.is_none(), "{verdict:?}");
        let denied = explain(&["b.com"], &["b.com:80"], "b.com", Some(80)).remedy;
        assert_eq!(denied, Some(Remedy::RemoveDeniedDomain("b.com:80".to_owned())));
        let text = denied.unwrap().to_string();
        assert_eq!(text, "remove b.com:80 from network.deniedDomains");
    }
}
