//! Store with many objects that exist only while they are listed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact_sync::StoreCapabilities;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Keys in a page, like on S3.
const PAGE: usize = 1_000;

/// Store in memory that also lists generated keys.
#[derive(Debug)]
pub(super) struct GeneratedStore {
    inner: InMemory,
    count: usize,
    /// Returns the key of a number. Keys are in the order of their numbers.
    key: fn(usize) -> String,
    /// Number of listed pages.
    pub(super) pages: AtomicUsize,
}

impl GeneratedStore {
    pub(super) fn new(count: usize, key: fn(usize) -> String) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), count, key, pages: AtomicUsize::new(0) })
    }

    pub(super) fn capabilities(self: &Arc<Self>) -> StoreCapabilities {
        let mut capabilities = StoreCapabilities::default();
        capabilities.pages = Some(Arc::clone(self) as _);
        capabilities
    }

    /// Returns the number of generated keys that are not after this one.
    fn position(&self, after: &str) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if (self.key)(middle).as_str() <= after { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[async_trait]
impl PaginatedListStore for GeneratedStore {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let prefix = prefix.unwrap_or_default();
        let stored = self.inner.list(Some(&Key::from(prefix.trim_end_matches('/'))));
        let stored: Vec<ObjectMeta> = stored.try_collect().await?;
        let stored: BTreeMap<String, ObjectMeta> =
            stored.into_iter().map(|meta| (meta.location.to_string(), meta)).collect();
        let mut last = options.page_token.or(options.offset).unwrap_or_default();
        last = last.max(prefix.to_owned());
        let mut generated = self.position(&last);
        let max_keys = options.max_keys.unwrap_or(PAGE).min(PAGE);
        let (mut objects, mut groups, mut page_token) = (Vec::new(), Vec::new(), None);
        loop {
            let next_generated = (generated < self.count).then(|| (self.key)(generated));
            let after = (Bound::Excluded(last.as_str()), Bound::Unbounded);
            let next_stored = stored.range::<str, _>(after).next();
            let is_stored = next_stored.is_some_and(|(key, _)| {
                next_generated.as_ref().is_none_or(|generated| key < generated)
            });
            let (key, meta) = match (next_stored, next_generated) {
                (Some((key, meta)), _) if is_stored => (key.clone(), meta.clone()),
                (_, Some(key)) => (key.clone(), generated_meta(&key)),
                (_, None) => break,
            };
            if !key.starts_with(prefix) {
                break;
            }
            if objects.len() + groups.len() == max_keys {
                page_token = Some(last);
                break;
            }
            let below = options.delimiter.as_deref().and_then(|_| key[prefix.len()..].find('/'));
            if let Some(end) = below {
                let group = &key[..prefix.len() + end];
                groups.push(Key::from(group));
                last = format!("{group}/\u{10ffff}");
                generated = self.position(&last);
            } else {
                generated += usize::from(!is_stored);
                objects.push(meta);
                last = key;
            }
        }
        let result =
            ListResult { objects, common_prefixes: groups, extensions: Default::default() };
        Ok(PaginatedListResult { result, page_token })
    }
}

fn generated_meta(key: &str) -> ObjectMeta {
    ObjectMeta {
        location: Key::from(key),
        last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
        size: 1,
        e_tag: Some("0123456789abcdef0123456789abcdef".to_owned()),
        version: None,
    }
}

impl fmt::Display for GeneratedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("generated")
    }
}

#[async_trait]
impl ObjectStore for GeneratedStore {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
