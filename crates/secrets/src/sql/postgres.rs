//! The table of variables in PostgreSQL.

use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use zeroize::Zeroizing;

use crate::source_error::SourceError;
use crate::sql::connection_pool::ConnectionPool;
use crate::sql::driver_error::{self, ConnectionError};
use crate::sql::table::{
    self, CONNECTIONS, DEADLINE, Encryption, HostsChange, StoredVariable, VariableTable,
};

/// Serializes changes of one name, until the end of the transaction.
const LOCK_NAME: &str = "SELECT pg_advisory_xact_lock(hashtextextended('variables.' || $1, 0))";

/// Tells whether the table keeps hosts.
const HAS_HOSTS: &str = "SELECT count(*) FROM pg_attribute \
    WHERE attrelid = 'variables'::regclass AND attname = 'hosts' AND NOT attisdropped";

pub(super) struct PostgresTable {
    pool: ConnectionPool<PgConnection>,
    origin: String,
}

impl PostgresTable {
    pub(super) async fn open(
        options: PgConnectOptions,
        origin: String,
        tls_files: &[PathBuf],
    ) -> Result<Self, SourceError> {
        if !matches!(options.get_ssl_mode(), PgSslMode::Disable) {
            check_tls_files(tls_files)?;
        }
        // A pooler can change the server between statements, and a prepared statement would be
        // missing there.
        let options = options.statement_cache_capacity(0);
        let table = Self { pool: ConnectionPool::new(options, CONNECTIONS), origin };
        table
            .with_deadline("open the table", async {
                let mut lease = table.pool.lease().await?;
                sqlx::query(table::CHECK).persistent(false).execute(&mut lease.connection).await?;
                lease.release().await;
                Ok(())
            })
            .await?;
        Ok(table)
    }

    async fn with_deadline<T>(
        &self,
        action: &'static str,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(DEADLINE, operation).await {
            Ok(result) => {
                result.map_err(|error| driver_error::postgres(error, &self.origin, action))
            }
            Err(_) => {
                let message = format!("no response within {} seconds", DEADLINE.as_secs());
                let source = Box::new(ConnectionError(message));
                Err(SourceError::Unreachable { origin: self.origin.clone(), source })
            }
        }
    }
}

async fn has_hosts(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar::<_, i64>(HAS_HOSTS).persistent(false);
    Ok(query.fetch_one(connection).await? > 0)
}

/// Checks that the files exist and contain PEM blocks. Otherwise, the configuration is wrong, and
/// another attempt would fail too.
fn check_tls_files(files: &[PathBuf]) -> Result<(), SourceError> {
    for path in files {
        let content = fs::read(path).map(Zeroizing::new).and_then(|content| {
            let is_pem = content.windows(10).any(|window| window == b"-----BEGIN");
            let problem = || io::Error::new(io::ErrorKind::InvalidData, "it has no PEM block");
            is_pem.then_some(()).ok_or_else(problem)
        });
        let action = "read the certificate or key";
        content.map_err(|source| SourceError::File { action, path: path.clone(), source })?;
    }
    Ok(())
}

#[async_trait]
impl VariableTable for PostgresTable {
    fn origin(&self) -> &str {
        &self.origin
    }

    async fn load(&self) -> Result<Vec<StoredVariable>, SourceError> {
        self.with_deadline("read the variables", async {
            let mut lease = self.pool.lease().await?;
            let statement = match has_hosts(&mut lease.connection).await? {
                true => table::LOAD_HOSTS,
                false => table::LOAD,
            };
            let query = sqlx::query(statement).persistent(false);
            let rows = query.fetch_all(&mut lease.connection).await?;
            lease.release().await;
            Ok(rows.iter().map(table::stored).collect())
        })
        .await
    }

    async fn set(
        &self,
        name: &str,
        value: &str,
        encryption: Encryption,
        hosts: HostsChange<'_>,
    ) -> Result<(), SourceError> {
        let stored = self.with_deadline("store the variable", async {
            let mut lease = self.pool.lease().await?;
            if let HostsChange::Set(_) = hosts
                && !has_hosts(&mut lease.connection).await?
            {
                lease.release().await;
                return Ok(false);
            }
            let mut transaction = lease.connection.begin().await?;
            // Without the lock, two writers of a new name could create two rows.
            let lock = sqlx::query(LOCK_NAME).bind(name).persistent(false);
            lock.execute(&mut *transaction).await?;
            for statement in hosts.statements() {
                let query = sqlx::query(statement).bind(name).bind(value);
                let mut query = query.bind(encryption.is_encrypted()).persistent(false);
                if let HostsChange::Set(hosts) = hosts {
                    query = query.bind(hosts);
                }
                if query.execute(&mut *transaction).await?.rows_affected() > 0 {
                    break;
                }
            }
            transaction.commit().await?;
            lease.release().await;
            Ok(true)
        });
        match stored.await? {
            true => Ok(()),
            false => Err(SourceError::NoHostsColumn { origin: self.origin.clone() }),
        }
    }

    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        self.with_deadline("remove the variable", async {
            let mut lease = self.pool.lease().await?;
            let query = sqlx::query(table::REMOVE).bind(name).persistent(false);
            let removed = query.execute(&mut lease.connection).await?.rows_affected() > 0;
            lease.release().await;
            Ok(removed)
        })
        .await
    }
}
