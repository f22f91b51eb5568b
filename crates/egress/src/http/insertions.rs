//! Events of values that were inserted into the requests of a connection.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{IntactReason, Outcome};
use crate::judge::Target;
use crate::session::Session;

/// The values that the requests of one connection got, and those that they did not get. Clones
/// share their data.
#[derive(Clone, Debug)]
pub(crate) struct Insertions {
    session: Arc<Session>,
    seen: Arc<Mutex<HashSet<Reported>>>,
}

/// A destination and the name of a secret, with the reason if it was not inserted.
type Reported = (String, String, Option<String>);

impl Insertions {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session), seen: Arc::default() }
    }

    /// Records the names of secrets, each once for a destination.
    pub(crate) fn record<'n>(&self, target: &Target, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            if self.is_new(target, name, None) {
                self.session.record(target, Outcome::Masked { name: name.to_owned() });
            }
        }
    }

    /// Records the name of a secret whose placeholder stays in a request.
    pub(crate) fn record_kept(&self, target: &Target, name: &str, reason: IntactReason) {
        if self.is_new(target, name, Some(reason)) {
            self.session.record(target, Outcome::Intact { name: name.to_owned(), reason });
        }
    }

    fn is_new(&self, target: &Target, name: &str, reason: Option<IntactReason>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = reason.map(|reason| reason.to_string());
        seen.insert((target.host.with_port(target.port), name.to_owned(), reason))
    }
}
