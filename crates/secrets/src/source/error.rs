//! What can go wrong with a source of variables.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::cryptojs::EncryptError;
use crate::name::SkipReason;

/// Why variables could not be loaded or stored.
///
/// No variant carries a value, a passphrase, or a database's user and password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read or made.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line of a dotenv file is not understood.
    #[error("line {line} of {} {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The URL names no database that can be opened.
    #[error("the variables URL {url} cannot be used: {problem}")]
    Url {
        /// The URL without user, password and parameters.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing answers there, or not in time; a later try may succeed.
    #[error("the variables in {origin} cannot be reached")]
    Unreachable {
        /// The source, without user and password.
        origin: String,
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database refuses the user, the password or the access to the table.
    #[error(
        "{origin} refuses access to the variables (SQLSTATE {code}); check user, password and grants"
    )]
    Denied {
        /// The database, without user and password.
        origin: String,
        /// The database's own code.
        code: String,
    },
    /// The file is not an SQLite database, or one that is damaged.
    #[error("{} is not an SQLite database or is damaged; move it away to start with an empty one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database has no table of the expected shape.
    #[error("{origin} has no table `variables` with the columns `name`, `value` and `encrypted`")]
    Schema {
        /// The database, without user and password.
        origin: String,
        /// What the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database was written by a newer version.
    #[error(
        "{origin} has version {found} of the table `variables`, and this program knows up to {known}"
    )]
    Newer {
        /// The database.
        origin: String,
        /// The version it has.
        found: i64,
        /// The newest version that is known.
        known: i64,
    },
    /// The database took the connection and failed at the operation.
    #[error("{origin} failed to {action}")]
    Database {
        /// The database, without user and password.
        origin: String,
        /// What was tried.
        action: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The variable would be skipped by every load, so it is not stored.
    #[error("the variable {name:?} cannot be stored: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What stands against it.
        reason: SkipReason,
    },
    /// A value was to be encrypted and the store was opened without a passphrase.
    #[error("the variable {name:?} cannot be encrypted: no passphrase was given")]
    NoPassphrase {
        /// The variable's name.
        name: String,
    },
    /// A value was to be encrypted and could not.
    #[error("the variable {name:?} cannot be encrypted")]
    Encrypt {
        /// The variable's name.
        name: String,
        /// What went wrong.
        #[source]
        source: EncryptError,
    },
}

/// What kind of trouble a [`SourceError`] is, for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// What the caller gave is wrong: a URL, a name, a missing passphrase, a malformed dotenv file.
    InvalidInput,
    /// The source does not answer.
    Unreachable,
    /// The source refuses access.
    Denied,
    /// The source answers, and holds something else than variables in a known form.
    Damaged,
    /// The source or the system failed in another way.
    Failed,
}

impl SourceError {
    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> SourceErrorKind {
        match self {
            Self::Syntax { .. }
            | Self::Url { .. }
            | Self::Variable { .. }
            | Self::NoPassphrase { .. } => SourceErrorKind::InvalidInput,
            Self::Unreachable { .. } => SourceErrorKind::Unreachable,
            Self::Denied { .. } => SourceErrorKind::Denied,
            Self::Damaged { .. } | Self::Schema { .. } | Self::Newer { .. } => {
                SourceErrorKind::Damaged
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                SourceErrorKind::Denied
            }
            Self::File { .. } | Self::Database { .. } | Self::Encrypt { .. } => {
                SourceErrorKind::Failed
            }
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind() == SourceErrorKind::Unreachable
    }
}
