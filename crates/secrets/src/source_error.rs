//! Errors of a source of variables.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::cryptojs::EncryptError;
use crate::error_kind::ErrorKind;
use crate::name::SkipReason;

/// Errors returned by a [`VariableSource`](crate::VariableSource) and by stores of variables.
///
/// No variant contains a value, a passphrase, or the user and password of a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read or created.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The attempted action.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A line of a dotenv file is malformed.
    #[error("line {line} of {} {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The number of the line, counted from 1.
        line: usize,
        /// The problem, as a predicate of the line.
        problem: &'static str,
    },
    /// The URL does not name a supported database.
    #[error("the variables URL {url} cannot be used: {problem}")]
    InvalidUrl {
        /// The URL without user, password and parameters.
        url: String,
        /// The problem, with a remedy.
        problem: String,
    },
    /// The source does not respond, or not in time. A later attempt can succeed.
    #[error("the variables in {origin} cannot be reached")]
    Unreachable {
        /// The source, without user and password.
        origin: String,
        /// The error of the connection.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database denies the user, the password, or access to the table.
    #[error(
        "{origin} denies access to the variables (SQLSTATE {code}); \
         check user, password and grants"
    )]
    Denied {
        /// The database, without user and password.
        origin: String,
        /// The code that the database returned.
        code: String,
    },
    /// The file is not an SQLite database or is damaged.
    #[error(
        "{} is not an SQLite database or is damaged; move it away to start with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database has no table with the expected columns.
    #[error("{origin} has no table `variables` with the columns `name`, `value` and `encrypted`")]
    Schema {
        /// The database, without user and password.
        origin: String,
        /// The error of the database.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The table of another program cannot keep the hosts of a variable.
    #[error(
        "the table `variables` of {origin} has no column `hosts`; add it with \
         ALTER TABLE variables ADD COLUMN hosts TEXT"
    )]
    NoHostsColumn {
        /// The database, without user and password.
        origin: String,
    },
    /// A newer version of this crate wrote the database.
    #[error(
        "{origin} has version {found} of the table `variables`, \
         and this program supports up to {known}"
    )]
    NewerVersion {
        /// The database.
        origin: String,
        /// The version of the table.
        found: i64,
        /// The latest version that this crate supports.
        known: i64,
    },
    /// The database accepted the connection, but the operation failed.
    #[error("{origin} failed to {action}")]
    Database {
        /// The database, without user and password.
        origin: String,
        /// The attempted action.
        action: &'static str,
        /// The error of the database.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The variable is not stored, because every load would skip it.
    #[error("the variable {name:?} cannot be stored")]
    InvalidVariable {
        /// The name of the variable.
        name: String,
        /// The reason.
        #[source]
        reason: SkipReason,
    },
    /// The value cannot be encrypted, because the store has no passphrase.
    #[error("the variable {name:?} cannot be encrypted: no passphrase was given")]
    NoPassphrase {
        /// The name of the variable.
        name: String,
    },
    /// The value cannot be encrypted.
    #[error("the variable {name:?} cannot be encrypted")]
    Encrypt {
        /// The name of the variable.
        name: String,
        /// The error of the encryption.
        #[source]
        source: EncryptError,
    },
}

impl SourceError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidVariable { .. }
            | Self::NoHostsColumn { .. }
            | Self::NoPassphrase { .. } => ErrorKind::InvalidInput,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Damaged { .. } | Self::Schema { .. } | Self::NewerVersion { .. } => {
                ErrorKind::Damaged
            }
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidData => ErrorKind::InvalidInput,
                _ => ErrorKind::Failed,
            },
            Self::Database { .. } | Self::Encrypt { .. } => ErrorKind::Failed,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}
