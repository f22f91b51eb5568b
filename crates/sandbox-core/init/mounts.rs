//! The session's view of the file system, built from the plan.
//!
//! The plan determines the order, because a later mount covers an earlier one.
//!
//! 1. Init copies the host's tree, without devices and set-user-id programs, and mounts the copy
//!    over the root. The original mounts stay reachable by absolute paths until the end, as sources
//!    of bind mounts.
//! 2. Init applies the operations of the plan to the copy, and follows no symlink.
//! 3. Init mounts a new `/dev` and a new `/proc`, and writes the kernel's settings there.
//! 4. The copy becomes the root, and init detaches the host's mounts.
//!
//! Later mounts (`add`) reach the existing workers, whose mounts follow those of init.

use crate::copies::{attributes, mount_copy, on_host};
use crate::overlays::Overlays;
use crate::plan::{Settings, read_operation};
use crate::reader::Reader;
use crate::settings;
use crate::sys::{self, CStr, Errno, Fd, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, Result, c};
use crate::unreachable;
use crate::wire;

/// A failed step of the setup.
pub struct Failure<'a> {
    pub step: u32,
    pub errno: Errno,
    pub path: &'a [u8],
}

pub const ROOT: CStr<'static> = c(b"/\0");
/// The directory of which the host gets a descriptor.
pub const TMP: CStr<'static> = c(b"/tmp\0");
const PROC: CStr<'static> = c(b"/proc\0");
const PROC_FLAGS: usize = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

/// The view of a running session, for later mounts.
pub struct View {
    /// Directory with the empty file and directory that cover hidden paths.
    pool: Fd,
    /// `BOUND_…` flags of the objects that the kernel does not limit.
    pub unbounded: u32,
    /// True if `/tmp` is a directory in memory of this session.
    pub has_own_tmp: bool,
}

/// Builds the view. `private_files` limits the number of files in each private directory.
pub fn build<'a>(
    operations: &mut Reader<'a>,
    private_files: u32,
    settings: Settings<'_>,
) -> core::result::Result<View, Failure<'a>> {
    let at = |step, path: &'a [u8]| move |errno| Failure { step, errno, path };
    let count = operations.u32().map_err(at(wire::STEP_PLAN, b""))?;
    let again = Reader(operations.0);
    sys::make_mounts_private().map_err(at(wire::STEP_ROOT, b"/"))?;
    let mut tree = Tree { root: -1, pool: -1, private_files };
    let mut overlays = Overlays::default();
    let mut has_own_tmp = false;
    for index in 0..count {
        let (operation, argument, path) =
            read_operation(operations).map_err(at(wire::STEP_PLAN, b""))?;
        if path.bytes() == TMP.bytes() {
            has_own_tmp = operation == wire::OP_PRIVATE;
        }
        let done = match operation {
            wire::OP_ROOT => tree.take_over_host(argument),
            wire::OP_PRIVATE => tree.private(path, argument),
            wire::OP_HIDE_DIRECTORY => tree.hide(path, c(b"directory\0")),
            wire::OP_HIDE_AROUND => tree.hide_around(path),
            wire::OP_HIDE_FILE => tree.hide(path, c(b"file\0")),
            wire::OP_BIND => tree.bind(path, argument),
            wire::OP_PIN_LINK => tree.pin_link(path),
            wire::OP_SOURCE => overlays.take_source(path),
            wire::OP_OVERLAY => overlays.show(tree.target(path)),
            _ => Err(Errno::INVAL),
        };
        let done = match done {
            Err(Errno::ACCES) => {
                match unreachable::is_restriction(operation, path, Reader(again.0), index) {
                    Ok(true) => tree.cover_above(path),
                    other => other.and(done),
                }
            }
            other => other,
        };
        let step = if operation == wire::OP_ROOT { wire::STEP_ROOT } else { wire::STEP_MOUNT };
        done.map_err(at(step, path.bytes()))?;
    }
    tree.close_hidden(again, count).map_err(at(wire::STEP_MOUNT, b""))?;
    tree.devices().map_err(at(wire::STEP_DEV, b"/dev"))?;
    let pool = tree.keep_pool().map_err(at(wire::STEP_PROC, b"/proc"))?;
    let unbounded = tree.proc(settings).map_err(at(wire::STEP_PROC, b"/proc"))?;
    let enter = || {
        sys::fchdir(tree.root).and_then(|()| sys::enter_root()).and_then(|()| sys::share_mounts())
    };
    enter().map_err(at(wire::STEP_PIVOT, b"/"))?;
    sys::close(tree.root);
    sys::close(tree.pool);
    Ok(View { pool, unbounded, has_own_tmp })
}

/// Hides and protects paths that have appeared since the setup. Skips a path that is absent again,
/// or that is inside a hidden directory.
pub fn add(view: &View, operations: &mut Reader<'_>) -> Result<()> {
    for _ in 0..operations.u32()? {
        let (operation, argument, path) = read_operation(operations)?;
        let pooled = |name| sys::open(view.pool, name, sys::O_PATH, 0);
        let open = |path| match operation {
            wire::OP_PIN_LINK => sys::open_link_in_steps(path),
            _ => sys::open_in_steps(path),
        };
        let target = match open(path) {
            // A command has removed or replaced it in the meantime.
            Err(Errno::NOENT) => continue,
            Err(Errno::INVAL) if operation == wire::OP_PIN_LINK => continue,
            Err(Errno::ACCES) => {
                let target = unreachable::open_above(path, sys::open_in_steps)?;
                let source = pooled(c(b"directory\0"))?;
                mount_copy(source, target, attributes(wire::READ_ONLY))?;
                continue;
            }
            other => other?,
        };
        let (source, access) = match operation {
            wire::OP_HIDE_DIRECTORY => (pooled(c(b"directory\0"))?, wire::READ_ONLY),
            wire::OP_HIDE_FILE => (pooled(c(b"file\0"))?, wire::READ_ONLY),
            wire::OP_BIND | wire::OP_PIN_LINK => (open(path)?, argument),
            _ => return Err(Errno::INVAL),
        };
        mount_copy(source, target, attributes(access))?;
    }
    Ok(())
}

/// Mounts a `/proc` for the process namespace of the caller over that of the session. `max_pid`
/// limits the processes and threads of the namespace; 0 sets no limit.
pub fn mount_proc(max_pid: u32) -> Result<()> {
    let proc = c(b"proc\0");
    // Later mounts of init appear here too, and mounts here do not appear in init.
    sys::follow_mounts()?;
    sys::chdir(PROC)?;
    if max_pid == 0 {
        sys::mount_here(proc, PROC_FLAGS, c(b"\0"))?;
    } else {
        sys::mount_here(proc, PROC_FLAGS & !MS_RDONLY, c(b"\0"))?;
        let mounted = sys::open(sys::AT_FDCWD, PROC, sys::O_PATH | sys::O_DIRECTORY, 0)?;
        let file = sys::open(mounted, c(b"sys/kernel/pid_max\0"), sys::O_WRONLY, 0)?;
        let mut digits = [0; 10];
        sys::write(file, sys::decimal(&mut digits, max_pid))?;
        sys::close(file);
        sys::restrict_mount(mounted, PROC_FLAGS)?;
        sys::close(mounted);
    }
    sys::chdir(ROOT)
}

struct Tree {
    /// The root of the copy.
    root: Fd,
    /// Root of an invisible file system in memory, with the empty file and directory that cover
    /// hidden paths.
    pool: Fd,
    /// Maximum number of files in a private directory.
    private_files: u32,
}

impl Tree {
    fn take_over_host(&mut self, access: u32) -> Result<()> {
        let host = sys::open(sys::AT_FDCWD, ROOT, sys::O_PATH, 0)?;
        let copy = sys::clone_mounts(host)?;
        sys::restrict_mounts(copy, attributes(access))?;
        sys::attach(copy, host)?;
        sys::close(host);
        self.root = copy;

        // The host's own /proc is no longer needed; the copy has one.
        sys::chdir(PROC)?;
        sys::mount_here(c(b"tmpfs\0"), MS_NOSUID | MS_NODEV | MS_NOEXEC, c(b"mode=755,size=4m\0"))?;
        self.pool = sys::open(sys::AT_FDCWD, PROC, sys::O_PATH | sys::O_DIRECTORY, 0)?;
        sys::make_directory(self.pool, c(b"directory\0"), 0o555)?;
        sys::close(sys::open(self.pool, c(b"file\0"), sys::O_CREAT_EXCL | sys::O_WRONLY, 0)?);
        Ok(())
    }

    fn target(&self, path: CStr<'_>) -> Result<Fd> {
        sys::open_plain(self.root, path.below_root())
    }

    /// Opens the directory to mount on. Creates it if it is inside a hidden directory.
    fn target_directory(&self, path: CStr<'_>) -> Result<Fd> {
        match self.target(path) {
            Err(Errno::NOENT) => self.make_mount_point(path, true),
            other => other,
        }
    }

    fn mount_on(
        &self,
        path: CStr<'_>,
        kind: CStr<'_>,
        flags: usize,
        options: CStr<'_>,
    ) -> Result<()> {
        let target = self.target(path)?;
        sys::fchdir(target)?;
        sys::close(target);
        // Without its slash, `/proc` is a kind too.
        sys::mount_here(kind.below_root(), flags, options)
    }

    fn private(&self, path: CStr<'_>, size_mib: u32) -> Result<()> {
        let mut options = [0; 64];
        let options = sys::size_options(&mut options, size_mib, self.private_files)?;
        let target = self.target_directory(path)?;
        sys::fchdir(target)?;
        sys::close(target);
        sys::mount_here(c(b"tmpfs\0"), MS_NOSUID | MS_NODEV, options)
    }

    fn hide(&self, path: CStr<'_>, with: CStr<'_>) -> Result<()> {
        let target = match self.target(path) {
            // It was deleted, or is inside a hidden directory.
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let source = sys::open(self.pool, with, sys::O_PATH, 0)?;
        mount_copy(source, target, attributes(wire::READ_ONLY))
    }

    fn hide_around(&self, path: CStr<'_>) -> Result<()> {
        let target = self.target_directory(path)?;
        sys::fchdir(target)?;
        sys::close(target);
        // Writable until its mount points exist; `close_hidden` makes it read-only.
        sys::mount_here(c(b"tmpfs\0"), MS_NOSUID | MS_NODEV, c(b"mode=755,size=1m\0"))
    }

    fn bind(&self, path: CStr<'_>, access: u32) -> Result<()> {
        let source = on_host(path, sys::open_plain)?;
        let target = match self.target(path) {
            Err(Errno::NOENT) => self.make_mount_point(path, sys::is_directory(source)?)?,
            other => other?,
        };
        mount_copy(source, target, attributes(access))
    }

    /// Covers the directory because of which init cannot reach a hidden or protected path.
    fn cover_above(&self, path: CStr<'_>) -> Result<()> {
        match self.target(path) {
            // It is covered already.
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ACCES) => {}
            opened => return opened.map(sys::close).and(Err(Errno::ACCES)),
        }
        let target = unreachable::open_above(path, |above| self.target(above))?;
        let source = sys::open(self.pool, c(b"directory\0"), sys::O_PATH, 0)?;
        mount_copy(source, target, attributes(wire::READ_ONLY))
    }

    /// Binds a symlink onto itself, so that no command removes or replaces it.
    fn pin_link(&self, path: CStr<'_>) -> Result<()> {
        let source = on_host(path, sys::open_plain_link)?;
        let target = sys::open_plain_link(self.root, path.below_root())?;
        mount_copy(source, target, attributes(wire::READ_ONLY))
    }

    /// Creates a mount point and its parents. They can only be in memory: the host's tree is
    /// read-only in the copy, and a writable bind mount exists at its own path on the host.
    fn make_mount_point(&self, path: CStr<'_>, directory: bool) -> Result<Fd> {
        let mut buffer = [0u8; 4096];
        let path = path.below_root();
        let bytes = path.bytes();
        let mut end = 0;
        while end < bytes.len() {
            let next = bytes[end + 1..]
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(bytes.len(), |at| end + 1 + at);
            buffer[..next].copy_from_slice(&bytes[..next]);
            buffer[next] = 0;
            let part = CStr::new(&buffer[..=next]).ok_or(Errno::INVAL)?;
            let made = if next < bytes.len() || directory {
                sys::make_directory(self.root, part, 0o755)
            } else {
                sys::open(self.root, part, sys::O_CREAT_EXCL | sys::O_WRONLY, 0).map(sys::close)
            };
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            end = next;
        }
        sys::open_plain(self.root, path)
    }

    fn close_hidden(&self, mut operations: Reader<'_>, count: u32) -> Result<()> {
        for _ in 0..count {
            let (operation, _, path) = read_operation(&mut operations)?;
            if operation == wire::OP_HIDE_AROUND {
                let target = self.target(path)?;
                sys::restrict_mount(target, attributes(wire::READ_ONLY))?;
                sys::close(target);
            }
        }
        Ok(())
    }

    /// Mounts the pool where the session's `/proc` will cover it, so that it outlives the host's
    /// tree.
    fn keep_pool(&self) -> Result<Fd> {
        let copy = sys::clone_mounts(self.pool)?;
        sys::restrict_mounts(copy, attributes(wire::READ_ONLY))?;
        let target = self.target(PROC)?;
        sys::attach(copy, target)?;
        sys::close(target);
        Ok(copy)
    }

    /// Mounts a `/proc` that is read-only after the settings are written.
    fn proc(&self, settings: Settings<'_>) -> Result<u32> {
        self.mount_on(PROC, PROC, PROC_FLAGS & !MS_RDONLY, c(b"\0"))?;
        let mounted = self.target(PROC)?;
        let refused = settings::apply(settings, mounted);
        sys::restrict_mount(mounted, PROC_FLAGS)?;
        sys::close(mounted);
        Ok(refused)
    }

    fn devices(&self) -> Result<()> {
        let dev = c(b"/dev\0");
        self.mount_on(dev, c(b"tmpfs\0"), MS_NOSUID | MS_NOEXEC, c(b"mode=755,size=1m\0"))?;
        let made = self.target(dev)?;
        let host = sys::open(sys::AT_FDCWD, dev, sys::O_PATH, 0)?;
        for name in
            [b"null\0".as_slice(), b"zero\0", b"full\0", b"random\0", b"urandom\0", b"tty\0"]
        {
            let name = CStr::new(name).ok_or(Errno::INVAL)?;
            let source = match sys::open_plain(host, name) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let at = sys::open(made, name, sys::O_CREAT_EXCL | sys::O_WRONLY, 0o644)?;
            let copy = sys::clone_mounts(source)?;
            // A device is written to on a read-only mount too, and its mode cannot be changed.
            sys::restrict_mounts(copy, MS_RDONLY | MS_NOSUID | MS_NOEXEC)?;
            sys::attach(copy, at)?;
            for fd in [source, at, copy] {
                sys::close(fd);
            }
        }
        sys::close(host);
        for (target, name) in [
            (c(b"/proc/self/fd\0"), c(b"fd\0")),
            (c(b"/proc/self/fd/0\0"), c(b"stdin\0")),
            (c(b"/proc/self/fd/1\0"), c(b"stdout\0")),
            (c(b"/proc/self/fd/2\0"), c(b"stderr\0")),
            (c(b"pts/ptmx\0"), c(b"ptmx\0")),
        ] {
            sys::symlink(target, made, name)?;
        }
        sys::make_directory(made, c(b"shm\0"), 0o1777)?;
        sys::make_directory(made, c(b"pts\0"), 0o755)?;
        self.mount_on(
            c(b"/dev/shm\0"),
            c(b"tmpfs\0"),
            MS_NOSUID | MS_NODEV,
            c(b"mode=1777,size=64m,nr_inodes=16384\0"),
        )?;
        // Terminals need user 0 in the namespace. Without that user the session has no terminals.
        let _ = self.mount_on(
            c(b"/dev/pts\0"),
            c(b"devpts\0"),
            MS_NOSUID | MS_NOEXEC,
            c(b"newinstance,ptmxmode=0666,mode=620\0"),
        );
        sys::restrict_mount(made, MS_RDONLY)?;
        sys::close(made);
        Ok(())
    }
}
