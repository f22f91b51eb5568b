//! The table of variables in an SQLite file.
//!
//! A file is ours if its `application_id` is [`APPLICATION_ID`]. Files of the first version have
//! none; they are recognized by their exact schema, and get the id with the next change. The schema
//! of other files is never changed, whatever their `user_version` is.

mod schema;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::revision::Revision;
use crate::source_error::SourceError;
use crate::sql::connection_pool::{ConnectionPool, Lease};
use crate::sql::driver_error;
use crate::sql::table::{
    self, CONNECTIONS, DEADLINE, Encryption, HostsChange, StoredVariable, VariableTable,
};

/// Tells whether the table keeps hosts.
const HAS_HOSTS: &str = "SELECT count(*) FROM pragma_table_info('variables') WHERE name = 'hosts'";

/// Steps of SQLite's machine between two looks at the clock, a fraction of a millisecond.
const STEPS: i32 = 10_000;

pub(super) struct SqliteTable {
    /// Connections that cannot change the file.
    readers: ConnectionPool<SqliteConnection>,
    writers: ConnectionPool<SqliteConnection>,
    path: PathBuf,
    origin: String,
}

impl SqliteTable {
    /// Opens a file, which must exist and have the table.
    pub(super) async fn open(path: PathBuf) -> Result<Self, SourceError> {
        check_file(&path)?;
        let table = Self::new(path);
        let mut lease = table.readers.lease().await.map_err(table.error("open"))?;
        let found = schema::version(&mut lease.connection).await.map_err(table.error("open"))?;
        table.check_version(found)?;
        let check = sqlx::query(table::CHECK).execute(&mut lease.connection);
        check.await.map_err(table.error("open the table"))?;
        lease.release().await;
        Ok(table)
    }

    /// Opens a file. Creates the file and the table if they are absent.
    pub(super) async fn create(path: PathBuf) -> Result<Self, SourceError> {
        create_file(&path)?;
        let table = Self::new(path);
        table.writer("create the table").await?.release().await;
        Self::open(table.path).await
    }

    fn new(path: PathBuf) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(uri(&path))
            .create_if_missing(false)
            // Other processes hold the lock for milliseconds. SQLite waits for it.
            .busy_timeout(DEADLINE);
        let readers = ConnectionPool::new(options.clone().read_only(true), CONNECTIONS);
        // SQLite overwrites deleted and replaced values in the file.
        let writers = ConnectionPool::new(options.pragma("secure_delete", "ON"), CONNECTIONS);
        Self { readers, writers, origin: path.display().to_string(), path }
    }

    /// Leases a connection that can change the file. Upgrades the table first if the file is ours.
    async fn writer(
        &self,
        action: &'static str,
    ) -> Result<Lease<'_, SqliteConnection>, SourceError> {
        let mut lease = self.writers.lease().await.map_err(self.error(action))?;
        let found = schema::upgrade(&mut lease.connection).await.map_err(self.error(action))?;
        self.check_version(found)?;
        Ok(lease)
    }

    fn check_version(&self, found: i64) -> Result<(), SourceError> {
        let known = schema::LATEST;
        if found <= known {
            return Ok(());
        }
        Err(SourceError::NewerVersion { origin: self.origin.clone(), found, known })
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
        let mut lease = self.readers.lease().await.map_err(error)?;
        let statement = match has_hosts(&mut lease.connection).await.map_err(error)? {
            true => table::LOAD_HOSTS,
            false => table::LOAD,
        };
        // A view can compute rows for ever.
        let deadline = Instant::now() + DEADLINE;
        let mut handle = lease.connection.lock_handle().await.map_err(error)?;
        handle.set_progress_handler(STEPS, move || Instant::now() < deadline);
        drop(handle);
        let rows = sqlx::query(statement).fetch_all(&mut lease.connection).await.map_err(error)?;
        lease.connection.lock_handle().await.map_err(error)?.remove_progress_handler();
        lease.release().await;
        Ok(rows.iter().map(table::stored).collect())
    }

    async fn set(
        &self,
        name: &str,
        value: &str,
        encryption: Encryption,
        hosts: HostsChange<'_>,
    ) -> Result<(), SourceError> {
        let error = self.error("store the variable");
        let mut lease = self.writer("store the variable").await?;
        if let HostsChange::Set(_) = hosts
            && !has_hosts(&mut lease.connection).await.map_err(error)?
        {
            lease.release().await;
            return Err(SourceError::NoHostsColumn { origin: self.origin.clone() });
        }
        let mut transaction =
            lease.connection.begin_with("BEGIN IMMEDIATE").await.map_err(error)?;
        for statement in hosts.statements() {
            let query = sqlx::query(statement).bind(name).bind(value);
            let mut query = query.bind(encryption.is_encrypted());
            if let HostsChange::Set(hosts) = hosts {
                query = query.bind(hosts);
            }
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
        let mut lease = self.writer("remove the variable").await?;
        let query = sqlx::query(table::REMOVE).bind(name);
        let removed = query.execute(&mut lease.connection).await.map_err(error)?;
        lease.release().await;
        Ok(removed.rows_affected() > 0)
    }

    /// Returns the state of the file and of its write-ahead log. They are not opened, because
    /// closing a file releases the locks of SQLite on it.
    fn revision(&self) -> Option<Revision> {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        Revision::of_files(&[&self.path, Path::new(&log)])
    }
}

async fn has_hosts(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    Ok(sqlx::query_scalar::<_, i64>(HAS_HOSTS).fetch_one(connection).await? > 0)
}

/// Returns the URI of a file, as a text for any path. SQLite decodes it to the bytes of the path.
fn uri(path: &Path) -> String {
    format!("file:{}", percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC))
}

/// Checks that a path names a file, so that opening it neither waits nor has effects.
fn check_file(path: &Path) -> Result<(), SourceError> {
    let checked = path.metadata().and_then(|metadata| {
        if metadata.is_file() {
            return Ok(());
        }
        Err(match metadata.mode() & 0o170_000 {
            0o040_000 => io::ErrorKind::IsADirectory.into(),
            _ => io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"),
        })
    });
    checked.map_err(|source| SourceError::File { action: "open", path: path.to_owned(), source })
}

/// Creates the file and its parent directories, accessible only for their owner. SQLite gives its
/// additional files the same mode.
fn create_file(path: &Path) -> Result<(), SourceError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        created.map_err(|source| SourceError::File {
            action: "create the directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_file(path),
        created => created.map(drop).map_err(|source| SourceError::File {
            action: "create",
            path: path.to_owned(),
            source,
        }),
    }
}
