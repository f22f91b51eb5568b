//! State that the listeners and connections of a session share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use policy::{Host, NetworkPolicy, Rule};
use tokio::sync::Semaphore;

use crate::ask::Questions;
use crate::authority::Leaf;
use crate::connections::Connections;
use crate::denial::Denial;
use crate::destinations::Destinations;
use crate::event::{EventMark, EventSink, NetworkEvent, Outcome, Ring, Via};
use crate::flow::{Cut, Traffic};
use crate::http::WHOLE_PERMITS;
use crate::judge::{self, Content, Target};
use crate::limits::Limits;
use crate::masks::SessionMasks;
use crate::names::Names;
use crate::parent::ParentProxy;
use crate::resolve::Resolver;
use crate::secure::Secure;

/// Parts that all sessions of a gate share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) limits: Limits,
    pub(crate) secure: Secure,
    pub(crate) parent: Option<Arc<ParentProxy>>,
    /// The connections of the process.
    pub(crate) connections: Arc<Connections>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    /// One permit for each connection of the session.
    pub(crate) connections: Arc<Semaphore>,
    /// The memory for bodies that are read as a whole.
    pub(crate) whole_bodies: Arc<Semaphore>,
    policy: RwLock<Arc<NetworkPolicy>>,
    destinations: RwLock<Arc<Destinations>>,
    pub(crate) questions: Questions,
    masks: RwLock<Arc<SessionMasks>>,
    /// Certificates of denied names. They have no place in the cache of the gate.
    refused: Mutex<HashMap<Host, Leaf>>,
    /// True if the programs of the session do not trust the authority.
    alerts: AtomicBool,
    names: Mutex<Names>,
    ring: Mutex<Ring>,
    sink: Arc<dyn EventSink>,
    /// The parent proxy of the session, instead of that of the gate.
    parent: RwLock<Option<Arc<ParentProxy>>>,
    /// Number of connections whose TLS is terminated.
    terminated: AtomicU32,
    open: Mutex<HashMap<u64, OpenFlow>>,
    next_flow: AtomicU64,
}

/// A connection to the outside, as far as a change of the policy concerns it.
#[derive(Debug)]
pub(crate) struct OpenFlow {
    pub(crate) target: Target,
    pub(crate) content: Content,
    pub(crate) address: Option<IpAddr>,
    pub(crate) cut: Arc<Cut>,
}

/// One of the terminated connections of a session. Dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Terminated(Arc<Session>);

impl Drop for Terminated {
    fn drop(&mut self) {
        self.0.terminated.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        policy: NetworkPolicy,
        sink: Arc<dyn EventSink>,
    ) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(shared.limits.max_connections)),
            whole_bodies: Arc::new(Semaphore::new(WHOLE_PERMITS)),
            names: Mutex::new(Names::new(shared.limits.max_names)),
            shared,
            policy: RwLock::new(Arc::new(policy)),
            destinations: RwLock::default(),
            questions: Questions::default(),
            masks: RwLock::default(),
            refused: Mutex::default(),
            alerts: AtomicBool::new(false),
            ring: Mutex::default(),
            sink,
            parent: RwLock::default(),
            terminated: AtomicU32::new(0),
            open: Mutex::default(),
            next_flow: AtomicU64::new(0),
        }
    }

    pub(crate) fn policy(&self) -> Arc<NetworkPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn masks(&self) -> Arc<SessionMasks> {
        Arc::clone(&self.masks.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_masks(&self, mut masks: SessionMasks) {
        let mut current = self.masks.write().unwrap_or_else(PoisonError::into_inner);
        masks.succeed(&current);
        *current = Arc::new(masks);
    }

    /// Refuses denied names inside TLS with an alert afterwards.
    pub(crate) fn alert_denied(&self) {
        self.alerts.store(true, Ordering::Relaxed);
    }

    /// Returns the parent proxy: that of the session, or else that of the gate.
    pub(crate) fn parent(&self) -> Option<Arc<ParentProxy>> {
        let own = self.parent.read().unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| self.shared.parent.clone())
    }

    pub(crate) fn set_parent(&self, parent: Option<ParentProxy>) {
        *self.parent.write().unwrap_or_else(PoisonError::into_inner) = parent.map(Arc::new);
    }

    /// Returns the time limit of a TLS handshake.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        let own = self.policy().requests().handshake_timeout();
        own.unwrap_or(self.shared.limits.handshake_timeout)
    }

    /// Counts a terminated connection, unless there are too many.
    pub(crate) fn begin_termination(self: &Arc<Self>) -> Result<Terminated, Denial> {
        let max = self.policy().requests().max_terminated().unwrap_or(u32::MAX);
        let next = |count: u32| (count < max).then_some(count + 1);
        match self.terminated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(Terminated(Arc::clone(self))),
            Err(_) => Err(Denial::TooManyTunnels { max }),
        }
    }

    /// Returns a certificate for a denied name, or `None` beyond the limit of the session, and for
    /// a session that would not trust it.
    pub(crate) fn refused_leaf(&self, host: &Host) -> Option<Leaf> {
        if self.alerts.load(Ordering::Relaxed) {
            return None;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = refused.get(host) {
            return Some(Arc::clone(leaf));
        }
        if refused.len() >= self.shared.limits.max_refused_leaves {
            return None;
        }
        let leaf = self.shared.secure.authority.mint(host).ok()?;
        refused.insert(host.clone(), Arc::clone(&leaf));
        Some(leaf)
    }

    /// Replaces the policy, and cuts the connections that it does not allow.
    pub(crate) fn set_policy(&self, policy: NetworkPolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.cut_denied();
    }

    pub(crate) fn destinations(&self) -> Arc<Destinations> {
        Arc::clone(&self.destinations.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the fixed destinations, and cuts the connections whose address is approved no more.
    pub(crate) fn set_destinations(&self, destinations: Destinations) {
        let mut current = self.destinations.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(destinations);
        drop(current);
        self.cut_denied();
    }

    fn cut_denied(&self) {
        for flow in self.open().values() {
            if let Err(denial) = self.judge(&flow.target, flow.content, flow.address) {
                flow.cut.cut(denial);
            }
        }
    }

    /// Judges a destination and one of its addresses, which is unknown behind a parent proxy.
    pub(crate) fn judge(
        &self,
        target: &Target,
        content: Content,
        address: Option<IpAddr>,
    ) -> Result<Rule, Denial> {
        let rule = self.judge_target(target, content)?;
        if let Some(address) = address {
            self.judge_address(target, address)?;
        }
        Ok(rule)
    }

    /// Judges a destination before any name is resolved. The result is the allowing rule.
    pub(crate) fn judge_target(&self, target: &Target, content: Content) -> Result<Rule, Denial> {
        let answer = self.questions.answer(&target.host, target.port);
        judge::target(&self.policy(), target, content, answer)
    }

    /// Judges an address before a connection to it.
    pub(crate) fn judge_address(&self, target: &Target, address: IpAddr) -> Result<(), Denial> {
        let address = address.to_canonical();
        if self.destinations().approve(&target.host, target.port, address) {
            return Ok(());
        }
        judge::address(&self.policy(), target, address, judge::is_own(address))
    }

    /// Judges a destination like [`Session::judge_target`]. Asks the user first if no rule names
    /// the host.
    pub(crate) async fn ask_and_judge(
        &self,
        target: &Target,
        content: Content,
    ) -> Result<Rule, Denial> {
        if judge::is_open_question(&self.policy(), target) {
            self.questions.ask(&target.host, target.port).await;
        }
        self.judge_target(target, content)
    }

    /// Adds a connection. Later changes of the policy concern it.
    pub(crate) fn add(&self, flow: OpenFlow) -> u64 {
        let id = self.next_flow.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, flow);
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        self.open().remove(&id);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, OpenFlow>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event without bytes and duration.
    pub(crate) fn record(&self, target: &Target, outcome: Outcome) {
        self.record_flow(&target.host, Some(target.port), target.via, outcome, None);
    }

    /// Records an event, with the traffic and duration of a connection.
    pub(crate) fn record_flow(
        &self,
        host: &Host,
        port: Option<u16>,
        via: Via,
        outcome: Outcome,
        flow: Option<(&Traffic, Duration)>,
    ) {
        let (sent, received, took) = flow.map_or((0, 0, Duration::ZERO), |(traffic, took)| {
            (traffic.sent(), traffic.received(), took)
        });
        let event = NetworkEvent {
            id: 0,
            at: SystemTime::now(),
            outcome,
            host: host.clone(),
            port,
            via,
            sent,
            received,
            took,
            through_parent: flow.is_some_and(|(traffic, _)| traffic.is_through_parent()),
        };
        let (outcome, cause) = match &event.outcome {
            Outcome::Allowed(rule) => ("allowed", rule.to_string()),
            Outcome::Denied(denial) => ("denied", denial.to_string()),
            Outcome::Failed(failure) => ("failed", failure.to_string()),
            Outcome::Masked { name } => ("masked", name.clone()),
            Outcome::Intact { name, reason } => ("intact", format!("{name}: {reason}")),
        };
        tracing::info!(
            target: "egress", %host, port, ?via, outcome, cause, sent, received, ?took,
            "connection"
        );
        let event = self.ring().push(event);
        self.sink.record(&event);
    }

    pub(crate) fn mark(&self) -> EventMark {
        self.ring().mark()
    }

    pub(crate) fn events_since(&self, mark: EventMark) -> Vec<NetworkEvent> {
        self.ring().since(mark)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
