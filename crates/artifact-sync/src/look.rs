//! What a call looks at: the paths that events name, or the whole tree by a walk.
//!
//! What is neither named by an event nor kept here as open is as the record says: that holds after
//! a walk, and each look keeps it so. A walk is the truth: it comes first, when a session is
//! closed, when events were lost or cannot be had, and in any case once in a while.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;
use tokio::time::Instant;

use crate::diff::{Changes, diff, diff_under, gone_unheard};
use crate::events::{About, Subscription};
use crate::mirror::Inner;
use crate::paths::{covers, name, take_under};
use crate::report::{SkipReason, Skipped};
use crate::snapshot::{Links, Snapshot};

/// A call that comes later than this after the last walk walks, whatever events tell. It bounds
/// what no event tells: a write to a file by a second name that the file was given where nobody
/// looks, in an ignored tree for one, or that came and went between two looks.
const LONGEST_WITHOUT_WALK: Duration = Duration::from_secs(60);

/// How a mirror is to find what has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeSource {
    /// By the kernel's change events where they can be had, and by walks where they cannot: a call
    /// costs what has changed.
    #[default]
    Events,
    /// By a walk over the directory in each call.
    Walks,
}

/// How a mirror does find what has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeSourceReport {
    /// By events.
    Events {
        /// How many directories are watched; none before the first walk.
        watches: usize,
    },
    /// By a walk in each call.
    Walks {
        /// Why.
        reason: String,
    },
}

/// What a synchronisation looks at.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Everything that may have changed.
    All,
    /// Everything.
    Walk,
    File(RelativePath),
}

/// What a mirror has seen of its directory, and how it hears of changes.
#[derive(Debug)]
pub(crate) struct Lookout {
    source: Mutex<Source>,
    seen: Mutex<Seen>,
    /// What looks have found that is not mirrored, and no report has named.
    untold: Mutex<BTreeSet<Skipped>>,
}

#[derive(Debug)]
enum Source {
    Events(Arc<Subscription>),
    Walks { reason: String },
}

/// What must be looked at again though no event names it.
#[derive(Debug, Default)]
struct Seen {
    /// When the last walk was; none while there is nothing to rely on.
    walked: Option<Instant>,
    /// What was not as the record says, and what could not be looked at.
    open: BTreeSet<String>,
    /// Files with several names: a write by one of them is told for that one only.
    linked: BTreeMap<String, Links>,
}

impl Lookout {
    pub(crate) fn new(wanted: ChangeSource) -> Self {
        let source = match wanted {
            ChangeSource::Walks => Source::Walks { reason: "events are turned off".to_owned() },
            ChangeSource::Events => match Subscription::new() {
                Ok(subscription) => Source::Events(Arc::new(subscription)),
                Err(error) => Source::walks(&error),
            },
        };
        Self { source: Mutex::new(source), seen: Mutex::default(), untold: Mutex::default() }
    }

    pub(crate) fn report(&self) -> ChangeSourceReport {
        match &*lock(&self.source) {
            Source::Events(subscription) => {
                ChangeSourceReport::Events { watches: subscription.watches() }
            }
            Source::Walks { reason } => ChangeSourceReport::Walks { reason: reason.clone() },
        }
    }

    /// Has the next look include a path of which the record has changed.
    pub(crate) fn suspect(&self, path: &str) {
        if let Some(subscription) = self.subscription() {
            subscription.suspect(path);
        }
    }

    /// Notes what a report has named.
    pub(crate) fn has_told(&self, skipped: &[Skipped]) {
        let mut untold = lock(&self.untold);
        skipped.iter().for_each(|skipped| {
            untold.remove(skipped);
        });
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
        let reason = format!("events cannot be had: {error}{hint}");
        tracing::info!(reason, "changes are found by walks");
        Self::Walks { reason }
    }
}

impl Inner {
    pub(crate) fn look(&self, scope: &Scope) -> (Changes, Vec<Skipped>) {
        let changes = match scope {
            Scope::All => self.look_at_all(),
            Scope::Walk => self.walk_anew(&mut lock(&self.lookout.seen)).1,
            Scope::File(path) => return self.look_at(path),
        };
        (changes, lock(&self.lookout.untold).iter().cloned().collect())
    }

    /// Everything that the store does not hold as it is.
    pub(crate) fn look_at_all(&self) -> Changes {
        let mut seen = lock(&self.lookout.seen);
        let subscription = self.lookout.subscription();
        let by_events =
            subscription.and_then(|subscription| self.look_at_news(&mut seen, &subscription));
        by_events.unwrap_or_else(|| self.walk_anew(&mut seen).1)
    }

    /// Looks at everything.
    pub(crate) fn walk(&self) -> Snapshot {
        self.walk_anew(&mut lock(&self.lookout.seen)).0
    }

    fn look_at(&self, path: &RelativePath) -> (Changes, Vec<Skipped>) {
        let snapshot = Snapshot::of_file(self.uploader.dir.as_fd(), path, &self.rules);
        let known = self
            .index()
            .known()
            .get_key_value(path.as_str())
            .map(|(path, known)| (path.clone(), known.clone()));
        let Changes { touched, .. } = diff(&snapshot, &known.into_iter().collect());
        (Changes { touched, gone: Vec::new() }, snapshot.skipped)
    }

    fn walk_anew(&self, seen: &mut Seen) -> (Snapshot, Changes) {
        let subscription = self.lookout.subscription();
        if let Some(subscription) = &subscription {
            // The walk sees what has happened until now.
            subscription.forget("");
            subscription.news();
        }
        let snapshot =
            Snapshot::take(self.uploader.dir.as_fd(), &self.rules, subscription.as_deref());
        let changes = {
            let index = self.index();
            let mut changes = diff(&snapshot, index.known());
            changes.gone.extend(gone_unheard(&snapshot, index.known(), index.sent()));
            self.without_ignored(changes)
        };
        *lock(&self.lookout.untold) = snapshot.skipped.iter().cloned().collect();
        *seen = Seen::default();
        if let Some(error) = &snapshot.unwatched {
            *lock(&self.lookout.source) = Source::walks(error);
        } else if subscription.is_some() {
            seen.walked = Some(Instant::now());
            seen.note(&snapshot, &changes);
        }
        (snapshot, changes)
    }

    /// Looks at what events name and at what is open. `None` where only a walk can tell what has
    /// changed.
    fn look_at_news(&self, seen: &mut Seen, subscription: &Subscription) -> Option<Changes> {
        seen.walked.filter(|walked| walked.elapsed() < LONGEST_WITHOUT_WALK)?;
        let mut news = subscription.news();
        let sent: Vec<String> =
            self.index().sent().filter(|path| !self.rules.covers(path)).cloned().collect();
        for path in seen.open.iter().chain(seen.linked.keys()).chain(&sent) {
            news.suspect(path);
        }
        if news.is_incomplete {
            return None;
        }
        let topmost = news.topmost();
        let paths: Vec<&str> = topmost.iter().map(|(path, _)| *path).collect();
        // A directory is watched anew: what was below it may be elsewhere by now.
        paths.iter().for_each(|path| subscription.forget(path));
        let found = Snapshot::take_under(
            self.uploader.dir.as_fd(),
            &paths,
            &self.rules,
            Some(subscription),
        )?;
        let has_stray_writer = topmost.iter().any(|(path, about)| {
            *about == About::Content
                && !found.has(path)
                && !self.rules.covers(path)
                && !is_unnamed(path)
        });
        let has_new_names = found.linked.iter().any(|(path, links)| {
            seen.linked
                .get(path)
                .is_none_or(|before| before.inode != links.inode || before.count < links.count)
        });
        // Which other names a file has, only a walk finds out.
        if found.unwatched.is_some() || has_stray_writer || has_new_names {
            return None;
        }
        let changes = {
            let index = self.index();
            let mut changes = diff_under(&paths, &found, index.known());
            changes.gone.extend(gone_unheard(&found, index.known(), index.sent()));
            self.without_ignored(changes)
        };
        let mut untold = lock(&self.lookout.untold);
        untold.retain(|skipped| !paths.iter().any(|path| covers(path, &skipped.path)));
        untold.extend(found.skipped.iter().cloned());
        drop(untold);
        seen.open.clear();
        for path in &paths {
            take_under(&mut seen.linked, path);
        }
        seen.note(&found, &changes);
        Some(changes)
    }

    /// What the rules leave alone was not looked at; other rules may have stored it.
    fn without_ignored(&self, mut changes: Changes) -> Changes {
        changes.gone.retain(|path| !self.rules.covers(path));
        changes
    }
}

impl Seen {
    fn note(&mut self, found: &Snapshot, changes: &Changes) {
        // What becomes of a change is seen by the next look: either it is as the record says then,
        // or it is still open.
        self.open.extend(changes.touched.iter().map(|entry| entry.path.clone()));
        self.open.extend(changes.gone.iter().cloned());
        let is_unreadable =
            |skipped: &&Skipped| matches!(skipped.reason, SkipReason::Unreadable { .. });
        self.open
            .extend(found.skipped.iter().filter(is_unreadable).map(|skipped| skipped.path.clone()));
        self.linked.extend(found.linked.iter().cloned());
    }
}

/// Whether a name is that by which the kernel tells of a file without a name (`O_TMPFILE`,
/// `open(2)`): `#` and its inode.
fn is_unnamed(path: &str) -> bool {
    name(path)
        .strip_prefix('#')
        .is_some_and(|inode| !inode.is_empty() && inode.bytes().all(|byte| byte.is_ascii_digit()))
}
