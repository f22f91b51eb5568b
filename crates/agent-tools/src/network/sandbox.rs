//! The network of one open sandbox: its listeners at the gate.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};

use egress::{Ask, EventSink, Gate, GateBuilder, Listeners, Network};
use policy::NetworkConfig;
use sandbox_core::internal::lock;
use sandbox_core::{Capture, NativeSandbox, Overlay};
use secrets::Masks;

use super::denied::RefusalCount;
use super::error::NetworkError;
use super::journal::Journal;
use super::rules::NetworkRules;
use super::spec::NetworkSpec;
use super::trust::{self, GateTrust};
use crate::denials::Denial;
use crate::engine::Engine;

/// Address of the proxy without a scheme, unless a command had taken its port.
const LOOPBACK: &str = "127.0.0.1";

/// The network of an open sandbox that belongs to no session. Dropping it closes all connections.
#[derive(Debug)]
pub struct SandboxNetwork {
    open: OpenNetwork,
    /// The rules that the sandbox was opened with.
    rules: NetworkRules,
    refusals: Arc<Mutex<RefusalCount>>,
    _trust: GateTrust,
}

/// The gate of a sandbox that is not open yet and belongs to no session.
#[derive(Debug)]
pub struct SandboxGate {
    gate: Gate,
    rules: NetworkRules,
    ask: Option<Arc<dyn Ask>>,
    trust: GateTrust,
}

impl SandboxGate {
    /// Creates the gate of a sandbox whose settings or request allow any host; `None` for others.
    /// `settings` have the lists of the request already ([`NetworkSpec::add_to_settings`]).
    ///
    /// The certificates of the gate are in a new directory below `directory`.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the gate cannot be created, or if the files cannot be written.
    pub fn new(
        settings: &NetworkConfig,
        spec: &NetworkSpec,
        directory: &Path,
    ) -> Result<Option<Self>, NetworkError> {
        if !NetworkRules::new(settings, Some(spec)).opens_network() {
            return Ok(None);
        }
        Self::changeable(settings, spec, directory).map(Some)
    }

    /// Creates the gate of a sandbox whose lists of hosts can change while commands run
    /// ([`SandboxNetwork::set_lists`]). At first, they may allow no host.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the gate cannot be created, or if the files cannot be written.
    pub fn changeable(
        settings: &NetworkConfig,
        spec: &NetworkSpec,
        directory: &Path,
    ) -> Result<Self, NetworkError> {
        let rules = NetworkRules::new(settings, Some(spec));
        let gate = build(Gate::builder())?;
        let trust = trust(&gate, directory)?;
        Ok(Self { gate, rules, ask: spec.ask.clone(), trust })
    }

    /// Returns the files that make the programs of the sandbox trust the gate
    /// ([`NativeSandboxBuilder::overlays`](sandbox_core::NativeSandboxBuilder::overlays)).
    pub fn overlays(&self) -> Vec<Overlay> {
        self.trust.overlays()
    }

    /// Opens the network of the sandbox.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the rules are invalid, or if the sandbox can have no network.
    ///
    /// # Cancel safety
    /// After the future is dropped, the sandbox may have no network until it is opened again.
    pub async fn open(self, sandbox: &NativeSandbox) -> Result<SandboxNetwork, NetworkError> {
        let Self { gate, rules, ask, trust } = self;
        let sink = Arc::new(Journal::default());
        let refusals = sink.refusals();
        let mut open =
            OpenNetwork::open(&gate, sandbox, &rules, &Masks::default(), ask, sink).await?;
        if !rules.terminates() {
            open.certificates.clear();
        }
        Ok(SandboxNetwork { open, rules, refusals, _trust: trust })
    }
}

impl SandboxNetwork {
    /// Returns the variables that commands need to reach the network, if connections cannot be
    /// captured. If they are, the list is empty.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        self.open.variables()
    }

    /// Returns the variables of programs that bring their own certificates. Those that the command
    /// has already take precedence.
    pub fn certificate_variables(&self) -> Vec<(OsString, OsString)> {
        self.open.certificates.clone()
    }

    /// Replaces the lists of hosts and addresses by those of settings, which have the lists of the
    /// request already ([`NetworkSpec::add_to_settings`]). Connections that they do not allow are
    /// cut. The other keys of the settings have no effect.
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the rules are invalid. Then nothing is changed.
    pub fn set_lists(&self, settings: &NetworkConfig) -> Result<(), NetworkError> {
        let rules = self.rules.with_lists_of(settings);
        self.open.network.set_policy(rules.compile()?);
        Ok(())
    }

    /// Returns the refused destinations so far, at most five, and the number of further hosts.
    pub fn refusals(&self) -> (Vec<Denial>, usize) {
        let found = lock(&self.refusals).refusals(false);
        (found.denials, found.omitted)
    }

    /// Closes all connections, and waits for that.
    ///
    /// # Cancel safety
    /// A dropped call closes them too, without waiting.
    pub async fn close(self) {
        self.open.network.close().await;
    }
}

/// Creates a gate.
pub(super) fn build(builder: GateBuilder) -> Result<Gate, NetworkError> {
    builder.build().map_err(|source| NetworkError::Gate { source })
}

/// Writes the files of a gate below a directory.
pub(super) fn trust(gate: &Gate, directory: &Path) -> Result<GateTrust, NetworkError> {
    let error = |source| NetworkError::Trust { path: directory.to_owned(), source };
    GateTrust::create(directory, gate.trust()).map_err(error)
}

/// The listeners of one sandbox at the gate.
#[derive(Debug)]
pub(super) struct OpenNetwork {
    pub(super) network: Network,
    /// Variables of programs that bring their own certificates.
    pub(super) certificates: Vec<(OsString, OsString)>,
    capture: Capture,
    proxy_port: u16,
}

impl OpenNetwork {
    pub(super) async fn open(
        gate: &Gate,
        sandbox: &dyn Engine,
        rules: &NetworkRules,
        masks: &Masks,
        ask: Option<Arc<dyn Ask>>,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self, NetworkError> {
        let policy = rules.compile()?;
        let opened = sandbox.open_network(&rules.ports()).await;
        let opened = opened.map_err(|source| NetworkError::Sandbox { source })?;
        let proxy_port = opened.proxy.local_addr().map_or(0, |address| address.port());
        let mut listeners = Listeners::new().proxy(opened.proxy);
        for listener in opened.transparent.into_iter().chain(opened.ports) {
            listeners = listeners.transparent(listener);
        }
        if let Some(dns) = opened.dns {
            listeners = listeners.dns(dns);
        }
        let network = gate.open(listeners, policy, sink);
        let network = network.map_err(|source| NetworkError::Gate { source })?;
        network.set_parent_proxy(rules.parent_proxy()?);
        network.set_destinations(rules.destinations());
        network.set_ask(ask);
        network.set_masks(masks).map_err(|source| NetworkError::Masks { source })?;
        let overlays = sandbox.overlays();
        if overlays.is_empty() {
            // A refusal inside TLS would be an error about a certificate.
            network.alert_denied();
        }
        let certificates = trust::variables(overlays);
        let certificates =
            certificates.into_iter().map(|(name, value)| (name.into(), value.into()));
        let certificates = certificates.collect();
        Ok(Self { network, certificates, capture: opened.capture, proxy_port })
    }

    /// Returns the variables of programs that know of proxies, if connections cannot be captured.
    /// Otherwise they would do harm: some programs misread them.
    pub(super) fn variables(&self) -> Vec<(OsString, OsString)> {
        if self.capture != Capture::Variables {
            return Vec::new();
        }
        let at = format!("{LOOPBACK}:{}", self.proxy_port);
        let (http, socks) = (format!("http://{at}"), format!("socks5h://{at}"));
        let own = "localhost,127.0.0.1,::1".to_owned();
        let named = [("http_proxy", &http), ("https_proxy", &http), ("all_proxy", &socks)];
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in named.into_iter().chain([("no_proxy", &own)]) {
            variables.push((name.into(), value.into()));
            variables.push((name.to_uppercase().into(), value.into()));
        }
        variables.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
        variables
    }
}
