//! Errors of an application that concern one path, and those that end it.

use std::io::ErrorKind;

use rustix::io::Errno;
use sandbox_core::FileError;

use crate::error::SyncError;

/// Treatment of a path that the disk cannot take, because it is full or failing, or has a
/// limit on the size of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mirror) enum DiskFailure {
    /// Stops the application, because only a complete directory may get its name.
    Stops,
    /// Keeps what the path has. Otherwise a session could not be opened to free space.
    SkipsPath,
}

impl DiskFailure {
    /// Returns whether an error concerns one path only.
    pub(super) fn is_of_path(self, error: &SyncError) -> bool {
        match error {
            SyncError::File { source: error } => self.is_file_error_of_path(error),
            _ => false,
        }
    }

    pub(super) fn is_file_error_of_path(self, error: &FileError) -> bool {
        match error {
            FileError::Io { source, .. } if is_of_disk(source) => self == Self::SkipsPath,
            FileError::Io { source, .. } => {
                source.raw_os_error() == Some(Errno::LOOP.raw_os_error())
                    || is_kind_of_path(source.kind())
            }
            _ => true,
        }
    }
}

/// Returns whether the disk or a limit cannot take a file.
fn is_of_disk(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded | ErrorKind::StorageFull
    ) || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

fn is_kind_of_path(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::AlreadyExists
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::ExecutableFileBusy
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceBusy
            | ErrorKind::TooManyLinks
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: Errno, expected: [bool; 2]) {
        let source = std::io::Error::from_raw_os_error(error.raw_os_error());
        let error = FileError::Io { operation: "write", path: "z".into(), source }.into();
        let found = [DiskFailure::Stops, DiskFailure::SkipsPath].map(|it| it.is_of_path(&error));
        assert_eq!(found, expected, "{error}");
    }

    #[test]
    fn a_failure_of_the_disk_skips_a_path_only_where_that_is_allowed() {
        for error in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::IO] {
            check(error, [false, true]);
        }
        for error in [Errno::NAMETOOLONG, Errno::LOOP, Errno::PERM] {
            check(error, [true, true]);
        }
        for error in [Errno::ROFS, Errno::MFILE, Errno::NOMEM] {
            check(error, [false, false]);
        }
    }
}
