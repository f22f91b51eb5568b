//! Inspection of one directory of a walk.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use sandbox_core::internal::{ReadableDirectory, is_own_staged_name};

use crate::limits::{MAX_DEPTH, MAX_PATH_BYTES};
use crate::scan::events::Subscription;
use crate::scan::ignore::{IgnoreRules, Rule};
use crate::scan::inspect::{add, unreadable};
use crate::scan::markers::{self, Marker};
use crate::scan::queue::Job;
use crate::scan::signature::permissions;
use crate::scan::skipped::SkipReason;
use crate::scan::snapshot::{DirectoryEntry, Snapshot};

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
        let (dir, stat) = match open(&job) {
            Ok(opened) => opened,
            Err(Errno::XDEV) => {
                self.found.skip(path.to_owned(), SkipReason::MountPoint);
                return Vec::new();
            }
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
        if dir.original_mode().is_some() {
            self.found.granted.push(path.to_owned());
        }
        let before = self.found.sizes();
        let mut jobs = Vec::new();
        let listed = self.entries(&dir, &job, |_, below| {
            jobs.extend(below);
            true
        });
        match listed {
            Ok(None) => {}
            Ok(Some(_)) => {
                self.found.truncate(&before);
                self.found.ignored.push(path.to_owned());
                return Vec::new();
            }
            Err(errno) => self.found.skip(path.to_owned(), unreadable(errno)),
        }
        self.add_directory(&dir, &stat, path, self.found.mirrored_entries() == before.mirrored());
        jobs
    }

    /// Adds an open directory without its entries.
    pub(super) fn outline(&mut self, job: &Job) {
        let mut seen = Snapshot::default();
        let mut has_directory = false;
        let listed = ReadableDirectory::open_beneath(&*job.parent, Path::new("")).map(Arc::new);
        let listed = listed.and_then(|dir| {
            let mut walker = Walker { found: &mut seen, rules: self.rules, subscription: None };
            walker.entries(&dir, job, |walker, below| {
                has_directory |= below.is_some_and(|job| walker.is_mirrored(&job));
                !has_directory && walker.found.mirrored_entries() == 0
            })?;
            stat(&dir)
        });
        if let Ok(stat) = listed {
            let is_empty = !has_directory && seen.mirrored_entries() == 0;
            self.add_directory(&job.parent, &stat, job.path(), is_empty);
        }
    }

    fn add_directory(&mut self, dir: &ReadableDirectory, stat: &Statx, path: &str, is_empty: bool) {
        if !path.is_empty() {
            let mode = permissions(dir.original_mode().unwrap_or(stat.stx_mode));
            self.found.directories.push(DirectoryEntry { path: path.to_owned(), mode, is_empty });
        }
    }

    /// Returns whether a directory below is mirrored.
    fn is_mirrored(&self, job: &Job) -> bool {
        open(job).is_ok_and(|(dir, _)| {
            !self.rules.honours_marker(job.path()) || markers::find(&*dir).is_none()
        })
    }

    /// Adds the entries of a directory, until `more` returns `false`. Passes each subdirectory to
    /// `more`. Stops at a marker that makes the directory ignored, and returns it.
    fn entries(
        &mut self,
        dir: &Arc<ReadableDirectory>,
        job: &Job,
        mut more: impl FnMut(&mut Self, Option<Job>) -> bool,
    ) -> rustix::io::Result<Option<Marker>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(&**dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if let Some(marker) = markers::of_entry(&**dir, entry.file_name())
                && self.rules.honours_marker(job.path())
            {
                return Ok(Some(marker));
            }
            let below = self.entry(dir, job, entry.file_name(), entry.file_type());
            if !more(self, below) {
                break;
            }
        }
        Ok(None)
    }

    /// Adds a file, or returns a directory to list.
    pub(super) fn entry(
        &mut self,
        dir: &Arc<ReadableDirectory>,
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
            || rustix::fs::statx(&**dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let mut known = None;
        // Some file systems do not report the kind in the listing.
        if kind == FileType::Unknown {
            let stat = known.insert(stat());
            kind = stat.as_ref().map_or(kind, |stat| FileType::from_raw_mode(stat.stx_mode.into()));
        }
        match self.rules.rule(&path, kind == FileType::Directory) {
            // A process that was killed may have left it behind.
            Some(Rule::Staged) if !is_own_staged_name(text) => {
                self.found.skip(path, SkipReason::Staged);
                return None;
            }
            Some(_) => return None,
            None => {}
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
                    add(self.found, path, &stat, &**dir, name);
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

/// Opens the directory of a job for listing. Fails with `EXDEV` for a mount point.
fn open(job: &Job) -> rustix::io::Result<(Arc<ReadableDirectory>, Statx)> {
    let Some(name) = &job.name else {
        return Ok((Arc::clone(&job.parent), stat(&job.parent)?));
    };
    let mut dir = ReadableDirectory::open_at(&*job.parent, name)?;
    let stat = stat(&dir)?;
    // Kernels before 5.6 open a mount point like any directory.
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::XDEV);
    }
    dir.make_accessible(stat.stx_mode)?;
    Ok((Arc::new(dir), stat))
}

fn stat(dir: &ReadableDirectory) -> rustix::io::Result<Statx> {
    rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MODE)
}
