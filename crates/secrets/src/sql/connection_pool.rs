//! A pool of a few database connections.

use sqlx::{ConnectOptions as _, Connection};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// A pool of connections. One operation uses a connection at a time.
///
/// The pool of the driver would report a timeout and hide the reason that a connection fails.
pub(super) struct ConnectionPool<C: Connection> {
    options: C::Options,
    idle: Mutex<Vec<C>>,
    permits: Semaphore,
}

/// A connection that is leased to one operation.
///
/// If it is dropped without [`Lease::release`], because the operation failed or was cancelled, the
/// connection is closed.
pub(super) struct Lease<'a, C> {
    pub(super) connection: C,
    idle: &'a Mutex<Vec<C>>,
    /// The last field, so that it is dropped last.
    _permit: SemaphorePermit<'a>,
}

impl<C: Connection> ConnectionPool<C> {
    pub(super) fn new(options: C::Options, count: usize) -> Self {
        let options = options.disable_statement_logging();
        Self { options, idle: Mutex::default(), permits: Semaphore::new(count) }
    }

    /// Leases an idle connection that still responds, or a new one.
    pub(super) async fn lease(&self) -> Result<Lease<'_, C>, sqlx::Error> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut idle = self.idle.lock().await.pop();
        if let Some(connection) = &mut idle
            && connection.ping().await.is_err()
        {
            idle = None;
        }
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lease { connection, idle: &self.idle, _permit: permit })
    }
}

impl<C> Lease<'_, C> {
    /// Returns the connection to the pool.
    pub(super) async fn release(self) {
        self.idle.lock().await.push(self.connection);
    }
}
