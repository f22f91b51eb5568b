//! Reading of the log at opening: the part that the working copy does not follow yet.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::StreamExt;

use crate::error::SyncError;
use crate::log::{
    End, Hash, Line, LogState, LogStore, Node, Position, ReadError, StoredEntry, end_of,
};
use crate::mirror::close::lost_contents;
use crate::mirror::garbage::Listing;
use crate::paths::{parents, under};
use crate::transfer::Fetcher;

/// Log after the position of a working copy.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) state: Arc<LogState>,
    pub(super) position: Position,
    pub(super) versions: Versions,
    /// Set if entries after the position are no longer retained.
    pub(super) missed_entries: bool,
    /// Paths that may differ between the two states; `None` means all.
    pub(super) touched: Option<BTreeSet<String>>,
    /// Homes that owned the session after the position.
    pub(super) owners: HashSet<String>,
    /// Set if the session was deleted after the position, and its id was used again or not.
    pub(super) was_erased: bool,
    /// Numbers of entries after the position that a loss of power has cut off.
    pub(super) torn: Vec<u64>,
    /// Set if the session was deleted and older entries are left, so that the deletion is not
    /// finished.
    pub(super) has_remains: bool,
    /// Set if an earlier application of the log was interrupted.
    pub(super) resumes: bool,
}

/// Versions of paths in the entries after the position, also where a later entry replaced them. An
/// interrupted application may have put any of them in place.
///
/// Each is one hash of the path and the version, because there may be many.
#[derive(Debug, Default)]
pub(super) struct Versions(HashSet<Hash>);

impl Versions {
    fn add(&mut self, line: &Line) {
        let Some(path) = line.path() else { return };
        let version = match line {
            Line::File { file, .. } => file.hash,
            Line::Directory { .. } => directory(),
            Line::Symlink { target, .. } => symlink(target),
            Line::Removed { .. } => removal(),
            _ => return,
        };
        self.0.insert(version.under(path));
        // Directories above are created with it, and are left empty without it.
        for above in parents(path) {
            if !self.0.insert(directory().under(above)) {
                break;
            }
        }
    }

    fn contains(&self, path: &str, version: Hash) -> bool {
        self.0.contains(&version.under(path))
    }
}

fn directory() -> Hash {
    Hash::of(b"directory").under("")
}

fn symlink(target: &str) -> Hash {
    Hash::of(b"symlink").under(target)
}

fn removal() -> Hash {
    Hash::of(b"removal").under("")
}

/// Newest entries that are read at once, before it is known which are needed.
const READ_AHEAD: u64 = 32;

/// Entries that are wanted because of what a working copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Those that make up the state, because the working copy has no files.
    State,
    /// All after the position, which explain older versions of files.
    All,
}

/// Reads the log after a position. Returns `None` if there is nothing new.
pub(super) async fn read(
    log: &LogStore,
    fetcher: &Fetcher,
    base: &LogState,
    position: Position,
    wanted: Wanted,
) -> Result<Option<Incoming>, SyncError> {
    let failed = |source| SyncError::Log { source };
    if position.number > 0 && matches!(end_of(log, position).await.map_err(failed)?, End::Here) {
        return Ok(None);
    }
    let listed = log.list().await.map_err(|source| failed(source.into()))?;
    let numbers: Vec<u64> = listed.into_iter().map(|(number, _)| number).collect();
    let Some(&last) = numbers.last() else {
        return match position.number {
            0 => Ok(None),
            number => Err(SyncError::StoreReplaced { number }),
        };
    };
    if last < position.number {
        return Err(SyncError::StoreReplaced { number: position.number });
    }
    let known = last.saturating_sub(READ_AHEAD).max(position.number.saturating_sub(1));
    let mut reader = Reader::prefetch(log, numbers.iter().copied().filter(|n| *n > known)).await;
    let newest = match reader.read([last]).await {
        Ok(newest) => newest,
        Err(error) => return Err(failed(log.explain_end(&numbers, error).await)),
    };
    let snapshot = newest.first().map_or(1, |end| end.entry.header.snapshot.max(1));
    let is_behind_snapshot = position.number < snapshot;
    let first = if is_behind_snapshot { snapshot } else { position.number };
    let mut entries = match reader.read(first..last).await {
        Ok(entries) => entries,
        Err(error) => return Err(failed(log.explain_end(&numbers, error).await)),
    };
    entries.extend(newest);
    check(&entries)?;
    // A working copy from before the deletion must not fill the session again. Without one, the id
    // begins anew.
    let is_erasure = |stored: &StoredEntry| stored.entry.lines.contains(&Line::Erased);
    let was_erased = entries.iter().any(is_erasure);
    if position.number > 0 && was_erased {
        return Err(SyncError::Erased);
    }
    let mut state = if is_behind_snapshot { LogState::default() } else { base.clone() };
    if !is_behind_snapshot {
        // The first entry is the one at the position, and must be the one that was applied.
        let own = entries.remove(0);
        if Some(own.hash) != position.hash {
            return Err(SyncError::StoreReplaced { number: position.number });
        }
    }
    entries.iter().for_each(|stored| fetcher.remember(&stored.entry));
    let torn = entries.iter().filter(|stored| stored.is_torn);
    let torn = torn.map(|stored| stored.entry.header.number).collect();
    let Some(end) = entries.last() else { return Ok(None) };
    let end = Position::of(end);
    let older = match wanted {
        Wanted::State => Older { entries: reader.rest(), is_complete: false },
        Wanted::All => older_entries(&mut reader, &numbers, position, snapshot).await,
    };
    // Their contents may be current, so that they need not be read again.
    older.entries.iter().for_each(|stored| fetcher.remember(&stored.entry));
    let missed_entries = is_behind_snapshot && position.number > 0 && !older.is_complete;
    let lines = || older.entries.iter().chain(&entries).flat_map(|stored| &stored.entry.lines);
    let mut versions = Versions::default();
    lines().for_each(|line| versions.add(line));
    let owners = lines().filter_map(|line| match line {
        Line::Own { home, .. } => Some(home.clone()),
        Line::Snapshot { owner, .. } => Some(owner.as_ref()?.home.clone()),
        _ => None,
    });
    let owners = owners.collect();
    let has_files = position.number > 0;
    let named: Option<BTreeSet<String>> = (has_files && !is_behind_snapshot)
        .then(|| lines().filter_map(|line| Some(line.path()?.to_owned())).collect());
    for StoredEntry { entry, .. } in entries {
        let number = entry.header.number;
        entry.lines.into_iter().for_each(|line| state.apply(number, line));
    }
    if has_files && position.number < state.began {
        return Err(SyncError::Erased);
    }
    let touched = named.map(|named| {
        let gone = base.nodes.keys().filter(|path| !state.nodes.contains_key(*path)).cloned();
        named.into_iter().chain(gone).collect()
    });
    let has_remains = state.is_erased && numbers.len() > 1;
    Ok(Some(Incoming {
        state: Arc::new(state),
        position: end,
        versions,
        missed_entries,
        touched,
        owners,
        was_erased,
        torn,
        has_remains,
        resumes: false,
    }))
}

/// Reader of entries, of which some were read ahead.
struct Reader<'l> {
    log: &'l LogStore,
    prefetched: BTreeMap<u64, StoredEntry>,
}

impl<'l> Reader<'l> {
    /// Reads entries ahead. What fails is read again when it is needed.
    async fn prefetch(log: &'l LogStore, numbers: impl Iterator<Item = u64>) -> Self {
        let read = async |number| Some((number, log.read(number).await.ok()??));
        let read = futures::stream::iter(numbers).map(read).buffered(READ_AHEAD as usize);
        Self { log, prefetched: read.filter_map(async |read| read).collect().await }
    }

    /// Returns entries by their numbers, in this order.
    async fn read(
        &mut self,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<StoredEntry>, ReadError> {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let absent = numbers.iter().copied().filter(|number| !self.prefetched.contains_key(number));
        let absent: Vec<u64> = absent.collect();
        for stored in self.log.read_all(absent).await? {
            self.prefetched.insert(stored.entry.header.number, stored);
        }
        Ok(numbers.iter().filter_map(|number| self.prefetched.remove(number)).collect())
    }

    /// Returns the entries that were read and not needed.
    fn rest(self) -> Vec<StoredEntry> {
        self.prefetched.into_values().collect()
    }
}

/// Checks that the store still has the entries that a working copy follows. Without them, its other
/// objects prove nothing: it was rolled back.
pub(super) async fn check_followed(log: &LogStore, position: Position) -> Result<(), SyncError> {
    let followed = position.snapshot.max(1)..=position.number;
    match log.first_missing(followed).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(SyncError::StoreReplaced { number: position.number }),
        Err(source) => Err(SyncError::Log { source: source.into() }),
    }
}

/// Checks that the store has the contents of all files.
pub(super) async fn check_contents(
    log: &LogStore,
    state: &LogState,
    position: Position,
) -> Result<(), SyncError> {
    let listing = Listing::of(log).await;
    let listing = listing.map_err(|source| SyncError::Log { source: source.into() })?;
    match lost_contents(state, &listing).is_empty() {
        false => Err(SyncError::StoreReplaced { number: position.number }),
        true => Ok(()),
    }
}

/// Entries between the position and the newest snapshot that are still retained.
struct Older {
    entries: Vec<StoredEntry>,
    is_complete: bool,
}

async fn older_entries(
    reader: &mut Reader<'_>,
    numbers: &[u64],
    position: Position,
    snapshot: u64,
) -> Older {
    let wanted = position.number + 1..snapshot;
    let retained: Vec<u64> =
        numbers.iter().copied().filter(|number| wanted.contains(number)).collect();
    let is_whole = retained.len() as u64 == wanted.end.saturating_sub(wanted.start);
    match reader.read(retained).await {
        Ok(entries) => {
            let is_chain = check(&entries).is_ok();
            Older { entries, is_complete: is_whole && is_chain }
        }
        // What cannot be read is treated like what was deleted: changed files are kept beside.
        Err(_) => Older { entries: Vec::new(), is_complete: false },
    }
}

fn check(entries: &[StoredEntry]) -> Result<(), SyncError> {
    crate::log::check_chain(entries).map_err(|source| SyncError::Log { source })
}

impl Incoming {
    /// Returns the log that the working copy follows already.
    pub(super) fn unchanged(state: Arc<LogState>, position: Position) -> Self {
        Self { touched: Some(BTreeSet::new()), ..Self::complete(state, position) }
    }

    /// Returns a complete state for a directory that follows nothing yet.
    pub(super) fn complete(state: Arc<LogState>, position: Position) -> Self {
        Self {
            state,
            position,
            versions: Versions::default(),
            missed_entries: false,
            touched: None,
            owners: HashSet::new(),
            was_erased: false,
            torn: Vec::new(),
            has_remains: false,
            resumes: false,
        }
    }

    /// Returns whether an entry after the position had this content for the path.
    pub(super) fn has_version(&self, path: &str, hash: Hash) -> bool {
        self.versions.contains(path, hash)
    }

    /// Returns whether an interrupted application may have created this directory or symlink: an
    /// entry after the position had it. The mode of a directory does not matter.
    pub(super) fn has_other_version(&self, path: &str, node: &Node) -> bool {
        match node {
            _ if !self.resumes => false,
            Node::File(_) => false,
            Node::Directory { .. } => self.versions.contains(path, directory()),
            Node::Symlink { target } => self.versions.contains(path, symlink(target)),
        }
    }

    /// Returns whether an interrupted application may have removed the path, also to make way for
    /// a directory.
    pub(super) fn has_removed(&self, path: &str) -> bool {
        let versions = [removal(), directory()];
        self.resumes && versions.into_iter().any(|version| self.versions.contains(path, version))
    }

    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.state.nodes.get(path)
    }

    /// Returns whether the log has something below a path.
    pub(super) fn has_below(&self, path: &str) -> bool {
        under(&self.state.nodes, path).any(|(below, _)| below != path)
    }
}
