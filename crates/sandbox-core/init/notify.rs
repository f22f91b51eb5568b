//! What commands may not bring into being.
//!
//! A mount covers what is there. Where the policy denies a path at which nothing is yet, the kernel
//! asks init about each call that makes a name (`seccomp_unotify(2)`), and the call waits for the
//! answer.
//!
//! An answer rests on what the caller's memory held a moment before the kernel reads it again, and
//! another thread of the caller may have changed it by then. So this makes attempts fail at once,
//! and is no wall: what gets through all the same, the host takes away when the command has ended.

use crate::arch::{ARCHITECTURE, Condition, CreatedName, O_CREAT};
use crate::glob;
use crate::pool::Pool;
use crate::reader::{Reader, Span};
use crate::sys::{self, CStr, Errno, Fd, Mapping, Notification, Result};

/// `PATH_MAX`, and room for one name more.
const PATH_BYTES: usize = 4096;
const NAME_BYTES: usize = 256;

/// Who answers.
pub struct CreationSupervisor {
    listener: Fd,
    /// Where the kernel does not look at it, in the mode of a directory that init makes
    /// (`mkdirat(2)`), so that it does not ask init about init.
    bypass_tag: usize,
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

impl CreationSupervisor {
    /// Reads the rules from `at` on in a file, and loads a filter by which the kernel asks about
    /// this process's children from now on, and about itself: it would wait for its own answer, so
    /// from then on it makes no name but directories with the bypass_tag, and does not call `openat2`.
    pub fn start(file: Mapping, at: usize, filter: &[u8], bypass_tag: u32) -> Result<Self> {
        let rules = Rules::read(file, at)?;
        Ok(Self {
            listener: sys::load_asking_filter(filter)?,
            bypass_tag: (bypass_tag as usize) << 32,
            rules,
        })
    }

    /// To be added to the mode of a directory that init makes.
    pub fn bypass_tag(&self) -> usize {
        self.bypass_tag
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
        let error = self.rules.check(&asked, pool).err();
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

    /// Decides whether a call may go on.
    ///
    /// # Errors
    /// Returns `ROFS` if the policy denies a name that the call creates, like a read-only mount.
    /// Returns `PERM` if the system-call table does not say what the call creates.
    fn check(&self, asked: &Notification, pool: &Pool) -> Result<()> {
        let call = ARCHITECTURE.call(asked.call).ok_or(Errno::PERM)?;
        if let Condition::CreateFlagInMemory { how } = call.notified().ok_or(Errno::PERM)? {
            let mut flags = [0; 4];
            // A call without readable flags fails in the kernel.
            let read = sys::read_memory(asked.pid, asked.arguments[usize::from(how)], &mut flags);
            if read.is_err() || u32::from_ne_bytes(flags) & O_CREAT == 0 {
                return Ok(());
            }
        }
        let mut names = call.created_names(asked.arguments);
        if names.any(|name| self.denies(asked.pid, &name, pool)) {
            Err(Errno::ROFS)
        } else {
            Ok(())
        }
    }

    /// Whether the name may not be made. What cannot be looked at makes the call fail by itself, or
    /// is found by the host.
    fn denies(&self, pid: i32, created: &CreatedName, pool: &Pool) -> bool {
        let (mut path, mut whole) = ([0; PATH_BYTES], [0; PATH_BYTES + NAME_BYTES]);
        let Ok(path) = sys::read_text(pid, created.path, &mut path) else { return false };
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &path[start..end];
        let file = self.file.bytes();
        if self.watched.of(file).any(|pattern| glob::component(pattern, name)) {
            pool.note_creation();
        }
        if !self.names.of(file).any(|pattern| glob::component(pattern, name)) {
            return false;
        }
        // What leads through the caller's own view of itself, init cannot follow.
        if path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/") {
            return true;
        }
        let Some(whole) = whole_path(pid, created.directory, &path[..start], name, &mut whole)
        else {
            return false;
        };
        let is_on_the_way =
            |path: &[u8]| path.starts_with(whole) && path.get(whole.len()) == Some(&b'/');
        self.paths
            .of(file)
            .any(|path| path == whole || (!created.is_directory && is_on_the_way(path)))
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
