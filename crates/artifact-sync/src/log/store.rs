//! Objects of the log in the store.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    Error, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
};

use crate::durability::Durability;
use crate::log::entry::{Entry, EntryError};
use crate::log::ids::{Hash, Token};
use crate::log::torn::is_torn;
use crate::transfer::{Disk, StoreCapabilities, answer_within, is_on_local_disk};

/// Digits of an entry's number in its key.
const DIGITS: usize = 20;
const BLOBS: &str = "blobs";
/// Entries that are read at once.
const READS_AT_ONCE: usize = 32;

/// Log of one session in a store.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// Set if the log must survive a loss of power on the local disk.
    disk: Option<Disk>,
    /// Set for a store on the local disk, where a loss of power can cut off the last entries.
    can_be_torn: bool,
    /// Time in which the store must answer a request that reads.
    patience: Duration,
}

/// Entry with the hash of its bytes.
#[derive(Clone, Debug)]
pub(crate) struct StoredEntry {
    pub(crate) entry: Entry,
    pub(crate) hash: Hash,
    /// Set if a loss of power has cut the entry off, so that it counts as one without lines.
    pub(crate) is_torn: bool,
}

/// Error of reading the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store failed.
    #[error("the session log cannot be read")]
    Store {
        /// Error of the store.
        #[from]
        source: Error,
    },
    /// An entry has invalid content.
    #[error("entry {number} of the session log cannot be used: {problem}")]
    Entry {
        /// Number of the entry.
        number: u64,
        /// Explanation for a user.
        problem: String,
        /// True if a newer version of the program wrote it.
        is_newer: bool,
    },
    /// Entries are missing between the newest snapshot and the end.
    #[error("the session log has no entry {number}, but later ones")]
    Missing {
        /// Number of the missing entry.
        number: u64,
    },
    /// The last object follows a gap, and the log does not lead to it.
    #[error(
        "the session log {}, but the store also has {key}, which {problem}; \
         delete that object if another program wrote it; if the store damaged or lost entries, \
         delete it and run `agent-tools session sync ID --refill` on a machine that has the files",
        if *end == 0 { "is empty".to_owned() } else { format!("ends with entry {end}") }
    )]
    Stray {
        /// Key of the object.
        key: String,
        /// Number of the last entry before the gap; zero if no entry exists.
        end: u64,
        /// Explanation for a user.
        problem: &'static str,
    },
}

/// Outcome of creating an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    /// The number has an entry.
    Taken,
}

impl LogStore {
    /// Returns the log below a prefix: `logs/user_<user>/<session>`.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        let can_be_torn = is_on_local_disk(&*store);
        Self { store, prefix, disk: None, can_be_torn, patience: Duration::MAX }
    }

    /// Sets the abilities of the store. With [`Durability::Disk`], entries and flushed blobs
    /// survive a loss of power.
    pub(crate) fn with(mut self, capabilities: &StoreCapabilities, durability: Durability) -> Self {
        self.disk = Disk::of(capabilities, durability);
        self.can_be_torn |= capabilities.root.is_some();
        self
    }

    /// Sets the time in which the store must answer a request that reads, or send the next part of
    /// an answer.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn prefix(&self) -> &Key {
        &self.prefix
    }

    pub(crate) fn entry_key(&self, number: u64) -> Key {
        self.prefix.clone().join(format!("{number:0DIGITS$}"))
    }

    pub(crate) fn blob_key(&self, name: Token) -> Key {
        self.blobs().join(name.to_string())
    }

    pub(crate) fn blobs(&self) -> Key {
        self.prefix.clone().join(BLOBS)
    }

    /// Creates an entry if its number is free. `mode` is [`PutMode::Create`] wherever the store
    /// enforces it. On the local disk, the entry is flushed before it has its number, so that no
    /// later entry follows one that a loss of power can cut off.
    pub(crate) async fn create(
        &self,
        number: u64,
        content: Bytes,
        mode: PutMode,
    ) -> Result<Created, Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let store = self.disk.as_ref().map_or(&self.store, |disk| &disk.flushing);
        match store.put_opts(&self.entry_key(number), content.into(), options).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Taken),
            Err(error) => Err(error),
        }
    }

    /// Returns when the disk has the number of every entry. An interrupted [`Self::create`] may not
    /// have waited for that.
    pub(crate) async fn flush_numbers(&self) -> Result<(), Error> {
        match &self.disk {
            Some(disk) => disk.flush_directory(&self.prefix).await,
            None => Ok(()),
        }
    }

    /// Returns when the disk has these blobs.
    pub(crate) async fn flush_blobs(&self, names: &[Token]) -> Result<(), Error> {
        match &self.disk {
            Some(disk) if !names.is_empty() => {
                let keys: Vec<Key> = names.iter().map(|name| self.blob_key(*name)).collect();
                disk.flush(&keys).await
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a number has an entry.
    pub(crate) async fn exists(&self, number: u64) -> Result<bool, Error> {
        match self.answer(self.store.head(&self.entry_key(number))).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the time at which an entry was stored, by the store's clock.
    pub(crate) async fn written(&self, number: u64) -> Result<Option<SystemTime>, Error> {
        match self.answer(self.store.head(&self.entry_key(number))).await {
            Ok(meta) => Ok(Some(meta.last_modified.into())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an entry. Returns `None` if the number has none.
    pub(crate) async fn read(&self, number: u64) -> Result<Option<StoredEntry>, ReadError> {
        let bytes = match self.answer(self.store.get(&self.entry_key(number))).await {
            Ok(got) => self.body(got).await?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(source.into()),
        };
        if bytes == TOMBSTONE {
            let entry = Entry::of_deleted_session(number);
            return Ok(Some(StoredEntry { entry, hash: Hash::of(&bytes), is_torn: false }));
        }
        match Entry::decode(number, &bytes) {
            Ok(entry) => Ok(Some(StoredEntry { entry, hash: Hash::of(&bytes), is_torn: false })),
            Err(_) if self.can_be_torn && is_torn(number, &bytes) => {
                self.torn_entry(number, &bytes).await.map(Some)
            }
            Err(error) => Err((number, error).into()),
        }
    }

    /// Waits for the answer to a request that reads.
    async fn answer<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        answer_within(self.patience, &*self.store, request).await
    }

    async fn body(&self, got: GetResult) -> Result<Bytes, Error> {
        if self.can_be_torn {
            return got.bytes().await;
        }
        let mut body = Vec::new();
        let mut parts = got.into_stream();
        while let Some(part) = self.answer(parts.try_next()).await? {
            body.extend_from_slice(&part);
        }
        Ok(body.into())
    }

    /// Lists the numbers that have entries, in order, with the objects.
    pub(crate) async fn list(&self) -> Result<Vec<(u64, ObjectMeta)>, Error> {
        let mut listed = self.list_with_tombstones().await?;
        listed.retain(|(_, meta)| !is_tombstone(meta));
        Ok(listed)
    }

    /// Overwrites an entry of a deleted session with a tombstone.
    pub(crate) async fn bury(&self, number: u64) -> Result<(), Error> {
        self.create(number, Bytes::from_static(TOMBSTONE), PutMode::Overwrite).await.map(drop)
    }

    /// Lists like [`Self::list`], with the numbers that have tombstones.
    pub(crate) async fn list_with_tombstones(&self) -> Result<Vec<(u64, ObjectMeta)>, Error> {
        let listing = match self.answer(self.store.list_with_delimiter(Some(&self.prefix))).await {
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let number = |meta: &ObjectMeta| {
            let name = meta.location.filename().filter(|name| name.len() == DIGITS)?;
            name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
        };
        let mut entries: Vec<(u64, ObjectMeta)> =
            listing.objects.into_iter().filter_map(|meta| Some((number(&meta)?, meta))).collect();
        entries.sort_unstable_by_key(|(number, _)| *number);
        Ok(entries)
    }

    /// Returns the first of these numbers that has no entry.
    pub(crate) async fn first_missing(
        &self,
        numbers: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Error> {
        let listed: HashSet<u64> =
            self.list().await?.into_iter().map(|(number, _)| number).collect();
        for number in numbers.filter(|number| !listed.contains(number)) {
            // The listing may be older than the entry.
            if !self.exists(number).await? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Reads entries by their numbers, in this order.
    pub(crate) async fn read_all(
        &self,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<StoredEntry>, ReadError> {
        let read = async |number| self.read(number).await?.ok_or(ReadError::Missing { number });
        futures::stream::iter(numbers).map(read).buffered(READS_AT_ONCE).try_collect().await
    }

    /// Reads the entries from a number to the end. The caller knows that the number exists.
    #[cfg(test)]
    pub(crate) async fn read_from(&self, first: u64) -> Result<Vec<StoredEntry>, ReadError> {
        let numbers: Vec<u64> = self.list().await?.into_iter().map(|(number, _)| number).collect();
        let Some(&last) = numbers.last().filter(|last| **last >= first) else {
            return Ok(Vec::new());
        };
        let entries = self.read_all(first..=last).await?;
        check_chain(&entries)?;
        Ok(entries)
    }

    /// Deletes objects of the log. Objects that are gone already do not matter.
    pub(crate) async fn delete(&self, keys: Vec<Key>) -> Result<(), Error> {
        let keys = futures::stream::iter(keys).map(Ok).boxed();
        let deleted = self.store.delete_stream(keys).map(|deleted| match deleted {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other.map(drop),
        });
        deleted.try_collect().await
    }
}

/// Content in the place of an entry whose session was deleted. It keeps the number taken for a
/// writer that does not know of the deletion yet. No entry is that short.
const TOMBSTONE: &[u8] = b"erased\n";

/// Returns whether a listed number has a tombstone.
pub(crate) fn is_tombstone(meta: &ObjectMeta) -> bool {
    meta.size == TOMBSTONE.len() as u64
}

/// Checks that each entry names the hash of the one before it.
pub(crate) fn check_chain(entries: &[StoredEntry]) -> Result<(), ReadError> {
    for pair in entries.windows(2) {
        if pair[1].entry.header.previous != Some(pair[0].hash) {
            let number = pair[0].entry.header.number;
            let problem = "it is not the entry that the next one follows".to_owned();
            return Err(ReadError::Entry { number, problem, is_newer: false });
        }
    }
    Ok(())
}

impl From<(u64, EntryError)> for ReadError {
    fn from((number, error): (u64, EntryError)) -> Self {
        let is_newer = matches!(error, EntryError::NewerFormat { .. });
        Self::Entry { number, problem: error.to_string(), is_newer }
    }
}
