//! Connections to the outside: their traffic, their end, and the event that records them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::Rule;
use tokio::sync::watch;

use crate::denial::{Denial, Failure};
use crate::event::Outcome;
use crate::judge::{Content, Target};
use crate::session::{OpenFlow, Session, Terminated};

/// Supervision of one connection from a session: its activity, and the order to cut it.
#[derive(Debug)]
pub(crate) struct Cut {
    denial: Mutex<Option<Denial>>,
    is_cut: watch::Sender<bool>,
    bytes: AtomicU64,
}

impl Cut {
    pub(crate) fn new() -> Self {
        Self { denial: Mutex::default(), is_cut: watch::Sender::new(false), bytes: 0.into() }
    }

    /// Orders the cut. The first reason counts.
    pub(crate) fn cut(&self, denial: Denial) {
        let mut reason = self.denial.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert(denial);
        self.is_cut.send_replace(true);
    }

    /// Waits for the order.
    pub(crate) async fn ordered(&self) {
        let mut orders = self.is_cut.subscribe();
        // The sender is part of `self`, so it outlives the call.
        let _ = orders.wait_for(|is_cut| *is_cut).await;
    }

    pub(crate) fn denial(&self) -> Option<Denial> {
        self.denial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until no byte has passed for the given time.
    pub(crate) async fn idle(&self, limit: Duration) {
        let mut before = self.bytes.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(limit).await;
            let now = self.bytes.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// Bytes of a connection to the outside.
#[derive(Debug)]
pub(crate) struct Traffic {
    cut: Arc<Cut>,
    sent: AtomicU64,
    received: AtomicU64,
    through_parent: AtomicBool,
}

impl Traffic {
    pub(crate) fn new(cut: Arc<Cut>) -> Self {
        Self { cut, sent: 0.into(), received: 0.into(), through_parent: false.into() }
    }

    /// Notes that a parent proxy made the connection.
    pub(crate) fn set_through_parent(&self) {
        self.through_parent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_through_parent(&self) -> bool {
        self.through_parent.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, way: Way, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.cut.bytes.fetch_add(bytes, Ordering::Relaxed);
        match way {
            Way::Out => self.sent.fetch_add(bytes, Ordering::Relaxed),
            Way::In => self.received.fetch_add(bytes, Ordering::Relaxed),
        };
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Way of bytes, as the session sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// An open connection to the outside. Dropping it records its event.
#[derive(Debug)]
pub(crate) struct Flow {
    session: Arc<Session>,
    id: u64,
    target: Target,
    content: Content,
    rule: Rule,
    opened: Instant,
    traffic: Arc<Traffic>,
    cut: Arc<Cut>,
    end: Mutex<Option<Outcome>>,
    terminated: Option<Terminated>,
}

impl Flow {
    pub(crate) fn open(
        session: &Arc<Session>,
        target: &Target,
        content: Content,
        address: Option<IpAddr>,
        rule: Rule,
        cut: &Arc<Cut>,
    ) -> Self {
        let (target, cut) = (target.clone(), Arc::clone(cut));
        let open = OpenFlow { target: target.clone(), content, address, cut: Arc::clone(&cut) };
        Self {
            id: session.add(open),
            session: Arc::clone(session),
            target,
            content,
            rule,
            opened: Instant::now(),
            traffic: Arc::new(Traffic::new(Arc::clone(&cut))),
            cut,
            end: Mutex::default(),
            terminated: None,
        }
    }

    /// Keeps the place of a terminated connection until the flow ends.
    pub(crate) fn hold(&mut self, terminated: Option<Terminated>) {
        self.terminated = terminated;
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(crate) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Records the refusal now, before its answer is written, instead of when the flow is dropped.
    pub(crate) fn refuse(&self, denial: Denial) {
        self.finish(Outcome::Denied(denial));
    }

    pub(crate) fn content(&self) -> Content {
        self.content
    }

    /// Records the failure now, like [`Flow::refuse`].
    pub(crate) fn fail(&self, failure: Failure) {
        self.finish(Outcome::Failed(failure));
    }

    fn finish(&self, outcome: Outcome) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_none() {
            let flow = Some((&*self.traffic, self.opened.elapsed()));
            let Target { host, port, via } = &self.target;
            self.session.record_flow(host, Some(*port), *via, outcome.clone(), flow);
            *end = Some(outcome);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.session.remove(self.id);
        self.finish(match self.cut.denial() {
            Some(denial) => Outcome::Denied(denial),
            None => Outcome::Allowed(self.rule.clone()),
        });
    }
}
