//! Conversion of driver errors into errors without secrets.

use std::error::Error;

use crate::source_error::SourceError;

/// The part of a database error without secrets. The rest is dropped, because the driver can quote
/// the affected row.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
struct DatabaseMessage {
    message: String,
    code: String,
}

/// A connection error that the driver reports only as text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ConnectionError(pub(super) String);

/// Converts an error of PostgreSQL. The codes are in its appendix "Error Codes".
#[cfg(feature = "postgres")]
pub(super) fn postgres(error: sqlx::Error, origin: &str, action: &'static str) -> SourceError {
    let origin = origin.to_owned();
    let error = match error {
        sqlx::Error::Database(error) => error,
        other => return connection(other, origin, action),
    };
    let code = error.code().unwrap_or_default().into_owned();
    let message = match code.get(..2) {
        Some("22" | "23") => "the row is invalid".to_owned(),
        _ => error.message().to_owned(),
    };
    let source = Box::new(DatabaseMessage { message, code: format!("SQLSTATE {code}") });
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

/// Converts an error of SQLite.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite(
    error: sqlx::Error,
    path: &std::path::Path,
    action: &'static str,
) -> SourceError {
    const SQLITE_ERROR: u32 = 1;
    const SQLITE_BUSY: u32 = 5;
    const SQLITE_LOCKED: u32 = 6;
    const SQLITE_INTERRUPT: u32 = 9;
    const SQLITE_CORRUPT: u32 = 11;
    const SQLITE_NOTADB: u32 = 26;
    let origin = path.display().to_string();
    let error = match error {
        sqlx::Error::Database(error) => error,
        other => return connection(other, origin, action),
    };
    let code = error.code().unwrap_or_default();
    let primary = code.parse::<u32>().unwrap_or_default() & 0xff;
    let (message, code) = (error.message().to_owned(), format!("SQLite error {code}"));
    let source = Box::new(DatabaseMessage { message, code });
    match primary {
        SQLITE_BUSY | SQLITE_LOCKED => SourceError::Unreachable { origin, source },
        SQLITE_INTERRUPT => {
            let seconds = crate::sql::table::DEADLINE.as_secs();
            let text = format!("it has no answer within {seconds} seconds");
            SourceError::Unreachable { origin, source: Box::new(ConnectionError(text)) }
        }
        SQLITE_CORRUPT | SQLITE_NOTADB => SourceError::Damaged { path: path.to_owned(), source },
        // The statements are fixed, so only a missing table or column causes this code.
        SQLITE_ERROR => SourceError::Schema { origin, source },
        _ => SourceError::Database { origin, action, source },
    }
}

/// Converts an error of the connection.
fn connection(error: sqlx::Error, origin: String, action: &'static str) -> SourceError {
    let text = |text: &str| Box::new(ConnectionError(text.to_owned()));
    let source: Box<dyn Error + Send + Sync> = match error {
        sqlx::Error::Io(error) => Box::new(error),
        sqlx::Error::Tls(error) => error,
        sqlx::Error::Protocol(_) => text("the response is malformed"),
        sqlx::Error::WorkerCrashed => text("the thread of the database exited"),
        _ => {
            let source = text("the response has an unexpected form");
            return SourceError::Database { origin, action, source };
        }
    };
    SourceError::Unreachable { origin, source }
}
