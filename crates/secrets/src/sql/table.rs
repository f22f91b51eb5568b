//! The table of variables: its operations, the statements that both databases support, and the
//! meaning of its rows.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{ColumnIndex, Decode, Row, Type};
use zeroize::Zeroizing;

use crate::name::SkipReason;
use crate::revision::Revision;
use crate::source_error::SourceError;
use crate::sql::hosts::VariableHosts;

/// Time limit of one operation on a database, including the connection.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Maximum number of concurrent operations. A few are enough, because a store is read only when a
/// session opens.
pub(super) const CONNECTIONS: usize = 4;

// Casts make every value a text. Only the names of the columns of a foreign table are known, not
// their types.
pub(super) const CHECK: &str = "SELECT CAST(name AS TEXT), CAST(value AS TEXT), \
    CAST(encrypted AS TEXT) FROM variables LIMIT 0";
pub(super) const LOAD: &str = "SELECT CAST(name AS TEXT), CAST(encrypted AS TEXT), \
    CAST(value AS TEXT) FROM variables ORDER BY 1";
// The same for a table with hosts.
pub(super) const LOAD_HOSTS: &str = "SELECT CAST(name AS TEXT), CAST(encrypted AS TEXT), \
    CAST(value AS TEXT), CAST(hosts AS TEXT) FROM variables ORDER BY 1";
// There is no `ON CONFLICT`, because the names of a foreign table need not be unique.
pub(super) const UPDATE: &str = "UPDATE variables SET value = $2, encrypted = $3 WHERE name = $1";
pub(super) const INSERT: &str =
    "INSERT INTO variables (name, value, encrypted) VALUES ($1, $2, $3)";
pub(super) const UPDATE_HOSTS: &str =
    "UPDATE variables SET value = $2, encrypted = $3, hosts = $4 WHERE name = $1";
pub(super) const INSERT_HOSTS: &str =
    "INSERT INTO variables (name, value, encrypted, hosts) VALUES ($1, $2, $3, $4)";
pub(super) const REMOVE: &str = "DELETE FROM variables WHERE name = $1";

/// Form of a value in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// The plain text.
    #[default]
    Plain,
    /// The format of [`cryptojs`](crate::cryptojs), with the passphrase of the store.
    CryptoJs,
}

impl Encryption {
    pub(super) fn is_encrypted(self) -> bool {
        self == Self::CryptoJs
    }

    /// Parses the column `encrypted` of a foreign table. Returns `None` for an unknown spelling,
    /// because a wrong guess would hand out an encrypted value.
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "y" | "yes" | "on" => Some(Self::CryptoJs),
            "0" | "f" | "false" | "n" | "no" | "off" => Some(Self::Plain),
            _ => None,
        }
    }
}

/// A stored variable without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableSummary {
    /// The name.
    pub name: String,
    /// The form of the value. `None` if the column `encrypted` has no known spelling.
    pub encryption: Option<Encryption>,
    /// The hosts that receive the value. `None` without hosts, and if the column `hosts` has no
    /// known form.
    pub hosts: Option<VariableHosts>,
    /// The reason for which a load skips the variable.
    pub skipped: Option<SkipReason>,
}

/// A row of the table.
pub(super) struct StoredVariable {
    pub(super) name: String,
    pub(super) encryption: Option<Encryption>,
    pub(super) value: Result<Zeroizing<String>, SkipReason>,
    pub(super) hosts: Result<Option<VariableHosts>, SkipReason>,
}

/// Change of the column `hosts`.
#[derive(Clone, Copy)]
pub(super) enum HostsChange<'h> {
    /// The column stays as it is.
    Keep,
    /// The column has this text.
    Set(Option<&'h str>),
}

impl HostsChange<'_> {
    /// Returns the statements that store a variable, of which the first one that changes a row
    /// counts.
    pub(super) fn statements(self) -> [&'static str; 2] {
        match self {
            Self::Keep => [UPDATE, INSERT],
            Self::Set(_) => [UPDATE_HOSTS, INSERT_HOSTS],
        }
    }
}

/// A table of variables in one kind of database.
#[async_trait]
pub(super) trait VariableTable: Send + Sync {
    /// Returns the database for messages, without user and password.
    fn origin(&self) -> &str;

    async fn load(&self) -> Result<Vec<StoredVariable>, SourceError>;

    async fn set(
        &self,
        name: &str,
        value: &str,
        encryption: Encryption,
        hosts: HostsChange<'_>,
    ) -> Result<(), SourceError>;

    async fn remove(&self, name: &str) -> Result<bool, SourceError>;

    /// Returns the revision of the table, if it costs no query.
    fn revision(&self) -> Option<Revision> {
        None
    }
}

/// Converts a row with a value in its third column, and hosts in its fourth, if the table has any.
pub(super) fn stored<R>(row: &R) -> StoredVariable
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let (name, encryption) = name_and_encryption(row);
    let value = match row.try_get::<Option<String>, _>(2) {
        Ok(Some(value)) => Ok(Zeroizing::new(value)),
        Ok(None) => Err(SkipReason::NoValue),
        Err(_) => Err(SkipReason::NotText),
    };
    StoredVariable { name, encryption, value, hosts: hosts(row, 3) }
}

fn name_and_encryption<R>(row: &R) -> (String, Option<Encryption>)
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let text =
        |column: usize| row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default();
    (text(0), Encryption::parse(&text(1)))
}

fn hosts<R>(row: &R, column: usize) -> Result<Option<VariableHosts>, SkipReason>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    if row.len() <= column {
        return Ok(None);
    }
    match row.try_get::<Option<String>, _>(column) {
        Ok(text) => VariableHosts::parse(&text.unwrap_or_default()),
        Err(_) => Err(SkipReason::InvalidHosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spellings: &[&str], expected: Option<Encryption>) {
        for spelling in spellings {
            assert_eq!(Encryption::parse(spelling), expected, "{spelling:?}");
        }
    }

    #[test]
    fn common_spellings_are_understood_and_others_are_not_guessed() {
        check(&["1", "t", "T", "true", "TRUE", "yes", "y", "Y", "On", " true "], ENCRYPTED);
        check(&["0", "f", "false", "False", "no", "N", "off", "OFF"], Some(Encryption::Plain));
        check(&["", "2", "-1", "null", "wahr", "aes", "1.5", "encrypted", "truefalse"], None);
    }

    const ENCRYPTED: Option<Encryption> = Some(Encryption::CryptoJs);
}
