//! A store that fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result,
};

/// Fails the calls from the n-th on, as many as it is told to, and counts them all.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    calls: AtomicUsize,
    first: AtomicUsize,
    after: AtomicUsize,
    hangs: bool,
    pub(crate) conditions: Conditions,
    fault: Mutex<Fault>,
    /// How many puts were tried, in parts or whole.
    puts: AtomicUsize,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    Refused,
    /// The store does it, and the answer is lost.
    AnswerLost,
    /// What is fetched breaks off, without an error; other calls are refused.
    CutShort,
    /// Three of ten calls are refused or lose their answer, whichever they are.
    Random,
}

/// What the store makes of a condition on a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Conditions {
    #[default]
    Kept,
    /// It says that the put was fine, whatever stood there.
    Ignored,
    /// As on the local disk.
    OnlyCreate,
}

impl Conditions {
    fn apply(self, mode: PutMode) -> Result<PutMode> {
        match (self, mode) {
            (Self::Ignored, _) => Ok(PutMode::Overwrite),
            (Self::OnlyCreate, PutMode::Update(_)) => Err(Error::NotImplemented {
                operation: "update".to_owned(),
                implementer: "faulty".to_owned(),
            }),
            (_, mode) => Ok(mode),
        }
    }
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(Conditions::Kept)
    }

    pub(crate) fn with(conditions: Conditions) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            calls: 0.into(),
            first: usize::MAX.into(),
            after: 0.into(),
            hangs: false,
            conditions,
            fault: Mutex::default(),
            puts: 0.into(),
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
            conditions: Conditions::Kept,
            fault: Mutex::default(),
            puts: 0.into(),
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

    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// What goes wrong with this call.
    fn next_fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call < self.first.load(Ordering::SeqCst) || call >= self.after.load(Ordering::SeqCst) {
            return None;
        }
        match *self.fault.lock().unwrap() {
            Fault::Random => {
                // Scrambled, and the same every time.
                let scrambled = (call as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                match scrambled % 10 {
                    0 | 1 => Some(Fault::Refused),
                    2 => Some(Fault::AnswerLost),
                    _ => None,
                }
            }
            fault => Some(fault),
        }
    }

    fn call(&self) -> Result<()> {
        match self.next_fault() {
            None => Ok(()),
            Some(_) => Err(cut()),
        }
    }

    /// A call that may be done though its answer is lost.
    async fn change<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next_fault() {
            None => change.await,
            Some(Fault::AnswerLost) => {
                let _ = change.await;
                Err(cut())
            }
            Some(_) => Err(cut()),
        }
    }
}

fn cut() -> Error {
    Error::Generic { store: "faulty", source: "the line is cut".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let options = PutOptions { mode: self.conditions.apply(options.mode)?, ..options };
        self.change(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        match self.next_fault() {
            None => self.inner.get_opts(location, options).await,
            Some(Fault::CutShort) if !options.head => {
                let mut got = self.inner.get_opts(location, options).await?;
                got.payload = GetResultPayload::Stream(futures::stream::empty().boxed());
                Ok(got)
            }
            Some(_) => Err(cut()),
        }
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        match self.next_fault() {
            None => self.inner.delete_stream(locations),
            Some(Fault::AnswerLost) => {
                self.inner.delete_stream(locations).map(|_| Err(cut())).boxed()
            }
            Some(_) => locations.map(|_| Err(cut())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
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
        self.change(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.call()?;
        self.inner.rename_opts(from, to, options).await
    }
}
