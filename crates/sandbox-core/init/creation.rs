//! Early denial of file creation by seccomp user notification. Not a security boundary: see below.
//!
//! A mount can only cover a path that exists. If the policy denies an absent path, the kernel asks
//! init about each call that creates a name (`seccomp_unotify(2)`), and the call waits for the
//! answer.
//!
//! Init decides by the memory of the caller. The kernel reads that memory again after the answer,
//! and another thread of the caller may have changed it by then. So the answer makes attempts fail
//! early, and the host checks again: it quarantines denied paths after the command has exited.

use crate::arch::{ARCHITECTURE, Call, CreatedKind, CreatedName};
use crate::glob;
use crate::plan::RuleLists;
use crate::pool::Pool;
use crate::sys::{self, CStr, Errno, Fd, Mapping, Notification, Result};
use crate::wire;

/// `PATH_MAX`, and room for one name more.
pub const PATH_BYTES: usize = 4096;
const NAME_BYTES: usize = 256;

/// The rows of the system-call table that init needs at run time.
static NOTIFIED: [Call; ARCHITECTURE.count_notified()] = ARCHITECTURE.notified_calls();

/// Creation rules, in the file that the host wrote.
pub struct Rules {
    file: Mapping,
    lists: RuleLists,
}

impl Rules {
    /// Reads the rules in a file from `at`.
    pub fn read(file: Mapping, at: usize) -> Result<Self> {
        Ok(Self { lists: RuleLists::read(file.bytes(), at)?, file })
    }

    /// Decides whether a call may go on.
    ///
    /// # Errors
    /// Returns `ROFS` if the policy denies a name that the call creates, like a read-only mount.
    /// Returns `PERM` if the system-call table does not say what the call creates.
    pub fn check(&self, asked: &Notification, pool: &Pool) -> Result<()> {
        let call = NOTIFIED.iter().find(|call| call.number == asked.call).ok_or(Errno::PERM)?;
        for name in call.created_names(asked.arguments) {
            if self.denies(asked.pid, &name, pool)? {
                return Err(Errno::ROFS);
            }
        }
        Ok(())
    }

    /// Returns whether the rules deny a name. A path that init cannot read fails in the kernel too,
    /// or the host finds the file after the command.
    ///
    /// # Errors
    /// Returns the error if the directory of a name that may be denied cannot be opened. The
    /// caller's own view of its process may have it, so the call must not go on.
    fn denies(&self, pid: i32, created: &CreatedName, pool: &Pool) -> Result<bool> {
        let (mut path, mut whole) = ([0; PATH_BYTES], [0; PATH_BYTES + NAME_BYTES]);
        let Ok(path) = sys::read_text(pid, created.path, &mut path) else { return Ok(false) };
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &path[start..end];
        let file = self.file.bytes();
        if self.lists.watched.of(file).any(|pattern| glob::component(pattern, name)) {
            pool.note_creation();
        }
        // A git directory denies every symlink, so the name does not decide.
        let is_link =
            created.kind == CreatedKind::Symlink && self.lists.zones.of(file).next().is_some();
        if !is_link && !self.lists.names.of(file).any(|pattern| glob::component(pattern, name)) {
            return Ok(false);
        }
        // Init cannot follow a path through the caller's own view of its process.
        let slashes = path.iter().take_while(|byte| **byte == b'/').count();
        let below_root = &path[slashes..];
        let is_absolute = slashes > 0;
        if is_absolute && (below_root.starts_with(b"proc/") || below_root.starts_with(b"dev/fd/")) {
            return Ok(true);
        }
        let whole = whole_path(pid, created.directory, &path[..start], name, &mut whole)?;
        let is_on_the_way =
            |path: &[u8]| path.starts_with(whole) && path.get(whole.len()) == Some(&b'/');
        let denies =
            self.lists.paths.of(file).any(|path| {
                path == whole || (created.kind != CreatedKind::Directory && is_on_the_way(path))
            }) || self.lists.patterns.of(file).any(|pattern| glob::matches(pattern, whole))
                || self.is_denied_by_zone(whole, name, created.kind);
        Ok(denies)
    }

    /// Returns whether the deepest zone around a path denies the name.
    fn is_denied_by_zone(&self, whole: &[u8], name: &[u8], kind: CreatedKind) -> bool {
        let mut zones = self.lists.zones.of(self.file.bytes()).filter_map(<[u8]>::split_first);
        let around = zones.find(|(_, dir)| {
            let dir = dir.strip_suffix(b"/").unwrap_or(dir);
            whole.starts_with(dir) && whole.get(dir.len()) == Some(&b'/')
        });
        let is_repository = matches!(name, b".git" | b"HEAD");
        match around.map(|(zone, _)| u32::from(*zone)) {
            Some(wire::ZONE_NO_REPOSITORIES) => is_repository,
            Some(wire::ZONE_GIT_DIRECTORY) => kind == CreatedKind::Symlink,
            Some(wire::ZONE_GIT_CONTAINER) => is_repository || kind == CreatedKind::Symlink,
            _ => false,
        }
    }
}

/// Returns the current path of a name without symlinks.
fn whole_path<'b>(
    pid: i32,
    dir: Fd,
    parent: &[u8],
    name: &[u8],
    buffer: &'b mut [u8],
) -> Result<&'b [u8]> {
    let long = Errno::TOO_BIG;
    let mut text = [0; PATH_BYTES];
    let opened = if parent.first() == Some(&b'/') {
        // Init has the mounts of the session.
        sys::open(
            sys::AT_FDCWD,
            terminated(&mut text, &[parent]).ok_or(long)?,
            sys::O_PATH | sys::O_DIRECTORY,
            0,
        )?
    } else {
        let (mut process, mut number) = ([0; 10], [0; 10]);
        let process = sys::decimal(&mut process, pid as u32);
        let begin: [&[u8]; 3] = match u32::try_from(dir) {
            Ok(dir) => [process, b"/fd/", sys::decimal(&mut number, dir)],
            Err(_) => [process, b"/cwd", b""],
        };
        let begin = terminated(&mut text, &[b"/proc/", begin[0], begin[1], begin[2]]);
        let begin =
            sys::open(sys::AT_FDCWD, begin.ok_or(long)?, sys::O_PATH | sys::O_DIRECTORY, 0)?;
        let opened = match terminated(&mut text, &[parent, b"."]) {
            Some(parent) => sys::open(begin, parent, sys::O_PATH | sys::O_DIRECTORY, 0),
            None => Err(long),
        };
        sys::close(begin);
        opened?
    };
    let mut number = [0; 10];
    let link =
        terminated(&mut text, &[b"/proc/self/fd/", sys::decimal(&mut number, opened as u32)]);
    let read = match link {
        Some(link) => sys::read_link(link, &mut buffer[..PATH_BYTES]),
        None => Err(long),
    };
    sys::close(opened);
    let mut len = read?;
    if buffer[..len] != *b"/" {
        *buffer.get_mut(len).ok_or(long)? = b'/';
        len += 1;
    }
    buffer.get_mut(len..len + name.len()).ok_or(long)?.copy_from_slice(name);
    Ok(&buffer[..len + name.len()])
}

/// Joins the parts into one text.
pub fn terminated<'b, const N: usize>(
    buffer: &'b mut [u8; N],
    parts: &[&[u8]],
) -> Option<CStr<'b>> {
    let mut len = 0;
    for part in parts {
        buffer.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    *buffer.get_mut(len)? = 0;
    CStr::new(&buffer[..=len])
}
