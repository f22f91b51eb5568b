//! Notifications about calls of other processes (`seccomp_unotify(2)`), and access to their memory.

use super::{Errno, Fd, IoVec, Result};
use crate::arch;

/// A call that waits for an answer (`struct seccomp_notif`).
pub struct Notification {
    pub id: u64,
    pub pid: i32,
    /// The number of the call.
    pub call: u32,
    pub arguments: [u64; 6],
}

/// Loads a seccomp filter that can notify this process. Returns the descriptor for the
/// notifications.
pub fn load_notifying_filter(program: &[u8]) -> Result<Fd> {
    // SECCOMP_FILTER_FLAG_NEW_LISTENER, and SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV since Linux
    // 5.19, with which a signal does not repeat the notification.
    const NEW_LISTENER: usize = 1 << 3;
    const WAIT_KILLABLE: usize = 1 << 5;
    let listener = match super::processes::load_filter_with(program, NEW_LISTENER | WAIT_KILLABLE) {
        Err(Errno::INVAL) => super::processes::load_filter_with(program, NEW_LISTENER)?,
        other => other?,
    };
    // SECCOMP_IOCTL_NOTIF_SET_FLAGS with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, since Linux 6.6, for a
    // faster switch to the caller and back.
    let _ = sys!(ioctl, listener, 0x4008_2104, 1);
    Ok(listener as Fd)
}

/// Waits for the next notification.
pub fn next_notification(listener: Fd) -> Result<Notification> {
    let mut words = [0u64; 10];
    // SECCOMP_IOCTL_NOTIF_RECV
    sys!(ioctl, listener, 0xc050_2100u32, words.as_mut_ptr())?;
    let [id, pid, call, _, arguments @ ..] = words;
    // The second and the third word contain two numbers each.
    Ok(Notification { id, pid: pid as u32 as i32, call: call as u32, arguments })
}

/// Answer to a notification.
pub enum Answer {
    /// The kernel makes the call, and reads the memory of the caller again.
    Continue,
    /// The call returns 0.
    Done,
    Fail(Errno),
}

/// Answers a notification.
pub fn answer(listener: Fd, id: u64, answer: Answer) {
    // struct seccomp_notif_resp: id, val, error and flags; SECCOMP_USER_NOTIF_FLAG_CONTINUE
    let halves = match answer {
        Answer::Continue => 1 << 32,
        Answer::Done => 0,
        Answer::Fail(Errno(errno)) => u64::from((-errno) as u32),
    };
    let words = [id, 0, halves];
    // SECCOMP_IOCTL_NOTIF_SEND
    let _ = sys!(ioctl, listener, 0xc018_2101u32, words.as_ptr());
}

/// Returns whether a call still waits for its answer. Before this check, `pid` may be that of
/// another process.
pub fn is_asked(listener: Fd, id: u64) -> bool {
    // SECCOMP_IOCTL_NOTIF_ID_VALID
    sys!(ioctl, listener, 0x4008_2102, &raw const id).is_ok()
}

/// Fills a buffer from the memory of another process, which this one must be allowed to trace.
pub fn read_memory(pid: i32, at: u64, buffer: &mut [u8]) -> Result<()> {
    let to = IoVec { base: buffer.as_mut_ptr(), len: buffer.len() };
    let from = IoVec { base: arch::untagged(at) as usize as *mut u8, len: buffer.len() };
    let read = sys!(process_vm_readv, pid, &raw const to, 1, &raw const from, 1, 0)?;
    if read == buffer.len() { Ok(()) } else { Err(Errno::FAULT) }
}

/// Reads a text from the memory of another process. Returns it without its NUL.
pub fn read_text(pid: i32, at: u64, buffer: &mut [u8]) -> Result<&[u8]> {
    const PAGE: usize = 4096;
    let mut len = 0;
    while len < buffer.len() {
        // The page after the text may be unmapped.
        let from = at + len as u64;
        let end = (len + PAGE - (from as usize % PAGE)).min(buffer.len());
        read_memory(pid, from, &mut buffer[len..end])?;
        if let Some(nul) = buffer[len..end].iter().position(|byte| *byte == 0) {
            return Ok(&buffer[..len + nul]);
        }
        len = end;
    }
    Err(Errno::TOO_BIG)
}
