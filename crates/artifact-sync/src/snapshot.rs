//! One look at a directory: every regular file and its signature.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;
use sandbox_core::RelativePath;

use crate::ignore::IgnoreRules;
use crate::report::{SkipReason, Skipped};
use crate::signature::Signature;

/// The largest object that one S3 upload can make is 5 TiB; what an agent makes is held to 5 GiB.
pub(crate) const MAX_FILE_BYTES: u64 = 5 << 30;
/// How deep directories are followed: each level may hold a descriptor open.
pub(crate) const MAX_DEPTH: usize = 256;
/// The longest path that the kernel takes, its closing NUL included (`PATH_MAX`, `limits.h`).
const MAX_PATH_BYTES: usize = 4095;
/// More threads than cores only wait for each other.
const WALKERS: usize = 2;

/// One regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) signature: Signature,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// By path.
    pub(crate) files: Vec<Entry>,
    /// By path.
    pub(crate) skipped: Vec<Skipped>,
}

impl Snapshot {
    /// Walks a directory. Symlinks are not followed, ignored directories are not entered.
    pub(crate) fn take(dir: impl AsFd, rules: &IgnoreRules) -> Self {
        let root = match reopen(&dir) {
            Ok(root) => Arc::new(root),
            Err(errno) => {
                let mut empty = Self::default();
                empty.skip(String::new(), unreadable(errno));
                return empty;
            }
        };
        let queue = Queue::new(Job { parent: root, name: None, prefix: String::new(), depth: 0 });
        let walk = || {
            let mut walker = Walker { found: Self::default(), rules, queue: &queue };
            while let Some(job) = queue.next() {
                walker.directory(job);
                queue.done();
            }
            walker.found
        };
        let mut found = std::thread::scope(|scope| {
            let others: Vec<_> = (1..WALKERS).map(|_| scope.spawn(walk)).collect();
            let mut found = walk();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                found.files.extend(other.files);
                found.skipped.extend(other.skipped);
            }
            found
        });
        found.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        found.skipped.sort_unstable();
        found
    }

    /// Looks at one path only.
    pub(crate) fn of_file(dir: impl AsFd, path: &RelativePath, rules: &IgnoreRules) -> Self {
        let mut found = Self::default();
        if rules.covers(path.as_str()) {
            return found;
        }
        let flags = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(dir, path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
            .and_then(|file| rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted()));
        match opened {
            Ok(stat) => found.add(path.as_str().to_owned(), &stat),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::LOOP) => found.skip(path.as_str().to_owned(), SkipReason::Symlink),
            Err(errno) => found.skip(path.as_str().to_owned(), unreadable(errno)),
        }
        found
    }

    /// Where files may still be as they were, though none was seen: the path itself, or the directory above.
    pub(crate) fn blind_spots(&self) -> Vec<&str> {
        let hiding = self.skipped.iter().filter(|skipped| skipped.reason.hides_a_file());
        hiding.map(|skipped| skipped.path.as_str()).collect()
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Signature> {
        let at = self.files.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at].signature)
    }

    fn add(&mut self, path: String, stat: &rustix::fs::Statx) {
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile if stat.stx_size > MAX_FILE_BYTES => {
                self.skip(path, SkipReason::TooLarge { size: stat.stx_size });
            }
            FileType::RegularFile => self.files.push(Entry { path, signature: stat.into() }),
            FileType::Symlink => self.skip(path, SkipReason::Symlink),
            FileType::Directory => {}
            _ => self.skip(path, SkipReason::Special),
        }
    }

    fn skip(&mut self, path: String, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS
}

fn unreadable(errno: Errno) -> SkipReason {
    SkipReason::Unreadable { reason: std::io::Error::from(errno).to_string() }
}

/// A descriptor of its own, so that nobody else's reading position counts.
fn reopen(dir: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory to look at.
struct Job {
    parent: Arc<OwnedFd>,
    /// `None`: the parent itself.
    name: Option<Box<std::ffi::CStr>>,
    /// The path with its closing slash; empty for the root.
    prefix: String,
    depth: usize,
}

/// Directories to look at, the last found first: so few descriptors are open at once.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    jobs: Vec<Job>,
    /// Jobs that are waiting or being worked on.
    unfinished: usize,
}

impl Queue {
    fn new(first: Job) -> Self {
        Self { state: Mutex::new(QueueState { jobs: vec![first], unfinished: 1 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.unfinished += jobs.len();
        state.jobs.extend(jobs);
        drop(state);
        self.changed.notify_all();
    }

    /// The next job; `None` once all are finished.
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

    fn done(&self) {
        let mut state = self.lock();
        state.unfinished -= 1;
        if state.unfinished == 0 {
            drop(state);
            self.changed.notify_all();
        }
    }
}

struct Walker<'w> {
    found: Snapshot,
    rules: &'w IgnoreRules,
    queue: &'w Queue,
}

impl Walker<'_> {
    fn directory(&mut self, job: Job) {
        let opened = match &job.name {
            None => Ok(Arc::clone(&job.parent)),
            Some(name) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&job.parent, &**name, flags, Mode::empty()).map(Arc::new)
            }
        };
        let path = || job.prefix.trim_end_matches('/').to_owned();
        let dir = match opened {
            Ok(dir) => dir,
            // It was removed, or replaced, after its parent was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return,
            Err(errno) => return self.found.skip(path(), unreadable(errno)),
        };
        let mut jobs = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.found.skip(path(), unreadable(errno));
                    break;
                }
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            jobs.extend(self.entry(&dir, &job, entry.file_name(), entry.file_type()));
        }
        self.queue.add(jobs);
    }

    /// Notes a file; gives back a directory to look at.
    fn entry(&mut self, dir: &Arc<OwnedFd>, job: &Job, name: &std::ffi::CStr, kind: FileType) -> Option<Job> {
        let Ok(text) = name.to_str() else {
            self.found.skip(format!("{}{}", job.prefix, name.to_string_lossy()), SkipReason::NotUtf8);
            return None;
        };
        let mut path = String::with_capacity(job.prefix.len() + text.len() + 1);
        path.push_str(&job.prefix);
        path.push_str(text);
        if self.rules.covers_entry(&path, kind == FileType::Directory) {
            return None;
        }
        if path.len() > MAX_PATH_BYTES {
            self.found.skip(path, SkipReason::PathTooLong);
            return None;
        }
        if kind != FileType::Directory {
            match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted()) {
                // Some file systems do not tell the kind in the listing.
                Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory => {}
                Ok(stat) => {
                    self.found.add(path, &stat);
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
        Some(Job { parent: Arc::clone(dir), name: Some(name.into()), prefix: path, depth: job.depth + 1 })
    }
}
