//! Tracking of changes: a scan inspects the paths that events name, or walks the whole tree.
//!
//! Invariant: a path without an event and not in [`ScanState::dirty`] matches the baseline. A walk
//! establishes it; every scan preserves it. A mirror walks first, when a session is closed, if
//! events were lost or are unavailable, and once in a while in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use sandbox_core::internal::lock;
use sandbox_core::{RelativePath, SessionDir};
use tokio::time::Instant;

use crate::paths::{covers, name, parents, take_under};
use crate::scan::diff::{Baseline, Changes, diff, diff_under, removed_uncertain};
use crate::scan::events::{EventKind, Subscription};
use crate::scan::ignore::IgnoreRules;
use crate::scan::ignored::{Ignored, ignored};
use crate::scan::skipped::{SkipReason, Skipped};
use crate::scan::snapshot::{Links, Snapshot};
use crate::scan::{inspect, walk};

/// Longest time between two walks while calls arrive. Bounds how long a write can go unnoticed that
/// raises no event, such as one through a hard link in an ignored tree.
const LONGEST_WITHOUT_WALK: Duration = Duration::from_secs(60);

/// Requested method of finding changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeSource {
    /// Kernel events where available, otherwise walks. The cost of a call grows with the changes.
    #[default]
    Events,
    /// A walk over the directory in each call.
    Walks,
}

/// Method of finding changes that is in use.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ChangeSourceReport {
    /// Kernel events.
    Events {
        /// Number of watched directories; 0 before the first walk.
        watches: usize,
    },
    /// A walk in each call.
    Walks {
        /// Reason for not using events.
        reason: String,
    },
}

/// Part of the directory that a scan covers.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Everything that may have changed.
    Changed,
    /// Everything, by a walk.
    Walk,
    /// One file.
    File(RelativePath),
}

/// Change detection for one directory.
#[derive(Debug)]
pub(crate) struct ChangeTracker {
    dir: Arc<SessionDir>,
    rules: Arc<IgnoreRules>,
    source: Mutex<Source>,
    state: Mutex<ScanState>,
    /// Skipped files that no report has named yet.
    unreported: Mutex<BTreeSet<Skipped>>,
}

#[derive(Debug)]
enum Source {
    Events(Arc<Subscription>),
    Walks { reason: String },
}

/// Paths that the next scan must inspect even if no event names them.
#[derive(Debug, Default)]
struct ScanState {
    /// Time of the last walk; `None` if the invariant does not hold.
    walked: Option<Instant>,
    /// Paths that differed from the baseline or could not be inspected.
    dirty: BTreeSet<String>,
    /// Directories that are ignored because of a marker in them.
    ignored: BTreeSet<String>,
    /// Files with several names. A write through one name raises an event for that name only.
    linked: BTreeMap<String, Links>,
}

impl ChangeTracker {
    pub(crate) fn new(dir: Arc<SessionDir>, rules: Arc<IgnoreRules>, wanted: ChangeSource) -> Self {
        let source = match wanted {
            ChangeSource::Walks => Source::Walks { reason: "events are turned off".to_owned() },
            ChangeSource::Events => match Subscription::new() {
                Ok(subscription) => Source::Events(Arc::new(subscription)),
                Err(error) => Source::walks(&error),
            },
        };
        Self {
            dir,
            rules,
            source: Mutex::new(source),
            state: Mutex::default(),
            unreported: Mutex::default(),
        }
    }

    pub(crate) fn report(&self) -> ChangeSourceReport {
        match &*lock(&self.source) {
            Source::Events(subscription) => {
                ChangeSourceReport::Events { watches: subscription.watches() }
            }
            Source::Walks { reason } => ChangeSourceReport::Walks { reason: reason.clone() },
        }
    }

    /// Makes the next scan inspect a path whose baseline has changed.
    pub(crate) fn mark_dirty(&self, path: &str) {
        if let Some(subscription) = self.subscription() {
            subscription.mark_dirty(path);
        }
    }

    /// Records that a report has named these files.
    pub(crate) fn mark_reported(&self, skipped: &[Skipped]) {
        let mut unreported = lock(&self.unreported);
        for skipped in skipped {
            unreported.remove(skipped);
        }
    }

    /// Scans a part of the directory. The baseline is locked only for the comparison, because
    /// transfers update it meanwhile.
    pub(crate) fn scan(
        &self,
        scope: &Scope,
        baseline: &Mutex<impl Baseline>,
    ) -> (Changes, Vec<Skipped>) {
        let changes = match scope {
            Scope::Changed => self.scan_changed(baseline),
            Scope::Walk => self.walk_locked(&mut lock(&self.state), baseline).1,
            Scope::File(path) => return self.scan_file(path, baseline),
        };
        (changes, lock(&self.unreported).iter().cloned().collect())
    }

    /// Returns everything that differs from the baseline.
    pub(crate) fn scan_changed(&self, baseline: &Mutex<impl Baseline>) -> Changes {
        let mut state = lock(&self.state);
        let by_events = self
            .subscription()
            .and_then(|subscription| self.scan_events(&mut state, &subscription, baseline));
        by_events.unwrap_or_else(|| self.walk_locked(&mut state, baseline).1)
    }

    /// Inspects one path.
    pub(crate) fn inspect(&self, path: &RelativePath) -> Snapshot {
        inspect::inspect(self.dir.as_fd(), path, &self.rules)
    }

    /// Lists what the rules ignore.
    pub(crate) fn ignored(&self) -> Vec<Ignored> {
        ignored(self.dir.as_fd(), &self.rules)
    }

    fn scan_file(
        &self,
        path: &RelativePath,
        baseline: &Mutex<impl Baseline>,
    ) -> (Changes, Vec<Skipped>) {
        let Snapshot { files: mut modified, skipped, .. } = self.inspect(path);
        let baseline = lock(baseline);
        modified.retain(|entry| {
            let recorded = baseline.signature(&entry.path);
            !recorded.is_some_and(|recorded| recorded.proves(&entry.signature))
        });
        (Changes { modified, ..Changes::default() }, skipped)
    }

    fn walk_locked(
        &self,
        state: &mut ScanState,
        baseline: &Mutex<impl Baseline>,
    ) -> (Snapshot, Changes) {
        let subscription = self.subscription();
        if let Some(subscription) = &subscription {
            // The walk sees the effect of all events up to now.
            subscription.unwatch("");
            subscription.take_pending();
        }
        let snapshot = walk::walk(self.dir.as_fd(), &self.rules, subscription.as_deref());
        if let Some(subscription) = &subscription {
            subscription.forget_modes(&snapshot.granted);
        }
        let changes = {
            let baseline = lock(baseline);
            let mut changes = diff(&snapshot, &*baseline);
            changes.removed.extend(removed_uncertain(&snapshot, &*baseline));
            self.without_ignored(changes)
        };
        *lock(&self.unreported) = snapshot.skipped.iter().cloned().collect();
        *state = ScanState::default();
        if let Some(error) = &snapshot.unwatched {
            *lock(&self.source) = Source::walks(error);
        } else if subscription.is_some() {
            state.walked = Some(Instant::now());
            state.update(&snapshot, &changes);
        }
        (snapshot, changes)
    }

    /// Inspects the paths that events name and the dirty ones. Returns `None` if only a walk can
    /// find the changes.
    fn scan_events(
        &self,
        state: &mut ScanState,
        subscription: &Subscription,
        baseline: &Mutex<impl Baseline>,
    ) -> Option<Changes> {
        state.walked.filter(|walked| walked.elapsed() < LONGEST_WITHOUT_WALK)?;
        let mut pending = subscription.take_pending();
        let uncertain: Vec<String> = lock(baseline)
            .uncertain()
            .filter(|path| !self.rules.covers(path))
            .map(str::to_owned)
            .collect();
        for path in state.dirty.iter().chain(state.linked.keys()).chain(&uncertain) {
            pending.mark_dirty(path);
        }
        if pending.is_incomplete {
            return None;
        }
        // These directories stay watched, because their markers may be removed.
        let is_ignored = |path: &str| parents(path).any(|above| state.ignored.contains(above));
        pending.paths.retain(|path, _| !is_ignored(path));
        let topmost = pending.topmost();
        let paths: Vec<&str> = topmost.iter().map(|(path, _)| *path).collect();
        // Directories are watched anew: what was below one may have moved.
        paths.iter().for_each(|path| subscription.unwatch(path));
        let dir = self.dir.as_fd();
        let mut found = walk::walk_under(dir, &paths, &self.rules, Some(subscription))?;
        state.ignored.retain(|ignored| !paths.iter().any(|path| covers(path, ignored)));
        found.ignored.extend(state.ignored.iter().cloned());
        subscription.forget_modes(&found.granted);
        let has_stray_writer = topmost.iter().any(|(path, kind)| {
            matches!(kind, EventKind::Content | EventKind::Attributes)
                && !found.has_anything(path)
                && !self.rules.covers(path)
                && !is_unnamed(path)
        });
        let has_new_names = found.linked.iter().any(|(path, links)| {
            state
                .linked
                .get(path)
                .is_none_or(|before| before.inode != links.inode || before.count < links.count)
        });
        // Only a walk finds the other names of a file.
        if found.unwatched.is_some() || has_stray_writer || has_new_names {
            return None;
        }
        let changes = {
            let baseline = lock(baseline);
            let mut changes =
                diff_under(&paths, &found, &*baseline, |path| pending.has_change(path));
            changes.removed.extend(removed_uncertain(&found, &*baseline));
            self.without_ignored(changes)
        };
        let mut unreported = lock(&self.unreported);
        unreported.retain(|skipped| !paths.iter().any(|path| covers(path, &skipped.path)));
        unreported.extend(found.skipped.iter().cloned());
        drop(unreported);
        state.dirty.clear();
        for path in &paths {
            take_under(&mut state.linked, path);
        }
        state.update(&found, &changes);
        Some(changes)
    }

    /// Drops removals of ignored paths. They were not inspected, and other rules may have stored
    /// them.
    fn without_ignored(&self, mut changes: Changes) -> Changes {
        changes.removed.retain(|path| !self.rules.covers(path));
        changes
    }

    fn subscription(&self) -> Option<Arc<Subscription>> {
        match &*lock(&self.source) {
            Source::Events(subscription) => Some(Arc::clone(subscription)),
            Source::Walks { .. } => None,
        }
    }
}

impl Source {
    fn walks(error: &io::Error) -> Self {
        let hint = match Errno::from_io_error(error) {
            Some(Errno::NOSPC) => {
                "; the user's watches are used up (sysctl fs.inotify.max_user_watches)"
            }
            Some(Errno::MFILE) => {
                "; the user's instances are used up (sysctl fs.inotify.max_user_instances)"
            }
            Some(Errno::NOENT) => "; /proc is not mounted",
            _ => "",
        };
        let reason = format!("events are unavailable: {error}{hint}");
        tracing::info!(reason, "changes are found by walks");
        Self::Walks { reason }
    }
}

impl ScanState {
    fn update(&mut self, found: &Snapshot, changes: &Changes) {
        // The next scan inspects each change again: it either matches the baseline then, or is
        // still dirty.
        self.dirty.extend(changes.modified.iter().map(|entry| entry.path.clone()));
        self.dirty.extend(changes.removed.iter().cloned());
        self.dirty.extend(changes.directories.iter().map(|entry| entry.path.clone()));
        self.dirty.extend(changes.symlinks.iter().map(|entry| entry.path.clone()));
        let is_unreadable =
            |skipped: &&Skipped| matches!(skipped.reason, SkipReason::Unreadable { .. });
        let unreadable = found.skipped.iter().filter(is_unreadable);
        self.dirty.extend(unreadable.map(|skipped| skipped.path.clone()));
        self.linked.extend(found.linked.iter().cloned());
        self.ignored.extend(found.ignored.iter().cloned());
    }
}

/// Returns whether the kernel uses this name in events for a file without a name (`O_TMPFILE`,
/// `open(2)`): `#` and the inode number.
fn is_unnamed(path: &str) -> bool {
    name(path)
        .strip_prefix('#')
        .is_some_and(|inode| !inode.is_empty() && inode.bytes().all(|byte| byte.is_ascii_digit()))
}
