//! The two tiers of a session: with namespaces, or with Landlock rules and a search for orphans.

use crate::devices;
use crate::landlock::Rules;
use crate::mounts::{self, View};
use crate::pool::Started;
use crate::reader::Reader;
use crate::sys::{self, Fd, Result};

pub const CLONE_NEWNS: usize = 0x2_0000;
pub const CLONE_NEWCGROUP: usize = 0x200_0000;
pub const CLONE_NEWPID: usize = 0x2000_0000;

/// Tier of a session, which confines the commands and ends them.
pub enum Tier {
    /// A process namespace for each worker, among those of the session.
    Namespaces {
        /// Highest process id of a command, or 0 if the kernel cannot limit it.
        max_pid: u32,
        view: View,
    },
    /// Landlock rules for the shell of each command. A worker finds the processes of its command as
    /// its orphans.
    Landlock(Rules),
}

impl Tier {
    pub fn worker_namespaces(&self) -> usize {
        match self {
            Self::Namespaces { .. } => CLONE_NEWPID | CLONE_NEWNS,
            Self::Landlock(_) => 0,
        }
    }

    /// Applies operations to an open session.
    pub fn add(&self, operations: &mut Reader<'_>) -> Result<()> {
        match self {
            Self::Namespaces { view, .. } => mounts::add(view, operations),
            // A Landlock rule grants access, and cannot be revoked.
            Self::Landlock(_) => operations.u32().map(drop),
        }
    }

    /// Sets up a new process as a worker.
    pub fn enter_worker(&self) -> Result<()> {
        match self {
            Self::Namespaces { max_pid, .. } => {
                let _ = sys::prctl(sys::PR_SET_PDEATHSIG, 9);
                mounts::mount_proc(*max_pid)
            }
            Self::Landlock(_) => sys::adopt_orphans(),
        }
    }

    /// Makes the worker's control group the root of the groups that it and its commands see.
    pub fn enter_group(&self) -> Result<()> {
        match self {
            Self::Namespaces { .. } => sys::unshare(CLONE_NEWCGROUP),
            Self::Landlock(_) => Ok(()),
        }
    }

    /// Returns a descriptor that becomes readable when a child of the worker exits. Without a
    /// namespace that ends with init, it also becomes readable when init exits.
    pub fn events(&self) -> Result<Fd> {
        match self {
            Self::Namespaces { .. } => sys::child_events(),
            Self::Landlock(_) => sys::child_events_and_orphaning(),
        }
    }

    /// Opens the session's own device in place of a device of the host. On the Landlock tier the
    /// filter denies what that prevents.
    pub fn open_own_device(&self, fd: Fd) -> Result<Option<Fd>> {
        match self {
            Self::Namespaces { .. } => devices::open_own(fd),
            Self::Landlock(_) => Ok(None),
        }
    }

    /// Confines the process that becomes the shell.
    pub fn enter_command(&self) -> Result<()> {
        match self {
            Self::Namespaces { .. } => Ok(()),
            Self::Landlock(rules) => sys::landlock_restrict(rules.ruleset),
        }
    }

    /// Kills the processes of a command: all others in the namespace, or the children of the
    /// worker. Their own children become the worker's when they die.
    pub fn kill_all(&self) {
        match self {
            Self::Namespaces { .. } => sys::kill_all_others(),
            Self::Landlock(_) => {
                let _ = sys::each_child(sys::kill);
            }
        }
    }

    /// Kills children of init that are no workers: orphans of a worker that was killed.
    pub fn kill_strays(&self, workers: &Started) {
        if let Self::Landlock(_) = self {
            let _ = sys::each_child(|pid| {
                if !workers.has(pid) {
                    sys::kill(pid);
                }
            });
        }
    }

    /// Returns the `BOUND_…` flags of the objects that the kernel does not limit.
    pub fn unbounded(&self) -> u32 {
        match self {
            Self::Namespaces { view, .. } => view.unbounded,
            // No setting is asked for.
            Self::Landlock(_) => 0,
        }
    }

    pub fn landlock_abi(&self) -> u32 {
        match self {
            Self::Namespaces { .. } => 0,
            Self::Landlock(rules) => rules.abi,
        }
    }
}
