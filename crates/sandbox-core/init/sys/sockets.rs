//! Sockets of other processes, and connections for them.

use super::{Errno, Fd, Result, close, decimal, open, read};

/// Copies a descriptor of another process, which this one must be allowed to trace. `pid` may be
/// the id of any thread.
pub fn copy_descriptor(pid: i32, fd: Fd) -> Result<Fd> {
    // PIDFD_THREAD, since Linux 6.9. Before, a pidfd is one of a whole process.
    let process = match sys!(pidfd_open, pid, 0o200) {
        Err(Errno::INVAL) => sys!(pidfd_open, process_of(pid)?, 0),
        other => other,
    }? as Fd;
    let copy = sys!(pidfd_getfd, process, fd, 0).map(|fd| fd as Fd);
    close(process);
    copy
}

/// Returns the process of a thread, from the line `Tgid` of `/proc/PID/status`.
fn process_of(thread: i32) -> Result<i32> {
    const KEY: &[u8] = b"\nTgid:\t";
    let mut path = [0; 32];
    let mut digits = [0; 10];
    let mut at = 0;
    for part in [b"/proc/", decimal(&mut digits, thread as u32), b"/status\0"] {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let path = super::CStr::new(&path[..at]).ok_or(Errno::INVAL)?;
    let file = open(super::AT_FDCWD, path, 0, 0)?;
    let mut content = [0; 512];
    let count = read(file, &mut content);
    close(file);
    let content = &content[..count?];
    // No line before this one can contain the key: the name of a program has no line break here.
    let begin = content.windows(KEY.len()).position(|found| found == KEY).ok_or(Errno::INVAL)?;
    let digits = content[begin + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, digit| number * 10 + i32::from(digit - b'0')))
}

/// Opens the file that a Unix socket is bound to, for reference. The kernel refuses that for a
/// socket of another network namespace, over which this process has no power.
pub fn file_of_socket(socket: Fd) -> Result<Fd> {
    // SIOCUNIXFILE
    sys!(ioctl, socket, 0x89e0, 0).map(|fd| fd as Fd)
}

pub fn is_unix_socket(socket: Fd) -> Result<bool> {
    let (mut domain, mut length) = (0u32, 4u32);
    // SOL_SOCKET, SO_DOMAIN
    sys!(getsockopt, socket, 1, 39, &raw mut domain, &raw mut length)?;
    Ok(domain == 1)
}

/// Connects a socket. The secret lets the call through the filter of this process.
pub fn connect_with(socket: Fd, address: &[u8], [first, second]: [u64; 2]) -> Result<()> {
    sys!(connect, socket, address.as_ptr(), address.len(), first, second).map(drop)
}
