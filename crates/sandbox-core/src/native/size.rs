//! Limit on the size of the session directory.
//!
//! 1. While a command runs, the directory is counted every two seconds. A large directory is
//!    counted less often, so that counting takes a twentieth of a processor. The command ends if
//!    the directory is above a limit and has grown noticeably while the command ran. So a command
//!    that deletes files runs to its end.
//! 2. Above a limit, a command is checked sooner.
//! 3. After a command, the directory is counted again if commands have run for twenty times as long
//!    as the last count took, or if its file system has grown by the rest of the limit. So a small
//!    directory is counted after nearly every command, and a large one in the background if its
//!    last count is old.
//! 4. The host asks before it writes a file itself. The last count and the growth of the file
//!    system answer, or a new count if they leave it open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::{Access, BindAccess, MountOp, MountPlan};
use rustix::fs::StatVfs;

use crate::files::{Usage, usage};
use crate::internal::{blocking, lock};
use crate::sandbox::Limits;

const UNLIMITED: Usage = Usage { bytes: u64::MAX, files: u64::MAX };
/// Interval between two counts while a command runs.
const INTERVAL: Duration = Duration::from_secs(2);
/// The same above a limit.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
/// Age from which a count is repeated after a command.
const OLD: Duration = Duration::from_secs(10);
/// Growth above a limit that ends no command: a command that deletes files may write a log.
const SLACK: Usage = Usage { bytes: 1 << 20, files: 16 };
/// Share of the time in which the directory is counted at most.
const SHARE: u32 = 20;
/// Number of files up to which a count costs less than passing it to another thread, unless a
/// command has run for so long that it may have created many more.
const FEW_FILES: u64 = 50;
const SHORT: Duration = Duration::from_millis(20);

/// The limits of one session directory, and its last count.
#[derive(Debug)]
pub(super) struct SizeLimit {
    dir: PathBuf,
    max: Usage,
    last: Mutex<Option<Counted>>,
    /// Held during a count.
    counting: Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    usage: Usage,
    /// Use of the whole file system before the count.
    file_system: Usage,
    began: Instant,
    took: Duration,
    /// Time for which commands have run since.
    worked: Duration,
}

impl SizeLimit {
    /// Creates the limit. A directory in which commands can write nothing is never counted.
    pub(super) fn new(dir: &Path, limits: &Limits, plan: &MountPlan) -> Arc<Self> {
        let max = if can_write_below(dir, plan) {
            Usage { bytes: limits.session_bytes, files: limits.session_files }
        } else {
            UNLIMITED
        };
        let dir = dir.to_owned();
        Arc::new(Self { dir, max, last: Mutex::default(), counting: Mutex::default() })
    }

    fn is_off(&self) -> bool {
        self.max == UNLIMITED
    }

    /// Returns a check of a command that starts now.
    pub(super) fn watch(self: &Arc<Self>) -> SizeWatch {
        SizeWatch { limit: Arc::clone(self), lowest: None, began: Instant::now(), checked: None }
    }

    /// Returns the kind of count that is due after a command that has run for this time.
    fn due_after(&self, ran: Duration) -> DueCount {
        if self.is_off() {
            return DueCount::None;
        }
        let mut last = lock(&self.last);
        let Some(counted) = &mut *last else { return DueCount::Now };
        counted.worked += ran;
        let pause = counted.took * SHARE;
        if counted.worked >= pause || self.can_exceed(counted, Usage::default()) {
            DueCount::Now
        } else if counted.began.elapsed() >= OLD.max(pause) {
            DueCount::InBackground
        } else {
            DueCount::None
        }
    }

    /// Returns whether the directory can be above a limit with `added`, by the growth of its file
    /// system since this count.
    fn can_exceed(&self, counted: &Counted, added: Usage) -> bool {
        let Some(now) = self.file_system() else { return true };
        let then = counted.file_system;
        let grown = Usage {
            bytes: now.bytes.saturating_sub(then.bytes),
            files: now.files.saturating_sub(then.files),
        };
        self.is_above(&sum(sum(counted.usage, grown), added))
    }

    /// Returns whether the directory stays within its limits with `added`, and adds it to the
    /// count. A directory that cannot be read has room.
    pub(super) async fn reserve(self: &Arc<Self>, added: Usage) -> bool {
        if self.is_off() || added == Usage::default() {
            return true;
        }
        let is_certain = lock(&self.last).is_some_and(|counted| !self.can_exceed(&counted, added));
        if !is_certain {
            let limit = Arc::clone(self);
            let usage = blocking(move || limit.count()).await;
            if usage.is_some_and(|usage| self.is_above(&sum(usage, added))) {
                return false;
            }
        }
        if let Some(counted) = &mut *lock(&self.last) {
            counted.usage = sum(counted.usage, added);
        }
        true
    }

    fn has_few_files(&self) -> bool {
        lock(&self.last).is_some_and(|counted| counted.usage.files <= FEW_FILES)
    }

    fn is_exceeded(&self) -> bool {
        self.count().is_some_and(|usage| self.is_above(&usage))
    }

    fn is_above(&self, usage: &Usage) -> bool {
        usage.bytes > self.max.bytes || usage.files > self.max.files
    }

    /// Returns whether the directory has grown above a limit since `before`.
    fn has_outgrown(&self, usage: &Usage, before: &Usage) -> bool {
        (usage.bytes > self.max.bytes && usage.bytes > before.bytes + SLACK.bytes)
            || (usage.files > self.max.files && usage.files > before.files + SLACK.files)
    }

    fn file_system(&self) -> Option<Usage> {
        let StatVfs { f_blocks, f_bfree, f_frsize, f_files, f_ffree, .. } =
            rustix::fs::statvfs(&self.dir).ok()?;
        // Some file systems have no fixed number of files, and report none.
        Some(Usage {
            bytes: f_blocks.saturating_sub(f_bfree).saturating_mul(f_frsize),
            files: f_files.saturating_sub(f_ffree),
        })
    }

    /// Counts the directory, or waits for a count that begins after this call. Returns `None` if
    /// the directory cannot be read.
    fn count(&self) -> Option<Usage> {
        let called = Instant::now();
        let _counting = lock(&self.counting);
        if let Some(counted) = lock(&self.last).filter(|counted| counted.began >= called) {
            return Some(counted.usage);
        }
        let began = Instant::now();
        let file_system = self.file_system().unwrap_or_default();
        let usage = usage(&self.dir).ok()?;
        let took = began.elapsed();
        let worked = Duration::ZERO;
        *lock(&self.last) = Some(Counted { usage, file_system, began, took, worked });
        Some(usage)
    }
}

/// Returns whether commands can write to a directory, or to something in it. A directory whose real
/// path is unknown counts as writable.
fn can_write_below(dir: &Path, plan: &MountPlan) -> bool {
    let Ok(dir) = dir.canonicalize() else { return true };
    let opens = |op: &MountOp| op.path().is_some_and(|path| path.starts_with(&dir));
    plan.allows(&dir, Access::Write)
        || plan.ops.iter().any(|op| {
            matches!(op, MountOp::Bind { access: BindAccess::ReadWrite, .. }) && opens(op)
        })
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage { bytes: a.bytes.saturating_add(b.bytes), files: a.files.saturating_add(b.files) }
}

/// Count that is due after a command.
enum DueCount {
    Now,
    InBackground,
    None,
}

/// The check of a running command.
#[derive(Debug)]
pub(super) struct SizeWatch {
    limit: Arc<SizeLimit>,
    /// The smallest counts while the command ran.
    lowest: Option<Usage>,
    began: Instant,
    checked: Option<Instant>,
}

impl SizeWatch {
    /// Waits until the command has to end because of the size of the directory.
    ///
    /// # Cancel safety
    /// After the future is dropped, `exceeded` can be called again.
    pub(super) async fn exceeded(&mut self) {
        loop {
            let Some(due) = self.due() else { return std::future::pending().await };
            tokio::time::sleep_until(due.into()).await;
            let limit = Arc::clone(&self.limit);
            let usage = blocking(move || limit.count()).await;
            if self.is_over(usage) {
                return;
            }
        }
    }

    /// Like [`SizeWatch::exceeded`], for a thread that waits for something else meanwhile: returns
    /// the time of the next check, or `None` without a limit.
    pub(super) fn due(&mut self) -> Option<Instant> {
        if self.limit.is_off() {
            return None;
        }
        let last = *lock(&self.limit.last);
        let Some(counted) = last else {
            // The size at the start is unknown.
            return Some(self.checked.map_or(self.began, |checked| checked + INTERVAL));
        };
        let lowest = *self.lowest.get_or_insert(counted.usage);
        let is_above = self.limit.is_above(&lowest);
        let interval = if is_above { SHORT_INTERVAL } else { INTERVAL };
        Some(self.checked.unwrap_or(self.began) + interval.max(counted.took * SHARE))
    }

    /// Returns whether the directory is above a limit after the command.
    pub(super) async fn is_exceeded(&self) -> bool {
        let (limit, ran) = (Arc::clone(&self.limit), self.began.elapsed());
        match limit.due_after(ran) {
            DueCount::None => false,
            DueCount::InBackground => {
                tokio::task::spawn_blocking(move || limit.count());
                false
            }
            DueCount::Now if ran < SHORT && limit.has_few_files() => limit.is_exceeded(),
            DueCount::Now => blocking(move || limit.is_exceeded()).await,
        }
    }

    /// Like [`SizeWatch::is_exceeded`], for a thread.
    pub(super) fn is_exceeded_blocking(&self) -> bool {
        !matches!(self.limit.due_after(self.began.elapsed()), DueCount::None)
            && self.limit.is_exceeded()
    }

    /// Checks the size now. Returns whether the command has to end.
    pub(super) fn check(&mut self) -> bool {
        let usage = self.limit.count();
        self.is_over(usage)
    }

    fn is_over(&mut self, usage: Option<Usage>) -> bool {
        self.checked = Some(Instant::now());
        let Some(usage) = usage else { return false };
        let lowest = self.lowest.get_or_insert(usage);
        lowest.bytes = lowest.bytes.min(usage.bytes);
        lowest.files = lowest.files.min(usage.files);
        self.limit.has_outgrown(&usage, lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(writable: &[&Path], is_counted: bool) {
        let mut plan = MountPlan::read_only();
        plan.ops.extend(writable.iter().map(|path| MountOp::Bind {
            path: path.canonicalize().unwrap(),
            access: BindAccess::ReadWrite,
        }));
        let dir = tempfile::tempdir().unwrap();
        assert!(can_write_below(&dir.path().join("absent"), &plan));
        assert_eq!(can_write_below(Path::new("/usr"), &plan), is_counted, "{writable:?}");
    }

    #[test]
    fn a_directory_in_which_nothing_can_be_written_has_no_limit() {
        check(&[], false);
        check(&["/var".as_ref()], false);
        check(&["/usr".as_ref()], true);
        check(&["/usr/bin".as_ref()], true);
        check(&["/".as_ref()], true);
    }
}
