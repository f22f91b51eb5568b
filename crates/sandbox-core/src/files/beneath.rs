//! Opening of paths beneath a directory, enforced by the kernel.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Number of attempts while concurrent renames make `openat2` fail with `EAGAIN`.
const RACE_RETRIES: usize = 64;

/// Resolution without symlinks, inside one mount.
pub(super) const IN_MOUNT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_XDEV).union(ResolveFlags::NO_SYMLINKS);

/// Opens `path` relative to `dir`. No component may lead out of `dir`.
///
/// Symlinks inside `dir` are followed. On kernels without `openat2` (before 5.6) every symlink is
/// an error.
pub(super) fn open(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    open_with(dir, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// Like [`open`], and fails with `ELOOP` at every symlink.
pub(super) fn open_without_symlinks(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    open_with(dir, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Mounts that the paths of a directory may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    AllMounts,
    /// All mounts, without symlinks.
    NoSymlinks,
    /// The mount of the directory itself.
    #[cfg(feature = "native")]
    OneMount,
}

/// Like [`open`], and fails with `EXDEV` at every mount point. Needs `openat2`.
#[cfg(feature = "native")]
pub(super) fn open_in_mount(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..RACE_RETRIES {
        match rustix::fs::openat2(&dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a directory whose path contains no symlink and no mount point. Otherwise fails with
/// `ELOOP`, with `ENOTDIR` if the last component is the symlink, or with `EXDEV`.
pub(super) fn open_plain_directory(dir: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_with(dir, path, flags, Mode::empty(), IN_MOUNT)
}

fn open_with(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..RACE_RETRIES {
        match rustix::fs::openat2(&dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => {
                let opened = open_by_component(dir, path, flags, mode);
                // Where the symlink leads is unknown.
                let follows = !resolve.contains(ResolveFlags::NO_SYMLINKS);
                return opened.map_err(|errno| match errno {
                    Errno::LOOP if follows => Errno::XDEV,
                    errno => errno,
                });
            }
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens one component after another, for kernels without `openat2`. No component may be a symlink.
fn open_by_component(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let mut components = path.components().peekable();
    let mut at = rustix::fs::openat(
        &dir,
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(Errno::XDEV) };
        let (flags, mode) = match components.peek() {
            Some(_) => (OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()),
            None => (flags, mode),
        };
        at = rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, mode)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn opening_by_component_accepts_plain_paths_and_rejects_every_symlink() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/f"), "x").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("f", dir.path().join("a/to-f")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let open =
            |path: &str| open_by_component(&root, Path::new(path), OFlags::RDONLY, Mode::empty());
        assert!(open("a/f").is_ok());
        for path in ["link/f", "a/to-f", "../x", "/etc/passwd"] {
            assert!(open(path).is_err(), "{path}");
        }
    }
}
