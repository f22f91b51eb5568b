//! The request for the network of one session.

use std::sync::Arc;

use egress::Ask;
use policy::{Host, NetworkConfig, PolicyBuilder};

use super::error::NetworkError;
use super::fixed::{Exposed, Resolved, is_below_domain};
use super::preset::{NetworkPreset, PresetError};
use super::rules::NetworkRules;

/// The hosts that a session may connect to, beside those of its settings.
///
/// ```
/// use agent_tools::NetworkSpec;
///
/// let network = NetworkSpec::allow(["api.example:443", "*.files.example"])
///     .deny(["old.files.example"])
///     .expose("db=127.0.0.1:5432".parse()?); // as db.host.internal:5432
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NetworkSpec {
    /// Patterns `HOST[:PORT]` or `*.DOMAIN[:PORT]` that are added to `network.allowedDomains`.
    pub allowed: Vec<String>,
    /// Patterns that are added to `network.deniedDomains`, which takes precedence.
    pub denied: Vec<String>,
    /// Servers that the session reaches under names of their own.
    pub exposed: Vec<Exposed>,
    /// Addresses that stand for names. They allow no name.
    pub resolved: Vec<Resolved>,
    /// The user who decides about a host that neither list has.
    pub ask: Option<Arc<dyn Ask>>,
}

impl NetworkSpec {
    /// Requests no host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows hosts: patterns of `network.allowedDomains`, such as `api.example:443`,
    /// `*.files.example` or `192.0.2.7`. An invalid one is an error when the session opens.
    #[must_use]
    pub fn allow<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> Self {
        Self { allowed: patterns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Denies hosts: patterns of `network.deniedDomains`.
    #[must_use]
    pub fn deny<P: Into<String>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.denied.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Gives the session a server as `NAME.host.internal`. Only this opens servers on the loopback
    /// of the host.
    #[must_use]
    pub fn expose(mut self, server: Exposed) -> Self {
        self.exposed.push(server);
        self
    }

    /// Fixes the address of a name for one port.
    #[must_use]
    pub fn resolve(mut self, address: Resolved) -> Self {
        self.resolved.push(address);
        self
    }

    /// Asks a user about each host that neither list has.
    #[must_use]
    pub fn ask(mut self, ask: Arc<dyn Ask>) -> Self {
        self.ask = Some(ask);
        self
    }

    /// Returns whether a name leads nowhere, because it is below `host.internal` and no server is
    /// exposed under it. Names there have no other addresses than fixed ones.
    pub fn lacks_server(&self, host: &Host) -> bool {
        let is_exposed = |server: &Exposed| Some(server.host().as_str()) == host.as_name();
        is_below_domain(host)
            && !self.exposed.iter().any(is_exposed)
            && !self.resolved.iter().any(|fixed| fixed.is_for(host))
    }

    /// Allows the hosts of a preset, as the tools of this host are configured now.
    ///
    /// # Errors
    /// Returns [`PresetError`] if the tools name no host.
    pub fn preset(mut self, preset: NetworkPreset) -> Result<Self, PresetError> {
        self.allowed.extend(preset.hosts()?);
        Ok(self)
    }

    /// Adds the lists to a policy.
    pub(crate) fn add_to(&self, builder: PolicyBuilder) -> PolicyBuilder {
        let exposed = self.exposed.iter().map(Exposed::pattern);
        let builder = self.allowed.iter().fold(builder, |builder, host| builder.allow_host(host));
        let builder = exposed.fold(builder, |builder, host| builder.allow_host(&host));
        self.denied.iter().fold(builder, |builder, host| builder.deny_host(host))
    }

    /// Checks the rules that settings and this request make together. The settings have the lists
    /// of the request already ([`NetworkSpec::add_to_settings`]).
    ///
    /// The result is a warning about [fixed addresses](Self::resolved) of names that the rules do
    /// not allow. The warnings of a session include it.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the rules are invalid, or if no gate enforces one of them.
    pub fn check(&self, settings: &NetworkConfig) -> Result<Option<String>, NetworkError> {
        NetworkRules::new(settings, Some(self)).unused_addresses()
    }

    /// Adds the lists to settings.
    pub fn add_to_settings(&self, settings: &mut NetworkConfig) {
        settings.allowed_domains.extend(self.allowed.iter().cloned());
        settings.allowed_domains.extend(self.exposed.iter().map(Exposed::pattern));
        settings.denied_domains.extend(self.denied.iter().cloned());
    }
}
