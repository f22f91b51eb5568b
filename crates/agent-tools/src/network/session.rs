//! The network of a session that this process serves. It outlives the sandboxes of the session.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use egress::{Ask, Gate};
use sandbox_core::internal::lock;
use sandbox_core::{NativeSandbox, SessionId};
use tracing::{Instrument as _, Span};

use super::denied::{Refusals, refusals};
use super::error::NetworkError;
use super::event::NetworkEvent;
use super::journal::Journal;
use super::rules::NetworkRules;
use super::sandbox::{OpenNetwork, gate};

/// The one gate of a [`Sessions`](crate::Sessions). The first session with a network creates it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedGate(Arc<Mutex<Option<Gate>>>);

impl SharedGate {
    fn get(&self) -> Result<Gate, NetworkError> {
        let mut shared = lock(&self.0);
        match &*shared {
            Some(gate) => Ok(gate.clone()),
            None => Ok(shared.insert(gate()?).clone()),
        }
    }
}

/// The rules, the listeners and the records of one session.
#[derive(Debug)]
pub(crate) struct SessionNetwork {
    gate: SharedGate,
    rules: RwLock<NetworkRules>,
    ask: Mutex<Option<Arc<dyn Ask>>>,
    journal: Arc<Journal>,
    open: Mutex<Option<Open>>,
    /// Held while listeners are opened.
    opening: tokio::sync::Mutex<()>,
    commands: Commands,
    /// The span of all connections.
    span: Span,
}

/// The listeners of the sandbox that was opened last.
#[derive(Debug)]
struct Open {
    sandbox: Weak<NativeSandbox>,
    network: OpenNetwork,
}

/// Commands that run, and that have begun.
#[derive(Debug, Default)]
struct Commands {
    running: AtomicU64,
    begun: AtomicU64,
}

impl SessionNetwork {
    pub(crate) fn new(
        session: &SessionId,
        gate: SharedGate,
        rules: NetworkRules,
        ask: Option<Arc<dyn Ask>>,
        journal: Journal,
    ) -> Self {
        Self {
            gate,
            rules: RwLock::new(rules),
            ask: Mutex::new(ask),
            journal: Arc::new(journal),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            commands: Commands::default(),
            span: tracing::info_span!(parent: None, "network", %session),
        }
    }

    pub(crate) fn rules(&self) -> NetworkRules {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the listeners of the session are open.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.open).is_some()
    }

    /// Opens the listeners of a sandbox, if the rules allow any host. Those of an earlier sandbox
    /// are closed.
    pub(crate) async fn open(&self, sandbox: &Arc<NativeSandbox>) -> Result<(), NetworkError> {
        let _turn = self.opening.lock().await;
        let rules = self.rules();
        if !rules.opens_network() {
            return Ok(());
        }
        let is_of = |open: &Open| std::ptr::eq(open.sandbox.as_ptr(), Arc::as_ptr(sandbox));
        if lock(&self.open).as_ref().is_some_and(is_of) {
            return Ok(());
        }
        let gate = self.gate.get()?;
        let (ask, sink) = (lock(&self.ask).clone(), self.journal.clone());
        let network = OpenNetwork::open(&gate, sandbox, &rules, ask, sink);
        let network = network.instrument(self.span.clone()).await?;
        *lock(&self.open) = Some(Open { sandbox: Arc::downgrade(sandbox), network });
        // The rules may have changed meanwhile.
        self.apply()
    }

    /// Replaces the rules. Connections that they do not allow are cut. Without an error, they apply
    /// afterwards.
    pub(crate) async fn set(
        &self,
        rules: NetworkRules,
        ask: Option<Arc<dyn Ask>>,
        sandbox: &Arc<NativeSandbox>,
    ) -> Result<(), NetworkError> {
        rules.compile()?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        *lock(&self.ask) = ask;
        self.apply()?;
        self.open(sandbox).await
    }

    /// Applies the rules to the listeners, if they are open.
    fn apply(&self) -> Result<(), NetworkError> {
        let rules = self.rules();
        let policy = rules.compile()?;
        let open = lock(&self.open);
        let Some(Open { network: OpenNetwork { network, .. }, .. }) = &*open else {
            return Ok(());
        };
        network.set_ask(lock(&self.ask).clone().filter(|_| rules.asks));
        network.set_parent_proxy(rules.parent_proxy()?);
        network.set_policy(policy);
        network.set_destinations(rules.destinations());
        Ok(())
    }

    /// Closes the listeners and all connections, and waits for that.
    pub(crate) async fn close(&self) {
        let open = lock(&self.open).take();
        if let Some(open) = open {
            open.network.network.close().await;
        }
    }

    /// Returns the variables that commands need, if connections cannot be captured.
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        lock(&self.open).as_ref().map_or_else(Vec::new, |open| open.network.variables())
    }

    /// Returns the records that are in memory, oldest first.
    pub(crate) fn events(&self) -> Vec<NetworkEvent> {
        self.journal.since(0)
    }

    /// Observes the connections of a command that begins.
    pub(crate) fn observe(&self) -> Observed<'_> {
        let others = self.commands.running.fetch_add(1, Ordering::Relaxed);
        let number = self.commands.begun.fetch_add(1, Ordering::Relaxed) + 1;
        Observed { network: self, mark: self.journal.mark(), has_overlapped: others > 0, number }
    }
}

/// The interval of a running command.
#[derive(Debug)]
pub(crate) struct Observed<'n> {
    network: &'n SessionNetwork,
    mark: u64,
    has_overlapped: bool,
    /// The number of this command.
    number: u64,
}

impl Observed<'_> {
    /// Returns the refused connections since the command began. They may be those of others that
    /// ran meanwhile.
    pub(crate) fn refusals(&self) -> Refusals {
        let is_last = self.network.commands.begun.load(Ordering::Relaxed) == self.number;
        refusals(&self.network.journal.since(self.mark), self.has_overlapped || !is_last)
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        self.network.commands.running.fetch_sub(1, Ordering::Relaxed);
    }
}
