//! An object store in memory that fails on request.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

mod failure;

pub use failure::{Failure, LostUploads};

use failure::connection_lost;

/// An object store that counts its calls and fails a range of them.
#[derive(Debug)]
pub struct FailingStore {
    inner: InMemory,
    conditions: Conditions,
    puts: Puts,
    state: Mutex<State>,
}

/// A group of calls that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Every call.
    All,
    /// Downloads of an object, without requests for its metadata.
    Gets,
    /// Uploads of an object, whole or in parts.
    Puts,
    /// Parts of an upload that has a name.
    Parts,
}

/// The store's support for conditional puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditions {
    /// Every condition is checked.
    #[default]
    Honored,
    /// Every put overwrites the object and succeeds.
    Ignored,
    /// Only creation is supported, like on the local disk.
    CreateOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Puts {
    Finish,
    Hang,
}

#[derive(Debug, Default)]
struct State {
    counts: [usize; 4],
    failing: Option<(Calls, Range<usize>)>,
    failure: Failure,
    lost_uploads: LostUploads,
    uploads: BTreeSet<MultipartId>,
}

impl Conditions {
    fn apply(self, mode: PutMode) -> Result<PutMode> {
        match (self, mode) {
            (Self::Ignored, _) => Ok(PutMode::Overwrite),
            (Self::CreateOnly, PutMode::Update(_)) => Err(Error::NotImplemented {
                operation: "update".to_owned(),
                implementer: "FailingStore".to_owned(),
            }),
            (_, mode) => Ok(mode),
        }
    }
}

impl FailingStore {
    /// Creates a store that does not fail yet.
    pub fn new() -> Arc<Self> {
        Self::create(Conditions::Honored, Puts::Finish)
    }

    /// Creates a store with limited support for conditional puts.
    pub fn with_conditions(conditions: Conditions) -> Arc<Self> {
        Self::create(conditions, Puts::Finish)
    }

    /// Creates a store that never responds to a put.
    pub fn hanging() -> Arc<Self> {
        Self::create(Conditions::Honored, Puts::Hang)
    }

    fn create(conditions: Conditions, puts: Puts) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), conditions, puts, state: Mutex::default() })
    }

    /// Restarts the count of `calls`, then fails `count` of them, beginning with number `first`.
    pub fn fail(&self, calls: Calls, first: usize, count: usize) {
        let mut state = self.lock();
        state.counts[calls as usize] = 0;
        state.failing = Some((calls, first..first.saturating_add(count)));
    }

    /// Ends the failures.
    pub fn recover(&self) {
        self.lock().failing = None;
    }

    /// Sets the effect of failing calls.
    pub fn set_failure(&self, failure: Failure) {
        self.lock().failure = failure;
    }

    /// Sets the answer to requests about uploads that do not exist.
    pub fn set_lost_uploads(&self, answer: LostUploads) {
        self.lock().lost_uploads = answer;
    }

    /// Returns the number of calls since the store was created or the count was restarted.
    pub fn count(&self, calls: Calls) -> usize {
        self.lock().counts[calls as usize]
    }

    /// Returns the names of the multipart uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<MultipartId> {
        self.lock().uploads.iter().cloned().collect()
    }

    /// Drops a multipart upload, as a store does after a time.
    pub fn expire_upload(&self, id: &MultipartId) {
        self.lock().uploads.remove(id);
    }

    fn check_upload(&self, id: &MultipartId) -> Result<()> {
        let state = self.lock();
        if state.uploads.contains(id) {
            return Ok(());
        }
        Err(state.lost_uploads.error(id))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. Returns the failure, if it fails.
    fn next_failure(&self, group: Option<Calls>) -> Option<Failure> {
        let mut state = self.lock();
        let mut failing = None;
        for calls in [Some(Calls::All), group].into_iter().flatten() {
            let number = state.counts[calls as usize];
            state.counts[calls as usize] += 1;
            let fails = |(failing, range): &(Calls, Range<usize>)| {
                *failing == calls && range.contains(&number)
            };
            if state.failing.as_ref().is_some_and(fails) {
                failing = Some(number);
            }
        }
        let number = failing?;
        match state.failure {
            Failure::Random => {
                // Multiplicative hashing, so that a test fails the same way every time.
                let scrambled = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                match scrambled % 10 {
                    0 | 1 => Some(Failure::Rejected),
                    2 => Some(Failure::ResponseLost),
                    _ => None,
                }
            }
            failure => Some(failure),
        }
    }

    fn read(&self) -> Result<()> {
        match self.next_failure(None) {
            None => Ok(()),
            Some(failure) => Err(failure.error()),
        }
    }

    async fn change<T>(
        &self,
        group: Option<Calls>,
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.next_failure(group) {
            None => change.await,
            Some(Failure::ResponseLost) => {
                let _ = change.await;
                Err(connection_lost())
            }
            Some(failure) => Err(failure.error()),
        }
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailingStore")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FailingStore {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.puts == Puts::Hang {
            std::future::pending::<()>().await;
        }
        let options = PutOptions { mode: self.conditions.apply(options.mode)?, ..options };
        self.change(Some(Calls::Puts), self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.next_failure(Some(Calls::Puts)) {
            None => self.inner.put_multipart_opts(location, options).await,
            Some(failure) => Err(failure.error()),
        }
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        match self.next_failure((!options.head).then_some(Calls::Gets)) {
            None => self.inner.get_opts(location, options).await,
            Some(Failure::Truncated) if !options.head => {
                let mut result = self.inner.get_opts(location, options).await?;
                result.payload = GetResultPayload::Stream(futures::stream::empty().boxed());
                Ok(result)
            }
            Some(failure) => Err(failure.error()),
        }
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        match self.next_failure(None) {
            None => self.inner.delete_stream(locations),
            Some(Failure::ResponseLost) => {
                self.inner.delete_stream(locations).map(|_| Err(connection_lost())).boxed()
            }
            Some(failure) => locations.map(move |_| Err(failure.error())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.change(None, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.read()?;
        self.inner.rename_opts(from, to, options).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartStore for FailingStore {
    async fn create_multipart(&self, path: &Key) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Key,
        options: PutMultipartOptions,
    ) -> Result<MultipartId> {
        let created = async {
            let id = self.inner.create_multipart_opts(path, options).await?;
            self.lock().uploads.insert(id.clone());
            Ok(id)
        };
        self.change(None, created).await
    }

    async fn put_part(
        &self,
        path: &Key,
        id: &MultipartId,
        number: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.check_upload(id)?;
        self.change(Some(Calls::Parts), self.inner.put_part(path, id, number, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Key,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.check_upload(id)?;
        let completed = async {
            let put = self.inner.complete_multipart(path, id, parts).await?;
            self.lock().uploads.remove(id);
            Ok(put)
        };
        self.change(None, completed).await
    }

    async fn abort_multipart(&self, path: &Key, id: &MultipartId) -> Result<()> {
        self.check_upload(id)?;
        let aborted = async {
            self.inner.abort_multipart(path, id).await?;
            self.lock().uploads.remove(id);
            Ok(())
        };
        self.change(None, aborted).await
    }
}
