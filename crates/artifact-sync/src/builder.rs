//! Builder of a mirror.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use crate::durability::Durability;
use crate::keys::SessionKeys;
use crate::log::{Line, LogStore, unix_seconds};
use crate::mirror::Mirror;
use crate::owners::{Heartbeat, Timings};
use crate::report::Progress;
use crate::scan::{ChangeSource, IgnoreRules};
use crate::state::Boot;
use crate::transfer::{LinkTarget, Linker, StoreCapabilities, StoreProbe};

/// Default time that a call waits for the store.
const DEADLINE: Duration = Duration::from_secs(10);

/// Default time without progress after which a flush ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Default time for which the log keeps older versions.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Default of [`MirrorBuilder::max_queued_bytes`]: 10 GiB.
pub const MAX_QUEUED_BYTES: u64 = 10 << 30;

/// Builder of a [`Mirror`].
#[derive(Debug)]
pub struct MirrorBuilder {
    pub(crate) dir: PathBuf,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) keys: SessionKeys,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) rules: IgnoreRules,
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) link_target: LinkTarget,
    pub(crate) progress: Option<Arc<dyn Progress>>,
    pub(crate) deadline: Duration,
    pub(crate) probe: StoreProbe,
    pub(crate) capabilities: StoreCapabilities,
    pub(crate) change_source: ChangeSource,
    pub(crate) excluded: Vec<String>,
    pub(crate) ownership: Ownership,
    /// Set unless the projection is turned off.
    pub(crate) projection: bool,
    /// Age up to which an earlier listing of the projection is recent enough to open the mirror.
    pub(crate) listing_age: Duration,
    pub(crate) retention: Duration,
    pub(crate) patience: Duration,
    pub(crate) max_queued_bytes: u64,
    pub(crate) durability: Durability,
    /// Start of the machine; `None` if it is unknown.
    pub(crate) boot: Option<Boot>,
    pub(crate) lost_log: LostLog,
}

/// Treatment of a store that lost the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostLog {
    Refuse,
    Refill,
}

/// Home for which a mirror owns its session.
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    /// Id of the home. If it is empty, the state directory counts as a home.
    pub(crate) home: String,
    pub(crate) url: Option<String>,
    pub(crate) takeover: Takeover,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) timings: Timings,
    /// Time without a call after which the session is released.
    pub(crate) release_after: Option<Duration>,
}

/// Treatment of a session that another home owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takeover {
    /// Opening fails with [`SyncError::OwnedElsewhere`](crate::SyncError::OwnedElsewhere) if the
    /// owner is alive. It takes up to 10 s to see that, and 30 s to see that the owner is dead.
    Refuse,
    /// Opening waits until the owner releases the session or counts as dead.
    Wait,
    /// This home becomes the owner at once. The other one can store nothing more.
    #[default]
    Steal,
}

impl Mirror {
    /// Returns a builder for a mirror of `dir`. An absent directory is restored when the mirror is
    /// opened; its parent must exist.
    pub fn builder(
        dir: impl Into<PathBuf>,
        store: Arc<dyn ObjectStore>,
        keys: SessionKeys,
    ) -> MirrorBuilder {
        MirrorBuilder {
            dir: dir.into(),
            store,
            keys,
            state_dir: None,
            rules: IgnoreRules::default(),
            linker: None,
            link_target: LinkTarget::default(),
            progress: None,
            deadline: DEADLINE,
            probe: StoreProbe::default(),
            capabilities: StoreCapabilities::default(),
            change_source: ChangeSource::default(),
            excluded: Vec::new(),
            ownership: Ownership {
                home: String::new(),
                url: None,
                takeover: Takeover::default(),
                heartbeat: None,
                timings: Timings::default(),
                release_after: None,
            },
            projection: true,
            listing_age: Duration::ZERO,
            retention: RETENTION,
            patience: PATIENCE,
            max_queued_bytes: MAX_QUEUED_BYTES,
            durability: Durability::default(),
            boot: Boot::current(),
            lost_log: LostLog::Refuse,
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

    /// Sets the objects that links open; those of the projection by default.
    #[must_use]
    pub fn links_to(mut self, target: LinkTarget) -> Self {
        self.link_target = target;
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

    /// Sets the home for which the mirror owns the session, and the treatment of other owners. By
    /// default, each state directory counts as a home and takes the session over at once.
    #[must_use]
    pub fn home(mut self, id: impl Into<String>, takeover: Takeover) -> Self {
        self.ownership.home = id.into();
        self.ownership.takeover = takeover;
        self
    }

    /// Sets the time for which opening does not list the projection again. By default, each opening
    /// finds the changes of other programs.
    #[must_use]
    pub fn listing_age(mut self, age: Duration) -> Self {
        self.listing_age = age;
        self
    }

    /// Sets the heartbeat of the home for which the mirror owns the session, and the treatment of
    /// other owners. Required if homes share the store; without it, no other owner counts as dead.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: &Heartbeat, takeover: Takeover) -> Self {
        self.ownership.home = heartbeat.home().to_string();
        self.ownership.url = heartbeat.url().map(str::to_owned);
        self.ownership.timings = heartbeat.timings();
        self.ownership.heartbeat = Some(heartbeat.clone());
        self.ownership.takeover = takeover;
        self
    }

    /// Releases the session whenever no call ran for this time, as
    /// [`Mirror::release_if_idle`] does. By default, it stays owned.
    #[must_use]
    pub fn release_after(mut self, idle: Duration) -> Self {
        self.ownership.release_after = Some(idle);
        self
    }

    /// Replaces the intervals of leases and takeovers.
    #[doc(hidden)]
    #[must_use]
    pub fn timings(mut self, timings: Timings) -> Self {
        self.ownership.timings = timings;
        self
    }

    /// Sets for how long a flush, a close or a drain goes on without progress; 60 s by default. A
    /// file or a part of a large one that is sent counts as progress. The time also limits how long
    /// opening waits for each answer with entries of the log or objects of the projection.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Sets how long the session log keeps versions that are no longer current; one day by default,
    /// and 15 minutes at least.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets how many bytes of files may be queued for upload; 10 GiB by default. The size of a file
    /// counts, with the holes of a sparse file. Further changes are reported as pending with this
    /// reason, and stored later. An empty queue takes a file of any size.
    #[must_use]
    pub fn max_queued_bytes(mut self, bytes: u64) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// Sets when a store on the local disk counts a change as stored; [`Durability::Disk`] by
    /// default. It flushes stores with [`StoreCapabilities::root`] and
    /// [`StoreCapabilities::flushing`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Stores the files of the working copy again if the store has lost, rolled back or damaged the
    /// session log. A new log begins at the store's end. A session that was deleted is never
    /// refilled.
    #[must_use]
    pub fn refill(mut self) -> Self {
        self.lost_log = LostLog::Refill;
        self
    }

    /// Turns the projection off: the store gets the log and the blobs only. Changes by other
    /// programs are not looked for, and links open versions ([`LinkTarget::Version`]). Objects of
    /// the projection that exist stay as they are. A later mirror with a projection repairs them.
    #[must_use]
    pub fn without_projection(mut self) -> Self {
        self.projection = false;
        self
    }

    /// Behaves as if the machine had started with this id just now.
    #[doc(hidden)]
    #[must_use]
    pub fn booted(mut self, id: &str) -> Self {
        self.boot = Some(Boot { id: id.to_owned(), began: unix_seconds() + 1 });
        self
    }

    /// Returns the log of the session.
    pub(crate) fn log(&self) -> LogStore {
        LogStore::new(Arc::clone(&self.store), self.keys.log.clone())
            .with(&self.capabilities, self.durability)
            .with_patience(self.patience)
    }
}

impl Ownership {
    /// Returns the line with which this home becomes the owner.
    pub(crate) fn line(&self) -> Line {
        Line::Own { home: self.home.clone(), url: self.url.clone() }
    }
}
