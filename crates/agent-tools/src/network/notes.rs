//! Notes about connections that were not refused, and in which something failed: hints for the
//! results of commands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use sandbox_core::internal::lock;

use super::event::{ConnectionOutcome, NetworkEvent};

/// The number of notes in memory.
const KEPT: usize = 64;
/// The maximum number of notes in a result.
const MAX_NOTES: usize = 5;

/// The last notes of a session. Clones share their data.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next note.
    next: u64,
    notes: VecDeque<String>,
}

/// The notes from a moment on.
#[derive(Debug)]
pub(super) struct Since {
    notes: Notes,
    first: u64,
}

impl Notes {
    /// Notes a connection that failed, or that had a placeholder in the place of a value.
    pub(super) fn push(&self, event: &NetworkEvent) {
        if !matches!(event.outcome, ConnectionOutcome::Failed | ConnectionOutcome::Intact) {
            return;
        }
        let remedy = event.remedy.iter().map(|remedy| format!("; {remedy}"));
        let note =
            remedy.fold(format!("connect {}: {}", event.target(), event.rule), |a, b| a + &b);
        let mut state = lock(&self.state);
        state.next += 1;
        if state.notes.len() == KEPT {
            state.notes.pop_front();
        }
        state.notes.push_back(note);
    }

    /// Observes the notes after this call.
    pub(super) fn later(&self) -> Since {
        Since { notes: self.clone(), first: lock(&self.state).next }
    }
}

impl Since {
    /// Returns the different notes so far, the first five of those in memory.
    pub(super) fn texts(&self) -> Vec<String> {
        let state = lock(&self.notes.state);
        let oldest = state.next - state.notes.len() as u64;
        let skipped = usize::try_from(self.first.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut texts: Vec<String> = Vec::new();
        for note in state.notes.iter().skip(skipped) {
            if texts.len() < MAX_NOTES && !texts.contains(note) {
                texts.push(note.clone());
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn each_failure_since_a_moment_is_noted_once() {
        let event = |port, outcome, remedy: Option<&str>| NetworkEvent {
            at: SystemTime::UNIX_EPOCH,
            outcome,
            host: "a.test".into(),
            port,
            via: "transparent".into(),
            rule: "a rule".into(),
            remedy: remedy.map(str::to_owned),
            sent: 0,
            received: 0,
            took: Duration::ZERO,
        };
        let notes = Notes::default();
        notes.push(&event(None, ConnectionOutcome::Failed, None));
        let since = notes.later();
        for outcome in [ConnectionOutcome::Allowed, ConnectionOutcome::Denied] {
            notes.push(&event(Some(1), outcome, None));
        }
        assert!(since.texts().is_empty());
        for _ in 0..2 {
            notes.push(&event(None, ConnectionOutcome::Failed, None));
            notes.push(&event(Some(1), ConnectionOutcome::Intact, Some("use https")));
        }
        let expected = ["connect a.test: a rule", "connect a.test:1: a rule; use https"];
        assert_eq!(since.texts(), expected);
        (0..100).for_each(|port| notes.push(&event(Some(port), ConnectionOutcome::Failed, None)));
        assert_eq!(since.texts().len(), MAX_NOTES);
    }
}
