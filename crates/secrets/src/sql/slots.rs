//! A few connections, kept between operations.

use sqlx::{ConnectOptions as _, Connection};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// A place for a few connections, each used by one operation at a time.
///
/// A pool of the driver would say that it timed out where this says why nothing connects.
pub(super) struct Slots<C: Connection> {
    options: C::Options,
    idle: Mutex<Vec<C>>,
    permits: Semaphore,
}

/// A connection while an operation has it. Dropped without [`Lease::keep`], as when the operation
/// failed or was cancelled half-way, the connection is closed.
pub(super) struct Lease<'a, C> {
    pub(super) connection: C,
    idle: &'a Mutex<Vec<C>>,
    /// Given back last.
    _permit: SemaphorePermit<'a>,
}

impl<C: Connection> Slots<C> {
    pub(super) fn new(options: C::Options, count: usize) -> Self {
        let options = options.disable_statement_logging();
        Self { options, idle: Mutex::default(), permits: Semaphore::new(count) }
    }

    /// A kept connection if one still answers, else a new one.
    pub(super) async fn lease(&self) -> Result<Lease<'_, C>, sqlx::Error> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut kept = self.idle.lock().await.pop();
        if let Some(connection) = &mut kept
            && connection.ping().await.is_err()
        {
            kept = None;
        }
        let connection = match kept {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lease { connection, idle: &self.idle, _permit: permit })
    }
}

impl<C> Lease<'_, C> {
    pub(super) async fn keep(self) {
        self.idle.lock().await.push(self.connection);
    }
}
