//! Tasks of HTTP connections, which end with them.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// Runs the tasks of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Ends the tasks of a connection when it is dropped.
#[derive(Debug)]
pub(crate) struct EndTasks(Tasks);

impl Tasks {
    /// Returns the tasks, and the value that ends them.
    pub(crate) fn new() -> (Self, EndTasks) {
        let tasks = Self::default();
        (tasks.clone(), EndTasks(tasks))
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            task.await;
        });
    }
}

impl Drop for EndTasks {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
