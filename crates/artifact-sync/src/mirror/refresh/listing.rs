//! Listing of the projection while it is under way.

use std::sync::Arc;

use futures::StreamExt;
use object_store::Error;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::transfer::{Listed, Remote, list_pages};

/// Findings in one batch.
const BATCH: usize = 1_000;
/// Batches that are listed ahead.
const BATCHES_AHEAD: usize = 4;

/// Listing of the projection. A task of its own lists a few batches ahead, so that the first ones
/// are there when the log was read. Dropping the listing ends the task.
#[derive(Debug)]
pub(in crate::mirror) struct ProjectionListing {
    batches: Receiver<Vec<Result<Listed, Error>>>,
    task: JoinHandle<()>,
}

impl ProjectionListing {
    /// Begins to list the objects below the prefix of the projection.
    pub(in crate::mirror) fn begin(remote: &Arc<Remote>) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let remote = Arc::clone(remote);
        let task = tokio::spawn(async move {
            let listed = list_pages(remote.store(), remote.capabilities(), remote.prefix());
            let mut listed = listed.ready_chunks(BATCH);
            while let Some(batch) = listed.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Self { batches, task }
    }

    /// Returns the next findings, or `None` at the end.
    pub(in crate::mirror) async fn next(&mut self) -> Result<Option<Vec<Listed>>, Error> {
        match self.batches.recv().await {
            Some(batch) => batch.into_iter().collect::<Result<_, _>>().map(Some),
            None => Ok(None),
        }
    }
}

impl Drop for ProjectionListing {
    fn drop(&mut self) {
        self.task.abort();
    }
}
