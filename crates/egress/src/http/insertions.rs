//! Events of values that were inserted into the requests of a connection.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Outcome;
use crate::judge::Target;
use crate::session::Session;

/// The values that the requests of one connection got. Clones share their data.
#[derive(Clone, Debug)]
pub(crate) struct Insertions {
    session: Arc<Session>,
    /// Destinations and names of secrets.
    seen: Arc<Mutex<HashSet<(String, String)>>>,
}

impl Insertions {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session), seen: Arc::default() }
    }

    /// Records the names of secrets, each once for a destination.
    pub(crate) fn record<'n>(&self, target: &Target, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.insert((target.host.with_port(target.port), name.to_owned())) {
                drop(seen);
                self.session.record(target, Outcome::Masked { name: name.to_owned() });
            }
        }
    }
}
