//! The connections of a process, which its sessions share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The number of connections that the process may have, and those that are free.
///
/// Any session takes free ones until a quarter is left. Then a session takes one only while it has
/// fewer than are free. So no session can use up the connections of the others.
#[derive(Debug)]
pub(crate) struct Connections {
    total: usize,
    free: Mutex<usize>,
    released: Notify,
}

/// One connection of the process. Dropping it makes it free.
#[derive(Debug)]
pub(crate) struct Connection {
    of: Arc<Connections>,
}

impl Connections {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, free: Mutex::new(total), released: Notify::new() }
    }

    /// Waits for a connection of a session that has as many as `own` returns.
    ///
    /// # Cancel safety
    /// A dropped future has no effect.
    pub(crate) async fn acquire(self: &Arc<Self>, own: impl Fn() -> usize) -> Connection {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            // A release after the attempt wakes this task too.
            released.as_mut().enable();
            if let Some(connection) = self.try_acquire(own()) {
                return connection;
            }
            released.await;
        }
    }

    fn try_acquire(self: &Arc<Self>, own: usize) -> Option<Connection> {
        let mut free = self.free();
        let is_available = *free > self.total / 4 || own < *free;
        if !is_available {
            return None;
        }
        *free = free.checked_sub(1)?;
        Some(Connection { of: Arc::clone(self) })
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.of.free() += 1;
        self.of.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many connections as a session gets that has none.
    fn take_all(connections: &Arc<Connections>) -> Vec<Connection> {
        let mut taken = Vec::new();
        while let Some(connection) = connections.try_acquire(taken.len()) {
            taken.push(connection);
        }
        taken
    }

    #[test]
    fn a_greedy_session_leaves_connections_to_later_ones() {
        for (total, expected) in [(80, [60, 10, 5, 3]), (3, [3, 0, 0, 0]), (1, [1, 0, 0, 0])] {
            let connections = Arc::new(Connections::new(total));
            let sessions: Vec<_> = (0..4).map(|_| take_all(&connections)).collect();
            let counts: Vec<usize> = sessions.iter().map(Vec::len).collect();
            assert_eq!(counts, expected, "{total}");
            drop(sessions);
            assert_eq!(*connections.free(), total);
        }
    }

    #[tokio::test]
    async fn a_free_connection_wakes_who_waits() {
        let connections = Arc::new(Connections::new(1));
        let first = connections.acquire(|| 0).await;
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.acquire(|| 0).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        drop(waiting.await.unwrap());
        assert_eq!(*connections.free(), 1);
    }
}
