//! The table in an SQLite file.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::source::SourceError;
use crate::sql::slots::Slots;
use crate::sql::table::{self, StoredVariable};
use crate::sql::{CONNECTIONS, DEADLINE, VariableSummary, fault};

/// What brings the file from one version of its table to the next. Version 0 is an empty file.
const MIGRATIONS: &[&str] = &["CREATE TABLE IF NOT EXISTS variables (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    encrypted INTEGER NOT NULL DEFAULT 0
)"];

pub(super) struct SqliteTable {
    slots: Slots<SqliteConnection>,
    path: PathBuf,
    origin: String,
}

impl SqliteTable {
    pub(super) async fn open(path: PathBuf) -> Result<Self, SourceError> {
        create(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            // Other processes hold the lock for milliseconds; SQLite itself waits for it.
            .busy_timeout(DEADLINE)
            // A value that was removed or replaced is overwritten in the file.
            .pragma("secure_delete", "ON");
        let this = Self {
            slots: Slots::new(options, CONNECTIONS),
            origin: path.display().to_string(),
            path,
        };
        let mut lease = this.slots.lease().await.map_err(|error| this.fault(error, "open"))?;
        let found = migrate(&mut lease.connection)
            .await
            .map_err(|error| this.fault(error, "make the table"))?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(SourceError::Newer { origin: this.origin.clone(), found, known });
        }
        let check = sqlx::query(table::CHECK).execute(&mut lease.connection);
        check.await.map_err(|error| this.fault(error, "open the table"))?;
        lease.keep().await;
        Ok(this)
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) async fn load(&self) -> Result<Vec<StoredVariable>, SourceError> {
        let fault = |error| self.fault(error, "read the variables");
        let mut lease = self.slots.lease().await.map_err(fault)?;
        let rows =
            sqlx::query(table::LOAD).fetch_all(&mut lease.connection).await.map_err(fault)?;
        lease.keep().await;
        Ok(rows.iter().map(table::stored).collect())
    }

    pub(super) async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        let fault = |error| self.fault(error, "list the variables");
        let mut lease = self.slots.lease().await.map_err(fault)?;
        let rows =
            sqlx::query(table::LIST).fetch_all(&mut lease.connection).await.map_err(fault)?;
        lease.keep().await;
        Ok(rows
            .iter()
            .map(table::summary)
            .map(|(name, encrypted)| VariableSummary { name, encrypted })
            .collect())
    }

    pub(super) async fn set(
        &self,
        name: &str,
        value: &str,
        encrypted: bool,
    ) -> Result<(), SourceError> {
        let fault = |error| self.fault(error, "store the variable");
        let mut lease = self.slots.lease().await.map_err(fault)?;
        let mut transaction =
            lease.connection.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
        for statement in [table::UPDATE, table::INSERT] {
            let written = sqlx::query(statement).bind(name).bind(value).bind(encrypted);
            if written.execute(&mut *transaction).await.map_err(fault)?.rows_affected() > 0 {
                break;
            }
        }
        transaction.commit().await.map_err(fault)?;
        lease.keep().await;
        Ok(())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        let fault = |error| self.fault(error, "remove the variable");
        let mut lease = self.slots.lease().await.map_err(fault)?;
        let removed = sqlx::query(table::REMOVE)
            .bind(name)
            .execute(&mut lease.connection)
            .await
            .map_err(fault)?;
        lease.keep().await;
        Ok(removed.rows_affected() > 0)
    }

    fn fault(&self, error: sqlx::Error, action: &'static str) -> SourceError {
        fault::sqlite(error, &self.path, action)
    }
}

/// Makes the file, readable by its owner alone, and the directories above it. SQLite gives the
/// files it adds the same mode.
fn create(path: &Path) -> Result<(), SourceError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|source| SourceError::File {
            action: "make the directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    let made = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.metadata() {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        made => made.map(drop),
    };
    made.map_err(|source| SourceError::File { action: "open", path: path.to_owned(), source })
}

/// Brings the table up to date, and says which version the file has then.
///
/// Of several processes that find a fresh file, one writes and the others wait for it and find it
/// done.
async fn migrate(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let known = MIGRATIONS.len() as i64;
    let found = version(connection).await?;
    if found >= known {
        return Ok(found);
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found = version(&mut transaction).await?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if found < known {
        let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {known}"));
        sqlx::raw_sql(version).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(found.max(known))
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await
}
