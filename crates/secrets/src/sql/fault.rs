//! What a database driver's error means, in words that hold no secret.

use std::error::Error;

use crate::source::SourceError;

/// The part of a database's answer that may be shown.
///
/// The driver's own error may quote the row it was about, so nothing else of it is kept.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
struct Refusal {
    message: String,
    code: String,
}

/// Trouble of the line, told by the driver in words only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) String);

/// A driver's error as one of ours.
#[cfg(feature = "postgres")]
pub(super) fn postgres(error: sqlx::Error, origin: &str, action: &'static str) -> SourceError {
    let origin = origin.to_owned();
    let error = match error {
        sqlx::Error::Database(error) => error,
        other => return line(other, origin, action),
    };
    // The classes are those of PostgreSQL's appendix on error codes.
    let code = error.code().unwrap_or_default().into_owned();
    let message = match code.get(..2) {
        Some("22" | "23") => "the row is refused".to_owned(),
        _ => error.message().to_owned(),
    };
    let source = Box::new(Refusal { message, code: format!("SQLSTATE {code}") });
    match code.as_str() {
        "42501" => SourceError::Denied { origin, code },
        code if code.starts_with("28") => SourceError::Denied { origin, code: code.to_owned() },
        "42P01" | "42703" => SourceError::Schema { origin, source },
        code if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => {
            SourceError::Unreachable { origin, source }
        }
        _ => SourceError::Database { origin, action, source },
    }
}

/// A driver's error as one of ours.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite(
    error: sqlx::Error,
    path: &std::path::Path,
    action: &'static str,
) -> SourceError {
    let origin = path.display().to_string();
    let error = match error {
        sqlx::Error::Database(error) => error,
        other => return line(other, origin, action),
    };
    let code = error.code().unwrap_or_default();
    let primary = code.parse::<u32>().unwrap_or_default() & 0xff;
    let source = Box::new(Refusal {
        message: error.message().to_owned(),
        code: format!("SQLite error {code}"),
    });
    match primary {
        // SQLITE_BUSY and SQLITE_LOCKED
        5 | 6 => SourceError::Unreachable { origin, source },
        // SQLITE_CORRUPT and SQLITE_NOTADB
        11 | 26 => SourceError::Damaged { path: path.to_owned(), source },
        // SQLITE_ERROR: of the few statements there are, only a missing table or column gives it.
        1 => SourceError::Schema { origin, source },
        _ => SourceError::Database { origin, action, source },
    }
}

fn line(error: sqlx::Error, origin: String, action: &'static str) -> SourceError {
    let source: Box<dyn Error + Send + Sync> = match error {
        sqlx::Error::Io(error) => Box::new(error),
        sqlx::Error::Tls(error) => error,
        sqlx::Error::Protocol(_) => Box::new(Broken("the answer is not understood".to_owned())),
        sqlx::Error::WorkerCrashed => Box::new(Broken("the database's thread ended".to_owned())),
        _ => {
            let source = Box::new(Broken("the answer has an unexpected form".to_owned()));
            return SourceError::Database { origin, action, source };
        }
    };
    SourceError::Unreachable { origin, source }
}
