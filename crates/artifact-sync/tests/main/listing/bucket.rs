//! Bucket that lists like a cloud.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact_sync::StoreCapabilities;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::PAGE;

/// Bucket in memory that lists like a cloud: by page, and a page with an odd key fails.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Keys in order.
    pub(super) keys: Vec<String>,
    offsets: Offsets,
    pub(super) requests: AtomicUsize,
    under_way: AtomicUsize,
    pub(super) most_under_way: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Offsets {
    #[default]
    Honored,
    Ignored,
}

impl Bucket {
    pub(super) fn new(keys: impl IntoIterator<Item = String>) -> Arc<Self> {
        Self::with_offsets(keys, Offsets::Honored)
    }

    pub(super) fn with_offsets(
        keys: impl IntoIterator<Item = String>,
        offsets: Offsets,
    ) -> Arc<Self> {
        let keys: BTreeSet<String> = keys.into_iter().collect();
        Arc::new(Self { keys: keys.into_iter().collect(), offsets, ..Self::default() })
    }

    pub(super) fn capabilities(self: &Arc<Self>) -> StoreCapabilities {
        let mut capabilities = StoreCapabilities::default();
        capabilities.pages = Some(Arc::clone(self) as _);
        capabilities
    }

    fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        delimiter: Option<&str>,
        max_keys: usize,
    ) -> Result<PaginatedListResult> {
        let first = self.keys.partition_point(|key| {
            key.as_str() < prefix || after.is_some_and(|after| key.as_str() <= after)
        });
        let (mut objects, mut prefixes, mut token) = (Vec::new(), Vec::<String>::new(), None);
        let mut last = None;
        for key in self.keys[first..].iter().take_while(|key| key.starts_with(prefix)) {
            let group = delimiter.and_then(|delimiter| {
                let (directory, _) = key[prefix.len()..].split_once(delimiter)?;
                Some(format!("{prefix}{directory}{delimiter}"))
            });
            if group.is_some() && group.as_ref() == prefixes.last() {
                last = Some(key);
                continue;
            }
            if objects.len() + prefixes.len() == max_keys {
                token = last.cloned();
                break;
            }
            match group {
                Some(group) => prefixes.push(group),
                None => objects.push(key),
            }
            last = Some(key);
        }
        // Clients parse the prefixes first.
        let common_prefixes =
            prefixes.iter().map(Key::parse).collect::<std::result::Result<_, _>>()?;
        let objects = objects.into_iter().map(|key| meta(key)).collect::<Result<_>>()?;
        let result = ListResult { common_prefixes, objects, extensions: Default::default() };
        Ok(PaginatedListResult { result, page_token: token })
    }
}

fn meta(key: &str) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: Key::parse(key)?,
        last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
        size: if key.ends_with('/') { 0 } else { 1 },
        e_tag: Some("0123456789abcdef0123456789abcdef".to_owned()),
        version: None,
    })
}

pub(super) fn raw(prefix: Option<&Key>) -> String {
    match prefix.map(Key::as_ref) {
        None | Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
    }
}

#[async_trait]
impl PaginatedListStore for Bucket {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let offset = options.offset.filter(|_| self.offsets == Offsets::Honored);
        let after = options.page_token.or(offset);
        let max_keys = options.max_keys.unwrap_or(PAGE).min(PAGE);
        let delimiter = options.delimiter.as_deref();
        let page = self.page(prefix.unwrap_or_default(), after.as_deref(), delimiter, max_keys);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        page
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, _: &Key, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        unreachable!("listings only read")
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("listings only read")
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let memory = InMemory::new();
        if self.keys.iter().any(|there| there == key.as_ref()) {
            memory.put_opts(key, "x".into(), PutOptions::default()).await?;
        }
        memory.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        keys
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_with_offset(prefix, &Key::default())
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = raw(prefix);
        let offset = Some(offset.to_string()).filter(|_| self.offsets == Offsets::Honored);
        let (mut after, mut found, mut is_first) = (offset, Vec::new(), true);
        while is_first || after.is_some() {
            is_first = false;
            match self.page(&prefix, after.as_deref(), None, PAGE) {
                Ok(page) => {
                    found.extend(page.result.objects.into_iter().map(Ok));
                    after = page.page_token;
                }
                Err(error) => {
                    found.push(Err(error));
                    break;
                }
            }
        }
        futures::stream::iter(found).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        Ok(self.page(&raw(prefix), None, Some("/"), usize::MAX)?.result)
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        unreachable!("listings only read")
    }
}
