//! Inspection of one directory of a walk.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;

use crate::limits::{MAX_DEPTH, MAX_PATH_BYTES};
use crate::scan::events::Subscription;
use crate::scan::ignore::IgnoreRules;
use crate::scan::inspect::{add, unreadable};
use crate::scan::queue::Job;
use crate::scan::signature::permissions;
use crate::scan::skipped::SkipReason;
use crate::scan::snapshot::{DirectoryEntry, Snapshot};
use crate::scan::walk::reopen;

/// Size of the buffer for a directory's entries.
const BUFFER_BYTES: usize = 32 * 1024;

/// Collector of the entries of directories.
pub(super) struct Walker<'w> {
    pub(super) found: &'w mut Snapshot,
    pub(super) rules: &'w IgnoreRules,
    pub(super) subscription: Option<&'w Subscription>,
}

impl Walker<'_> {
    /// Adds a directory with its files and symlinks, and returns its subdirectories.
    pub(super) fn directory(&mut self, job: Job) -> Vec<Job> {
        let path = job.path();
        let dir = match open(&job) {
            Ok(dir) => dir,
            // It was removed or replaced after its parent was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Vec::new(),
            Err(errno) => {
                self.found.skip(path.to_owned(), unreadable(errno));
                return Vec::new();
            }
        };
        if let Some(subscription) = self.subscription.filter(|_| self.found.unwatched.is_none())
            && let Err(error) = subscription.watch(dir.as_fd(), path)
        {
            self.found.unwatched = Some(error);
        }
        let before = self.found.mirrored_entries();
        let mut jobs = Vec::new();
        if let Err(errno) = self.entries(&dir, &job, |_, below| {
            jobs.extend(below);
            true
        }) {
            self.found.skip(path.to_owned(), unreadable(errno));
        }
        self.add_directory(&dir, path, self.found.mirrored_entries() == before);
        jobs
    }

    /// Adds an open directory without its entries.
    pub(super) fn outline(&mut self, job: &Job) {
        let mut seen = Snapshot::default();
        let mut has_directory = false;
        let listed = reopen(&job.parent).map(Arc::new).and_then(|dir| {
            let mut walker = Walker { found: &mut seen, rules: self.rules, subscription: None };
            walker.entries(&dir, job, |walker, below| {
                has_directory |= below.is_some_and(|job| open(&job).is_ok());
                !has_directory && walker.found.mirrored_entries() == 0
            })
        });
        if listed.is_ok() {
            let is_empty = !has_directory && seen.mirrored_entries() == 0;
            self.add_directory(&job.parent, job.path(), is_empty);
        }
    }

    fn add_directory(&mut self, dir: &OwnedFd, path: &str, is_empty: bool) {
        if path.is_empty() {
            return;
        }
        match rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MODE) {
            Ok(stat) => self.found.directories.push(DirectoryEntry {
                path: path.to_owned(),
                mode: permissions(stat.stx_mode),
                is_empty,
            }),
            Err(errno) => self.found.skip(path.to_owned(), unreadable(errno)),
        }
    }

    /// Adds the entries of a directory, until `more` returns `false`. Passes each subdirectory to
    /// `more`.
    fn entries(
        &mut self,
        dir: &Arc<OwnedFd>,
        job: &Job,
        mut more: impl FnMut(&mut Self, Option<Job>) -> bool,
    ) -> rustix::io::Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let below = self.entry(dir, job, entry.file_name(), entry.file_type());
            if !more(self, below) {
                break;
            }
        }
        Ok(())
    }

    /// Adds a file, or returns a directory to list.
    pub(super) fn entry(
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
                    add(self.found, path, &stat, dir, name);
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

/// Opens the directory of a job for listing.
fn open(job: &Job) -> rustix::io::Result<Arc<OwnedFd>> {
    match &job.name {
        None => Ok(Arc::clone(&job.parent)),
        Some(name) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&job.parent, &**name, flags, Mode::empty()).map(Arc::new)
        }
    }
}
