//! The network of a session that this process serves. It outlives the sandboxes of the session.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use egress::{Ask, Gate, GateBuilder};
use sandbox_core::internal::{blocking, lock};
use sandbox_core::{Overlay, SessionId};
use secrets::Masks;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use super::denied::{RefusalCount, Refusals};
use super::error::NetworkError;
use super::event::NetworkEvent;
use super::journal::Journal;
use super::notes::Since;
use super::rules::NetworkRules;
use super::sandbox::{OpenNetwork, build, trust};
use super::trust::GateTrust;
use crate::engine::Engine;

/// Bytes in each direction of a connection from the host.
const RELAY_BYTES: usize = 64 * 1024;

/// The one gate of a [`Sessions`](crate::Sessions). The first session with a network creates it.
#[derive(Clone, Debug)]
pub(crate) struct SharedGate {
    /// Parent of the directory with the certificates of the gate.
    trust_root: PathBuf,
    builder: GateBuilder,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    gate: Option<Gate>,
    /// Written for the first session that needs it.
    trust: Option<GateTrust>,
}

impl SharedGate {
    pub(crate) fn new(trust_root: PathBuf, builder: GateBuilder) -> Self {
        Self { trust_root, builder, shared: Arc::default() }
    }

    fn get(&self) -> Result<Gate, NetworkError> {
        let gate = &mut lock(&self.shared).gate;
        match gate {
            Some(gate) => Ok(gate.clone()),
            None => Ok(gate.insert(build(self.builder.clone())?).clone()),
        }
    }

    /// Returns the files that make the programs of a session trust the gate. The first call takes
    /// some milliseconds.
    pub(crate) async fn overlays(&self) -> Result<Vec<Overlay>, NetworkError> {
        let gate = self.get()?;
        if let Some(trust) = &lock(&self.shared).trust {
            return Ok(trust.overlays());
        }
        let own = self.clone();
        let written = blocking(move || {
            let mut shared = lock(&own.shared);
            match &shared.trust {
                Some(trust) => Ok(trust.overlays()),
                None => Ok(shared.trust.insert(trust(&gate, &own.trust_root)?).overlays()),
            }
        });
        written.await
    }
}

/// The rules, the listeners and the records of one session.
#[derive(Debug)]
pub(crate) struct SessionNetwork {
    gate: SharedGate,
    rules: RwLock<NetworkRules>,
    ask: Mutex<Option<Arc<dyn Ask>>>,
    masks: Mutex<Arc<Masks>>,
    journal: Arc<Journal>,
    open: Mutex<Option<Open>>,
    /// Held while listeners are opened.
    opening: tokio::sync::Mutex<()>,
    commands: Arc<Commands>,
    /// Relays of connections from the host.
    dialed: Mutex<JoinSet<()>>,
    /// The span of all connections.
    span: Span,
}

/// The listeners of the sandbox that was opened last.
#[derive(Debug)]
struct Open {
    sandbox: Weak<dyn Engine>,
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
            masks: Mutex::default(),
            journal: Arc::new(journal),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            commands: Arc::default(),
            dialed: Mutex::default(),
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
    pub(crate) async fn open(&self, sandbox: &Arc<dyn Engine>) -> Result<(), NetworkError> {
        let _turn = self.opening.lock().await;
        let rules = self.rules();
        if !rules.opens_network() {
            return Ok(());
        }
        let is_of = |open: &Open| Weak::ptr_eq(&open.sandbox, &Arc::downgrade(sandbox));
        if lock(&self.open).as_ref().is_some_and(is_of) {
            return Ok(());
        }
        let gate = self.gate.get()?;
        let (ask, sink) = (lock(&self.ask).clone(), self.journal.clone());
        let masks = lock(&self.masks).clone();
        let network = OpenNetwork::open(&gate, &**sandbox, &rules, &masks, ask, sink);
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
        sandbox: &Arc<dyn Engine>,
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
        let masks = lock(&self.masks).clone();
        network.set_masks(&masks).map_err(|source| NetworkError::Masks { source })
    }

    /// Replaces the masks, if they are not those of the last call.
    pub(crate) fn set_masks(&self, masks: &Arc<Masks>) -> Result<(), NetworkError> {
        let former = std::mem::replace(&mut *lock(&self.masks), Arc::clone(masks));
        if Arc::ptr_eq(&former, masks) {
            return Ok(());
        }
        match &*lock(&self.open) {
            Some(open) => {
                let set = open.network.network.set_masks(masks);
                set.map_err(|source| NetworkError::Masks { source })
            }
            None => Ok(()),
        }
    }

    /// Returns whether the programs of the session trust the certificates of the gate.
    pub(crate) fn is_trusted(&self) -> bool {
        lock(&self.open).as_ref().is_some_and(|open| !open.network.certificates.is_empty())
    }

    /// Returns the variables of programs that bring their own certificates, if allowed connections
    /// may be terminated. Such a variable can override an option, as `REQUESTS_CA_BUNDLE` does with
    /// `pip --cert`.
    pub(crate) fn certificates(&self) -> Vec<(OsString, OsString)> {
        if lock(&self.masks).is_empty() && !self.rules().terminates() {
            return Vec::new();
        }
        let open = lock(&self.open);
        open.as_ref().map_or_else(Vec::new, |open| open.network.certificates.clone())
    }

    /// Passes bytes between a server of the session and a stream of the host, until both are at
    /// their end or the network is closed.
    pub(crate) fn relay(&self, mut server: TcpStream, mut host: UnixStream) {
        let mut dialed = lock(&self.dialed);
        while dialed.try_join_next().is_some() {}
        dialed.spawn(async move {
            // The reader of each end learns of the end of the other.
            let (one, other) = (RELAY_BYTES, RELAY_BYTES);
            let _ = copy_bidirectional_with_sizes(&mut server, &mut host, one, other).await;
        });
    }

    /// Closes the listeners and all connections, and waits for that.
    pub(crate) async fn close(&self) {
        let mut dialed = std::mem::take(&mut *lock(&self.dialed));
        dialed.shutdown().await;
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
        self.journal.events()
    }

    /// Observes the connections of a command that begins.
    pub(crate) fn observe(&self) -> Observed {
        let others = self.commands.running.fetch_add(1, Ordering::Relaxed);
        let number = self.commands.begun.fetch_add(1, Ordering::Relaxed) + 1;
        Observed {
            commands: Arc::clone(&self.commands),
            refusals: self.journal.refusals(),
            has_overlapped: others > 0,
            number,
            notes: self.journal.notes().later(),
        }
    }
}

/// The interval of a running command.
#[derive(Debug)]
pub(crate) struct Observed {
    commands: Arc<Commands>,
    refusals: Arc<Mutex<RefusalCount>>,
    has_overlapped: bool,
    /// The number of this command.
    number: u64,
    notes: Since,
}

impl Observed {
    /// Returns the refused connections since the command began. They may be those of others that
    /// ran meanwhile.
    pub(crate) fn refusals(&self) -> Refusals {
        lock(&self.refusals).refusals(self.is_shared())
    }

    /// Returns what else happened to connections since the command began: failures, and
    /// placeholders that went out as they are.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.texts()
    }

    /// Returns whether other commands have run meanwhile.
    pub(crate) fn is_shared(&self) -> bool {
        let is_last = self.commands.begun.load(Ordering::Relaxed) == self.number;
        self.has_overlapped || !is_last
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.commands.running.fetch_sub(1, Ordering::Relaxed);
    }
}
