//! What a mirror is made with.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path as Key;
use rustix::fs::{AtFlags, StatxFlags};
use sandbox_core::SessionDir;

use crate::conditional::StoreProbe;
use crate::error::SyncError;
use crate::ignore::IgnoreRules;
use crate::index::{DirectoryId, Index};
use crate::links::Linker;
use crate::look::{ChangeSource, Lookout};
use crate::mirror::{Inner, Mirror};
use crate::report::Progress;
use crate::tally::Told;
use crate::upload::Uploader;

/// How long a synchronisation waits for the store by default.
const DEADLINE: Duration = Duration::from_secs(10);

/// What [`Mirror::builder`] sets.
#[derive(Debug)]
pub struct MirrorBuilder {
    dir: Arc<SessionDir>,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    state_dir: Option<PathBuf>,
    rules: IgnoreRules,
    excluded: Vec<String>,
    linker: Option<Arc<dyn Linker>>,
    progress: Option<Arc<dyn Progress>>,
    deadline: Duration,
    probe: StoreProbe,
    changes: ChangeSource,
}

impl MirrorBuilder {
    pub(crate) fn new(dir: Arc<SessionDir>, store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self {
            dir,
            store,
            prefix,
            state_dir: None,
            rules: IgnoreRules::default(),
            excluded: Vec::new(),
            linker: None,
            progress: None,
            deadline: DEADLINE,
            probe: StoreProbe::default(),
            changes: ChangeSource::default(),
        }
    }

    /// Where the record of what the store holds is kept: a directory of its own, out of the agent's
    /// reach. Required.
    #[must_use]
    pub fn state_dir(mut self, dir: PathBuf) -> Self {
        self.state_dir = Some(dir);
        self
    }

    /// Leaves alone an entry of the directory itself.
    #[must_use]
    pub fn exclude(mut self, name: &str) -> Self {
        self.excluded.push(name.to_owned());
        self
    }

    /// What is left alone at any depth, in the place of the default list.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.rules = rules;
        self
    }

    /// Makes links to what is stored.
    #[must_use]
    pub fn linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = Some(linker);
        self
    }

    /// Is told how far transfers have come.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Shares what is found out about the store with other mirrors of it.
    #[must_use]
    pub fn probe(mut self, probe: StoreProbe) -> Self {
        self.probe = probe;
        self
    }

    /// How changes are found; by events unless set. [`Mirror::change_source`] tells how they are.
    #[must_use]
    pub fn change_source(mut self, source: ChangeSource) -> Self {
        self.changes = source;
        self
    }

    /// How long a call waits for the store, 10 s by default. What is not done by then goes on in
    /// the background.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Opens the record. Nothing is transferred.
    ///
    /// # Errors
    /// [`SyncError::Index`] when the record cannot be used.
    pub fn open(mut self) -> Result<Mirror, SyncError> {
        let index_error = |(path, source)| SyncError::Index { path, source };
        let state_dir = self.state_dir.ok_or_else(|| {
            index_error((
                PathBuf::new(),
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "no state directory is set"),
            ))
        })?;
        let mut index = Index::open(&state_dir).map_err(index_error)?;
        let id = identity(self.dir.as_fd())
            .map_err(|errno| index_error((self.dir.path().to_owned(), errno.into())))?;
        if index.directory() != Some(id) {
            index.begin_directory(id);
        }
        self.excluded.into_iter().for_each(|name| self.rules.add_top_level(name));
        let uploader = Uploader::new(self.dir, self.store, self.prefix.clone(), self.probe);
        let inner = Inner {
            prefix: self.prefix,
            rules: self.rules,
            uploader,
            linker: self.linker,
            progress: self.progress,
            deadline: self.deadline,
            index: Mutex::new(index),
            turn: Arc::default(),
            told: Told::default(),
            lookout: Lookout::new(self.changes),
        };
        Ok(Mirror::of(inner))
    }
}

fn identity(dir: impl AsFd) -> rustix::io::Result<DirectoryId> {
    let stat =
        rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME)?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Ok(DirectoryId {
        inode: stat.stx_ino,
        born: told.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
    })
}
