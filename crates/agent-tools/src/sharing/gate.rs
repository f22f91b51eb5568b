//! The gate of a served session: it admits calls, and ends the session after the last one.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox_core::internal::lock;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

/// Admission of calls to a session that this process serves.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    idle: Notify,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Running calls that began before the gate began to drain.
    early: usize,
    /// Running calls that began later.
    late: usize,
    /// The opening of the session, or the end of the last call.
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The owner has released the session. New calls are admitted while an early one runs.
    Draining,
    /// The process of the owner is about to exit. Calls that run may end.
    Ending,
    /// The session has left this machine.
    Left(Departure),
}

/// The way in which a session left this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Departure {
    /// It was closed. The store has its files.
    Closed,
    /// It was deleted everywhere.
    Deleted,
}

/// `closed` or `deleted`.
impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Deleted => "deleted",
        })
    }
}

/// The reason for which a call is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum NotAdmitted {
    /// The server ends. Another process can serve the session next.
    Draining,
    /// The session has left this machine.
    Left(Departure),
}

impl Default for Gate {
    fn default() -> Self {
        // An opened session is as young as one with a call.
        let state = Mutex::new(State { last: Some(Instant::now()), ..State::default() });
        Self { state, idle: Notify::new(), ended: watch::Sender::new(false) }
    }
}

impl Gate {
    /// Admits a call. The call runs until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<CallGuard, NotAdmitted> {
        let mut state = lock(&self.state);
        let is_early = match state.phase {
            Phase::Open => true,
            Phase::Draining if state.early > 0 => false,
            Phase::Draining | Phase::Ending => return Err(NotAdmitted::Draining),
            Phase::Left(departure) => return Err(NotAdmitted::Left(departure)),
        };
        let count = if is_early { &mut state.early } else { &mut state.late };
        *count += 1;
        Ok(CallGuard { gate: Arc::clone(self), is_early })
    }

    /// Admits no further calls, except while calls run that have begun before.
    pub(crate) fn drain(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
    }

    /// Admits no further calls at all, because the process is about to exit.
    pub(crate) fn refuse(&self) {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Left(_)) {
            state.phase = Phase::Ending;
        }
    }

    /// Admits no further calls, because the session has left this machine.
    pub(crate) fn close(&self, departure: Departure) {
        lock(&self.state).phase = Phase::Left(departure);
        self.end();
    }

    /// Returns whether a call runs.
    pub(crate) fn is_busy(&self) -> bool {
        let state = lock(&self.state);
        state.early + state.late > 0
    }

    /// Returns the time since the last call; `None` while one runs.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let is_idle = state.early + state.late == 0;
        state.last.filter(|_| is_idle).map(|last| last.elapsed())
    }

    /// Returns whether the session goes on.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.state).phase == Phase::Open
    }

    /// Returns whether the session has left this machine.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Left(_))
    }

    /// Waits until no call runs.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            {
                let state = lock(&self.state);
                if state.early + state.late == 0 {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Ends the server and its connections.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits for the end of the server.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this gate.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct CallGuard {
    gate: Arc<Gate>,
    is_early: bool,
}

/// The call runs until the last clone is dropped.
impl Clone for CallGuard {
    fn clone(&self) -> Self {
        let mut state = lock(&self.gate.state);
        let count = if self.is_early { &mut state.early } else { &mut state.late };
        *count += 1;
        Self { gate: Arc::clone(&self.gate), is_early: self.is_early }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.state);
        let count = if self.is_early { &mut state.early } else { &mut state.late };
        *count -= 1;
        state.last = Some(Instant::now());
        if state.early + state.late == 0 {
            self.gate.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_draining_gate_admits_calls_only_while_an_earlier_one_runs() {
        let gate = Arc::new(Gate::default());
        let early = gate.begin().unwrap();
        gate.drain();
        let late = gate.begin().unwrap();
        drop(early);
        assert_eq!(gate.begin().unwrap_err(), NotAdmitted::Draining);
        let waiting = gate.idle();
        tokio::pin!(waiting);
        assert!(futures_ready(waiting.as_mut()).await.is_none(), "a call still runs");
        drop(late);
        waiting.await;
        gate.close(Departure::Closed);
        assert_eq!(gate.begin().unwrap_err(), NotAdmitted::Left(Departure::Closed));
        gate.ended().await;
    }

    #[tokio::test]
    async fn a_refusing_gate_admits_no_call_while_an_earlier_one_runs() {
        let gate = Arc::new(Gate::default());
        let _early = gate.begin().unwrap();
        gate.drain();
        gate.refuse();
        assert_eq!(gate.begin().unwrap_err(), NotAdmitted::Draining);
        gate.close(Departure::Closed);
        gate.refuse();
        assert_eq!(gate.begin().unwrap_err(), NotAdmitted::Left(Departure::Closed));
    }

    /// Polls a future once.
    async fn futures_ready<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
