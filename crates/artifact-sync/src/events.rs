//! What the kernel tells about changes: one inotify instance for the process, shared by all
//! mirrors.
//!
//! Nobody waits for events. The kernel queues each one before the call that caused it returns, so
//! whoever wants to know reads what is queued, hands it to all whom it concerns, and takes what is
//! his own. A queue that overflows has every mirror walk.
//!
//! Why not fanotify: a mark on a whole file system needs `CAP_SYS_ADMIN` where the file system was
//! mounted, and then every process of the host pays for each of its events and fills the queue;
//! marks on single inodes need one for each directory, as inotify does, and tell nothing that
//! inotify does not tell.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::paths::{name, parents, take_under};
use sandbox_core::internal::lock;

/// More than this many paths to look at, and a walk costs less.
const MAX_SUSPECTS: usize = 4_096;
/// The smallest event, without a name (`struct inotify_event`, `inotify(7)`).
const MIN_EVENT_BYTES: u64 = 16;
const BUFFER_BYTES: usize = 16 * 1024;

/// One for the process, because a user has few (`fs.inotify.max_user_instances`). It stays once it
/// is made: closing it takes the kernel longer than all that a session costs.
static SHARED: Mutex<Option<Arc<Instance>>> = Mutex::new(None);

#[derive(Debug)]
struct Instance {
    queue: OwnedFd,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By watch descriptor: the mirrors that watch the directory, each with its path. Two mirrors
    /// of one directory share a descriptor.
    watches: HashMap<i32, Vec<(u64, String)>>,
    subscribers: HashMap<u64, Subscriber>,
    last_number: u64,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// Watch descriptors by the path of the directory.
    watches: BTreeMap<String, i32>,
    news: News,
}

/// What a mirror has to look at.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) paths: BTreeMap<String, About>,
    /// Whether events were lost, or are too many: then only a walk tells what has changed.
    pub(crate) is_incomplete: bool,
}

/// What the last event of a path was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The name: it appeared, or is gone, or leads to something else.
    Name,
    /// The content or the mode of what has the name, or had it when it was opened.
    Content,
}

/// A mirror's part of the instance. Dropping it ends its watches.
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

    /// Watches an open directory. What happens in it from now on is told under this path.
    pub(crate) fn watch(&self, dir: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        let name = format!("/proc/self/fd/{}", dir.as_raw_fd());
        // Under the lock: whoever reads an event must know whose it is.
        let mut table = self.instance.table();
        let descriptor = inotify::add_watch(&self.instance.queue, name, wanted())?;
        table.add(&self.instance.queue, descriptor, self.number, path);
        Ok(())
    }

    /// Ends the watches on a directory and all below it.
    pub(crate) fn forget(&self, path: &str) {
        self.instance.table().forget(&self.instance.queue, self.number, path);
    }

    /// Has the next look include a path.
    pub(crate) fn suspect(&self, path: &str) {
        if let Some(subscriber) = self.instance.table().subscribers.get_mut(&self.number) {
            subscriber.news.suspect(path);
        }
    }

    /// Everything that has happened since the last call.
    pub(crate) fn news(&self) -> News {
        let mut table = self.instance.table();
        table.read(&self.instance.queue);
        table
            .subscribers
            .get_mut(&self.number)
            .map(|subscriber| std::mem::take(&mut subscriber.news))
            .unwrap_or_default()
    }

    /// How many directories are watched.
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
        table.forget(&self.instance.queue, self.number, "");
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
            // It was renamed, and the event of that is still to be read.
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
            self.leave(queue, number, replaced);
        }
    }

    fn forget(&mut self, queue: &OwnedFd, number: u64, path: &str) {
        let Some(subscriber) = self.subscribers.get_mut(&number) else { return };
        for (_, descriptor) in take_under(&mut subscriber.watches, path) {
            self.leave(queue, number, descriptor);
        }
    }

    /// Ends a watch, unless others have it too.
    fn leave(&mut self, queue: &OwnedFd, number: u64, descriptor: i32) {
        let Some(watchers) = self.watches.get_mut(&descriptor) else { return };
        watchers.retain(|(watcher, _)| *watcher != number);
        if watchers.is_empty() {
            self.watches.remove(&descriptor);
            // The directory may be gone, and its watch with it.
            let _ = inotify::remove_watch(queue, descriptor);
        }
    }

    /// Hands out all events that are queued at this moment, and not those that others go on
    /// causing.
    fn read(&mut self, queue: &OwnedFd) {
        let queued = rustix::io::ioctl_fionread(queue).unwrap_or(u64::MAX);
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(queue, &mut buffer);
        let mut left = queued / MIN_EVENT_BYTES;
        while left > 0 || !reader.is_buffer_empty() {
            left = left.saturating_sub(1);
            match reader.next() {
                Ok(event) => self.hear(queue, &event),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read; every mirror walks");
                    return self.lose_all();
                }
            }
        }
    }

    fn hear(&mut self, queue: &OwnedFd, event: &Event<'_>) {
        let (what, descriptor) = (event.events(), event.wd());
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            tracing::debug!("more happened than the kernel keeps events of; every mirror walks");
            return self.lose_all();
        }
        // The directory is gone, and its watch with it.
        if what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
            for (number, path) in self.watches.remove(&descriptor).unwrap_or_default() {
                let Some(subscriber) = self.subscribers.get_mut(&number) else { continue };
                if subscriber.watches.get(&path) == Some(&descriptor) {
                    subscriber.watches.remove(&path);
                }
                subscriber.news.add(path, About::Name);
            }
            return;
        }
        let is_directory = what.contains(ReadFlags::ISDIR);
        let is_gone = what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
        let is_name =
            is_directory || is_gone || what.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE);
        let mut moved = Vec::new();
        for (number, at) in self.watches.get(&descriptor).into_iter().flatten() {
            let name = event.file_name().map(CStr::to_str);
            let (path, about) = match name {
                // The directory itself; or a name that is shown like others, so all names in the
                // directory are looked at.
                None | Some(Err(_)) => (at.clone(), About::Name),
                Some(Ok(name)) => {
                    let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
                    (path, if is_name { About::Name } else { About::Content })
                }
            };
            if let Some(subscriber) = self.subscribers.get_mut(number) {
                subscriber.news.add(path.clone(), about);
            }
            if is_directory && is_gone {
                moved.push((*number, path));
            }
        }
        // What happens in a directory under its new name, or elsewhere, is none of the old name's
        // business. The path is looked at in any case.
        for (number, path) in moved {
            self.forget(queue, number, &path);
        }
    }

    fn lose_all(&mut self) {
        self.subscribers.values_mut().for_each(|subscriber| subscriber.news.give_up());
    }
}

impl News {
    fn add(&mut self, mut path: String, mut about: About) {
        if self.is_incomplete {
            return;
        }
        // A name that is not UTF-8 may be shown like this one, and is to be told from it.
        while name(&path).contains(char::REPLACEMENT_CHARACTER) {
            (path, about) = (parents(&path).next().unwrap_or_default().to_owned(), About::Name);
        }
        // Only the directory itself has the empty path, and what concerns it concerns everything.
        if path.is_empty() || self.paths.len() >= MAX_SUSPECTS && !self.paths.contains_key(&path) {
            return self.give_up();
        }
        self.paths.insert(path, about);
    }

    /// Adds a path that no event has named, as far as it knows.
    pub(crate) fn suspect(&mut self, path: &str) {
        if !self.paths.contains_key(path) {
            self.add(path.to_owned(), About::Name);
        }
    }

    fn give_up(&mut self) {
        self.is_incomplete = true;
        self.paths.clear();
    }

    /// The paths that lie in none of the others.
    pub(crate) fn topmost(&self) -> Vec<(&str, About)> {
        let is_covered = |path: &str| parents(path).any(|above| self.paths.contains_key(above));
        let topmost = self.paths.iter().filter(|(path, _)| !is_covered(path));
        topmost.map(|(path, about)| (path.as_str(), *about)).collect()
    }
}

/// What is told. Writes through a mapping are told when the file is closed for the last time,
/// `truncate(2)` as a modification.
///
/// Not `IN_EXCL_UNLINK`: a write by a name that is gone may have reached a file that has another
/// name.
fn wanted() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::ONLYDIR
}
