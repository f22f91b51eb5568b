//! Appends to the log.
//!
//! A number has one writer, because entries are created on the condition that the number is free.
//! An append without an answer may have succeeded. It is sent again with the same bytes, until the
//! store shows whether the number holds them.

use std::time::Duration;

use bytes::Bytes;
use object_store::{Error, PutMode};
use serde::{Deserialize, Serialize};

use crate::log::clock::Moment;
use crate::log::entry::{Entry, FORMAT, Header};
use crate::log::ids::{Hash, Token};
use crate::log::line::Line;
use crate::log::store::{Created, LogStore, ReadError, StoredEntry};

/// Longest time between the proof that a number is the next one and the answer to its append.
/// Entries live longer, so within this time a free number was never used before.
const LONGEST_TRUST: Duration = Duration::from_secs(10 * 60);

/// End of the log as far as this machine has applied it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Number of the last entry; zero for an empty log.
    pub(crate) number: u64,
    /// Hash of that entry.
    pub(crate) hash: Option<Hash>,
    /// Number of the newest snapshot; zero without one.
    pub(crate) snapshot: u64,
    /// Number of the oldest entry as of which the state is retained; zero if all are.
    #[serde(default)]
    pub(crate) retained: u64,
}

/// Writer of the log for one epoch of ownership.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: LogStore,
    position: Position,
    /// Size of the entry that was appended last.
    last_size: u64,
    /// Entry that was sent and not answered.
    unanswered: Option<Sent>,
    /// Time at which the end of the log was last proven; `None` if it was not.
    proven: Option<Moment>,
    /// Set to true if the store enforces that an entry is created once; `None` until it is known.
    has_conditional_create: Option<bool>,
    is_fenced: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    position: Position,
    content: Bytes,
    lines: Vec<Line>,
}

/// Entry that the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) position: Position,
    pub(crate) lines: Vec<Line>,
}

/// Error of an append.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Another owner wrote to the log. Nothing may be appended any more.
    #[error("another process owns the session now")]
    Fenced,
    /// The store did not confirm the entry. It may hold it.
    #[error("the session log could not be written")]
    Store(#[from] Error),
}

/// Relation of a position to the log in the store.
#[derive(Debug)]
pub(crate) enum End {
    /// The position is the end of the log.
    Here,
    /// The log continues.
    Later,
    /// The entry at the position is gone or another one.
    Elsewhere,
}

impl Position {
    pub(crate) fn of(stored: &StoredEntry) -> Self {
        let Header { number, snapshot, retained, .. } = stored.entry.header;
        Self { number, hash: Some(stored.hash), snapshot, retained }
    }
}

impl LogWriter {
    /// Creates a writer at the end of the log. The caller began to read it at `read`.
    pub(crate) fn new(log: LogStore, position: Position, read: Moment) -> Self {
        Self { proven: Some(read), ..Self::unproven(log, position) }
    }

    /// Creates a writer at a position that may not be the end of the log.
    pub(crate) fn unproven(log: LogStore, position: Position) -> Self {
        Self {
            log,
            position,
            last_size: 0,
            unanswered: None,
            proven: None,
            has_conditional_create: None,
            is_fenced: false,
        }
    }

    /// Returns whether [`Self::set_conditional_create`] must be called before an append.
    pub(crate) fn needs_conditions(&self) -> bool {
        self.has_conditional_create.is_none()
    }

    /// Sets whether the store enforces that an entry is created once.
    pub(crate) fn set_conditional_create(&mut self, is_enforced: bool) {
        self.has_conditional_create = Some(is_enforced);
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Returns the size in bytes of the entry that was appended last; zero if none was.
    pub(crate) fn last_size(&self) -> u64 {
        self.last_size
    }

    /// Returns the time since the end of the log was last proven.
    pub(crate) fn unproven_for(&self) -> Duration {
        self.proven.map_or(Duration::MAX, |proven| proven.elapsed())
    }

    /// Resolves the entry that was sent and not answered. Returns it if the log holds it.
    pub(crate) async fn settle(&mut self) -> Result<Option<Appended>, AppendError> {
        if self.unanswered.is_none() {
            return Ok(None);
        }
        self.send().await.map(Some)
    }

    /// Appends an entry. [`Self::settle`] must have succeeded before.
    pub(crate) async fn append(&mut self, lines: Vec<Line>) -> Result<Appended, AppendError> {
        self.stage(lines);
        self.send().await
    }

    /// Prepares the next entry and returns its number.
    pub(crate) fn stage(&mut self, lines: Vec<Line>) -> u64 {
        self.stage_retaining(lines, self.position.retained)
    }

    /// Like [`Self::stage`]. States before the one as of `retained` are given up with the entry.
    pub(crate) fn stage_retaining(&mut self, lines: Vec<Line>, retained: u64) -> u64 {
        debug_assert!(self.unanswered.is_none(), "the caller settles first");
        let number = self.position.number + 1;
        let is_start = |line: &Line| matches!(line, Line::Snapshot { .. } | Line::Erased);
        let has_snapshot = lines.iter().any(is_start);
        let snapshot = if has_snapshot { number } else { self.position.snapshot };
        let header = Header {
            format: FORMAT,
            number,
            snapshot,
            retained,
            previous: self.position.hash,
            token: Token::random(),
            lines: lines.len(),
        };
        let entry = Entry { header, lines };
        let content = entry.encode();
        let position = Position { number, hash: Some(Hash::of(&content)), snapshot, retained };
        self.unanswered = Some(Sent { position, content, lines: entry.lines });
        number
    }

    /// Returns the entry that is staged or was sent without an answer.
    pub(crate) fn staged(&self) -> Option<Appended> {
        let Sent { position, lines, .. } = self.unanswered.as_ref()?;
        Some(Appended { position: *position, lines: lines.clone() })
    }

    /// Sends the staged entry until the store shows that it holds it, or that another owner has
    /// taken its number.
    pub(crate) async fn send(&mut self) -> Result<Appended, AppendError> {
        if self.is_fenced {
            return Err(AppendError::Fenced);
        }
        let Some(Sent { position, content, .. }) = &self.unanswered else {
            return Err(AppendError::Fenced);
        };
        let (position, content) = (*position, content.clone());
        // After a long silence, the number may have been used and deleted in the meantime.
        if self.unproven_for() > LONGEST_TRUST {
            self.prove().await?;
        }
        let before = Moment::now();
        let size = content.len() as u64;
        let taken = match self.create(position.number, content).await? {
            Created::Yes => self.unproven_for() > LONGEST_TRUST,
            Created::Taken => true,
        };
        if taken {
            if !self.holds_last(position).await? {
                self.check_taken(position.number).await?;
                return Err(self.fence());
            }
            self.log.flush_numbers().await?;
        }
        self.proven = Some(before);
        (self.position, self.last_size) = (position, size);
        let lines = self.unanswered.take().map_or_else(Vec::new, |sent| sent.lines);
        Ok(Appended { position, lines })
    }

    /// Proves that the position is still the end of the log.
    pub(crate) async fn prove(&mut self) -> Result<(), AppendError> {
        let before = Moment::now();
        let next_is_ours = self.unanswered.as_ref().map(|sent| sent.position);
        match end_of(&self.log, self.position).await {
            Ok(End::Here) => {}
            Ok(End::Later) => match next_is_ours {
                Some(sent) if self.holds_last(sent).await? => {}
                _ => return Err(self.fence()),
            },
            Ok(End::Elsewhere) => return Err(self.fence()),
            Err(ReadError::Store { source }) => return Err(source.into()),
            Err(_) => return Err(self.fence()),
        }
        self.proven = Some(before);
        Ok(())
    }

    async fn create(&self, number: u64, content: Bytes) -> Result<Created, Error> {
        if self.has_conditional_create == Some(true) {
            return self.log.create(number, content, PutMode::Create).await;
        }
        // Such a store serves one machine, so nothing else writes between the two requests.
        if self.log.exists(number).await? {
            return Ok(Created::Taken);
        }
        self.log.create(number, content, PutMode::Overwrite).await
    }

    /// Returns whether the log ends with this entry.
    async fn holds_last(&self, position: Position) -> Result<bool, Error> {
        match end_of(&self.log, position).await {
            Ok(End::Here) => Ok(true),
            Ok(End::Later | End::Elsewhere) => Ok(false),
            Err(ReadError::Store { source }) => Err(source),
            Err(_) => Ok(false),
        }
    }

    /// Fails if a number has no entry although none can be created. On the local disk, a directory
    /// may have its name.
    async fn check_taken(&self, number: u64) -> Result<(), Error> {
        if !matches!(self.log.read(number).await, Ok(None)) {
            return Ok(());
        }
        let key = self.log.entry_key(number);
        let problem = format!("{key} holds no object, and none can be created there");
        Err(Error::Generic { store: "session log", source: problem.into() })
    }

    fn fence(&mut self) -> AppendError {
        self.is_fenced = true;
        AppendError::Fenced
    }
}

/// Compares a position with the log in the store, by two parallel requests.
pub(crate) async fn end_of(log: &LogStore, position: Position) -> Result<End, ReadError> {
    let here = async {
        match position.hash {
            None => Ok(true),
            Some(hash) => {
                let stored = log.read(position.number).await?;
                Ok::<_, ReadError>(stored.is_some_and(|stored| stored.hash == hash))
            }
        }
    };
    let next = async { Ok(log.exists(position.number + 1).await?) };
    Ok(match tokio::try_join!(here, next)? {
        (false, _) => End::Elsewhere,
        (true, false) => End::Here,
        (true, true) => End::Later,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;

    use super::*;

    fn log() -> LogStore {
        LogStore::new(Arc::new(InMemory::new()), Key::from("logs/user_u/s"))
    }

    fn writer_at(log: LogStore, position: Position) -> LogWriter {
        let mut writer = LogWriter::new(log, position, Moment::now());
        writer.set_conditional_create(true);
        writer
    }

    fn own(home: &str) -> Vec<Line> {
        vec![Line::Own { home: home.to_owned(), url: None }]
    }

    #[tokio::test]
    async fn entries_follow_each_other() {
        let log = log();
        let mut writer = writer_at(log.clone(), Position::default());
        for number in 1..=3 {
            assert_eq!(writer.append(own("a")).await.unwrap().position.number, number);
        }
        let entries = log.read_from(1).await.unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(Position::of(&entries[2]), writer.position());
    }

    #[tokio::test]
    async fn the_second_writer_of_a_number_is_fenced() {
        let log = log();
        let mut first = writer_at(log.clone(), Position::default());
        let mut second = writer_at(log, Position::default());
        first.append(own("a")).await.unwrap();
        assert!(matches!(second.append(own("b")).await, Err(AppendError::Fenced)));
        assert!(matches!(second.settle().await, Err(AppendError::Fenced)));
    }

    #[tokio::test]
    async fn a_lost_answer_is_recognised_by_the_bytes() {
        let log = log();
        let mut writer = writer_at(log.clone(), Position::default());
        writer.stage(own("a"));
        let content = writer.unanswered.clone().unwrap().content;
        log.create(1, content, PutMode::Create).await.unwrap();
        let settled = writer.settle().await.unwrap().unwrap();
        assert_eq!(settled.position.number, 1);
        assert_eq!(writer.append(own("a")).await.unwrap().position.number, 2);
    }

    #[tokio::test]
    async fn a_lost_answer_does_not_count_after_another_owners_entry() {
        let log = log();
        let mut writer = writer_at(log.clone(), Position::default());
        writer.stage(own("a"));
        let sent = writer.unanswered.clone().unwrap();
        log.create(1, sent.content, PutMode::Create).await.unwrap();
        let mut other = writer_at(log, sent.position);
        other.append(own("b")).await.unwrap();
        assert!(matches!(writer.settle().await, Err(AppendError::Fenced)));
    }

    #[tokio::test]
    async fn proof_fails_if_the_entry_at_the_position_is_gone() {
        let log = log();
        let mut writer = writer_at(log.clone(), Position::default());
        writer.append(own("a")).await.unwrap();
        writer.prove().await.unwrap();
        log.store().delete(&log.entry_key(1)).await.unwrap();
        assert!(matches!(writer.prove().await, Err(AppendError::Fenced)));
    }

    #[tokio::test]
    async fn a_recreated_entry_breaks_the_chain() {
        let log = log();
        let mut writer = writer_at(log.clone(), Position::default());
        for _ in 0..3 {
            writer.append(own("a")).await.unwrap();
        }
        log.store().delete(&log.entry_key(2)).await.unwrap();
        let position = Position { number: 1, ..Position::default() };
        writer_at(log.clone(), position).append(own("late")).await.unwrap();
        assert!(matches!(log.read_from(1).await, Err(ReadError::Entry { number: 1 | 2, .. })));
    }
}
