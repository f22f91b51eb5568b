//! Identity of a home.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::SyncError;
use crate::log::Token;

/// Random identity of a home: a directory whose processes share sessions by locks.
#[derive(Clone, PartialEq, Eq)]
pub struct HomeId {
    id: String,
    file: PathBuf,
}

impl HomeId {
    /// Loads the identity from a file. If the file is absent, creates it with a new identity.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the file cannot be used.
    pub fn load_or_create(file: &Path) -> Result<Self, SyncError> {
        let failed = |source| SyncError::Index { path: file.to_owned(), source };
        match std::fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(file, Token::random()).map_err(failed)?;
            }
            other => {
                other.map_err(failed)?;
            }
        }
        // Another process may have created the file first.
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let id = Token::parse(text.trim()).map(|token| token.to_string());
        let id = id.ok_or_else(|| {
            failed(io::Error::new(io::ErrorKind::InvalidData, "it does not hold an identity"))
        })?;
        Ok(Self { id, file: file.to_owned() })
    }

    /// Returns the identity as text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// Opens the file, on which the processes of the home hold locks while they send heartbeats.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.file)
    }
}

/// Creates the complete file, unless it exists.
fn create(file: &Path, id: Token) -> io::Result<()> {
    let beside = file.with_extension(format!("new-{id}"));
    let mut options = OpenOptions::new();
    let mut new = options.write(true).create_new(true).mode(0o600).open(&beside)?;
    let linked = writeln!(new, "{id}")
        .and_then(|()| new.sync_all())
        .and_then(|()| std::fs::hard_link(&beside, file));
    std::fs::remove_file(&beside)?;
    if let Some(dir) = file.parent() {
        // After a loss of power, a home with another identity would wait for this one.
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Debug for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl fmt::Display for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id");
        let ids: Vec<HomeId> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| HomeId::load_or_create(&file).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&file, "x").unwrap();
        assert!(HomeId::load_or_create(&file).is_err());
    }
}
