//! One look at a directory: every regular file and its signature.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use sandbox_core::RelativePath;
use sandbox_core::internal::lock;

use crate::events::Subscription;
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
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// By path.
    pub(crate) files: Vec<Entry>,
    /// By path.
    pub(crate) skipped: Vec<Skipped>,
    /// The files that have more names than one: path, inode, and how many names.
    pub(crate) linked: Vec<(String, Links)>,
    /// Why a directory could not be watched; then none that came after it is.
    pub(crate) unwatched: Option<io::Error>,
}

/// A file that has several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) inode: u64,
    pub(crate) count: u32,
}

impl Snapshot {
    /// Walks a directory. Symlinks are not followed, ignored directories are not entered. With a
    /// subscription, each directory is watched from before it is listed, so what happens in it is
    /// seen here or told later.
    pub(crate) fn take(dir: impl AsFd, rules: &IgnoreRules, watch: Option<&Subscription>) -> Self {
        let mut found = Self::default();
        match reopen(&dir) {
            Ok(root) => {
                let job =
                    Job { parent: Arc::new(root), name: None, prefix: String::new(), depth: 0 };
                found.walk(vec![job], rules, watch);
            }
            Err(errno) => found.skip(String::new(), unreadable(errno)),
        }
        found
    }

    /// Looks at some paths, none of which lies in another, and at all below them, as a walk would.
    /// `None` where only a walk can tell.
    pub(crate) fn take_under(
        dir: impl AsFd,
        paths: &[&str],
        rules: &IgnoreRules,
        watch: Option<&Subscription>,
    ) -> Option<Self> {
        let mut found = Self::default();
        let mut jobs = Vec::new();
        // Neighbours share the directory above.
        let mut last: Option<(&str, Arc<OwnedFd>)> = None;
        for path in paths {
            let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
            let parent = match &last {
                Some((opened, parent)) if *opened == above => Arc::clone(parent),
                _ => match open_beneath(&dir, above, OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(parent) => Arc::new(parent),
                    // Nothing is there any more.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    Err(_) => return None,
                },
            };
            last = Some((above, Arc::clone(&parent)));
            let prefix = path[..path.len() - name.len()].to_owned();
            let job = Job {
                parent: Arc::clone(&parent),
                name: None,
                depth: prefix.matches('/').count(),
                prefix,
            };
            let name = CString::new(name).ok()?;
            let mut walker = Walker { found: &mut found, rules, watch };
            jobs.extend(walker.entry(&parent, &job, &name, FileType::Unknown));
        }
        found.walk(jobs, rules, watch);
        Some(found)
    }

    /// Walks directories and adds what is there.
    fn walk(&mut self, jobs: Vec<Job>, rules: &IgnoreRules, watch: Option<&Subscription>) {
        if !jobs.is_empty() {
            let queue = Queue::new(jobs);
            let walk = |found: &mut Self| {
                let mut walker = Walker { found, rules, watch };
                while let Some(job) = queue.next() {
                    let jobs = walker.directory(job);
                    queue.done(jobs);
                }
            };
            std::thread::scope(|scope| {
                let walk_apart = || {
                    let mut found = Self::default();
                    walk(&mut found);
                    found
                };
                let others: Vec<_> = (1..WALKERS).map(|_| scope.spawn(walk_apart)).collect();
                walk(self);
                for other in others {
                    let other =
                        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    self.files.extend(other.files);
                    self.skipped.extend(other.skipped);
                    self.linked.extend(other.linked);
                    self.unwatched = self.unwatched.take().or(other.unwatched);
                }
            });
        }
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_unstable();
        // Names that are not UTF-8 may be shown alike.
        self.skipped.dedup();
    }

    /// Looks at one path only.
    pub(crate) fn of_file(dir: impl AsFd, path: &RelativePath, rules: &IgnoreRules) -> Self {
        let mut found = Self::default();
        if rules.covers(path.as_str()) {
            return found;
        }
        let opened = open_beneath(dir, path.as_str(), OFlags::PATH)
            .and_then(|file| rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted()));
        match opened {
            Ok(stat) => found.add(path.as_str().to_owned(), &stat),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::LOOP) => found.skip(path.as_str().to_owned(), SkipReason::Symlink),
            Err(errno) => found.skip(path.as_str().to_owned(), unreadable(errno)),
        }
        found
    }

    /// Where files may still be as they were, though none was seen: the path itself, or the
    /// directory above.
    pub(crate) fn blind_spots(&self) -> Vec<&str> {
        let hiding = self.skipped.iter().filter(|skipped| skipped.reason.hides_a_file());
        hiding.map(|skipped| skipped.path.as_str()).collect()
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Signature> {
        let at = self.files.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at].signature)
    }

    /// Whether something was found at a path, be it mirrored or not; a directory is nothing by
    /// itself.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_some() || self.skipped.iter().any(|skipped| skipped.path == path)
    }

    fn add(&mut self, path: String, stat: &rustix::fs::Statx) {
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile if stat.stx_size > MAX_FILE_BYTES => {
                self.skip(path, SkipReason::TooLarge { size: stat.stx_size });
            }
            FileType::RegularFile => {
                if stat.stx_nlink > 1 {
                    self.linked
                        .push((path.clone(), Links { inode: stat.stx_ino, count: stat.stx_nlink }));
                }
                self.files.push(Entry { path, signature: stat.into() });
            }
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
    SkipReason::Unreadable { reason: io::Error::from(errno).to_string() }
}

/// Opens what is in the directory, by a path without symlinks.
fn open_beneath(dir: impl AsFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

/// A descriptor of its own, so that nobody else's reading position counts.
fn reopen(dir: &impl AsFd) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A directory to look at.
struct Job {
    parent: Arc<OwnedFd>,
    /// `None`: the parent itself.
    name: Option<Box<CStr>>,
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
    fn new(jobs: Vec<Job>) -> Self {
        let unfinished = jobs.len();
        Self { state: Mutex::new(QueueState { jobs, unfinished }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
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

    /// Ends a job that has led to others.
    fn done(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        state.unfinished += jobs.len();
        state.unfinished -= 1;
        let is_news = !jobs.is_empty() || state.unfinished == 0;
        state.jobs.extend(jobs);
        drop(state);
        if is_news {
            self.changed.notify_all();
        }
    }
}

struct Walker<'w> {
    found: &'w mut Snapshot,
    rules: &'w IgnoreRules,
    watch: Option<&'w Subscription>,
}

impl Walker<'_> {
    /// Notes the files of a directory; gives back the directories in it.
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
            // It was removed, or replaced, after its parent was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return jobs,
            Err(errno) => {
                self.found.skip(path.to_owned(), unreadable(errno));
                return jobs;
            }
        };
        if let Some(watch) = self.watch.filter(|_| self.found.unwatched.is_none())
            && let Err(error) = watch.watch(dir.as_fd(), path)
        {
            self.found.unwatched = Some(error);
        }
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
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

    /// Notes a file; gives back a directory to look at.
    fn entry(
        &mut self,
        dir: &Arc<OwnedFd>,
        job: &Job,
        name: &CStr,
        mut kind: FileType,
    ) -> Option<Job> {
        let Ok(text) = name.to_str() else {
            self.found
                .skip(format!("{}{}", job.prefix, name.to_string_lossy()), SkipReason::NotUtf8);
            return None;
        };
        let mut path = String::with_capacity(job.prefix.len() + text.len() + 1);
        path.push_str(&job.prefix);
        path.push_str(text);
        let look = || rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted());
        let mut looked = None;
        // Some file systems do not tell the kind in the listing.
        if kind == FileType::Unknown {
            let there = looked.insert(look());
            kind =
                there.as_ref().map_or(kind, |stat| FileType::from_raw_mode(stat.stx_mode.into()));
        }
        if self.rules.covers_entry(&path, kind == FileType::Directory) {
            return None;
        }
        if matches!(looked, Some(Err(Errno::NOENT))) {
            return None;
        }
        if path.len() > MAX_PATH_BYTES {
            self.found.skip(path, SkipReason::PathTooLong);
            return None;
        }
        if kind != FileType::Directory {
            match looked.unwrap_or_else(look) {
                // It has taken a file's place since it was listed.
                Ok(stat)
                    if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory => {}
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
        Some(Job {
            parent: Arc::clone(dir),
            name: Some(name.into()),
            prefix: path,
            depth: job.depth + 1,
        })
    }
}
