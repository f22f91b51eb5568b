//! Parallel walk over a directory, relative to descriptors and without following symlinks.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::limits::{MAX_DEPTH, MAX_FILE_BYTES, MAX_PATH_BYTES};
use crate::scan::events::Subscription;
use crate::scan::ignore::IgnoreRules;
use crate::scan::skipped::SkipReason;
use crate::scan::snapshot::{Entry, Links, Snapshot};

/// Threads of a walk. More threads than cores only wait for each other.
const WALKERS: usize = 2;
const BUFFER_BYTES: usize = 32 * 1024;

/// Walks a directory. Symlinks are not followed; ignored directories are not entered. With a
/// subscription, each directory is watched before it is listed. A change in it is therefore either
/// seen here or raises an event.
pub(crate) fn walk(
    dir: impl AsFd,
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) -> Snapshot {
    let mut found = Snapshot::default();
    let mut jobs = Vec::new();
    match reopen(&dir) {
        Ok(root) => {
            jobs.push(Job { parent: Arc::new(root), name: None, prefix: String::new(), depth: 0 });
        }
        Err(errno) => found.skip(String::new(), unreadable(errno)),
    }
    run(&mut found, jobs, rules, subscription);
    found
}

/// Inspects some paths and everything below them, like [`walk`]. No path may be below another.
/// Returns `None` if only a walk can find the changes.
pub(crate) fn walk_under(
    dir: impl AsFd,
    paths: &[&str],
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) -> Option<Snapshot> {
    let mut found = Snapshot::default();
    let mut jobs = Vec::new();
    // Neighbours share the directory above.
    let mut last: Option<(&str, Arc<OwnedFd>)> = None;
    for path in paths {
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = match &last {
            Some((opened, parent)) if *opened == above => Arc::clone(parent),
            _ => match open_beneath(&dir, above, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(parent) => Arc::new(parent),
                // The parent no longer exists.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(_) => return None,
            },
        };
        last = Some((above, Arc::clone(&parent)));
        let prefix = path[..path.len() - name.len()].to_owned();
        let depth = prefix.matches('/').count();
        let job = Job { parent: Arc::clone(&parent), name: None, prefix, depth };
        let name = CString::new(name).ok()?;
        let mut walker = Walker { found: &mut found, rules, subscription };
        jobs.extend(walker.entry(&parent, &job, &name, FileType::Unknown));
    }
    run(&mut found, jobs, rules, subscription);
    Some(found)
}

/// Inspects one path.
pub(crate) fn inspect(dir: impl AsFd, path: &RelativePath, rules: &IgnoreRules) -> Snapshot {
    let mut found = Snapshot::default();
    if rules.covers(path.as_str()) {
        return found;
    }
    let opened = open_beneath(dir, path.as_str(), OFlags::PATH)
        .and_then(|file| rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS));
    match opened {
        Ok(stat) => add(&mut found, path.as_str().to_owned(), &stat),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(Errno::LOOP) => found.skip(path.as_str().to_owned(), SkipReason::Symlink),
        Err(errno) => found.skip(path.as_str().to_owned(), unreadable(errno)),
    }
    found
}

/// Walks directories and adds their files to `found`.
fn run(
    found: &mut Snapshot,
    jobs: Vec<Job>,
    rules: &IgnoreRules,
    subscription: Option<&Subscription>,
) {
    if !jobs.is_empty() {
        let queue = Queue::new(jobs);
        let work = |found: &mut Snapshot| {
            let mut walker = Walker { found, rules, subscription };
            while let Some(job) = queue.next() {
                let jobs = walker.directory(job);
                queue.done(jobs);
            }
        };
        std::thread::scope(|scope| {
            let work_apart = || {
                let mut found = Snapshot::default();
                work(&mut found);
                found
            };
            let others: Vec<_> = (1..WALKERS).map(|_| scope.spawn(work_apart)).collect();
            work(found);
            for other in others {
                found.merge(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
    }
    found.sort();
}

fn add(found: &mut Snapshot, path: String, stat: &Statx) {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile if stat.stx_size > MAX_FILE_BYTES => {
            found.skip(path, SkipReason::TooLarge { size: stat.stx_size });
        }
        FileType::RegularFile => {
            if stat.stx_nlink > 1 {
                let links = Links { inode: stat.stx_ino, count: stat.stx_nlink };
                found.linked.push((path.clone(), links));
            }
            found.files.push(Entry { path, signature: stat.into() });
        }
        FileType::Symlink => found.skip(path, SkipReason::Symlink),
        FileType::Directory => {}
        _ => found.skip(path, SkipReason::Special),
    }
}

fn unreadable(errno: Errno) -> SkipReason {
    SkipReason::Unreadable { reason: io::Error::from(errno).to_string() }
}

/// Opens a path below the directory, without following symlinks.
fn open_beneath(dir: impl AsFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

/// Opens the directory again, so that the new descriptor has its own read position.
fn reopen(dir: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty())
}

/// Directory to list.
struct Job {
    parent: Arc<OwnedFd>,
    /// Name in the parent; `None` for the parent itself.
    name: Option<Box<CStr>>,
    /// Path with a closing slash; empty for the root.
    prefix: String,
    depth: usize,
}

/// Stack of directories to list. Taking the newest first keeps few descriptors open.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    jobs: Vec<Job>,
    /// Number of jobs that are queued or running.
    unfinished: usize,
}

impl Queue {
    fn new(jobs: Vec<Job>) -> Self {
        let unfinished = jobs.len();
        Self { state: Mutex::new(QueueState { jobs, unfinished }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// Waits for the next job. Returns `None` after the last one has finished.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                return Some(job);
            }
            if state.unfinished == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Finishes a job and adds the jobs that it found.
    fn done(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        state.unfinished += jobs.len();
        state.unfinished -= 1;
        let must_wake = !jobs.is_empty() || state.unfinished == 0;
        state.jobs.extend(jobs);
        drop(state);
        if must_wake {
            self.changed.notify_all();
        }
    }
}

struct Walker<'w> {
    found: &'w mut Snapshot,
    rules: &'w IgnoreRules,
    subscription: Option<&'w Subscription>,
}

impl Walker<'_> {
    /// Adds the files of a directory and returns its subdirectories.
    fn directory(&mut self, job: Job) -> Vec<Job> {
        let opened = match &job.name {
            None => Ok(Arc::clone(&job.parent)),
            Some(name) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&job.parent, &**name, flags, Mode::empty()).map(Arc::new)
            }
        };
        let path = job.prefix.trim_end_matches('/');
        let mut jobs = Vec::new();
        let dir = match opened {
            Ok(dir) => dir,
            // It was removed or replaced after its parent was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return jobs,
            Err(errno) => {
                self.found.skip(path.to_owned(), unreadable(errno));
                return jobs;
            }
        };
        if let Some(subscription) = self.subscription.filter(|_| self.found.unwatched.is_none())
            && let Err(error) = subscription.watch(dir.as_fd(), path)
        {
            self.found.unwatched = Some(error);
        }
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.found.skip(path.to_owned(), unreadable(errno));
                    break;
                }
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            jobs.extend(self.entry(&dir, &job, entry.file_name(), entry.file_type()));
        }
        jobs
    }

    /// Adds a file, or returns a directory to list.
    fn entry(
        &mut self,
        dir: &Arc<OwnedFd>,
        job: &Job,
        name: &CStr,
        mut kind: FileType,
    ) -> Option<Job> {
        let Ok(text) = name.to_str() else {
            let path = format!("{}{}", job.prefix, name.to_string_lossy());
            self.found.skip(path, SkipReason::NotUtf8);
            return None;
        };
        let mut path = String::with_capacity(job.prefix.len() + text.len() + 1);
        path.push_str(&job.prefix);
        path.push_str(text);
        let stat =
            || rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let mut known = None;
        // Some file systems do not report the kind in the listing.
        if kind == FileType::Unknown {
            let stat = known.insert(stat());
            kind = stat.as_ref().map_or(kind, |stat| FileType::from_raw_mode(stat.stx_mode.into()));
        }
        if self.rules.covers_entry(&path, kind == FileType::Directory) {
            return None;
        }
        if matches!(known, Some(Err(Errno::NOENT))) {
            return None;
        }
        if path.len() > MAX_PATH_BYTES {
            self.found.skip(path, SkipReason::PathTooLong);
            return None;
        }
        if kind != FileType::Directory {
            match known.unwrap_or_else(stat) {
                // A directory has replaced the file since it was listed.
                Ok(stat)
                    if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory => {}
                Ok(stat) => {
                    add(self.found, path, &stat);
                    return None;
                }
                Err(Errno::NOENT) => return None,
                Err(errno) => {
                    self.found.skip(path, unreadable(errno));
                    return None;
                }
            }
        }
        if job.depth + 1 > MAX_DEPTH {
            self.found.skip(path, SkipReason::TooDeep);
            return None;
        }
        path.push('/');
        Some(Job {
            parent: Arc::clone(dir),
            name: Some(name.into()),
            prefix: path,
            depth: job.depth + 1,
        })
    }
}
