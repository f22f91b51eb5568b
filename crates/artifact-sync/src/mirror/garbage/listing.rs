//! Listing of the entries and blobs of a log.

use futures::TryStreamExt;

use crate::log::{LogStore, Numbered, Token, is_tombstone};

/// Object of the store that may be garbage.
#[derive(Clone, Copy, Debug)]
pub(in crate::mirror) struct ListedBlob {
    pub(in crate::mirror) name: Token,
    pub(super) size: u64,
    pub(super) at: i64,
}

/// Listing from before the fence.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Listing {
    pub(in crate::mirror) blobs: Vec<ListedBlob>,
    pub(in crate::mirror) entries: Vec<Numbered>,
    /// Numbers below an earlier deletion of the session.
    pub(in crate::mirror) tombstones: Vec<Numbered>,
}

impl Listing {
    /// Lists the entries and the blobs. What is uploaded later has no part in a collection.
    pub(in crate::mirror) async fn of(log: &LogStore) -> object_store::Result<Self> {
        let (blobs, listed) = tokio::try_join!(list_blobs(log), log.list_with_tombstones())?;
        let (tombstones, entries): (Vec<_>, Vec<_>) =
            listed.iter().partition(|(_, meta)| is_tombstone(meta));
        let numbered = |listed: Vec<&_>| listed.into_iter().map(Numbered::from).collect();
        Ok(Self { blobs, entries: numbered(entries), tombstones: numbered(tombstones) })
    }

    /// Returns the newest time of the entries and blobs, in seconds since 1970.
    pub(super) fn newest(&self) -> i64 {
        let entries = self.entries.iter().map(|entry| entry.at);
        entries.chain(self.blobs.iter().map(|blob| blob.at)).max().unwrap_or(0)
    }

    /// Returns the size of the entries and blobs in bytes.
    pub(super) fn size(&self) -> u64 {
        let entries = self.entries.iter().map(|entry| entry.size);
        entries.chain(self.blobs.iter().map(|blob| blob.size)).sum()
    }
}

async fn list_blobs(log: &LogStore) -> object_store::Result<Vec<ListedBlob>> {
    let listed = log.store().list(Some(&log.blobs()));
    let blobs = listed.try_filter_map(async |meta| {
        let name = meta.location.filename().and_then(Token::parse);
        let (size, at) = (meta.size, meta.last_modified.timestamp());
        Ok(name.map(|name| ListedBlob { name, size, at }))
    });
    match blobs.try_collect().await {
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        other => other,
    }
}
