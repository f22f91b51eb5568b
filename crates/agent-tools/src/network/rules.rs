//! The rules for the network of one session, as they are now.

use std::fmt::Display;
use std::str::FromStr;

use egress::{Destinations, ParentProxy};
use policy::{Decision, Host, NetworkConfig, NetworkPolicy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::NetworkError;
use super::event::change_options;
use super::fixed::{self, Exposed, Resolved};
use super::parent::parent_proxy;
use super::spec::NetworkSpec;

/// The rules for the network of one session: its settings, with the lists of its request, and the
/// fixed destinations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NetworkRules {
    pub(crate) settings: NetworkConfig,
    #[serde(serialize_with = "texts", deserialize_with = "from_texts")]
    exposed: Vec<Exposed>,
    #[serde(serialize_with = "texts", deserialize_with = "from_texts")]
    resolved: Vec<Resolved>,
    /// Set if a user is asked about a host that neither list has.
    pub(crate) asks: bool,
}

impl NetworkRules {
    /// Creates the rules from settings that have the lists of the request already.
    pub(crate) fn new(settings: &NetworkConfig, spec: Option<&NetworkSpec>) -> Self {
        let settings = settings.clone();
        match spec {
            None => Self { settings, ..Self::default() },
            Some(spec) => Self {
                settings,
                exposed: spec.exposed.clone(),
                resolved: spec.resolved.clone(),
                asks: spec.ask.is_some(),
            },
        }
    }

    /// Returns the rules with the lists of hosts and addresses of other settings.
    pub(crate) fn with_lists_of(&self, settings: &NetworkConfig) -> Self {
        let mut rules = self.clone();
        rules.settings.take_lists(settings);
        rules
    }

    /// Returns whether the session may reach any host, so that it needs listeners.
    pub(crate) fn opens_network(&self) -> bool {
        self.is_asking() || self.hosts().next().is_some()
    }

    /// Returns whether a user is asked about a host that neither list has.
    pub(crate) fn is_asking(&self) -> bool {
        self.asks && self.settings.strict_allowlist != Some(true)
    }

    /// Returns whether the gate terminates TLS for hosts without a masked variable too.
    pub(crate) fn terminates(&self) -> bool {
        self.settings.tls_terminate.is_some()
    }

    /// Returns the patterns of the hosts that the session may reach. Those of loopback are not
    /// among them: they lead to the session itself.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        let patterns = self.settings.allowed_domains.iter().map(String::as_str);
        patterns.filter(|pattern| !names_loopback(pattern))
    }

    /// Compiles the rules for the gate.
    pub(crate) fn compile(&self) -> Result<NetworkPolicy, NetworkError> {
        // The gate of a session has its parent proxy.
        let mut beyond = NetworkPolicy::beyond(&self.settings).into_iter();
        let beyond = beyond.find(|key| *key != "parentProxy");
        if let (true, Some(key)) = (self.opens_network(), beyond) {
            return Err(NetworkError::Unsupported { key });
        }
        parent_proxy(&self.settings)?;
        let mut settings = self.settings.clone();
        settings.allowed_domains.retain(|pattern| !names_loopback(pattern));
        NetworkPolicy::compile(&settings).map_err(|source| NetworkError::Rules { source })
    }

    /// Returns the parent proxy of the gate.
    pub(crate) fn parent_proxy(&self) -> Result<Option<ParentProxy>, NetworkError> {
        parent_proxy(&self.settings)
    }

    /// Returns a warning about fixed addresses of names that the rules do not allow, because an
    /// address allows no name.
    pub(crate) fn unused_addresses(&self) -> Result<Option<String>, NetworkError> {
        let policy = self.compile()?;
        let change = |address: &Resolved| match policy.decide(address.name(), address.port()) {
            Decision::Unlisted { .. } if self.is_asking() => None,
            Decision::Unlisted { remedy, .. } | Decision::Denied { remedy, .. } => Some(remedy),
            _ => None,
        };
        let found = self.resolved.iter().filter_map(|address| Some((address, change(address)?)));
        let mut unused: Vec<_> = found.collect();
        unused.dedup_by_key(|(address, _)| address.target());
        if unused.is_empty() {
            return Ok(None);
        }
        let changes =
            unused.iter().map(|(address, change)| (change, address.name(), Some(address.port())));
        let remedy = change_options(changes);
        let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
        let names: Vec<String> = unused.iter().map(|(address, _)| address.target()).collect();
        Ok(Some(format!(
            "the policy does not allow {}, so a fixed address has no effect{remedy}",
            names.join(", ")
        )))
    }

    pub(crate) fn destinations(&self) -> Destinations {
        fixed::destinations(&self.exposed, &self.resolved)
    }

    /// Returns the ports that the rules name, for an engine that captures single ports.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let named = |pattern: &str| pattern.rsplit_once(':')?.1.parse().ok();
        let mut ports: Vec<u16> = self.hosts().filter_map(named).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Returns bytes by which two processes compare the rules. Without fixed destinations and
    /// questions, they are those of earlier versions.
    pub(crate) fn identity(&self) -> Vec<Vec<u8>> {
        let mut parts = vec![serde_json::to_vec(&self.settings).unwrap_or_default()];
        if !self.exposed.is_empty() || !self.resolved.is_empty() || self.asks {
            parts.push(serde_json::to_vec(self).unwrap_or_default());
        }
        parts
    }
}

/// Returns whether a pattern is loopback, with or without a port.
pub(crate) fn names_loopback(pattern: &str) -> bool {
    let host = Host::parse_with_port(pattern).map(|(host, _)| host);
    host.or_else(|_| Host::parse(pattern)).is_ok_and(|host| host.is_loopback())
}

fn texts<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

fn from_texts<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &[&str]) -> NetworkRules {
        let mut settings = NetworkConfig::default();
        NetworkSpec::allow(allowed.iter().copied()).add_to_settings(&mut settings);
        NetworkRules::new(&settings, None)
    }

    #[test]
    fn only_hosts_beyond_loopback_open_a_network() {
        assert!(!rules(&[]).opens_network());
        let own = rules(&["localhost", "localhost:80", "127.0.0.1:80", "[::1]", "[::1]:80"]);
        assert!(!own.opens_network());
        let decision = own.compile().unwrap().check_resolved("127.0.0.1".parse().unwrap(), 80);
        assert!(decision.is_err(), "an entry of loopback opens no name that leads there");
        let some = rules(&["a.test:443", "*.b.test", "[fd00::1]:22", "127.0.0.1"]);
        assert!(some.opens_network());
        assert_eq!(some.ports(), [22, 443]);
        let mut asking = NetworkRules { asks: true, ..rules(&[]) };
        assert!(asking.opens_network());
        asking.settings.http_proxy_port = Some(8080);
        let error = asking.compile().unwrap_err();
        assert!(error.to_string().starts_with("network.httpProxyPort is set"), "{error}");
        asking.settings.strict_allowlist = Some(true);
        assert!(!asking.opens_network() && asking.compile().is_ok());
    }

    #[test]
    fn a_fixed_address_of_a_name_that_is_not_allowed_is_reported_once() {
        let spec = NetworkSpec::allow(["a.test:80", "*.b.test", "denied.b.test"])
            .deny(["denied.b.test"])
            .resolve("a.test:80:127.0.0.1".parse().unwrap())
            .resolve("x.b.test:443:127.0.0.1".parse().unwrap());
        let warning = |spec: &NetworkSpec, asks| {
            let mut settings = NetworkConfig::default();
            spec.add_to_settings(&mut settings);
            NetworkRules { asks, ..NetworkRules::new(&settings, Some(spec)) }.unused_addresses()
        };
        assert_eq!(warning(&spec, false).unwrap(), None);
        let spec = [
            "a.test:81:127.0.0.1",
            "a.test:81:127.0.0.2",
            "denied.b.test:80:[::1]",
            "c.test:80:[::1]",
        ]
        .iter()
        .fold(spec, |spec, address| spec.resolve(address.parse().unwrap()));
        let expected = "the policy does not allow a.test:81, denied.b.test:80, c.test:80, so a \
                        fixed address has no effect; use --allow-host a.test:81 --allow-host \
                        c.test:80 (network.allowedDomains in settings); leave out --deny-host \
                        denied.b.test, or remove the entry from network.deniedDomains in settings";
        assert_eq!(warning(&spec, false).unwrap().as_deref(), Some(expected));
        let asked = warning(&spec, true).unwrap().unwrap();
        assert!(asked.starts_with("the policy does not allow denied.b.test:80, so"), "{asked}");
        assert!(asked.contains("; leave out --deny-host denied.b.test, or remove"), "{asked}");
        let exposed = NetworkSpec::new().resolve("db.host.internal:80:[::1]".parse().unwrap());
        let exposed = warning(&exposed, false).unwrap().unwrap();
        assert!(exposed.ends_with("; use --expose db=HOST:80"), "{exposed}");
    }

    #[test]
    fn rules_reach_another_process_unchanged() {
        let spec = NetworkSpec::allow(["a.test"])
            .expose("db=localhost:5432".parse().unwrap())
            .resolve("a.test:80:[::1]:8080".parse().unwrap());
        let mut settings = NetworkConfig::default();
        spec.add_to_settings(&mut settings);
        let rules = NetworkRules::new(&settings, Some(&spec));
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<NetworkRules>(&text).unwrap(), rules);
        assert_eq!(settings.allowed_domains, ["a.test", "db.host.internal:5432"]);
    }
}
