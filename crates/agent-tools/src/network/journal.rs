//! The record of a session's connections: the last ones in memory, and a file of bounded size.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use egress::EventSink;
use sandbox_core::internal::lock;

use super::denied::RefusalCount;
use super::event::NetworkEvent;
use super::notes::Notes;
use crate::journal_file::{self, JournalFile, JournalNames};

/// The files in the state directory of a session.
const NAMES: JournalNames = JournalNames { current: "network.jsonl", former: "network.old.jsonl" };
/// The number of records in memory.
const KEPT: usize = 1024;

/// A receiver of records.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The state directory; `None` keeps the records in memory only.
    dir: Option<PathBuf>,
    state: Mutex<State>,
    notes: Notes,
}

#[derive(Debug)]
struct State {
    events: VecDeque<NetworkEvent>,
    file: JournalFile,
    /// The refusals of the running commands.
    counts: Vec<Weak<Mutex<RefusalCount>>>,
    /// Set after a failed write, which is logged once.
    has_failed: bool,
}

impl Journal {
    /// Keeps the records in a state directory too. The first record creates the file.
    pub(crate) fn in_directory(dir: &Path) -> Self {
        Self { dir: Some(dir.to_owned()), ..Self::default() }
    }

    /// Counts further refusals, until the result is dropped.
    pub(crate) fn refusals(&self) -> Arc<Mutex<RefusalCount>> {
        let refusals = Arc::default();
        lock(&self.state).counts.push(Arc::downgrade(&refusals));
        refusals
    }

    /// Returns the records that are in memory, oldest first.
    pub(crate) fn events(&self) -> Vec<NetworkEvent> {
        lock(&self.state).events.iter().cloned().collect()
    }

    /// Returns the notes for results.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    fn push(&self, event: NetworkEvent) {
        let mut state = lock(&self.state);
        // One short write to the page cache. So the file has the record before the refusal is
        // written, and another process sees it.
        if let Some(dir) = &self.dir
            && let Err(error) = state.file.append(dir, &event)
            && !std::mem::replace(&mut state.has_failed, true)
        {
            tracing::warn!(dir = %dir.display(), %error, "connections cannot be recorded");
        }
        state.counts.retain(|count| match count.upgrade() {
            Some(count) => {
                lock(&count).note(&event);
                true
            }
            None => false,
        });
        if state.events.len() == KEPT {
            state.events.pop_front();
        }
        state.events.push_back(event);
    }
}

impl Default for State {
    fn default() -> Self {
        let file = JournalFile::new(NAMES);
        Self { events: VecDeque::new(), file, counts: Vec::new(), has_failed: false }
    }
}

impl EventSink for Journal {
    fn record(&self, event: &egress::NetworkEvent) {
        let event = NetworkEvent::from(event);
        self.notes.push(&event);
        self.push(event);
    }
}

/// Reads the records of a state directory, oldest first.
pub(crate) fn read(dir: &Path) -> io::Result<Vec<NetworkEvent>> {
    journal_file::read(dir, NAMES)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    use super::super::event::ConnectionOutcome;
    use super::*;
    use crate::journal_file::MAX_FILE_BYTES;

    fn event(port: u16) -> NetworkEvent {
        NetworkEvent {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            outcome: ConnectionOutcome::Denied,
            host: "a.test".into(),
            port: Some(port),
            via: "transparent".into(),
            rule: "no entry of allowedDomains covers it".into(),
            remedy: None,
            sent: 0,
            received: 0,
            took: Duration::from_millis(7),
        }
    }

    #[test]
    fn records_are_kept_in_memory_and_in_files_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::in_directory(dir.path());
        journal.push(event(1));
        let refusals = journal.refusals();
        journal.push(event(2));
        let refused = lock(&refusals).refusals(false);
        assert_eq!((&*refused.denials[0].target, refused.denials.len()), ("a.test:2", 1));
        assert_eq!(journal.events(), [event(1), event(2)]);
        assert_eq!(read(dir.path()).unwrap(), [event(1), event(2)]);

        // Another process goes on, also behind a line that was cut.
        File::options()
            .append(true)
            .open(dir.path().join(NAMES.current))
            .unwrap()
            .write_all(b"{\n")
            .unwrap();
        let journal = Journal::in_directory(dir.path());
        for port in 0..20_000 {
            journal.push(event(port));
        }
        assert_eq!(journal.events().len(), KEPT);
        let (own, former) = (dir.path().join(NAMES.current), dir.path().join(NAMES.former));
        for file in [&own, &former] {
            assert!(file.metadata().unwrap().len() <= MAX_FILE_BYTES);
        }
        let events = read(dir.path()).unwrap();
        assert_eq!(events.last(), Some(&event(19_999)));
        let ports: Vec<_> = events.iter().filter_map(|event| event.port).collect();
        assert!(ports.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no record is missing");
    }

    #[test]
    fn a_directory_that_is_gone_costs_no_connection() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::in_directory(&dir.path().join("absent"));
        journal.push(event(1));
        assert_eq!(journal.events(), [event(1)]);
    }
}
