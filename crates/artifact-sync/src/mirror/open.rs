//! Opening of a mirror: the working copy is restored, or follows what the log has in addition.

mod follow;
mod inspect;
mod mark;
mod reboot;
mod restore;
mod resume;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use sandbox_core::internal::blocking;
use sandbox_core::{SessionDir, with_causes};
use tokio::sync::Mutex as AsyncMutex;

use crate::builder::{LostLog, MirrorBuilder, Takeover};
use crate::error::{SyncError, SyncErrorKind};
use crate::log::{LogState, LogStore, LogWriter, Position, ReadError, Token, unix_seconds};
use crate::mirror::Mirror;
use crate::mirror::access::{Access, Calls};
use crate::mirror::acquire::{Acquired, Acquisition, Claim};
use crate::mirror::close::finish_closing;
use crate::mirror::incoming::{Incoming, Wanted, check_contents, check_followed};
use crate::mirror::leftovers::sweep_uploads;
use crate::mirror::migrate::FormerCopy;
use crate::mirror::refresh::{MassRemoval, ProjectionListing};
use crate::mirror::shared::{Appender, Shared, Tenure};
use crate::report::{ReportedState, RestoreReport};
use crate::scan::ChangeTracker;
use crate::state::{FormerIndex, Ledger, Objects, Stage, StateLock};
use crate::transfer::{
    Blobs, Fetcher, LinkTarget, Links, Placement, Projection, Remote, UploadRecord,
};

pub(super) use mark::is_recreated;
use mark::mark;
pub(super) use restore::restoring;

pub use inspect::{LocalStatus, SessionOwner};

/// Parts that exist before the working copy does.
pub(super) struct Parts {
    pub(super) settings: MirrorBuilder,
    pub(super) remote: Arc<Remote>,
    pub(super) log: LogStore,
}

impl MirrorBuilder {
    /// Opens the mirror. Restores the directory if it is absent. Otherwise applies what the session
    /// log has in addition, and adopts external changes.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the local state cannot be used,
    /// [`SyncError::OwnedElsewhere`] if another home owns the session, and
    /// [`SyncError::StoreReplaced`] if the store lost the log. Returns other variants if the store
    /// or the disk fails.
    ///
    /// # Cancel safety
    /// An interrupted restore continues with the next opening.
    pub async fn open(mut self) -> Result<Mirror, SyncError> {
        let state_dir = self.take_state_dir()?;
        check_place(&self.dir)?;
        let log = self.log();
        let index_error = |(path, source)| SyncError::Index { path, source };
        let mut lock = StateLock::take(&state_dir).map_err(index_error)?;
        lock.record_modes(&self.dir).map_err(index_error)?;
        let remote = Arc::new(self.remote());
        // Only the journal knows whether an earlier listing is recent enough.
        let lists_always = self.projection && self.listing_age.is_zero();
        let listing = lists_always.then(|| ProjectionListing::begin(&remote));
        let log_key = self.keys.log.to_string();
        let opened = blocking(move || Ledger::open(lock, &log_key)).await;
        let mut ledger = opened.map_err(index_error)?;
        // An unfinished deletion goes on first, and changes what there is to list.
        let listing = listing.filter(|_| ledger.stage() == Stage::Open);
        if !self.projection && ledger.listed() != 0 {
            // The first opening with a projection looks for what happened in between.
            ledger.set_listed(0);
        }
        if self.ownership.home.is_empty() {
            self.ownership.home = ledger.home().to_owned();
        }
        if ledger.stage() == Stage::Closing {
            finish_closing(&self.dir, &mut ledger).await?;
        }
        let mut former = FormerIndex::read(&state_dir)
            .map_err(|source| index_error((state_dir.clone(), source)))?;
        if former.is_some() && ledger.stage() == Stage::Open {
            ledger.end_migration().map_err(index_error)?;
            former = None;
        }
        let ended = ledger.uploads().keys().map(Token::to_string).collect();
        sweep_uploads(&remote, &log, ended);
        let parts = Parts { settings: self, remote, log };
        if ledger.stage() == Stage::Erasing {
            match parts.is_erased(&mut ledger).await? {
                // The deletion was interrupted. The id begins anew.
                true => parts.finish_local_erasure(&mut ledger).await?,
                false => ledger.set_stage(Stage::Open),
            }
        }
        match parts.settings.dir.is_dir() {
            true => parts.open_present(ledger, former, listing).await,
            false => parts.restore(ledger, former).await,
        }
    }

    /// Returns the projection's side of the store.
    pub(super) fn remote(&self) -> Remote {
        Remote::new(
            Arc::clone(&self.store),
            self.keys.projection.clone(),
            self.probe.clone().or_below(&self.keys.log),
            self.capabilities.clone(),
        )
    }

    fn take_state_dir(&mut self) -> Result<PathBuf, SyncError> {
        self.state_dir.take().ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no state directory is set");
            SyncError::Index { path: PathBuf::new(), source }
        })
    }
}

impl Parts {
    /// Opens a mirror of a directory that exists. If version 0.1 kept it, its index is given.
    async fn open_present(
        self,
        mut ledger: Ledger,
        former: Option<FormerIndex>,
        listing: Option<ProjectionListing>,
    ) -> Result<Mirror, SyncError> {
        let dir = Arc::new(SessionDir::open(&self.settings.dir)?);
        let former = match former {
            Some(index) => Some(FormerCopy::of(&dir, index, &self.settings.rules).await),
            None => None,
        };
        let fetcher = self.fetcher(&dir);
        let boot = self.settings.boot.clone();
        // What is absent is then no removal by an agent.
        let may_have_lost_files = boot.as_ref().is_some_and(|boot| ledger.is_before(boot))
            || is_recreated(&self.settings.dir, &ledger);
        let listed = if may_have_lost_files { 0 } else { ledger.listed() };
        let listing = listing.or_else(|| self.list_projection(listed));
        let found = self.find_sent(&mut ledger).await;
        let base = ledger.shared_log();
        let acquire = async {
            found?;
            if self.settings.lost_log == LostLog::Refill {
                check_followed(&self.log, ledger.position()).await?;
                check_contents(&self.log, ledger.log(), ledger.position()).await?;
            }
            self.acquire(&fetcher, &base, ledger.position(), Wanted::All).await
        };
        let (acquired, warning) = match acquire.await {
            Ok(acquired) => (acquired, None),
            // The working copy is usable without the store, unless another home may own it.
            Err(error)
                if error.kind() == SyncErrorKind::Store
                    && error.is_retryable()
                    && ledger.stage() == Stage::Open
                    // Later, changes of a program would look like those of the application.
                    && !ledger.was_interrupted() =>
            {
                (self.without_store(&base, ledger.position())?, Some(error))
            }
            Err(
                SyncError::StoreReplaced { .. }
                | SyncError::Log { source: ReadError::Entry { .. } }
                | SyncError::Log { source: ReadError::Missing { .. } | ReadError::Stray { .. } },
            ) if self.settings.lost_log == LostLog::Refill => {
                return self.refill(dir, fetcher, ledger).await;
            }
            Err(error) => return Err(error),
        };
        drop(base);
        let Acquired { incoming, appender, owned, tenure } = acquired;
        // A working copy from before the deletion must not fill the session again.
        if former.is_some() && incoming.as_ref().is_some_and(|incoming| incoming.was_erased) {
            return Err(SyncError::Erased);
        }
        let ended = self.end_uploads(&mut ledger, incoming.as_ref());
        let shared = self.shared(dir, fetcher, ledger, appender, tenure);
        shared.0.blobs.abort_all(&ended).await;
        let mut report = match incoming {
            // An index of version 0.1 is compared with the files anyway.
            incoming if may_have_lost_files && former.is_none() => {
                shared.0.recover(incoming).await?
            }
            Some(incoming) => shared.0.follow_log(incoming, former.as_ref()).await?,
            None => shared.0.follow_again().await?,
        };
        if let Some(boot) = boot {
            let objects = if former.is_some() { Objects::Unknown } else { Objects::Older };
            shared.0.ledger().record_boot(&boot, objects);
        }
        shared.0.ledger().record_own(owned);
        if let Some(former) = former {
            shared.0.migrate(&former, &mut report).await?;
        }
        shared.0.ledger().set_stage(Stage::Open);
        mark(shared.0.dir.path(), &mut shared.0.ledger());
        finish(shared, report, warning.map_or(Ok(listing), Err)).await
    }

    /// Finds out whether the log has the entry that an earlier process sent without an answer.
    pub(super) async fn find_sent(&self, ledger: &mut Ledger) -> Result<(), SyncError> {
        let Some(sent) = ledger.sent() else { return Ok(()) };
        let stored = self.log.read(sent.number).await;
        let stored = stored.map_err(|source| SyncError::Log { source })?;
        if stored.is_some_and(|stored| Some(stored.hash) == sent.hash) {
            // The process may have ended before the disk had the number.
            let flushed = self.log.flush_numbers().await;
            flushed.map_err(|source| SyncError::Log { source: source.into() })?;
            let batch = ledger.begin_batch();
            ledger.record_acknowledged(batch);
        }
        Ok(())
    }

    /// Forgets uploads of earlier processes to which nothing may refer any more, and returns those
    /// to abort: after another home became the owner, it may have collected their blobs.
    fn end_uploads(&self, ledger: &mut Ledger, incoming: Option<&Incoming>) -> Vec<UploadRecord> {
        ledger.forget_ended_uploads();
        let home = &self.settings.ownership.home;
        let had_other_owner = incoming.is_some_and(|incoming| {
            incoming.missed_entries || incoming.owners.iter().any(|owner| owner != home)
        });
        if had_other_owner { ledger.forget_uploads() } else { Vec::new() }
    }

    /// Begins to list the projection, unless a listing that is recent enough was made before.
    fn list_projection(&self, listed: i64) -> Option<ProjectionListing> {
        let age = u64::try_from(unix_seconds() - listed).unwrap_or(u64::MAX);
        let is_recent = listed != 0 && age < self.settings.listing_age.as_secs();
        (self.settings.projection && !is_recent).then(|| ProjectionListing::begin(&self.remote))
    }

    fn fetcher(&self, dir: &Arc<SessionDir>) -> Fetcher {
        Fetcher::new(Arc::clone(dir), self.log.clone(), Arc::clone(&self.remote))
    }

    /// Becomes the owner, or prepares the line with which the first entry begins.
    pub(super) async fn acquire(
        &self,
        fetcher: &Fetcher,
        base: &LogState,
        position: Position,
        wanted: Wanted,
    ) -> Result<Acquired, SyncError> {
        let acquisition = Acquisition {
            log: &self.log,
            remote: &self.remote,
            fetcher,
            ownership: &self.settings.ownership,
            progress: self.settings.progress.as_deref(),
            wanted,
        };
        acquisition.acquire(base, position, Claim::WithFirstChange).await
    }

    /// Prepares a mirror of a store that does not answer.
    fn without_store(&self, base: &LogState, position: Position) -> Result<Acquired, SyncError> {
        let ownership = &self.settings.ownership;
        let foreign = base.owner.as_ref().filter(|owner| owner.home != ownership.home);
        if let Some(owner) = foreign
            && ownership.takeover != Takeover::Steal
        {
            return Err(SyncError::OwnedElsewhere { url: owner.url.clone() });
        }
        let writer = LogWriter::unproven(self.log.clone(), position);
        let appender = Appender { writer, sent: None, own: Some(ownership.line()) };
        let tenure = Tenure::held(ownership);
        Ok(Acquired { incoming: None, appender, owned: None, tenure })
    }

    pub(super) fn shared(
        self,
        dir: Arc<SessionDir>,
        fetcher: Fetcher,
        ledger: Ledger,
        appender: Appender,
        tenure: Tenure,
    ) -> (Arc<Shared>, Duration) {
        let MirrorBuilder {
            mut rules,
            excluded,
            linker,
            link_target,
            progress,
            deadline,
            change_source,
            projection: has_projection,
            ownership,
            retention,
            patience,
            max_queued_bytes,
            boot,
            ..
        } = self.settings;
        excluded.into_iter().for_each(|name| rules.add_top_level(name));
        let rules = Arc::new(rules);
        let tracker = ChangeTracker::new(Arc::clone(&dir), Arc::clone(&rules), change_source);
        let (log, remote) = (self.log, self.remote);
        let target = if has_projection { link_target } else { LinkTarget::Version };
        let links = Links { linker, target };
        let placement =
            if links.open_versions() { Placement::Linkable } else { Placement::Compact };
        let blobs = Blobs::new(Arc::clone(&dir), log.clone(), Arc::clone(&remote), placement);
        let blobs = Arc::new(blobs);
        let fetcher = Arc::new(fetcher);
        let projection = has_projection.then(|| Projection {
            remote: Arc::clone(&remote),
            blobs: Arc::clone(&blobs),
            fetcher: Arc::clone(&fetcher),
        });
        let shared = Shared {
            dir,
            rules,
            tracker,
            ledger: std::sync::Mutex::new(ledger),
            appender: AsyncMutex::new(appender),
            log,
            remote: Arc::clone(&remote),
            blobs,
            fetcher,
            projection,
            links,
            progress,
            reported: ReportedState::default(),
            access: Access::default(),
            calls: Calls::default(),
            ownership,
            tenure: std::sync::Mutex::new(tenure),
            external: Default::default(),
            refreshing: AsyncMutex::default(),
            projecting: AsyncMutex::default(),
            objects: Default::default(),
            lagging: Default::default(),
            held: AsyncMutex::default(),
            collecting: AsyncMutex::default(),
            retention,
            patience,
            max_queued_bytes,
            boot,
            compared: AtomicU64::default(),
            is_refilling: AtomicBool::default(),
            lent: Default::default(),
        };
        (Arc::new(shared), deadline)
    }
}

/// Returns an error if a file or a symlink has the place of the session directory. A restore could
/// not put the directory there.
fn check_place(dir: &Path) -> Result<(), SyncError> {
    match dir.symlink_metadata() {
        Ok(found) if !found.is_dir() => Ok(SessionDir::open(dir).map(drop)?),
        _ => Ok(()),
    }
}

/// Adopts external changes, and returns the mirror.
pub(super) async fn finish(
    (shared, deadline): (Arc<Shared>, Duration),
    mut report: RestoreReport,
    listing: Result<Option<ProjectionListing>, SyncError>,
) -> Result<Mirror, SyncError> {
    let refreshed = match listing {
        Ok(None) => Ok(RestoreReport::default()),
        Ok(Some(listing)) => shared.refresh_from(listing, MassRemoval::HoldBack).await,
        Err(error) => Err(error),
    };
    match refreshed {
        Ok(refreshed) => report.extend(refreshed),
        // The working copy is usable without the store.
        Err(error) if error.is_retryable() => report.unavailable = Some(with_causes(&error)),
        Err(error) => return Err(error),
    }
    shared.fetcher.forget();
    shared.sweep_in_background();
    Ok(Mirror::new(shared, report, deadline))
}
