//! A store that fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Fails the calls from the n-th on, as many as it is told to, and counts them all.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    calls: AtomicUsize,
    first: AtomicUsize,
    after: AtomicUsize,
    hangs: bool,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            calls: 0.into(),
            first: usize::MAX.into(),
            after: 0.into(),
            hangs: false,
        })
    }

    /// One that never answers a put.
    pub(crate) fn hanging() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            calls: 0.into(),
            first: usize::MAX.into(),
            after: 0.into(),
            hangs: true,
        })
    }

    /// Counts from here, and fails `count` calls from the `first` on.
    pub(crate) fn fail(&self, first: usize, count: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.first.store(first, Ordering::SeqCst);
        self.after.store(first.saturating_add(count), Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn call(&self) -> Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call >= self.first.load(Ordering::SeqCst) && call < self.after.load(Ordering::SeqCst) {
            return Err(Error::Generic { store: "faulty", source: "the line is cut".into() });
        }
        Ok(())
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call()?;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        match self.call() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(_) => {
                locations.map(|_| Err(Error::Generic { store: "faulty", source: "the line is cut".into() })).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Key>, offset: &Key) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.call()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.call()?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.call()?;
        self.inner.rename_opts(from, to, options).await
    }
}
