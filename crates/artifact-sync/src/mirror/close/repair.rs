//! Contents that the store lost are stored again before a release.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::StreamExt;

use crate::error::SyncError;
use crate::log::{FileVersion, Node};
use crate::mirror::contents::Contents;
use crate::mirror::shared::{SentBatch, Shared};
use crate::paths::relative;
use crate::transfer::StoredContent;

/// Contents that are stored at once.
const UPLOADS_AT_ONCE: usize = 16;
/// Most files of one entry.
const FILES_PER_ENTRY: usize = 4_096;

impl Shared {
    /// Stores the contents of these files again if the working copy has them. The versions stay the
    /// same; only the places of their contents change. Nothing else may append meanwhile.
    pub(super) async fn store_again(self: &Arc<Self>, lost: &[String]) -> Result<(), SyncError> {
        for paths in lost.chunks(FILES_PER_ENTRY) {
            let stored: Vec<_> = futures::stream::iter(paths.to_vec())
                .map(async |path| {
                    let found = self.store_if_same(&path).await;
                    found.map(|(file, stored)| (path, file, stored))
                })
                .buffer_unordered(UPLOADS_AT_ONCE)
                .filter_map(async |stored| stored)
                .collect()
                .await;
            if stored.is_empty() {
                continue;
            }
            let contents = stored.iter().map(|(_, _, stored)| &stored.content);
            let flushed = self.flush_contents(contents).await;
            flushed.map_err(|source| SyncError::Append { source })?;
            let mut appender = self.appender.lock().await;
            self.settle(&mut appender).await?;
            let mut sent = SentBatch { batch: self.ledger().begin_batch(), ..SentBatch::default() };
            let mut lines = Vec::new();
            for (path, file, StoredContent { signature, content, .. }) in stored {
                sent.signatures.push((path.clone(), signature));
                lines.push(Node::File(FileVersion { content, ..file }).line(&path));
            }
            self.append(&mut appender, lines, sent).await?;
        }
        Ok(())
    }

    /// Stores the content of a file that still has the version of the log.
    async fn store_if_same(&self, path: &str) -> Option<(FileVersion, StoredContent)> {
        let file = self.ledger().log().file(path).cloned()?;
        let (nothing_known, inline_left) = (Contents::default(), AtomicU64::new(0));
        let stored = self.blobs.store(&relative(path)?, &nothing_known, &inline_left, self).await;
        let stored = stored
            .inspect_err(|error| tracing::debug!(path, ?error, "a lost content is not stored"))
            .ok()?;
        if stored.hash == file.hash {
            return Some((file, stored));
        }
        if let crate::log::Content::Blob(blob) = stored.content {
            self.ledger().forget_upload(blob);
        }
        None
    }
}
