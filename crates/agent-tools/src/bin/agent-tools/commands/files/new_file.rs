//! A file of the host that a copy writes. It gets its name when it is whole.

use std::fs::{File, Metadata, Permissions};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use sandbox_core::FileError;
use tar::Archive;

use crate::failure::Failure;

/// A copy that is being written beside its target. Dropping it removes it.
#[derive(Debug)]
pub(super) struct NewFile {
    target: PathBuf,
    staged: PathBuf,
    file: File,
    /// The file that the copy replaces.
    existing: Option<Metadata>,
    /// The mode of the copy, unless it replaces a file.
    mode: u32,
    /// The permissions that new files of this process can have (`umask(2)`).
    mask: u32,
}

impl NewFile {
    /// Creates the file, unless the target is something that must not be replaced.
    pub(super) fn begin(target: &Path) -> Result<Self, Failure> {
        let existing = match target.symlink_metadata() {
            Ok(found) if found.is_file() => Some(found),
            Ok(found) => return Err(not_a_file(target, &found)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(target, &error)),
        };
        if target.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(failed(target, &Error::from(ErrorKind::NotADirectory)));
        }
        let name = target.file_name().ok_or_else(|| Failure::usage("the target has no name"))?;
        let mut staged = name.to_owned();
        staged.push(format!(".{}.new", std::process::id()));
        let staged = target.with_file_name(staged);
        let created = File::options().write(true).create_new(true).mode(0o777).open(&staged);
        let file = created.map_err(|error| failed(target, &error))?;
        let mut new = Self { target: target.to_owned(), staged, file, existing, mode: 0, mask: 0 };
        let mask = new.file.metadata().map(|created| created.permissions().mode());
        // Its owner alone can read it until its mode is known.
        let hidden = new.file.set_permissions(Permissions::from_mode(0o600));
        new.mask = hidden.and(mask).map_err(|error| failed(target, &error))?;
        Ok(new)
    }

    /// Writes the content of the only file of an archive.
    pub(super) fn receive(mut self, reader: impl Read) -> Result<Self, Error> {
        let mut archive = Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let size = entry.size();
            self.mode = entry.header().mode()? & 0o777;
            if std::io::copy(&mut entry, &mut self.file)? != size {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self)
    }

    /// Gives the file its name, and the mode and the owner of the one that it replaces.
    pub(super) fn commit(self) -> Result<(), Failure> {
        let placed = self.keep_owner().and_then(|()| std::fs::rename(&self.staged, &self.target));
        placed.map_err(|error| failed(&self.target, &error))
    }

    fn keep_owner(&self) -> Result<(), Error> {
        let Some(existing) = &self.existing else {
            return self.file.set_permissions(Permissions::from_mode(self.mode & self.mask));
        };
        let new = self.file.metadata()?;
        let changed = |new: u32, old: u32| (new != old).then_some(old);
        let (user, group) =
            (changed(new.uid(), existing.uid()), changed(new.gid(), existing.gid()));
        if user.is_some() || group.is_some() {
            fchown(&self.file, user, group)?;
        }
        self.file.set_permissions(existing.permissions())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // It has its final name already after a commit.
        let _ = std::fs::remove_file(&self.staged);
    }
}

/// Returns the error of a target.
pub(super) fn failed(target: &Path, error: &Error) -> Failure {
    Failure::failed_text(format!("cannot write {}: {error}", target.display()))
}

fn not_a_file(target: &Path, found: &Metadata) -> Failure {
    let kind = found.file_type();
    let found = if kind.is_symlink() {
        "a symlink"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a device"
    };
    let failure = Failure::failed(FileError::NotAFile { path: target.to_owned(), found });
    match found {
        "a symlink" => failure.with_remedy("name the file that it leads to"),
        "a directory" => failure,
        _ => failure.with_remedy("`agent-tools cat` prints a file of the session"),
    }
}
