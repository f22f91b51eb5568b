//! Questions to the user about hosts that no rule names.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use policy::Host;

/// Asks the user whether a session may connect to a host that neither list of the policy has.
///
/// The connection waits for the answer, and further questions of the session wait too. An answer
/// counts for the host and port until the session ends. With `network.strictAllowlist`, the user
/// is not asked.
#[async_trait]
pub trait Ask: Debug + Send + Sync {
    /// Asks about a host and a port.
    ///
    /// # Cancel safety
    /// The future is dropped if the client gives up. The question is repeated for the next one.
    async fn ask(&self, host: &Host, port: u16) -> Answer;
}

/// Answer of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session may connect.
    Allow,
    /// The session may not connect.
    Deny,
}

/// Questions whose answers a session keeps.
const MAX_ANSWERS: usize = 4096;

/// The answers of a session, and the way to new ones.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    ask: RwLock<Option<Arc<dyn Ask>>>,
    answers: Mutex<HashMap<(Host, u16), Answer>>,
    /// Held while the user is asked.
    turn: tokio::sync::Mutex<()>,
}

impl Questions {
    pub(crate) fn set(&self, ask: Option<Arc<dyn Ask>>) {
        *self.ask.write().unwrap_or_else(PoisonError::into_inner) = ask;
    }

    /// Returns an earlier answer.
    pub(crate) fn answer(&self, host: &Host, port: u16) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&(host.clone(), port)).copied()
    }

    /// Asks the user, unless there is an answer or no way to ask.
    pub(crate) async fn ask(&self, host: &Host, port: u16) {
        let ask = self.ask.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(ask) = ask else { return };
        let _turn = self.turn.lock().await;
        if self.answer(host, port).is_some() {
            return;
        }
        let is_full = || {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.len() >= MAX_ANSWERS
        };
        if is_full() {
            return;
        }
        let answer = ask.ask(host, port).await;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert((host.clone(), port), answer);
    }
}
