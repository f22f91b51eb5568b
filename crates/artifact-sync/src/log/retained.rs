//! The part of the log that is still retained, beyond what the current state needs.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{Error, ObjectMeta, ObjectStoreExt};

use crate::log::entry::Entry;
use crate::log::ids::Hash;
use crate::log::line::{Content, FileVersion, Line};
use crate::log::state::LogState;
use crate::log::store::{LogStore, ReadError, StoredEntry, check_chain};
use crate::log::writer::Position;

/// Entries that are read at once. A snapshot may be large.
const READS_AT_ONCE: usize = 8;

/// Number of an entry, with its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    /// Time at which the store received it, in seconds since 1970.
    pub(crate) at: i64,
    /// Size in bytes.
    pub(crate) size: u64,
}

impl From<&(u64, ObjectMeta)> for Numbered {
    fn from((number, meta): &(u64, ObjectMeta)) -> Self {
        Self { number: *number, at: meta.last_modified.timestamp(), size: meta.size }
    }
}

/// State of a session as of one entry.
#[derive(Debug)]
pub(crate) struct StateAt {
    pub(crate) state: LogState,
    pub(crate) position: Position,
}

impl LogStore {
    /// Lists all numbers that have entries, in order.
    pub(crate) async fn list_numbers(&self) -> Result<Vec<Numbered>, Error> {
        Ok(self.list().await?.iter().map(Numbered::from).collect())
    }

    /// Reads the log from the oldest state that is still retained. Passes each entry, with the
    /// state before it, to `describe`, and returns the descriptions in order.
    ///
    /// An entry takes part only if an unbroken chain of hashes joins it to the end of the log.
    pub(crate) async fn describe_retained<T>(
        &self,
        mut describe: impl FnMut(&LogState, &Entry, Numbered) -> Option<T>,
    ) -> Result<Vec<T>, ReadError> {
        let listed = self.list_numbers().await?;
        let run = unbroken_run(&listed).to_vec();
        if run.is_empty() {
            return Ok(Vec::new());
        }
        let end = self.read_last(listed.iter().map(|entry| entry.number).collect()).await?;
        let retained = end.map_or(0, |stored| stored.entry.header.retained);
        let read = async |numbered: Numbered| match self.read(numbered.number).await {
            Ok(stored) => Ok((numbered, stored)),
            // An unreadable entry ends the history, like one that is gone.
            Err(ReadError::Entry { .. }) => Ok((numbered, None)),
            Err(error) => Err(error),
        };
        let mut entries = futures::stream::iter(run).map(read).buffered(READS_AT_ONCE);
        let mut described = Vec::new();
        let mut state: Option<LogState> = None;
        let mut previous: Option<Hash> = None;
        while let Some((numbered, stored)) = entries.try_next().await? {
            let Some(StoredEntry { entry, hash, .. }) = stored else {
                described.clear();
                (state, previous) = (None, None);
                continue;
            };
            if entry.header.previous != previous {
                described.clear();
                state = None;
            }
            previous = Some(hash);
            if state.is_none() && (entry.header.number == 1 || entry.is_snapshot()) {
                state = Some(LogState::default());
            }
            if let Some(state) = &mut state {
                if numbered.number >= retained {
                    described.extend(describe(state, &entry, numbered));
                }
                state.apply_entry(&entry);
            }
        }
        Ok(described)
    }

    /// Returns the contents that readable entries have for some paths.
    pub(crate) async fn versions_of(
        &self,
        paths: &BTreeSet<String>,
    ) -> Result<HashMap<String, HashSet<Hash>>, ReadError> {
        let numbers = self.list().await?.into_iter().map(|(number, _)| number);
        let mut entries =
            futures::stream::iter(numbers).map(|number| self.read(number)).buffered(READS_AT_ONCE);
        let mut versions: HashMap<String, HashSet<Hash>> = HashMap::new();
        while let Some(stored) = entries.next().await {
            let stored = match stored {
                Err(ReadError::Entry { .. }) => continue,
                stored => stored?,
            };
            for line in stored.into_iter().flat_map(|stored| stored.entry.lines) {
                if let Line::File { path, file } = line
                    && paths.contains(&path)
                {
                    versions.entry(path).or_default().insert(file.hash);
                }
            }
        }
        Ok(versions)
    }

    /// Returns the state as of an entry, or as of the last one. Returns `None` if the log is empty
    /// or no longer retains that state.
    pub(crate) async fn state_at(&self, number: Option<u64>) -> Result<Option<StateAt>, ReadError> {
        let listed = self.list().await?;
        let Some(&(last, _)) = listed.last() else { return Ok(None) };
        let number = number.unwrap_or(last);
        if listed.binary_search_by_key(&number, |(number, _)| *number).is_err() {
            return Ok(None);
        }
        let Some(end) = self.read_last(listed.iter().map(|(number, _)| *number).collect()).await?
        else {
            return Ok(None);
        };
        let stored = match number < last {
            true if number < end.entry.header.retained => None,
            true => self.read(number).await?,
            false => Some(end),
        };
        let Some(stored) = stored else { return Ok(None) };
        if stored.entry.lines.contains(&Line::Erased) {
            let state = LogState { is_erased: true, began: number, ..LogState::default() };
            return Ok(Some(StateAt { state, position: Position::of(&stored) }));
        }
        let first = stored.entry.header.snapshot.max(1);
        // The next entry shows that this one was not created again under a deleted number.
        let after = (number < last).then_some(number + 1);
        let mut entries = match self.read_all(first..number).await {
            Ok(entries) => entries,
            Err(ReadError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        entries.push(stored);
        let count = entries.len();
        match self.read_all(after).await {
            Ok(after) => entries.extend(after),
            Err(ReadError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        if check_chain(&entries).is_err() {
            return Ok(None);
        }
        entries.truncate(count);
        let Some(position) = entries.last().map(Position::of) else { return Ok(None) };
        let state = LogState::replay(entries.iter().map(|stored| &stored.entry));
        Ok(Some(StateAt { state, position }))
    }

    /// Reads the content of a file version. Returns `None` if the store does not have it.
    pub(crate) async fn read_content(
        &self,
        file: &FileVersion,
    ) -> Result<Option<Bytes>, ReadError> {
        match &file.content {
            Content::Inline(inline) => Ok(Some(inline.0.clone())),
            Content::Entry(number) => {
                let stored = self.read(*number).await?;
                Ok(stored.and_then(|stored| stored.entry.inline(&file.hash)))
            }
            Content::Blob(name) => match self.store().get(&self.blob_key(*name)).await {
                Ok(got) => Ok(Some(got.bytes().await?)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(source) => Err(source.into()),
            },
        }
    }
}

/// Returns the numbers that lead to the last one without a gap.
pub(crate) fn unbroken_run(listed: &[Numbered]) -> &[Numbered] {
    let is_gap = |pair: &[Numbered]| pair[0].number + 1 != pair[1].number;
    let start = listed.windows(2).rposition(is_gap).map_or(0, |gap| gap + 1);
    &listed[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_ends_at_the_last_gap() {
        let numbered = |number| Numbered { number, at: 0, size: 0 };
        let run = |numbers: &[u64]| {
            let listed: Vec<_> = numbers.iter().copied().map(numbered).collect();
            unbroken_run(&listed).iter().map(|numbered| numbered.number).collect::<Vec<_>>()
        };
        assert_eq!(run(&[]), [0; 0]);
        assert_eq!(run(&[7]), [7]);
        assert_eq!(run(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(run(&[2, 5, 6, 9, 10]), [9, 10]);
    }
}
