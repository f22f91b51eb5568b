//! Modes of directories with the set-group-ID bit (`inode(7)`).
//!
//! On a directory the bit gives new files the group of the directory. On a file it gives the power
//! of a group to every user who executes it, and no command may set it. A filter sees the mode and
//! not the file. So the kernel asks init about each mode with that bit. The call itself never goes
//! on:
//!
//! 1. Init opens the file for reference, without its capabilities, like a command.
//! 2. If the open file is a directory, init changes its mode. A path that changes meanwhile leads
//!    nowhere else, and a directory never becomes a file.
//! 3. Otherwise, the call fails with `EPERM`.

use crate::arch::ARCHITECTURE;
use crate::creation::{PATH_BYTES, terminated};
use crate::sys::{self, AT_FDCWD, Errno, Fd, Notification, Result, c};

const FCHMOD: u32 = ARCHITECTURE.number("fchmod");
const FCHMODAT: u32 = ARCHITECTURE.number("fchmodat");
const FCHMODAT2: u32 = ARCHITECTURE.number("fchmodat2");
/// Only old architectures have it.
const CHMOD: Option<u32> = ARCHITECTURE.find("chmod");

/// `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` of `fchmodat2(2)`.
const NOFOLLOW: u64 = 0x100;
const EMPTY_PATH: u64 = 0x1000;
/// Maximum number of symlinks in a path (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A call that changes a mode.
struct Change {
    /// Descriptor of the file, or of the directory in which a relative path starts.
    at: Fd,
    /// Address of the path in the caller's memory, if the call has one.
    path: Option<u64>,
    mode: usize,
    flags: u64,
}

impl Change {
    fn of(asked: &Notification) -> Option<Self> {
        let [first, second, third, fourth, ..] = asked.arguments;
        let change = |at: u64, path, mode: u64, flags| {
            // The kernel ignores the other bits of a mode, and the upper half of a descriptor.
            Some(Self { at: at as Fd, path, mode: mode as usize & 0o7777, flags })
        };
        match asked.call {
            FCHMOD => change(first, None, second, 0),
            FCHMODAT => change(first, Some(second), third, 0),
            FCHMODAT2 => change(first, Some(second), third, fourth),
            call if Some(call) == CHMOD => change(AT_FDCWD as u64, Some(first), second, 0),
            _ => None,
        }
    }

    /// Opens the file for reference, like the caller.
    fn open(&self, pid: i32) -> Result<Fd> {
        let mut text = [0; PATH_BYTES];
        let path = match self.path {
            Some(path) => sys::read_text(pid, path, &mut text)?,
            None => return sys::copy_descriptor(pid, self.at),
        };
        if path.is_empty() {
            let is_open = self.flags & EMPTY_PATH != 0 && self.at != AT_FDCWD;
            return if is_open { sys::copy_descriptor(pid, self.at) } else { Err(Errno::NOENT) };
        }
        let follows = self.flags & NOFOLLOW == 0;
        // C libraries name an open file in this way. Init has another `/proc/self`.
        if let Some(fd) = path.strip_prefix(b"/proc/self/fd/").and_then(number)
            && follows
        {
            return sys::copy_descriptor(pid, fd);
        }
        let start = if path.starts_with(b"/") {
            sys::open(AT_FDCWD, c(b"/\0"), sys::O_PATH, 0)?
        } else if self.at == AT_FDCWD {
            let mut digits = [0; 10];
            let parts = [b"/proc/", sys::decimal(&mut digits, pid as u32), b"/cwd"];
            let mut buffer = [0; PATH_BYTES];
            let cwd = terminated(&mut buffer, &parts).ok_or(Errno::INVAL)?;
            sys::open(AT_FDCWD, cwd, sys::O_PATH | sys::O_DIRECTORY, 0)?
        } else {
            sys::copy_descriptor(pid, self.at)?
        };
        sys::without_capabilities(|| walk(start, path, follows))
    }
}

/// Returns whether a call changes a mode.
pub fn is_change(call: u32) -> bool {
    matches!(call, FCHMOD | FCHMODAT | FCHMODAT2) || Some(call) == CHMOD
}

/// Changes the mode of a directory for a caller. `secret` lets the call through the filter.
///
/// # Errors
/// Returns `PERM` if the file is no directory, and the error of the kernel otherwise.
pub fn change(listener: Fd, asked: &Notification, secret: [u64; 2]) -> Result<()> {
    let change = Change::of(asked).ok_or(Errno::PERM)?;
    if change.flags & !(NOFOLLOW | EMPTY_PATH) != 0 {
        return Err(Errno::INVAL);
    }
    let file = change.open(asked.pid)?;
    let changed = sys::is_directory(file).and_then(|is_directory| {
        if !is_directory {
            return Err(Errno::PERM);
        }
        // Another process may have the same process id by now.
        if !sys::is_asked(listener, asked.id) {
            return Err(Errno::INTR);
        }
        sys::without_capabilities(|| sys::change_mode(file, change.mode, secret))
    });
    sys::close(file);
    changed
}

fn number(digits: &[u8]) -> Option<Fd> {
    let is_number = matches!(digits.len(), 1..=9) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + Fd::from(digit - b'0')))
}

/// Follows a path from an open directory, which it closes. It reads symlinks itself: the kernel
/// would follow those in `/proc` to the files of init.
fn walk(start: Fd, path: &[u8], follows_last: bool) -> Result<Fd> {
    let mut links = 0;
    let mut name = [0; 256];
    // The rest of the path stands at the end of the buffer, with room for targets before it.
    let mut text = [0; PATH_BYTES];
    let mut begin = prepend(&mut text, PATH_BYTES, path).inspect_err(|_| sys::close(start))?;
    let mut at = start;
    loop {
        while text.get(begin) == Some(&b'/') {
            begin += 1;
        }
        let rest = &text[begin..];
        if rest.is_empty() {
            return Ok(at);
        }
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let is_last = end == rest.len();
        let next = terminated(&mut name, &[&rest[..end]])
            .ok_or(Errno::INVAL)
            .and_then(|name| sys::open(at, name, sys::O_PATH | sys::O_NOFOLLOW, 0));
        begin += end;
        let step = next.and_then(|next| {
            if (is_last && !follows_last) || !sys::is_symlink(next)? {
                return Ok(next);
            }
            let mut target = [0; PATH_BYTES];
            let read = sys::read_link_from(next, &mut target);
            sys::close(next);
            links += 1;
            let is_in_proc = sys::is_in_proc(at)?;
            match target.get(..read?) {
                _ if is_in_proc => Err(Errno::PERM),
                Some([]) | None => Err(Errno::NOENT),
                Some(_) if links > MAX_LINKS => Err(Errno::LOOP),
                Some(target) => {
                    begin = prepend(&mut text, begin, target)?;
                    if target[0] != b'/' {
                        return Ok(at);
                    }
                    sys::open(AT_FDCWD, c(b"/\0"), sys::O_PATH, 0)
                }
            }
        });
        match step {
            Ok(next) if next == at => {}
            Ok(next) => {
                sys::close(at);
                at = next;
            }
            Err(errno) => {
                sys::close(at);
                return Err(errno);
            }
        }
    }
}

/// Writes `path` before the position `end`. Returns its position.
fn prepend(text: &mut [u8; PATH_BYTES], end: usize, path: &[u8]) -> Result<usize> {
    let begin = end.checked_sub(path.len()).ok_or(Errno::TOO_BIG)?;
    text[begin..end].copy_from_slice(path);
    Ok(begin)
}
