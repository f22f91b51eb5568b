//! Change events of the kernel: one inotify instance per process, shared by all mirrors.
//!
//! There is no reader thread. The kernel queues an event before the call that caused it returns.
//! Each scan therefore drains the queue, dispatches the events to their subscribers, and takes its
//! own. If the queue overflows, every mirror walks.
//!
//! fanotify is no alternative. A mark on a file system needs `CAP_SYS_ADMIN` where the file system
//! was mounted; then every process of the host pays for each event and fills the queue. Marks on
//! single inodes need one mark per directory, like inotify, and report nothing more.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use sandbox_core::internal::lock;

use crate::paths::{name, parents, take_under};
use crate::scan::markers::is_marker_name;

/// Most paths that one scan inspects. Above this, a walk costs less.
const MAX_PENDING_PATHS: usize = 4_096;
/// Size of the smallest event, which has no name (`struct inotify_event`, `inotify(7)`).
const MIN_EVENT_BYTES: u64 = 16;
const BUFFER_BYTES: usize = 16 * 1024;

/// Watched events. A write through a mapping raises `IN_CLOSE_WRITE` when the file is closed for
/// the last time; `truncate(2)` raises `IN_MODIFY`.
///
/// `IN_EXCL_UNLINK` is not set: a write through a removed name may reach a file that has another
/// name.
const WATCH_MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// The shared instance. A process has only one because a user may have few
/// (`fs.inotify.max_user_instances`). It is never closed: closing takes the kernel longer than
/// everything else that a session costs.
static SHARED: Mutex<Option<Arc<Instance>>> = Mutex::new(None);

#[derive(Debug)]
struct Instance {
    queue: OwnedFd,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Subscribers of each watch descriptor, with the path under which each knows the directory.
    /// Two mirrors of one directory share a descriptor.
    watches: HashMap<i32, Vec<(u64, String)>>,
    subscribers: HashMap<u64, Subscriber>,
    last_number: u64,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// Watch descriptors by the path of the directory.
    watches: BTreeMap<String, i32>,
    pending: PendingEvents,
}

/// Paths that events have named since the last scan.
#[derive(Debug, Default)]
pub(crate) struct PendingEvents {
    pub(crate) paths: BTreeMap<String, EventKind>,
    /// Set if events were lost or are too many, so that only a walk finds the changes.
    pub(crate) is_incomplete: bool,
}

/// Kind of the last event of a path. Weaker kinds do not replace stronger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// No event named the path, but it must be inspected.
    None,
    /// The mode or the times changed of the file that has this name, or had it when it was opened.
    Attributes,
    /// The name was created or removed, or refers to another file.
    Name,
    /// The content changed of the file that has this name, or had it when it was opened.
    Content,
}

/// One mirror's part of the shared instance. Dropping it ends its watches.
#[derive(Debug)]
pub(crate) struct Subscription {
    instance: Arc<Instance>,
    number: u64,
}

impl Subscription {
    pub(crate) fn new() -> io::Result<Self> {
        let mut shared = lock(&SHARED);
        let instance = match &*shared {
            Some(instance) => Arc::clone(instance),
            None => {
                let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
                Arc::clone(shared.insert(Arc::new(Instance { queue, table: Mutex::default() })))
            }
        };
        drop(shared);
        let mut table = instance.table();
        table.last_number += 1;
        let number = table.last_number;
        table.subscribers.insert(number, Subscriber::default());
        drop(table);
        Ok(Self { instance, number })
    }

    /// Watches an open directory. Later events in it are reported under `path`.
    pub(crate) fn watch(&self, dir: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        let name = format!("/proc/self/fd/{}", dir.as_raw_fd());
        // The lock is held first: a concurrent reader must find the subscriber of an event.
        let mut table = self.instance.table();
        let descriptor = inotify::add_watch(&self.instance.queue, name, WATCH_MASK)?;
        table.add(&self.instance.queue, descriptor, self.number, path);
        Ok(())
    }

    /// Ends the watches on a directory and everything below it.
    pub(crate) fn unwatch(&self, path: &str) {
        self.instance.table().unwatch(&self.instance.queue, self.number, path);
    }

    /// Makes the next scan inspect a path.
    pub(crate) fn mark_dirty(&self, path: &str) {
        if let Some(subscriber) = self.instance.table().subscribers.get_mut(&self.number) {
            subscriber.pending.mark_dirty(path);
        }
    }

    /// Takes all events since the last call.
    pub(crate) fn take_pending(&self) -> PendingEvents {
        let mut table = self.instance.table();
        table.drain(&self.instance.queue);
        table
            .subscribers
            .get_mut(&self.number)
            .map(|subscriber| std::mem::take(&mut subscriber.pending))
            .unwrap_or_default()
    }

    /// Drops the events about the modes of directories that this process has changed for a moment.
    pub(crate) fn forget_modes(&self, directories: &[String]) {
        if directories.is_empty() {
            return;
        }
        let mut table = self.instance.table();
        table.drain(&self.instance.queue);
        let Some(subscriber) = table.subscribers.get_mut(&self.number) else { return };
        let paths = &mut subscriber.pending.paths;
        for directory in directories {
            if paths.get(directory) == Some(&EventKind::Attributes) {
                paths.remove(directory);
            }
        }
    }

    /// Returns the number of watched directories.
    pub(crate) fn watches(&self) -> usize {
        self.instance
            .table()
            .subscribers
            .get(&self.number)
            .map_or(0, |subscriber| subscriber.watches.len())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut table = self.instance.table();
        table.unwatch(&self.instance.queue, self.number, "");
        table.subscribers.remove(&self.number);
    }
}

impl Instance {
    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    fn add(&mut self, queue: &OwnedFd, descriptor: i32, number: u64, path: &str) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else { return };
        let watchers = self.watches.entry(descriptor).or_default();
        match watchers.iter_mut().find(|(watcher, _)| *watcher == number) {
            Some((_, known)) if known == path => {}
            // The directory was renamed, and the event of the rename is still queued.
            Some((_, known)) => {
                let before = std::mem::replace(known, path.to_owned());
                if subscriber.watches.get(&before) == Some(&descriptor) {
                    subscriber.watches.remove(&before);
                }
            }
            None => watchers.push((number, path.to_owned())),
        }
        let replaced = subscriber.watches.insert(path.to_owned(), descriptor);
        if let Some(replaced) = replaced.filter(|replaced| *replaced != descriptor) {
            self.release(queue, number, replaced);
        }
    }

    fn unwatch(&mut self, queue: &OwnedFd, number: u64, path: &str) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else { return };
        for (_, descriptor) in take_under(&mut subscriber.watches, path) {
            self.release(queue, number, descriptor);
        }
    }

    /// Ends a subscriber's share of a watch, and the watch if no other subscriber uses it.
    fn release(&mut self, queue: &OwnedFd, number: u64, descriptor: i32) {
        let Some(watchers) = self.watches.get_mut(&descriptor) else { return };
        watchers.retain(|(watcher, _)| *watcher != number);
        if watchers.is_empty() {
            self.watches.remove(&descriptor);
            // This fails if the directory was removed, because its watch ended with it.
            let _ = inotify::remove_watch(queue, descriptor);
        }
    }

    /// Dispatches the events that are queued now, but not those that other processes keep adding.
    fn drain(&mut self, queue: &OwnedFd) {
        let queued = rustix::io::ioctl_fionread(queue).unwrap_or(u64::MAX);
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(queue, &mut buffer);
        let mut left = queued / MIN_EVENT_BYTES;
        while left > 0 || !reader.is_buffer_empty() {
            left = left.saturating_sub(1);
            match reader.next() {
                Ok(event) => self.dispatch(queue, &event),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!(%error, "change events cannot be read; every mirror walks");
                    return self.mark_all_incomplete();
                }
            }
        }
    }

    fn dispatch(&mut self, queue: &OwnedFd, event: &Event<'_>) {
        let (flags, descriptor) = (event.events(), event.wd());
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            tracing::debug!("the event queue overflowed; every mirror walks");
            return self.mark_all_incomplete();
        }
        // The directory no longer exists, and its watch ended with it.
        if flags.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
            for (number, path) in self.watches.remove(&descriptor).unwrap_or_default() {
                let Some(subscriber) = self.subscribers.get_mut(&number) else { continue };
                if subscriber.watches.get(&path) == Some(&descriptor) {
                    subscriber.watches.remove(&path);
                }
                subscriber.pending.add(path, EventKind::Name);
            }
            return;
        }
        let is_directory = flags.contains(ReadFlags::ISDIR);
        let is_removal = flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
        let is_name =
            is_directory || is_removal || flags.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE);
        let kind = if flags.contains(ReadFlags::ATTRIB) {
            EventKind::Attributes
        } else if is_name {
            EventKind::Name
        } else {
            EventKind::Content
        };
        let mut removed_directories = Vec::new();
        for (number, at) in self.watches.get(&descriptor).into_iter().flatten() {
            let name = event.file_name().map(CStr::to_str);
            let (path, kind) = match name {
                // The event is about the directory, or about a name that is not UTF-8. Such a name
                // is shown like others, so the scan inspects all names in the directory.
                None if kind == EventKind::Attributes => (at.clone(), kind),
                None | Some(Err(_)) => (at.clone(), EventKind::Name),
                Some(Ok(name)) => {
                    let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
                    (path, kind)
                }
            };
            if let Some(subscriber) = self.subscribers.get_mut(number) {
                subscriber.pending.add(path.clone(), kind);
            }
            if is_directory && is_removal {
                removed_directories.push((*number, path));
            }
        }
        // Events in a renamed directory must not appear under its old name. The scan inspects the
        // old path in any case.
        for (number, path) in removed_directories {
            self.unwatch(queue, number, &path);
        }
    }

    fn mark_all_incomplete(&mut self) {
        self.subscribers.values_mut().for_each(|subscriber| subscriber.pending.mark_incomplete());
    }
}

impl EventKind {
    fn is_weaker_than(self, other: Self) -> bool {
        match self {
            Self::None => other != Self::None,
            Self::Attributes => matches!(other, Self::Name | Self::Content),
            Self::Name | Self::Content => false,
        }
    }
}

impl PendingEvents {
    fn add(&mut self, mut path: String, mut kind: EventKind) {
        if self.is_incomplete {
            return;
        }
        // A marker decides about the whole directory, unless that is the top one.
        let marked = parents(&path).next().filter(|_| is_marker_name(name(&path)));
        if let Some(above) = marked.map(str::to_owned) {
            (path, kind) = (above, EventKind::Name);
        }
        // A name that is not UTF-8 may be shown like this one, so the scan inspects the directory.
        while name(&path).contains(char::REPLACEMENT_CHARACTER) {
            (path, kind) = (parents(&path).next().unwrap_or_default().to_owned(), EventKind::Name);
        }
        // Only the root has the empty path, and an event on the root affects everything.
        let is_full = self.paths.len() >= MAX_PENDING_PATHS;
        if path.is_empty() || is_full && !self.paths.contains_key(&path) {
            return self.mark_incomplete();
        }
        let known = self.paths.entry(path).or_insert(kind);
        if !kind.is_weaker_than(*known) {
            *known = kind;
        }
    }

    /// Adds a path that no event has named.
    pub(crate) fn mark_dirty(&mut self, path: &str) {
        if !self.paths.contains_key(path) {
            self.add(path.to_owned(), EventKind::None);
        }
    }

    /// Returns whether an event says that the file of this name or its content changed.
    pub(crate) fn has_change(&self, path: &str) -> bool {
        matches!(self.paths.get(path), Some(EventKind::Name | EventKind::Content))
    }

    fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
        self.paths.clear();
    }

    /// Returns the paths that are not below another of these paths.
    pub(crate) fn topmost(&self) -> Vec<(&str, EventKind)> {
        let is_covered = |path: &str| parents(path).any(|above| self.paths.contains_key(above));
        let topmost = self.paths.iter().filter(|(path, _)| !is_covered(path));
        topmost.map(|(path, kind)| (path.as_str(), *kind)).collect()
    }
}
