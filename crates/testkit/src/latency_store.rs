//! An object store in memory in which every request takes the same time.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, UploadPart,
};

/// Number of entries in a page of a listing, and of keys in a bulk deletion, on S3.
const PAGE: usize = 1_000;

/// An object store that delays and counts its requests.
#[derive(Debug)]
pub struct LatencyStore {
    inner: InMemory,
    meter: Arc<Meter>,
}

/// Requests of a stretch of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Number of requests.
    pub total: usize,
    /// Number of requests in the longest chain in which each begins after the end of the one
    /// before. Times the latency, it is the least time that the work can take.
    pub sequential: usize,
}

#[derive(Debug)]
struct Meter {
    latency: Duration,
    requests: Mutex<Requests>,
}

impl LatencyStore {
    /// Creates an empty store.
    pub fn new(latency: Duration) -> Arc<Self> {
        let meter = Meter { latency, requests: Mutex::default() };
        Arc::new(Self { inner: InMemory::new(), meter: Arc::new(meter) })
    }

    /// Returns the requests since the last call, and begins to count again. No request may be under
    /// way.
    pub fn take_requests(&self) -> Requests {
        std::mem::take(&mut *self.meter.lock())
    }

    /// Deletes an object if it has this ETag, by one request. Returns whether it had.
    ///
    /// # Errors
    /// Returns the error of the store in memory.
    pub async fn delete_version(&self, key: &Key, etag: Option<&str>) -> Result<bool> {
        self.request(async {
            match self.inner.head(key).await {
                Ok(meta) if meta.e_tag.as_deref() == etag => {
                    self.inner.delete(key).await.map(|()| true)
                }
                Ok(_) | Err(Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Counts and delays a request that is not part of [`ObjectStore`].
    pub async fn request<T>(&self, work: impl Future<Output = T>) -> T {
        self.meter.request(work).await
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request<T>(&self, work: impl Future<Output = T>) -> T {
        // The chain of a request is one longer than every chain that has ended before it begins.
        let chain = {
            let mut requests = self.lock();
            requests.total += 1;
            requests.sequential + 1
        };
        tokio::time::sleep(self.latency).await;
        let done = work.await;
        let mut requests = self.lock();
        requests.sequential = requests.sequential.max(chain);
        done
    }
}

/// A multipart upload that delays and counts its parts.
#[derive(Debug)]
struct SlowUpload {
    inner: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for SlowUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, meter) = (self.inner.put_part(data), Arc::clone(&self.meter));
        Box::pin(async move { meter.request(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.request(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.request(self.inner.abort()).await
    }
}

impl fmt::Display for LatencyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LatencyStore")
    }
}

/// Delays each page of a listing. An empty listing is one page.
fn by_page(
    meter: Arc<Meter>,
    listing: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let pages = stream::unfold((listing.chunks(PAGE), true), move |(mut pages, is_first)| {
        let meter = Arc::clone(&meter);
        async move {
            let page = pages.next().await;
            if page.is_none() && !is_first {
                return None;
            }
            let page = meter.request(async { page.unwrap_or_default() }).await;
            Some((stream::iter(page), (pages, false)))
        }
    });
    pages.flatten().boxed()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for LatencyStore {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.request(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.request(self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(SlowUpload { inner, meter: Arc::clone(&self.meter) }))
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.request(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.request(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        let (meter, inner) = (Arc::clone(&self.meter), self.inner.clone());
        let requests = locations.chunks(PAGE).then(move |keys| {
            let (meter, inner) = (Arc::clone(&meter), inner.clone());
            async move {
                let deleted = inner.delete_stream(stream::iter(keys).boxed());
                stream::iter(meter.request(deleted.collect::<Vec<_>>()).await)
            }
        });
        requests.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        by_page(Arc::clone(&self.meter), self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        by_page(Arc::clone(&self.meter), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await?;
        let entries = listed.objects.len() + listed.common_prefixes.len();
        for _ in 0..entries.div_ceil(PAGE).max(1) {
            self.request(std::future::ready(())).await;
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.request(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        // Stores copy and then delete.
        self.request(std::future::ready(())).await;
        self.request(self.inner.rename_opts(from, to, options)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartStore for LatencyStore {
    async fn create_multipart(&self, path: &Key) -> Result<MultipartId> {
        self.request(self.inner.create_multipart(path)).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Key,
        options: PutMultipartOptions,
    ) -> Result<MultipartId> {
        self.request(self.inner.create_multipart_opts(path, options)).await
    }

    async fn put_part(
        &self,
        path: &Key,
        id: &MultipartId,
        number: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.request(self.inner.put_part(path, id, number, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Key,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.request(self.inner.complete_multipart(path, id, parts)).await
    }

    async fn abort_multipart(&self, path: &Key, id: &MultipartId) -> Result<()> {
        self.request(self.inner.abort_multipart(path, id)).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    const LATENCY: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_chain_counts_requests_that_wait_for_each_other() {
        let store = LatencyStore::new(LATENCY);
        let put = async |key: &str| store.put(&Key::from(key), "x".into()).await.unwrap();
        let started = tokio::time::Instant::now();
        put("a").await;
        futures::join!(put("b"), put("c"), async {
            put("d").await;
            put("e").await;
        });
        assert_eq!(store.take_requests(), Requests { total: 5, sequential: 3 });
        // The timer's resolution is one millisecond.
        assert!(started.elapsed().abs_diff(LATENCY * 3) <= Duration::from_millis(3));
        assert_eq!(store.take_requests(), Requests::default());
    }

    #[tokio::test(start_paused = true)]
    async fn listings_and_deletions_cost_one_request_per_page() {
        let store = LatencyStore::new(LATENCY);
        for number in 0..PAGE + 1 {
            let key = Key::from(format!("p/{number}"));
            store.inner.put(&key, "x".into()).await.unwrap();
        }
        let listed: Vec<_> = store.list(Some(&Key::from("p"))).try_collect().await.unwrap();
        assert_eq!(store.take_requests(), Requests { total: 2, sequential: 2 });
        let empty: Vec<_> = store.list(Some(&Key::from("q"))).try_collect().await.unwrap();
        assert_eq!((empty.len(), store.take_requests().total), (0, 1));
        let keys = stream::iter(listed).map(|meta| Ok(meta.location));
        let deleted: Vec<_> = store.delete_stream(keys.boxed()).try_collect().await.unwrap();
        assert_eq!((deleted.len(), store.take_requests().total), (PAGE + 1, 2));
    }
}
