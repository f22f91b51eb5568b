//! The table of variables in an SQLite file.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::source_error::SourceError;
use crate::sql::connection_pool::ConnectionPool;
use crate::sql::driver_error;
use crate::sql::table::{
    self, CONNECTIONS, DEADLINE, Encryption, StoredVariable, VariableSummary, VariableTable,
};

/// Statements that upgrade the table by one version each. Version 0 is an empty file.
const MIGRATIONS: &[&str] = &["CREATE TABLE IF NOT EXISTS variables (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    encrypted INTEGER NOT NULL DEFAULT 0
)"];

pub(super) struct SqliteTable {
    pool: ConnectionPool<SqliteConnection>,
    path: PathBuf,
    origin: String,
}

impl SqliteTable {
    pub(super) async fn open(path: PathBuf) -> Result<Self, SourceError> {
        create_file(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(uri(&path))
            .create_if_missing(false)
            // Other processes hold the lock for milliseconds. SQLite waits for it.
            .busy_timeout(DEADLINE)
            // SQLite overwrites deleted and replaced values in the file.
            .pragma("secure_delete", "ON");
        let table = Self {
            pool: ConnectionPool::new(options, CONNECTIONS),
            origin: path.display().to_string(),
            path,
        };
        let mut lease = table.pool.lease().await.map_err(table.error("open"))?;
        let found =
            migrate(&mut lease.connection).await.map_err(table.error("create the table"))?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            let origin = table.origin.clone();
            return Err(SourceError::NewerVersion { origin, found, known });
        }
        let check = sqlx::query(table::CHECK).execute(&mut lease.connection);
        check.await.map_err(table.error("open the table"))?;
        lease.release().await;
        Ok(table)
    }

    fn error(&self, action: &'static str) -> impl Fn(sqlx::Error) -> SourceError + Copy {
        move |error| driver_error::sqlite(error, &self.path, action)
    }
}

#[async_trait]
impl VariableTable for SqliteTable {
    fn origin(&self) -> &str {
        &self.origin
    }

    async fn load(&self) -> Result<Vec<StoredVariable>, SourceError> {
        let error = self.error("read the variables");
        let mut lease = self.pool.lease().await.map_err(error)?;
        let rows =
            sqlx::query(table::LOAD).fetch_all(&mut lease.connection).await.map_err(error)?;
        lease.release().await;
        Ok(rows.iter().map(table::stored).collect())
    }

    async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        let error = self.error("list the variables");
        let mut lease = self.pool.lease().await.map_err(error)?;
        let rows =
            sqlx::query(table::LIST).fetch_all(&mut lease.connection).await.map_err(error)?;
        lease.release().await;
        Ok(rows.iter().map(table::summary).collect())
    }

    async fn set(
        &self,
        name: &str,
        value: &str,
        encryption: Encryption,
    ) -> Result<(), SourceError> {
        let error = self.error("store the variable");
        let mut lease = self.pool.lease().await.map_err(error)?;
        let mut transaction =
            lease.connection.begin_with("BEGIN IMMEDIATE").await.map_err(error)?;
        for statement in [table::UPDATE, table::INSERT] {
            let query = sqlx::query(statement).bind(name).bind(value);
            let query = query.bind(encryption.is_encrypted());
            if query.execute(&mut *transaction).await.map_err(error)?.rows_affected() > 0 {
                break;
            }
        }
        transaction.commit().await.map_err(error)?;
        lease.release().await;
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        let error = self.error("remove the variable");
        let mut lease = self.pool.lease().await.map_err(error)?;
        let query = sqlx::query(table::REMOVE).bind(name);
        let removed = query.execute(&mut lease.connection).await.map_err(error)?;
        lease.release().await;
        Ok(removed.rows_affected() > 0)
    }
}

/// Creates the file and its parent directories, accessible only for their owner. SQLite gives its
/// additional files the same mode.
/// Returns the URI of a file, as a text for any path. SQLite decodes it to the bytes of the path.
fn uri(path: &Path) -> String {
    format!("file:{}", percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC))
}

fn create_file(path: &Path) -> Result<(), SourceError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        created.map_err(|source| SourceError::File {
            action: "create the directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    let created = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.metadata() {
            Ok(existing) if existing.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        created => created.map(drop),
    };
    created.map_err(|source| SourceError::File { action: "open", path: path.to_owned(), source })
}

/// Upgrades the table and returns its version.
///
/// If several processes find a new file, one creates the table. The others wait, and then find it.
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
