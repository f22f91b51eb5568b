//! Entries of the log that this machine appends.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::log::{Appended, Content, Line, Position};
use crate::scan::RecordedSignature;
use crate::state::KnownObject;
use crate::state::entry::{JournalEntry, Remains};
use crate::state::ledger::{Batch, Ledger};

impl Ledger {
    /// Records an entry before it is sent. The working copy has its changes already; `signatures`
    /// are those of its files.
    pub(crate) fn record_sent(
        &mut self,
        Appended { position, lines }: Appended,
        signatures: Vec<(String, RecordedSignature)>,
    ) {
        let lines = without_content(lines, position.number);
        self.append(JournalEntry::Sent { position, lines, signatures });
    }

    /// Returns a line for each current object of a file that was stored since this home became the
    /// owner.
    pub(crate) fn objects_of_epoch(&self) -> Vec<Line> {
        let epoch = self.log.owner.as_ref().map_or(0, |owner| owner.epoch);
        let current = self.seen.iter().filter(|(path, seen)| {
            let file = self.log.file(path);
            seen.version.etag.is_some()
                && file.is_some_and(|file| file.number >= epoch && file.token == seen.token)
        });
        let line = |(path, seen): (&String, &KnownObject)| Line::Projected {
            path: path.clone(),
            version: seen.version.clone(),
        };
        current.map(line).collect()
    }

    /// Returns the entry that was sent last, if it is not acknowledged.
    pub(crate) fn sent(&self) -> Option<Position> {
        self.sent.as_ref().map(|sent| sent.position)
    }

    /// Records that the log holds the entry that was sent last, which belongs to a batch.
    pub(crate) fn record_acknowledged(&mut self, batch: Batch) {
        let Some(sent) = &self.sent else { return };
        for (path, signature) in sent.signatures.clone() {
            match self.claims.get_mut(&path) {
                // A newer batch stores a later version. Until then, the log has this one.
                Some(claim) if claim.batch != batch => claim.before = Some(Box::new(signature)),
                _ => {
                    self.claims.remove(&path);
                }
            }
        }
        let number = self.sent.as_ref().map_or(0, |sent| sent.position.number);
        self.append(JournalEntry::Acknowledged { number });
    }

    /// Records an entry that the working copy follows now. `signatures` are those of its files;
    /// `unfollowed` are the paths that do not follow.
    pub(crate) fn record_followed(
        &mut self,
        Appended { position, lines }: Appended,
        signatures: Vec<(String, RecordedSignature)>,
        unfollowed: Vec<(String, Remains)>,
    ) {
        let lines = without_content(lines, position.number);
        for (path, signature) in signatures {
            self.stage_record(JournalEntry::Local { path, signature });
        }
        self.stage_record(JournalEntry::Lines { number: position.number, lines });
        for (path, remains) in unfollowed {
            self.stage_record(JournalEntry::Unfollowed { path, remains });
        }
        self.append(JournalEntry::Position { position });
    }

    /// Records the entry with which this home became the owner.
    pub(crate) fn record_own(&mut self, appended: Option<Appended>) {
        if let Some(appended) = appended {
            self.record_followed(appended, Vec::new(), Vec::new());
        }
    }

    /// Records a snapshot that the log holds. It changes the owner, and no longer has the records
    /// of removed and adopted objects of some paths.
    pub(crate) fn record_snapshot(
        &mut self,
        Appended { position, lines }: Appended,
        forgotten: &BTreeSet<String>,
    ) {
        let is_owner = |line: &Line| matches!(line, Line::Own { .. } | Line::Release);
        let lines = lines.into_iter().filter(is_owner).collect();
        for path in forgotten {
            let current = self.log.file(path).and_then(|file| file.adopted.as_deref().cloned());
            let log = Arc::make_mut(&mut self.log);
            log.removed.remove(path);
            match (current, log.adopted.get_mut(path)) {
                (Some(current), Some(known)) => known.retain(|version| *version == current),
                _ => drop(log.adopted.remove(path)),
            }
        }
        self.record_followed(Appended { position, lines }, Vec::new(), Vec::new());
        self.lines_since_snapshot = 0;
    }
}

/// Replaces contents by references, because the working copy has them.
fn without_content(mut lines: Vec<Line>, number: u64) -> Vec<Line> {
    for line in &mut lines {
        if let Line::File { file, .. } = line
            && matches!(file.content, Content::Inline(_))
        {
            file.content = Content::Entry(number);
        }
    }
    lines
}
