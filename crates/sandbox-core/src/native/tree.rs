//! The host's file system, as the policy compiler looks at it.

use std::ffi::OsString;
use std::fs::FileType;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::{NodeKind, Tree};
use rustix::fs::{Mode, OFlags};

/// The host's files as they are at the moment of each question.
#[derive(Debug)]
pub(super) struct HostTree;

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
        std::fs::canonicalize(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>> {
        // The listing tells the kind nearly everywhere, without another look.
        std::fs::read_dir(path)?
            .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), kind(entry.file_type()?)))))
            .collect()
    }

    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        // What was a file may be a symlink or a FIFO by now.
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
