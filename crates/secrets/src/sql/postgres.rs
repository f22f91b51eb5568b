//! The table in PostgreSQL.

use std::future::Future;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::source::SourceError;
use crate::sql::slots::Slots;
use crate::sql::table::{self, StoredVariable};
use crate::sql::{CONNECTIONS, DEADLINE, VariableSummary, fault};

pub(super) struct PostgresTable {
    slots: Slots<PgConnection>,
    origin: String,
}

impl PostgresTable {
    pub(super) async fn open(
        options: PgConnectOptions,
        origin: String,
    ) -> Result<Self, SourceError> {
        // Statements are not kept by name, since a pooler between may change the server under them.
        let this =
            Self { slots: Slots::new(options.statement_cache_capacity(0), CONNECTIONS), origin };
        this.within("open the table", async {
            let mut lease = this.slots.lease().await?;
            sqlx::query(table::CHECK).persistent(false).execute(&mut lease.connection).await?;
            lease.keep().await;
            Ok(())
        })
        .await?;
        Ok(this)
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) async fn load(&self) -> Result<Vec<StoredVariable>, SourceError> {
        self.within("read the variables", async {
            let mut lease = self.slots.lease().await?;
            let rows =
                sqlx::query(table::LOAD).persistent(false).fetch_all(&mut lease.connection).await?;
            lease.keep().await;
            Ok(rows.iter().map(table::stored).collect())
        })
        .await
    }

    pub(super) async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        self.within("list the variables", async {
            let mut lease = self.slots.lease().await?;
            let rows =
                sqlx::query(table::LIST).persistent(false).fetch_all(&mut lease.connection).await?;
            lease.keep().await;
            Ok(rows
                .iter()
                .map(table::summary)
                .map(|(name, encrypted)| VariableSummary { name, encrypted })
                .collect())
        })
        .await
    }

    pub(super) async fn set(
        &self,
        name: &str,
        value: &str,
        encrypted: bool,
    ) -> Result<(), SourceError> {
        self.within("store the variable", async {
            let mut lease = self.slots.lease().await?;
            let mut transaction = lease.connection.begin().await?;
            // Two that add the same name at once must not give two rows.
            let lock = sqlx::query(
                "SELECT pg_advisory_xact_lock(hashtextextended('variables.' || $1, 0))",
            )
            .bind(name);
            lock.persistent(false).execute(&mut *transaction).await?;
            for statement in [table::UPDATE, table::INSERT] {
                let written =
                    sqlx::query(statement).bind(name).bind(value).bind(encrypted).persistent(false);
                if written.execute(&mut *transaction).await?.rows_affected() > 0 {
                    break;
                }
            }
            transaction.commit().await?;
            lease.keep().await;
            Ok(())
        })
        .await
    }

    pub(super) async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        self.within("remove the variable", async {
            let mut lease = self.slots.lease().await?;
            let removed = sqlx::query(table::REMOVE).bind(name).persistent(false);
            let removed = removed.execute(&mut lease.connection).await?.rows_affected() > 0;
            lease.keep().await;
            Ok(removed)
        })
        .await
    }

    async fn within<T>(
        &self,
        action: &'static str,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(DEADLINE, operation).await {
            Ok(done) => done.map_err(|error| fault::postgres(error, &self.origin, action)),
            Err(_) => {
                let source = Box::new(fault::Broken(format!(
                    "no answer within {} seconds",
                    DEADLINE.as_secs()
                )));
                Err(SourceError::Unreachable { origin: self.origin.clone(), source })
            }
        }
    }
}
