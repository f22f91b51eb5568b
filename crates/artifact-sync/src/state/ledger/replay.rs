//! Effects of journal entries on the ledger, and the compact journal with the same effects.

use std::sync::Arc;
use std::time::Instant;

use crate::log::{Content, Line};
use crate::state::entry::{FORMAT, JournalEntry};
use crate::state::ledger::uploads::Upload;
use crate::state::ledger::{KnownObject, Ledger, SentEntry};
use crate::transfer::{UploadRecord, UploadStep};

/// Lines of the log in one record of a compacted journal.
const LINES_PER_RECORD: usize = 256;

impl Ledger {
    pub(super) fn size(&self) -> usize {
        self.log.nodes.len() + self.local.len() + self.seen.len() + self.log.removed.len()
    }

    pub(super) fn apply(&mut self, record: JournalEntry) {
        match record {
            JournalEntry::Journal { .. } => {}
            JournalEntry::Home { id } => self.home = id,
            JournalEntry::Lines { number, lines } => self.apply_lines(number, lines),
            JournalEntry::Sent { position, lines, signatures } => {
                self.sent = Some(SentEntry { position, lines, signatures });
            }
            JournalEntry::Acknowledged { number } => {
                let sent = self.sent.take().filter(|sent| sent.position.number == number);
                if let Some(SentEntry { position, lines, signatures }) = sent {
                    for (path, signature) in signatures {
                        if !self.claims.contains_key(&path) {
                            self.local.insert(path, signature);
                        }
                    }
                    self.apply_lines(number, lines);
                    self.set_position(position);
                }
            }
            JournalEntry::Position { position } => self.set_position(position),
            JournalEntry::Local { path, signature } => {
                self.failures.remove(&path);
                self.local.insert(path, signature);
            }
            JournalEntry::Unfollowed { path, remains } => self.set_remains(path, remains),
            JournalEntry::KnownObject { path, token, version } => {
                self.seen.insert(path.clone(), KnownObject { token, version });
                self.update_projection(&path);
            }
            JournalEntry::NoObject { path } => {
                self.seen.remove(&path);
                self.unprojected.remove(&path);
                self.update_projection(&path);
            }
            JournalEntry::UnknownObject { path } => drop(self.unprojected.insert(path)),
            JournalEntry::Failed { path, failure } => {
                self.failures.insert(path, failure);
            }
            JournalEntry::Uploading { blob, path } => {
                self.uploads.insert(blob, Upload { path, record: None, is_running: true });
            }
            JournalEntry::Parts { blob, upload } => {
                if let Some(known) = self.uploads.get_mut(&blob) {
                    known.record = Some(upload);
                }
            }
            JournalEntry::Part { blob, part } => {
                if let Some(known) = self.uploads.get_mut(&blob) {
                    UploadRecord::apply(&mut known.record, UploadStep::PartSent(&part));
                }
            }
            JournalEntry::Uploaded { blob } => {
                self.uploads.remove(&blob);
            }
            JournalEntry::Stage { stage } => self.stage = stage,
            JournalEntry::Applying { position } => self.applying = position,
            JournalEntry::Marked => self.is_marked = true,
            JournalEntry::Boot { id, suspects_objects } => {
                self.boot = Some(id);
                self.suspects_objects = suspects_objects;
                self.listed = 0;
            }
            JournalEntry::Listed { at } => {
                self.suspects_objects &= at == 0;
                self.listed = at;
            }
            JournalEntry::Collected { at } => self.collected = at,
        }
    }

    fn apply_lines(&mut self, number: u64, lines: Vec<Line>) {
        for line in lines {
            if let Line::Projected { .. } = line {
                // This machine knows the objects that it has put.
                continue;
            }
            self.lines_since_snapshot += 1;
            let path = line.path().map(str::to_owned);
            if let Line::File { file, .. } = &line
                && let Content::Blob(blob) = &file.content
            {
                self.uploads.remove(blob);
            }
            Arc::make_mut(&mut self.log).apply(number, line);
            if let Some(path) = path {
                self.unfollowed.remove(&path);
                if self.log.file(&path).is_none() && !self.claims.contains_key(&path) {
                    self.local.remove(&path);
                }
                self.failures.remove(&path);
                self.update_projection(&path);
            }
        }
    }

    /// Updates whether the object of a path may differ from the log.
    pub(super) fn update_projection(&mut self, path: &str) {
        let token = self.log.file(path).map(|file| file.token);
        let seen = self.seen.get(path).map(|seen| seen.token);
        if token != seen {
            self.unprojected.insert(path.to_owned());
        } else if token.is_some() || self.listed == 0 {
            self.unprojected.remove(path);
        }
        // A file that is gone may have an object that was never seen. Only a look tells, or the
        // first listing.
    }

    /// Returns the paths without a file whose objects are unknown.
    pub(super) fn unknown_objects(&self) -> impl Iterator<Item = &String> {
        let is_unknown =
            |path: &&String| self.log.file(path).is_none() && !self.seen.contains_key(*path);
        self.unprojected.iter().filter(is_unknown)
    }

    pub(super) fn compact(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let header = JournalEntry::Journal { format: FORMAT, log: self.log_key.clone() };
        let home = JournalEntry::Home { id: self.home.clone() };
        let stage = JournalEntry::Stage { stage: self.stage };
        let number = self.position.number;
        let mut lines = self.log.snapshot().peekable();
        let lines = std::iter::from_fn(move || {
            lines.peek()?;
            let lines = lines.by_ref().take(LINES_PER_RECORD).collect();
            Some(JournalEntry::Lines { number, lines })
        });
        let local = self.local.iter().filter(|(path, _)| !self.claims.contains_key(*path));
        let claimed = self.claims.iter();
        let claimed = claimed.filter_map(|(path, claim)| Some((path, claim.before.as_deref()?)));
        let local = local.chain(claimed).map(|(path, signature)| JournalEntry::Local {
            path: path.clone(),
            signature: *signature,
        });
        let unfollowed = self.unfollowed.iter().map(|(path, remains)| {
            let (path, remains) = (path.clone(), remains.clone());
            JournalEntry::Unfollowed { path, remains }
        });
        let seen = self.seen.iter().map(|(path, seen)| {
            let KnownObject { token, version } = seen.clone();
            JournalEntry::KnownObject { path: path.clone(), token, version }
        });
        let unknown: Vec<String> = self.unknown_objects().cloned().collect();
        let unknown = unknown.into_iter().map(|path| JournalEntry::UnknownObject { path });
        let failed = self.failures.iter().map(|(path, failure)| {
            let (path, failure) = (path.clone(), failure.clone());
            JournalEntry::Failed { path, failure }
        });
        let uploads = self.uploads.iter().flat_map(|(blob, upload)| {
            let (blob, path) = (*blob, upload.path.clone());
            let parts = upload.record.clone().map(|upload| JournalEntry::Parts { blob, upload });
            [JournalEntry::Uploading { blob, path }].into_iter().chain(parts)
        });
        let sent = self.sent.iter().map(|sent| JournalEntry::Sent {
            position: sent.position,
            lines: sent.lines.clone(),
            signatures: sent.signatures.clone(),
        });
        let boot = self.boot.iter().map(|id| {
            let (id, suspects_objects) = (id.clone(), self.suspects_objects);
            JournalEntry::Boot { id, suspects_objects }
        });
        let last = [
            JournalEntry::Position { position: self.position },
            JournalEntry::Applying { position: self.applying },
            JournalEntry::Listed { at: self.listed },
            JournalEntry::Collected { at: self.collected },
        ];
        let records = [header, home, stage].into_iter().chain(lines).chain(local);
        let records = records.chain(unfollowed).chain(seen).chain(unknown).chain(failed);
        let marked = self.is_marked.then_some(JournalEntry::Marked);
        let records = records.chain(uploads).chain(marked).chain(boot).chain(last).chain(sent);
        // The old journal remains valid: the next opening applies what it lacks again.
        let rewritten = self.journal.rewrite(records);
        self.outdated = rewritten.is_err().then(Instant::now);
        if let Err(error) = rewritten {
            let path = self.journal.path.display();
            tracing::warn!(%path, %error, "the journal cannot be compacted");
        }
    }
}
