//! The host's file system, as the policy compiler looks at it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use policy::{NodeKind, Tree};

/// The host's files as they are at the moment of each question.
#[derive(Debug)]
pub(super) struct HostTree;

impl Tree for HostTree {
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(match metadata.file_type() {
                kind if kind.is_dir() => NodeKind::Directory,
                kind if kind.is_file() => NodeKind::File,
                kind if kind.is_symlink() => NodeKind::Symlink,
                _ => NodeKind::Other,
            })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}
