//! Refilling of a store that lost the session log: a new log begins with the working copy.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sandbox_core::internal::blocking;
use sandbox_core::{RelativePath, SessionDir, with_causes};

use crate::builder::Takeover;
use crate::error::SyncError;
use crate::log::{Hash, Line, LogState, LogWriter, Moment, Node, Owner, Position, ReadError};
use crate::mirror::Mirror;
use crate::mirror::open::{Parts, finish};
use crate::mirror::place::conflict_path;
use crate::mirror::refresh::ProjectionListing;
use crate::mirror::shared::{Appender, Shared, Tenure};
use crate::mirror::undelete::Existing;
use crate::paths::parents;
use crate::report::{ConflictCopy, RestoreFailure, RestoreReport};
use crate::state::{Ledger, Stage};
use crate::transfer::Fetcher;

impl Parts {
    /// Begins a new log at the store's end and stores the working copy again. Contents that the
    /// store still has are not relied on. Objects of the projection that this machine does not know
    /// are adopted, because they may be the only copies.
    pub(super) async fn refill(
        self,
        dir: Arc<SessionDir>,
        fetcher: Fetcher,
        mut ledger: Ledger,
    ) -> Result<Mirror, SyncError> {
        let failed = |source| SyncError::Log { source };
        let read = Moment::now();
        let listed = self.log.list_numbers().await.map_err(|source| failed(source.into()))?;
        let (mut position, mut owner, mut began) = (Position::default(), None, 0);
        if let Some(last) = listed.last().map(|entry| entry.number) {
            let numbers = listed.iter().map(|entry| entry.number).collect();
            let end = self.log.read_last(numbers).await.map_err(failed)?;
            let end = end.ok_or_else(|| failed(ReadError::Missing { number: last }))?;
            if end.entry.lines.contains(&Line::Erased) {
                return Err(SyncError::Erased);
            }
            position = Position::of(&end);
            // If the rest of the log is damaged, no home is known to own the session.
            let state = self.log.state_at(None).await.unwrap_or_default();
            let state = state.map(|found| found.state).unwrap_or_default();
            if ledger.position().number < state.began {
                return Err(SyncError::Erased);
            }
            (owner, began) = (state.owner, state.began);
        }
        let ownership = self.settings.ownership.clone();
        let foreign = owner.filter(|owner| owner.home != ownership.home);
        if let Some(owner) = foreign.filter(|_| ownership.takeover != Takeover::Steal) {
            return Err(SyncError::OwnedElsewhere { url: owner.url });
        }
        let writer = LogWriter::new(self.log.clone(), position, read);
        let mut appender = Appender { writer, sent: None, own: None };
        let owner = Owner {
            home: ownership.home.clone(),
            url: ownership.url.clone(),
            epoch: appender.writer.position().number + 1,
        };
        let own = ownership.line();
        let state = LogState { owner: Some(owner), began, ..LogState::default() };
        let lines = [own].into_iter().chain(state.snapshot()).collect();
        if appender.writer.needs_conditions() {
            let properties = self.remote.properties().await;
            let properties = properties.map_err(|source| SyncError::Append { source })?;
            appender.writer.set_conditional_create(properties.create);
        }
        let others = self.nodes_of_other_homes(&ledger).await;
        let appended = appender.writer.append(lines).await?;
        // After a crash before this line, the working copy still follows the lost log.
        let ended = ledger.forget_uploads();
        ledger.replace_log(state, appended.position, Vec::new(), Default::default());
        ledger.set_stage(Stage::Open);
        let shared = self.shared(dir, fetcher, ledger, appender, Tenure::held(&ownership));
        shared.0.blobs.abort_all(&ended).await;
        shared.0.is_refilling.store(true, Ordering::Release);
        shared.0.store_everything().await;
        let mut report = RestoreReport::default();
        shared.0.bring_beside(others, &mut report).await?;
        let filled = Arc::clone(&shared.0);
        let has_projection = filled.projection.is_some();
        let listing = has_projection.then(|| ProjectionListing::begin(&filled.remote));
        let mirror = finish(shared, report, Ok(listing)).await?;
        if mirror.opened().unavailable.is_none() {
            filled.is_refilling.store(false, Ordering::Release);
        }
        Ok(mirror)
    }
}

impl Parts {
    /// Returns the files and symlinks of the log in the store that other homes wrote and this
    /// machine does not know. A store that was set back may have continued with them. What cannot
    /// be read is lost.
    async fn nodes_of_other_homes(&self, ledger: &Ledger) -> Vec<(RelativePath, Node)> {
        let home = self.settings.ownership.home.as_str();
        let foreign = self.log.describe_retained(|before, entry, numbered| {
            let own = entry.lines.iter().rev().find_map(|line| match line {
                Line::Own { home, .. } => Some(home),
                _ => None,
            });
            let writer = own.or_else(|| before.owner.as_ref().map(|owner| &owner.home));
            writer.is_some_and(|writer| writer != home).then(|| {
                let paths = entry.lines.iter().filter_map(|line| match line {
                    Line::Symlink { path, .. } => Some(path.clone()),
                    _ => None,
                });
                (numbered.number, paths.collect::<Vec<_>>())
            })
        });
        let (Ok(foreign), Ok(Some(found))) = (foreign.await, self.log.state_at(None).await) else {
            return Vec::new();
        };
        let (entries, symlinks): (HashSet<u64>, Vec<Vec<String>>) = foreign.into_iter().unzip();
        let symlinks: HashSet<String> = symlinks.into_iter().flatten().collect();
        let known = ledger.log();
        let nodes = found.state.nodes.into_iter().filter(|(path, node)| match node {
            Node::File(file) => {
                let known = known.file(path).map(|known| known.hash);
                entries.contains(&file.number) && known != Some(file.hash)
            }
            Node::Symlink { .. } => symlinks.contains(path) && known.nodes.get(path) != Some(node),
            Node::Directory { .. } => false,
        });
        nodes.filter_map(|(path, node)| Some((RelativePath::parse(&path).ok()?, node))).collect()
    }
}

impl Shared {
    /// Brings nodes back under their names, or under others where the working copy has files.
    async fn bring_beside(
        self: &Arc<Self>,
        mut nodes: Vec<(RelativePath, Node)>,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        for (path, node) in &mut nodes {
            let tag = match &*node {
                Node::File(file) => file.hash,
                Node::Symlink { target } => Hash::of(target.as_bytes()),
                Node::Directory { .. } => Hash::of(b""),
            };
            let place = self.free_place(path, tag);
            if place != *path {
                let path = std::mem::replace(path, place.clone());
                report.conflicts.push(ConflictCopy { path, kept_as: place });
            }
        }
        for (path, error) in self.bring_back(nodes, Existing::Keep, report).await? {
            let reason = with_causes(&error);
            report.failed.push(RestoreFailure { key: path.to_string(), reason });
        }
        Ok(())
    }

    /// Returns a path at which the working copy can have a file: the path itself, or one beside the
    /// file that has its place or that of a directory above.
    fn free_place(&self, path: &RelativePath, tag: Hash) -> RelativePath {
        let found = |path: &str| std::fs::symlink_metadata(self.dir.path().join(path)).ok();
        let above = parents(path.as_str());
        let obstacle = above.filter(|above| found(above).is_some_and(|found| !found.is_dir()));
        // The topmost one is the one that exists.
        let taken = match obstacle.last() {
            Some(obstacle) => obstacle,
            None if found(path.as_str()).is_some() => path.as_str(),
            None => return path.clone(),
        };
        let renamed = RelativePath::parse(taken).map(|taken| conflict_path(&taken, tag));
        let below = &path.as_str()[taken.len()..];
        let place = renamed.and_then(|renamed| RelativePath::parse(&format!("{renamed}{below}")));
        place.unwrap_or_else(|_| path.clone())
    }

    /// Stores all files before the projection is compared. What fails is pending.
    async fn store_everything(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let changes = blocking(move || shared.walk()).await;
        for (batch, changes) in self.claim(changes) {
            self.store_batch(batch, changes, |_, _| {}).await;
        }
    }
}
