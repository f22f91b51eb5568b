//! What commands may not bring into being.
//!
//! A mount covers what is there. Where the policy denies a path at which nothing is yet, the kernel
//! asks init about each call that makes a name (`seccomp_unotify(2)`), and the call waits for the
//! answer.
//!
//! An answer rests on what the caller's memory held a moment before the kernel reads it again, and
//! another thread of the caller may have changed it by then. So this makes attempts fail at once,
//! and is no wall: what gets through all the same, the host takes away when the command has ended.

use crate::glob;
use crate::pool::Pool;
use crate::reader::{Reader, Span};
use crate::sys::{self, CStr, Errno, Fd, Mapping, Notification, Result};

/// `PATH_MAX`, and room for one name more.
const PATH_BYTES: usize = 4096;
const NAME_BYTES: usize = 256;
const O_CREAT: u64 = 0o100;
const RENAMEAT2: u32 = 316;
const RENAME_EXCHANGE: u64 = 2;

/// Who answers.
pub struct Guard {
    listener: Fd,
    /// Where the kernel does not look at it, in the mode of a directory that init makes
    /// (`mkdirat(2)`), so that it does not ask init about init.
    mark: usize,
    rules: Rules,
}

/// The rules, where the host wrote them.
struct Rules {
    file: Mapping,
    /// Patterns on names of which the host wants to hear.
    watched: Span,
    /// Patterns on the names of what may be refused; any other name is not looked at further.
    names: Span,
    /// Paths at which nothing may be made.
    paths: Span,
    /// Patterns on whole paths.
    patterns: Span,
}

/// A name that a call makes.
struct Made {
    /// What a relative path begins in.
    dir: Fd,
    /// Where the path stands in the caller's memory.
    path: u64,
    is_directory: bool,
}

impl Guard {
    /// Reads the rules from `at` on in a file, and loads a filter by which the kernel asks about
    /// this process's children from now on, and about itself: it would wait for its own answer, so
    /// from then on it makes no name but directories with the mark, and does not call `openat2`.
    pub fn start(file: Mapping, at: usize, filter: &[u8], mark: u32) -> Result<Self> {
        let rules = Rules::read(file, at)?;
        Ok(Self { listener: sys::load_asking_filter(filter)?, mark: (mark as usize) << 32, rules })
    }

    /// To be added to the mode of a directory that init makes.
    pub fn mark(&self) -> usize {
        self.mark
    }

    /// Takes other rules.
    pub fn replace(&mut self, file: Mapping, at: usize) -> Result<()> {
        self.rules = Rules::read(file, at)?;
        Ok(())
    }

    /// Becomes readable when the kernel asks.
    pub fn listener(&self) -> Fd {
        self.listener
    }

    /// Answers one question.
    pub fn answer(&self, pool: &Pool) {
        // Who asked may be gone by now.
        let Ok(asked) = sys::next_notification(self.listener) else { return };
        let error = self.rules.refuse(&asked, pool).then_some(Errno::ROFS);
        sys::answer(self.listener, asked.id, error);
    }
}

impl Rules {
    fn read(file: Mapping, at: usize) -> Result<Self> {
        let bytes = file.bytes();
        let mut reader = Reader(bytes.get(at..).ok_or(Errno::INVAL)?);
        let mut texts = || reader.texts(bytes);
        let (watched, names, paths, patterns) = (texts()?, texts()?, texts()?, texts()?);
        Ok(Self { watched, names, paths, patterns, file })
    }

    fn refuse(&self, asked: &Notification, pool: &Pool) -> bool {
        let Some(made) = made(asked) else { return false };
        let [old_dir, old_path, _, _, flags, _] = asked.arguments;
        // An exchange makes both names.
        let exchanges = asked.call == RENAMEAT2 && flags & RENAME_EXCHANGE != 0;
        self.refuse_one(asked.pid, &made, pool)
            || exchanges && self.refuse_one(asked.pid, &at(old_dir, old_path), pool)
    }

    /// Whether the name may not be made. What cannot be looked at makes the call fail by itself, or
    /// is found by the host.
    fn refuse_one(&self, pid: i32, made: &Made, pool: &Pool) -> bool {
        let (mut path, mut whole) = ([0; PATH_BYTES], [0; PATH_BYTES + NAME_BYTES]);
        let Ok(path) = sys::read_text(pid, made.path, &mut path) else { return false };
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &path[start..end];
        let file = self.file.bytes();
        if self.watched.of(file).any(|pattern| glob::component(pattern, name)) {
            pool.note_arrival();
        }
        if !self.names.of(file).any(|pattern| glob::component(pattern, name)) {
            return false;
        }
        // What leads through the caller's own view of itself, init cannot follow.
        if path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/") {
            return true;
        }
        let Some(whole) = whole_path(pid, made.dir, &path[..start], name, &mut whole) else {
            return false;
        };
        let is_on_the_way =
            |path: &[u8]| path.starts_with(whole) && path.get(whole.len()) == Some(&b'/');
        self.paths.of(file).any(|path| path == whole || (!made.is_directory && is_on_the_way(path)))
            || self.patterns.of(file).any(|pattern| glob::matches(pattern, whole))
    }
}

/// The path of a name as the kernel sees it now, without any symlink.
fn whole_path<'b>(
    pid: i32,
    dir: Fd,
    parent: &[u8],
    name: &[u8],
    buffer: &'b mut [u8],
) -> Option<&'b [u8]> {
    let mut text = [0; PATH_BYTES];
    let opened = if parent.first() == Some(&b'/') {
        // The session's mounts are the same for init.
        sys::open(
            sys::AT_FDCWD,
            terminated(&mut text, &[parent])?,
            sys::O_PATH | sys::O_DIRECTORY,
            0,
        )
        .ok()?
    } else {
        let (mut process, mut number) = ([0; 10], [0; 10]);
        let process = sys::decimal(&mut process, pid as u32);
        let begin: [&[u8]; 3] = match u32::try_from(dir) {
            Ok(dir) => [process, b"/fd/", sys::decimal(&mut number, dir)],
            Err(_) => [process, b"/cwd", b""],
        };
        let begin = terminated(&mut text, &[b"/proc/", begin[0], begin[1], begin[2]])?;
        let begin = sys::open(sys::AT_FDCWD, begin, sys::O_PATH | sys::O_DIRECTORY, 0).ok()?;
        let opened = sys::open(
            begin,
            terminated(&mut text, &[parent, b"."])?,
            sys::O_PATH | sys::O_DIRECTORY,
            0,
        );
        sys::close(begin);
        opened.ok()?
    };
    let mut number = [0; 10];
    let link =
        terminated(&mut text, &[b"/proc/self/fd/", sys::decimal(&mut number, opened as u32)])?;
    let read = sys::read_link(link, &mut buffer[..PATH_BYTES]);
    sys::close(opened);
    let mut len = read.ok()?;
    if buffer[..len] != *b"/" {
        *buffer.get_mut(len)? = b'/';
        len += 1;
    }
    buffer.get_mut(len..len + name.len())?.copy_from_slice(name);
    Some(&buffer[..len + name.len()])
}

/// The parts as one text.
fn terminated<'b>(buffer: &'b mut [u8; PATH_BYTES], parts: &[&[u8]]) -> Option<CStr<'b>> {
    let mut len = 0;
    for part in parts {
        buffer.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    *buffer.get_mut(len)? = 0;
    CStr::new(&buffer[..=len])
}

/// The name that a call makes, if it makes one.
fn made(asked: &Notification) -> Option<Made> {
    let Notification { pid, call, arguments: [a, b, c, d, ..], .. } = *asked;
    let here = sys::AT_FDCWD as u64;
    let directory = |made: Made| Some(Made { is_directory: true, ..made });
    match call {
        // open and openat are asked about only when they may make a file.
        2 | 85 | 133 => Some(at(here, a)), // open, creat, mknod
        257 | 259 => Some(at(a, b)),       // openat, mknodat
        437 => {
            // openat2; struct open_how begins with its flags.
            let mut flags = [0; 8];
            sys::read_memory(pid, c, &mut flags).ok()?;
            (u64::from_ne_bytes(flags) & O_CREAT != 0).then(|| at(a, b))
        }
        83 => directory(at(here, a)),      // mkdir
        258 => directory(at(a, b)),        // mkdirat
        82 | 86 | 88 => Some(at(here, b)), // rename, link, symlink
        266 => Some(at(b, c)),             // symlinkat
        264 | 265 | 316 => Some(at(c, d)), // renameat, linkat, renameat2
        _ => None,
    }
}

fn at(dir: u64, path: u64) -> Made {
    Made { dir: dir as Fd, path, is_directory: false }
}
