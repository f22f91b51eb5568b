//! The supervision of a running command, until no process of it is left.

use super::Worker;
use crate::reply::{report_killed, report_lingering, report_stop};
use crate::shell::Request;
use crate::sys::{self, Poll};
use crate::terminal::Terminal;
use crate::wire;

/// Interval between attempts to kill processes that are still alive.
const KILL_AGAIN_MS: i32 = 10;

impl Worker<'_> {
    /// Waits until the shell exits. If processes are left then, and the host wants that, waits
    /// until they exit too. Kills and reaps all processes when the host closes the channel. Returns
    /// the kind and the value of the report.
    pub(super) fn supervise(&self, shell: i32, request: &Request<'_>) -> (u32, u32) {
        let channel = request.channel();
        let mut status = None;
        let mut is_lingering = false;
        loop {
            let mut fds = [
                Poll { fd: self.events, events: sys::POLL_IN, found: 0 },
                Poll { fd: channel, events: sys::POLL_IN | sys::POLL_RDHUP, found: 0 },
                Poll { fd: self.session.control, events: 0, found: 0 },
                self.watch.poll(),
            ];
            let _ = sys::poll(&mut fds, self.watch.next_check_ms());
            if fds[2].found != 0 {
                // The host has closed the session. A caller that waits for this command notices
                // that its channel closes.
                self.abandon();
            }
            if fds[1].found & !sys::POLL_IN != 0 || self.watch.is_exceeded(&fds[3]) {
                break;
            }
            if fds[1].found != 0 {
                let mut word = [0; 4];
                match sys::read(channel, &mut word) {
                    Ok(4) => obey(u32::from_le_bytes(word), shell, request.terminal.as_ref()),
                    _ => break,
                }
            }
            if sys::is_orphaned(self.events) {
                self.abandon();
            }
            let is_alone = self.collect(shell, request, &mut status);
            let Some(ended) = status else { continue };
            if is_alone {
                return result(ended);
            }
            if !request.has(wire::COMMAND_MAY_LINGER) || is_limit(ended) {
                break;
            }
            if !is_lingering {
                is_lingering = true;
                self.watch.make_room();
                report_lingering(channel);
            }
        }
        self.watch.make_room();
        let mut leftovers = Leftovers::default();
        if is_lingering {
            leftovers.note();
        }
        let killed = self.kill_all_of(shell, &mut leftovers);
        if is_lingering {
            report_killed(channel, leftovers.killed());
        }
        result(killed.or(status).unwrap_or(9))
    }

    /// Collects the children that have exited, and reports stops of the shell. Returns whether no
    /// child is left, and so no process of the command.
    fn collect(&self, shell: i32, request: &Request<'_>, status: &mut Option<u32>) -> bool {
        loop {
            match sys::wait_for_change() {
                Ok((0, _)) => return false,
                Ok((pid, changed)) if pid == shell => match sys::stop_signal(changed) {
                    None => *status = Some(changed),
                    Some(signal) if request.has(wire::COMMAND_REPORTS_STOPS) => {
                        report_stop(request.channel(), signal);
                    }
                    Some(_) => {}
                },
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }

    /// Kills the processes of a command that the host has given up, and exits.
    pub(super) fn abandon(&self) -> ! {
        self.kill_all();
        sys::exit(0)
    }

    /// Kills and reaps all processes of a command.
    pub(super) fn kill_all(&self) {
        self.kill_all_of(0, &mut Leftovers::default());
    }

    /// Kills and reaps all processes of a command. Returns the status of the shell, if it was one
    /// of them.
    fn kill_all_of(&self, shell: i32, leftovers: &mut Leftovers) -> Option<u32> {
        let mut status = None;
        // A kill may miss a process that is being forked, so repeat it until no child is left.
        loop {
            self.session.tier.kill_all();
            match sys::wait(false) {
                Ok((0, _)) => {
                    let _ = sys::poll(
                        &mut [Poll { fd: self.events, events: sys::POLL_IN, found: 0 }],
                        KILL_AGAIN_MS,
                    );
                    sys::drain(self.events);
                }
                Ok((pid, ended)) if pid == shell => status = Some(ended),
                Ok((pid, ended)) => leftovers.note_end(pid, ended),
                Err(_) => return status,
            }
        }
    }
}

/// Maximum number of processes that are named.
const MAX_LEFTOVERS: usize = 32;

/// Children of the worker that outlived the shell.
#[derive(Default)]
struct Leftovers {
    known: [Leftover; MAX_LEFTOVERS],
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Leftover {
    pid: i32,
    name: [u8; 16],
    length: usize,
    is_killed: bool,
}

impl Leftovers {
    fn note(&mut self) {
        let _ = sys::each_child(|pid| {
            if let Some(entry) = self.known.get_mut(self.count) {
                entry.pid = pid;
                entry.length = sys::process_name(pid, &mut entry.name);
                self.count += 1;
            }
        });
    }

    /// Notes the status of a process. One that was about to exit anyway has another one than after
    /// a kill.
    fn note_end(&mut self, pid: i32, status: u32) {
        if let Some(entry) = self.known[..self.count].iter_mut().find(|entry| entry.pid == pid) {
            entry.is_killed = status & 0x7f == 9;
        }
    }

    fn killed(&self) -> impl Iterator<Item = &[u8]> {
        let killed = self.known[..self.count].iter().filter(|entry| entry.is_killed);
        killed.map(|entry| &entry.name[..entry.length])
    }
}

/// Returns the kind and the value of the report on a shell with this status.
fn result(status: u32) -> (u32, u32) {
    match status & 0x7f {
        0 => (wire::RESULT_EXITED, exit_code(status)),
        signal => (wire::RESULT_SIGNALED, signal),
    }
}

fn exit_code(status: u32) -> u32 {
    (status >> 8) & 0xff
}

/// Returns whether a signal has killed the shell, or a program of it has reached a limit.
fn is_limit(status: u32) -> bool {
    // 128 and the number of SIGXCPU or SIGXFSZ
    status & 0x7f != 0 || matches!(exit_code(status), 152 | 153)
}

/// Obeys a word of the host: a signal for the shell's process group, or a change of the foreground.
fn obey(word: u32, shell: i32, terminal: Option<&Terminal>) {
    match (word, terminal) {
        (wire::TO_FOREGROUND, Some(terminal)) => {
            let _ = terminal.give_to(shell);
        }
        (wire::TO_BACKGROUND, Some(terminal)) => terminal.take_back(),
        (signal, _) => sys::kill_group(shell, signal),
    }
}
