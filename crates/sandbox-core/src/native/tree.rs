//! The host's file system as input of the policy compiler.

use std::ffi::OsString;
use std::fs::FileType;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::{LaterFiles, MountOptions, MountPlan, NodeKind, Policy, Tree, UnenforcedReason};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::OpenError;
use super::verdict::is_own_device;

/// Directories that a session has instead of the host's.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionDirectories {
    /// Empty and writable ones.
    pub(super) private: Vec<PathBuf>,
    /// Those of the kernel, which init mounts last.
    pub(super) own: Vec<PathBuf>,
}

/// Compiles a policy against the current files of the host.
pub(super) fn compile(
    policy: &Policy,
    directories: SessionDirectories,
    later: LaterFiles,
) -> Result<MountPlan, OpenError> {
    let SessionDirectories { private, own } = directories;
    let mut options = MountOptions::default();
    (options.private, options.own, options.later) = (private, own, later);
    options.git_configs = git_configs();
    let mut plan = policy
        .mounts(&HostTree, &options)
        .map_err(|source| OpenError::Policy { source: Box::new(source) })?;
    // A session has these devices, as the rule wants.
    plan.unenforced.retain(|gap| {
        gap.reason != UnenforcedReason::Replaced
            || gap.list.starts_with("deny")
            || !is_own_device(Path::new(&gap.rule))
    });
    Ok(plan)
}

/// Returns the configuration that the user's git reads besides that in the home directory, if the
/// user has the variables of this process (`git(1)`).
fn git_configs() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let named = [
        variable("XDG_CONFIG_HOME").map(|dir| dir.join("git/config")),
        variable("GIT_CONFIG_GLOBAL"),
        variable("GIT_CONFIG_SYSTEM"),
    ];
    named.into_iter().flatten().filter(|path| path.is_absolute()).collect()
}

/// Maximum length of the path of a directory that is listed, with room for protected names below.
/// The kernel accepts paths of 4,095 bytes.
const MAX_PATH_BYTES: usize = 3_072;
/// Maximum number of directories above one that is listed. Each of them may need a mount.
const MAX_DEPTH: usize = 256;

/// Returns whether a directory is too deep to be listed.
pub(super) fn is_too_deep(path: &Path) -> bool {
    path.as_os_str().len() > MAX_PATH_BYTES || path.components().count() > MAX_DEPTH
}

/// The current files of the host, for [`Policy::mounts`](policy::Policy::mounts). Each query reads
/// the file system.
///
/// Directories with more than 256 ones above or with a path beyond 3,072 bytes cannot be listed, so
/// the compiler covers them as a whole.
///
/// ```
/// use policy::{MountOptions, Policy};
/// use sandbox_core::HostTree;
///
/// let dir = std::env::temp_dir();
/// let policy = Policy::session(&dir).home("/root".as_ref()).build()?;
/// let plan = policy.mounts(&HostTree, &MountOptions::default())?;
/// assert!(!plan.ops.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HostTree;

impl Tree for HostTree {
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(kind(metadata.file_type()))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path).map_err(|error| match Errno::from_io_error(&error) {
            // A cycle of symlinks, or a target whose name no file can have, leads to no file.
            Some(Errno::LOOP | Errno::NAMETOOLONG) => io::ErrorKind::NotFound.into(),
            _ => error,
        })
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>> {
        if is_too_deep(path) {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        // Most file systems return the kind with the listing, without a further system call.
        std::fs::read_dir(path)?
            .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), kind(entry.file_type()?)))))
            .collect()
    }

    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        // Another process may have replaced the file by a symlink or a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let mut content = Vec::new();
        file.take(max as u64).read_to_end(&mut content)?;
        Ok(content)
    }
}

fn kind(kind: FileType) -> NodeKind {
    match kind {
        kind if kind.is_dir() => NodeKind::Directory,
        kind if kind.is_file() => NodeKind::File,
        kind if kind.is_symlink() => NodeKind::Symlink,
        _ => NodeKind::Other,
    }
}
