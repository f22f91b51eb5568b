//! The statements, which both databases understand, and what their rows mean.

use sqlx::{ColumnIndex, Decode, Row, Type};
use zeroize::Zeroizing;

use crate::name::SkipReason;

/// Only text comes back whatever the columns' types are: of a foreign table no more is known than
/// their names.
pub(super) const CHECK: &str = "SELECT CAST(name AS TEXT), CAST(value AS TEXT), CAST(encrypted AS TEXT) FROM variables LIMIT 0";
pub(super) const LOAD: &str = "SELECT CAST(name AS TEXT), CAST(encrypted AS TEXT), CAST(value AS TEXT) FROM variables ORDER BY 1";
pub(super) const LIST: &str =
    "SELECT CAST(name AS TEXT), CAST(encrypted AS TEXT) FROM variables ORDER BY 1";
/// A foreign table need not have a unique name, so there is no `ON CONFLICT` to rely on.
pub(super) const UPDATE: &str = "UPDATE variables SET value = $2, encrypted = $3 WHERE name = $1";
pub(super) const INSERT: &str =
    "INSERT INTO variables (name, value, encrypted) VALUES ($1, $2, $3)";
pub(super) const REMOVE: &str = "DELETE FROM variables WHERE name = $1";

/// A row as it is stored.
pub(super) struct StoredVariable {
    pub(super) name: String,
    pub(super) encrypted: bool,
    pub(super) value: Result<Zeroizing<String>, SkipReason>,
}

/// Name and whether the value is encrypted, from the first two columns.
pub(super) fn summary<R>(row: &R) -> (String, bool)
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let text =
        |column: usize| row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default();
    let encrypted = matches!(text(1).to_ascii_lowercase().as_str(), "1" | "t" | "true");
    (text(0), encrypted)
}

pub(super) fn stored<R>(row: &R) -> StoredVariable
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let (name, encrypted) = summary(row);
    let value = match row.try_get::<Option<String>, _>(2) {
        Ok(Some(value)) => Ok(Zeroizing::new(value)),
        Ok(None) => Err(SkipReason::NoValue),
        Err(_) => Err(SkipReason::NotText),
    };
    StoredVariable { name, encrypted, value }
}
