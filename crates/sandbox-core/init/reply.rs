//! Messages to the host: the state of the session, and the report on a command.

use crate::sys::{self, Errno, Fd, Result};
use crate::wire;

/// Reports the process id of init.
pub fn report_init(control: Fd, pid: i32) -> Result<()> {
    send_words(control, [wire::MSG_INIT, pid as u32])
}

/// Reports that the session accepts commands. `landlock_abi` is 0 in a session without Landlock,
/// and `unbounded` has the `BOUND_…` flags of objects that the kernel does not limit.
pub fn report_ready(control: Fd, landlock_abi: u32, unbounded: u32) -> Result<()> {
    send_words(control, [wire::MSG_READY, landlock_abi, unbounded])
}

/// Sends the host a descriptor of the session's own `/tmp`.
pub fn report_tmp(control: Fd, directory: Fd) -> Result<()> {
    sys::send_one(control, &wire::MSG_TMP.to_le_bytes(), directory)
}

/// Reports that the setup of the session failed.
pub fn report_failure(control: Fd, step: u32, errno: Errno, path: &[u8]) {
    let mut message = [0; 512];
    let path = &path[..path.len().min(500)];
    message[..4].copy_from_slice(&wire::MSG_FAILED.to_le_bytes());
    message[4..8].copy_from_slice(&step.to_le_bytes());
    message[8..12].copy_from_slice(&(errno.0 as u32).to_le_bytes());
    message[12..12 + path.len()].copy_from_slice(path);
    let _ = sys::send(control, &message[..12 + path.len()]);
}

/// Reports that the shell of a command was stopped. If the host has not read earlier reports, this
/// one is dropped.
pub fn report_stop(channel: Fd, signal: u32) {
    let _ = sys::try_send(channel, &head(wire::RESULT_STOPPED, signal));
}

/// Reports that processes of a command have outlived its shell.
pub fn report_lingering(channel: Fd) {
    let _ = sys::try_send(channel, &head(wire::RESULT_LINGERS, 0));
}

/// Reports the names of the processes that were killed.
pub fn report_killed<'n>(channel: Fd, killed: impl Iterator<Item = &'n [u8]>) {
    let mut message = [0; wire::REPORT_BYTES + wire::MAX_NAMES_BYTES];
    let mut end = wire::REPORT_BYTES;
    for name in killed {
        if let Some(place) = message.get_mut(end..=end + name.len()) {
            place[..name.len()].copy_from_slice(name);
            end += name.len() + 1;
        }
    }
    let names = (end - wire::REPORT_BYTES) as u32;
    message[..wire::REPORT_BYTES].copy_from_slice(&head(wire::RESULT_KILLED, names));
    let _ = sys::try_send(channel, &message[..end]);
}

/// Returns a report that is not the last one.
fn head(kind: u32, value: u32) -> [u8; wire::REPORT_BYTES] {
    let mut report = [0; wire::REPORT_BYTES];
    report[..4].copy_from_slice(&kind.to_le_bytes());
    report[4..8].copy_from_slice(&value.to_le_bytes());
    report
}

/// Report on one command.
pub struct Reply {
    /// `RESULT_…`.
    pub kind: u32,
    pub value: u32,
    /// `LIMIT_…`.
    pub limit: u32,
    /// Number of connections without a route in this session while the command ran.
    pub unroutable: u32,
    /// Number of calls in this session that may have created a watched name.
    pub creations: u32,
}

impl Reply {
    /// Sends the report on the command's channel.
    pub fn send(self, channel: Fd) {
        const { assert!(wire::REPORT_BYTES == 20, "five words") };
        let Self { kind, value, limit, unroutable, creations } = self;
        let _ = send_words(channel, [kind, value, limit, unroutable, creations]);
    }
}

fn send_words<const N: usize>(socket: Fd, words: [u32; N]) -> Result<()> {
    let mut message = [0; wire::REPORT_BYTES];
    for (part, word) in message.chunks_exact_mut(4).zip(words) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    sys::send(socket, &message[..N * 4])
}
