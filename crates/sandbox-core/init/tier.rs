//! What holds a session's commands, and how they end: a process namespace for each worker, or rules
//! and the search for orphans.

use crate::landlock::Rules;
use crate::mounts::{self, View};
use crate::pool::Started;
use crate::reader::Reader;
use crate::sys::{self, Fd, Result};

pub const CLONE_NEWNS: usize = 0x2_0000;
pub const CLONE_NEWCGROUP: usize = 0x200_0000;
pub const CLONE_NEWPID: usize = 0x2000_0000;

/// What holds a session's commands.
pub enum Tier {
    /// A process namespace for each worker, among those of the session.
    Namespaces {
        /// The highest process id of a command, or 0 where the kernel cannot limit it.
        max_pid: u32,
        view: View,
    },
    /// Rules for each command's shell; a worker is found by its orphans.
    Landlock(Rules),
}

impl Tier {
    pub fn worker_namespaces(&self) -> usize {
        match self {
            Self::Namespaces { .. } => CLONE_NEWPID | CLONE_NEWNS,
            Self::Landlock(_) => 0,
        }
    }

    /// Carries out operations on a session that is open.
    pub fn add(&self, operations: &mut Reader<'_>) -> Result<()> {
        match self {
            Self::Namespaces { view, .. } => mounts::add(view, operations),
            // Rules of Landlock open, and nothing takes that back.
            Self::Landlock(_) => operations.u32().map(drop),
        }
    }

    /// Makes a new process a worker.
    pub fn enter_worker(&self) -> Result<()> {
        match self {
            Self::Namespaces { max_pid, .. } => {
                let _ = sys::prctl(sys::PR_SET_PDEATHSIG, 9);
                mounts::mount_proc(*max_pid)
            }
            Self::Landlock(_) => sys::adopt_orphans(),
        }
    }

    /// In a worker that has a control group of its own: what it and its commands see of groups begins
    /// there.
    pub fn enter_group(&self) -> Result<()> {
        match self {
            Self::Namespaces { .. } => sys::unshare(CLONE_NEWCGROUP),
            Self::Landlock(_) => Ok(()),
        }
    }

    /// A descriptor that becomes readable when a child of the worker has ended; where no namespace
    /// ends with init, also when init has.
    pub fn events(&self) -> Result<Fd> {
        match self {
            Self::Namespaces { .. } => sys::child_events(),
            Self::Landlock(_) => sys::child_events_and_orphaning(),
        }
    }

    /// In the process that becomes the shell.
    pub fn enter_command(&self) -> Result<()> {
        match self {
            Self::Namespaces { .. } => Ok(()),
            Self::Landlock(rules) => sys::landlock_restrict(rules.ruleset),
        }
    }

    /// Kills what is left of a command: everyone in the namespace, or the worker's children, whose
    /// own become the worker's when they die.
    pub fn kill_all(&self) {
        match self {
            Self::Namespaces { .. } => sys::kill_all_others(),
            Self::Landlock(_) => {
                let _ = sys::each_child(sys::kill);
            }
        }
    }

    /// Kills what has become init's because its worker was killed.
    pub fn kill_strays(&self, workers: &Started) {
        if let Self::Landlock(_) = self {
            let _ = sys::each_child(|pid| {
                if !workers.has(pid) {
                    sys::kill(pid);
                }
            });
        }
    }

    pub fn landlock_abi(&self) -> u32 {
        match self {
            Self::Namespaces { .. } => 0,
            Self::Landlock(rules) => rules.abi,
        }
    }
}
