//! Signatures that distinguish states of a file without reading it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// Bits of a mode that are mirrored.
const PERMISSIONS: u16 = 0o777;

/// Size, times, inode and mode of a regular file. Writing to a file, replacing it, or changing its
/// mode changes at least one field. A change that keeps size and modification time still changes
/// the inode or the change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// Seconds and nanoseconds since 1970.
    pub(crate) changed: (i64, u32),
    pub(crate) inode: u64,
    /// The nine permission bits. Other bits, such as the one for set-user-ID, are not mirrored.
    pub(crate) mode: u16,
}

impl Signature {
    /// Reads the signature of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// Returns the fields that survive a rename.
    pub(crate) fn identity(&self) -> (u64, u64, (i64, u32)) {
        (self.inode, self.size, self.modified)
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

impl From<&Metadata> for Signature {
    fn from(metadata: &Metadata) -> Self {
        // Nanoseconds are below one billion and modes have 16 bits, so the casts keep their values.
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec() as u32),
            changed: (metadata.ctime(), metadata.ctime_nsec() as u32),
            inode: metadata.ino(),
            mode: permissions(metadata.mode() as u16),
        }
    }
}

impl From<&rustix::fs::Statx> for Signature {
    fn from(stat: &rustix::fs::Statx) -> Self {
        Self {
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            inode: stat.stx_ino,
            mode: permissions(stat.stx_mode),
        }
    }
}

/// Returns the nine permission bits of a mode.
pub(crate) fn permissions(mode: u16) -> u16 {
    mode & PERMISSIONS
}
