//! The network of one open sandbox: its listeners at the gate.

use std::ffi::OsString;
use std::sync::Arc;

use egress::{Ask, EventSink, Gate, Limits, Listeners, Network};
use policy::NetworkConfig;
use sandbox_core::{Capture, NativeSandbox};

use super::denied::refusals;
use super::error::NetworkError;
use super::journal::Journal;
use super::rules::NetworkRules;
use super::spec::NetworkSpec;
use crate::denials::Denial;

/// Address of the proxy without a scheme, unless a command had taken its port.
const LOOPBACK: &str = "127.0.0.1";

/// The network of an open sandbox that belongs to no session. Dropping it closes all connections.
#[derive(Debug)]
pub struct SandboxNetwork {
    open: OpenNetwork,
    journal: Arc<Journal>,
}

impl SandboxNetwork {
    /// Opens the network of a sandbox, if its settings or the request allow any host. `settings`
    /// have the lists of the request already ([`NetworkSpec::add_to_settings`]).
    ///
    /// # Errors
    /// Returns [`NetworkError`] if the rules are invalid, or if the sandbox can have no network.
    ///
    /// # Cancel safety
    /// After the future is dropped, the sandbox may have no network until it is opened again.
    pub async fn open(
        sandbox: &NativeSandbox,
        settings: &NetworkConfig,
        spec: &NetworkSpec,
    ) -> Result<Option<Self>, NetworkError> {
        let rules = NetworkRules::new(settings, Some(spec));
        if !rules.opens_network() {
            return Ok(None);
        }
        let gate = gate()?;
        let journal = Arc::new(Journal::default());
        let open =
            OpenNetwork::open(&gate, sandbox, &rules, spec.ask.clone(), journal.clone()).await?;
        Ok(Some(Self { open, journal }))
    }

    /// Returns the variables that commands need to reach the network, if connections cannot be
    /// captured. If they are, the list is empty.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        self.open.variables()
    }

    /// Returns the refused destinations so far, at most five, and the number of further ones.
    pub fn refusals(&self) -> (Vec<Denial>, usize) {
        let found = refusals(&self.journal.since(0), false);
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

/// Creates a gate with the resolver of the host.
pub(super) fn gate() -> Result<Gate, NetworkError> {
    // The programs of a session do not trust the gate's authority, so a refusal inside TLS would be
    // an error about a certificate. Without leaves it is an alert.
    let mut limits = Limits::default();
    limits.max_refused_leaves = 0;
    Gate::builder().limits(limits).build().map_err(|source| NetworkError::Gate { source })
}

/// The listeners of one sandbox at the gate.
#[derive(Debug)]
pub(super) struct OpenNetwork {
    pub(super) network: Network,
    capture: Capture,
    proxy_port: u16,
}

impl OpenNetwork {
    pub(super) async fn open(
        gate: &Gate,
        sandbox: &NativeSandbox,
        rules: &NetworkRules,
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
        Ok(Self { network, capture: opened.capture, proxy_port })
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
