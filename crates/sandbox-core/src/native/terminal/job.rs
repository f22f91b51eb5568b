//! This process as a job of a shell.

use std::fs;

use rustix::process::{
    Pid, Signal, getpgid, getpgrp, getpid, getppid, getsid, kill_current_process_group,
    kill_process,
};

/// Processes that a shell stops and continues together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native) enum Job {
    /// This process alone, which has received a signal to stop.
    Process,
    /// The whole process group of this process, as if its terminal had stopped it.
    Group,
}

/// Stops this process, or its group, until it is continued. May return before that.
pub(in crate::native) fn stop(job: Job) {
    let _ = match job {
        Job::Process => kill_process(getpid(), Signal::STOP),
        Job::Group => kill_current_process_group(Signal::STOP),
    };
}

/// Returns whether a process outside of this process group, in the same terminal session, is the
/// parent of a process in it. Only then does the kernel stop the group from the keyboard, because
/// that parent, a shell, can continue it.
pub(in crate::native) fn continue_is_certain() -> bool {
    let Ok(session) = getsid(None) else { return false };
    let group = getpgrp();
    let mut parent = getppid();
    while let Some(pid) = parent {
        if getsid(Some(pid)) != Ok(session) {
            return false;
        }
        if getpgid(Some(pid)) != Ok(group) {
            return true;
        }
        parent = parent_of(pid);
    }
    false
}

/// Returns the parent of a process (`proc_pid_stat(5)`).
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}
