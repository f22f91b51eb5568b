//! An object store whose clock a test can move.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// A store whose objects have the times of a clock that a test moves.
#[derive(Debug)]
pub struct ClockStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    behind: Duration,
    written: HashMap<Key, Duration>,
}

impl State {
    fn shift(&self, meta: &mut ObjectMeta) {
        meta.last_modified += self.written.get(&meta.location).copied().unwrap_or_default();
        meta.last_modified -= self.behind;
    }
}

impl ClockStore {
    /// Wraps a store. The clock begins with the time of that store.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, state: Arc::default() })
    }

    /// Moves the clock forward. Objects that exist become older.
    pub fn advance(&self, time: Duration) {
        self.lock().now += time;
    }

    /// Sets the clock back from the beginning. Objects that exist become older.
    pub fn fall_behind(&self, time: Duration) {
        self.lock().behind = time;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: &Key) {
        let mut state = self.lock();
        let now = state.now;
        state.written.insert(key.clone(), now);
    }

    fn shifted(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = Arc::clone(&self.state);
        let shift = move |mut meta: ObjectMeta| {
            state.lock().unwrap_or_else(PoisonError::into_inner).shift(&mut meta);
            meta
        };
        listing.map_ok(shift).boxed()
    }
}

impl fmt::Display for ClockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockStore")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for ClockStore {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let before = self.lock().written.get(location).copied();
        self.note(location);
        let put = self.inner.put_opts(location, payload, options).await;
        if let (Err(object_store::Error::AlreadyExists { .. }), Some(before)) = (&put, before) {
            self.lock().written.insert(location.clone(), before);
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.note(location);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await?;
        self.lock().shift(&mut result.meta);
        Ok(result)
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
        self.shifted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shifted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        let state = self.lock();
        listed.objects.iter_mut().for_each(|meta| state.shift(meta));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.note(to);
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.note(to);
        self.inner.rename_opts(from, to, options).await
    }
}
