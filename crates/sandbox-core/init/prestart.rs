//! A shell that starts before its command is known.
//!
//! It is a plain `bash -c TEXT` with a blank text. Bash reads the file that `BASH_ENV` names before
//! it parses the text, and this file is a pipe of the worker:
//!
//! 1. The *first stage* reports that bash is ready, and sources the second stage from another pipe.
//!    That pipe is empty, so bash waits.
//! 2. When the command arrives, the worker writes it over the blank text in the memory of the shell
//!    (`process_vm_writev(2)`; a process may trace its own child).
//! 3. The *second stage* restores what the wait has changed: descriptors, `BASH_ENV`, `SECONDS`,
//!    and `BASH_EXECUTION_STRING`, which bash has set from the blank text. The end of the first
//!    stage restores `_`, the last argument.
//!
//! Bash then parses and runs the text like any text of `-c`. Three traces remain. The initial
//! environment in `/proc/PID/environ` names `BASH_ENV`. `/proc/PID/cmdline` has spaces between the
//! arguments. `PIPESTATUS` is 0 instead of empty before the first pipeline. If any of this fails,
//! no part of the command has run yet, and the command gets a fresh shell.

use crate::sys::{self, CStr, Errno, Fd, Result, c};
use crate::wire;

/// Descriptors of the prestarted shell. They are low enough for every limit on descriptors, and
/// above those that bash uses itself.
const FIRST: Fd = 60;
const SECOND: Fd = 61;
const READY: Fd = 62;
const FIRST_STAGE: &[u8] = b"echo >&62; . /proc/self/fd/61; : bash";
const BASH_ENV: CStr<'static> = c(b"BASH_ENV=/proc/self/fd/60\0");
const SECOND_STAGE: &[u8] =
    b"exec 60<&- 61<&- 62>&-; unset BASH_ENV; SECONDS=0; BASH_EXECUTION_STRING='";
const STAGE_END: &[u8] = b"'";

/// Offset of the text in the shell's arguments: `bash`, `-c`, and the text.
const BEFORE_TEXT: usize = b"bash\0-c\0".len();
const BLANK_BYTES: usize = wire::MAX_DEFERRED_BYTES + 1;

/// The pipes of one prestarted shell.
pub struct Prestart {
    first: Fd,
    second: (Fd, Fd),
    ready: (Fd, Fd),
    blank: &'static [u8],
}

impl Prestart {
    pub fn new() -> Result<Self> {
        let (first, write_first) = sys::pipe()?;
        sys::write_all(write_first, FIRST_STAGE)?;
        sys::close(write_first);
        let blank = sys::memory(BLANK_BYTES + 1)?;
        blank[..BLANK_BYTES].fill(b' ');
        Ok(Self { first, second: sys::pipe()?, ready: sys::pipe()?, blank })
    }

    /// Gives the child the descriptors that the shell waits on.
    pub fn enter(&self) -> Result<()> {
        for (fd, to) in [(self.first, FIRST), (self.second.0, SECOND), (self.ready.1, READY)] {
            sys::dup_to(fd, to)?;
        }
        Ok(())
    }

    /// Returns the blank text that the command replaces.
    pub fn blank(&self) -> CStr<'static> {
        CStr::new(self.blank).unwrap_or(c(b"\0"))
    }

    /// Returns the environment variable that makes bash wait.
    pub fn variable(&self) -> CStr<'static> {
        BASH_ENV
    }

    /// Closes the shell's ends of the pipes in the worker.
    pub fn close_shell_ends(&self) {
        for fd in [self.first, self.second.0, self.ready.1] {
            sys::close(fd);
        }
    }

    /// Returns a descriptor that becomes readable when the shell waits for its command.
    pub fn ready(&self) -> Fd {
        self.ready.0
    }

    /// Passes the command to the waiting shell. After an error no part of it has run.
    pub fn give(&self, pid: i32, command: CStr<'_>) -> Result<()> {
        let text = command.bytes();
        let stage = sys::memory(SECOND_STAGE.len() + text.len() * 4 + STAGE_END.len())?;
        let mut stage = Text { bytes: stage, len: 0 };
        stage.add(SECOND_STAGE);
        stage.add_quoted(text);
        stage.add(STAGE_END);

        let arguments = arguments_of(pid)?;
        // If the last byte of the arguments is not NUL, the kernel shows them in lists of processes
        // as one text up to the first NUL.
        let last = arguments + BEFORE_TEXT + BLANK_BYTES;
        let begin = arguments + BEFORE_TEXT;
        sys::write_memory(
            pid,
            [(begin, text), (begin + text.len(), b"\0"), (arguments, b"bash -c "), (last, b" ")],
        )?;
        sys::write_all(self.second.1, &stage.bytes[..stage.len])?;
        sys::close(self.second.1);
        sys::close(self.ready.0);
        Ok(())
    }
}

struct Text {
    bytes: &'static mut [u8],
    len: usize,
}

impl Text {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds bytes that will be between single quotes.
    fn add_quoted(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\'' => self.add(b"'\\''"),
                other => self.add(&[*other]),
            }
        }
    }
}

/// Returns the address of the arguments of a process: the field `arg_start` of `/proc/PID/stat`
/// (`proc_pid_stat(5)`).
fn arguments_of(pid: i32) -> Result<usize> {
    const ARG_START: usize = 48;
    let mut path = [0; 32];
    let mut digits = [0; 10];
    let mut at = 0;
    for part in [b"/proc/", sys::decimal(&mut digits, pid as u32), b"/stat\0"] {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let file = sys::open(sys::AT_FDCWD, CStr::new(&path[..at]).ok_or(Errno::INVAL)?, 0, 0)?;
    let mut content = [0; 1024];
    let read = sys::read(file, &mut content);
    sys::close(file);
    let content = &content[..read?];
    // The second field is the program's name in parentheses, and may contain any byte.
    let name_end = content.iter().rposition(|byte| *byte == b')').ok_or(Errno::INVAL)?;
    let mut fields = content[name_end..].split(|byte| *byte == b' ');
    let field = fields.nth(ARG_START - 2).ok_or(Errno::INVAL)?;
    let mut address = 0usize;
    for digit in field {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Errno::INVAL);
        }
        address = address
            .checked_mul(10)
            .and_then(|address| address.checked_add(digit.into()))
            .ok_or(Errno::INVAL)?;
    }
    // The kernel shows 0 to a process that may not trace this one.
    if address == 0 { Err(Errno::INVAL) } else { Ok(address) }
}
