//! Builder of a mirror.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path as Key;
use rustix::fs::{AtFlags, StatxFlags};
use sandbox_core::SessionDir;

use crate::error::SyncError;
use crate::mirror::Mirror;
use crate::report::Progress;
use crate::scan::{ChangeSource, ChangeTracker, IgnoreRules};
use crate::state::{DirectoryId, Index};
use crate::transfer::{
    Applier, FileTransfers, Linker, Links, Remote, StoreCapabilities, StoreProbe,
};

/// Default time that a call waits for the store.
const DEADLINE: Duration = Duration::from_secs(10);

/// Builder of a [`Mirror`].
#[derive(Debug)]
pub struct MirrorBuilder {
    dir: Arc<SessionDir>,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    state_dir: Option<PathBuf>,
    rules: IgnoreRules,
    linker: Option<Arc<dyn Linker>>,
    progress: Option<Arc<dyn Progress>>,
    deadline: Duration,
    probe: StoreProbe,
    capabilities: StoreCapabilities,
    change_source: ChangeSource,
    excluded: Vec<String>,
}

impl Mirror {
    /// Returns a builder for a mirror of `dir` below `prefix`. The prefix itself is not an object.
    pub fn builder(
        dir: Arc<SessionDir>,
        store: Arc<dyn ObjectStore>,
        prefix: Key,
    ) -> MirrorBuilder {
        MirrorBuilder {
            dir,
            store,
            prefix,
            state_dir: None,
            rules: IgnoreRules::default(),
            linker: None,
            progress: None,
            deadline: DEADLINE,
            probe: StoreProbe::default(),
            capabilities: StoreCapabilities::default(),
            change_source: ChangeSource::default(),
            excluded: Vec::new(),
        }
    }
}

impl MirrorBuilder {
    /// Sets the directory of the local state. It is used by this mirror only and must be out of the
    /// agent's reach. Required.
    #[must_use]
    pub fn state_dir(mut self, dir: PathBuf) -> Self {
        self.state_dir = Some(dir);
        self
    }

    /// Excludes one top-level entry of the directory.
    #[must_use]
    pub fn exclude(mut self, name: &str) -> Self {
        self.excluded.push(name.to_owned());
        self
    }

    /// Replaces the default ignore rules.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the linker for stored files. By default, reports contain no links.
    #[must_use]
    pub fn linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = Some(linker);
        self
    }

    /// Sets the receiver of transfer progress.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Shares the probe results of a store with its other mirrors.
    #[must_use]
    pub fn probe(mut self, probe: StoreProbe) -> Self {
        self.probe = probe;
        self
    }

    /// Sets the abilities of the store beyond `ObjectStore`. By default, none are known.
    #[must_use]
    pub fn capabilities(mut self, capabilities: StoreCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets how changes are found. [`Mirror::change_source`] reports the method in use.
    #[must_use]
    pub fn change_source(mut self, source: ChangeSource) -> Self {
        self.change_source = source;
        self
    }

    /// Sets how long a call waits for the store; 10 s by default. Unfinished uploads continue in
    /// the background.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Opens the mirror. Transfers nothing.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the local state cannot be used.
    pub fn open(mut self) -> Result<Mirror, SyncError> {
        let index_error = |(path, source)| SyncError::Index { path, source };
        let state_dir = self.state_dir.ok_or_else(|| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no state directory is set");
            index_error((PathBuf::new(), error))
        })?;
        let mut index = Index::open(&state_dir).map_err(index_error)?;
        let id = identity(self.dir.as_fd())
            .map_err(|errno| index_error((self.dir.path().to_owned(), errno.into())))?;
        if index.directory() != Some(id) {
            index.begin_directory(id);
        }
        self.excluded.into_iter().for_each(|name| self.rules.add_top_level(name));
        let rules = Arc::new(self.rules);
        let tracker =
            ChangeTracker::new(Arc::clone(&self.dir), Arc::clone(&rules), self.change_source);
        let remote = Remote::new(self.store, self.prefix, self.probe, self.capabilities);
        let applier = Applier {
            files: FileTransfers::new(self.dir, remote, index),
            links: Links(self.linker),
            progress: self.progress,
            rules,
        };
        Ok(Mirror::new(tracker, applier, self.deadline))
    }
}

fn identity(dir: impl AsFd) -> rustix::io::Result<DirectoryId> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, wanted)?;
    let has_birth_time = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Ok(DirectoryId {
        inode: stat.stx_ino,
        born: has_birth_time.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
    })
}
