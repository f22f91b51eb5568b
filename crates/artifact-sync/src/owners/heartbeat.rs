//! Heartbeat of a home.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use sandbox_core::internal::lock;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::error::SyncError;
use crate::log::{Moment, Token};
use crate::owners::home::HomeId;
use crate::owners::timings::Timings;
use crate::owners::{Beat, FORMAT, key};
use crate::transfer::StoreError;

/// Longest time for one request. It is the same as in the model of the lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time in which the object is deleted when the heartbeat ends.
const DELETION_TIMEOUT: Duration = Duration::from_secs(5);

/// Heartbeat of one home for all its sessions. It is sent by a thread while a mirror owns a session
/// for more than a few seconds. When the last copy of this handle is dropped, the thread ends, and
/// deletes the object if no mirror owns a session any more.
#[derive(Clone)]
pub struct Heartbeat(Arc<Handle>);

struct Handle {
    home: HomeId,
    pulse: Arc<Pulse>,
    orders: watch::Sender<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// Wishes to the thread.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// Number of sessions that are owned.
    held: usize,
    ends: bool,
}

impl Orders {
    fn beats(self) -> bool {
        self.held > 0 && !self.ends
    }
}

/// Part that the thread uses too.
struct Pulse {
    general: Key,
    key: Key,
    url: Option<String>,
    timings: Timings,
    /// Time at which the last acknowledged beat was sent.
    acknowledged: Mutex<Option<Moment>>,
}

/// Ownership of one session.
pub(crate) struct Hold(watch::Sender<Orders>);

impl Heartbeat {
    /// Starts the thread of a home's heartbeat, which is `<prefix>/owners/<home>` in the store.
    /// `url` is the address under which other machines reach this one.
    ///
    /// The thread opens the store before the first beat, and has its own runtime. `open` must
    /// return a client of its own for a cloud store, because connections belong to a runtime. If it
    /// fails, the home has no heartbeat: other homes take its sessions over.
    ///
    /// # Errors
    /// Returns [`SyncError::Index`] if the thread cannot be started.
    pub fn start(
        open: impl FnOnce() -> Result<Arc<dyn ObjectStore>, StoreError> + Send + 'static,
        prefix: &Key,
        home: HomeId,
        url: Option<String>,
    ) -> Result<Self, SyncError> {
        Self::start_with(open, prefix, home, url, Timings::default())
    }

    /// Like [`Heartbeat::start`], with other intervals.
    ///
    /// # Errors
    /// Like [`Heartbeat::start`].
    #[doc(hidden)]
    pub fn start_with(
        open: impl FnOnce() -> Result<Arc<dyn ObjectStore>, StoreError> + Send + 'static,
        prefix: &Key,
        home: HomeId,
        url: Option<String>,
        timings: Timings,
    ) -> Result<Self, SyncError> {
        let (orders, received) = watch::channel(Orders::default());
        let pulse = Arc::new(Pulse {
            general: prefix.clone(),
            key: key(prefix, home.as_str()),
            url,
            timings,
            acknowledged: Mutex::default(),
        });
        let working = Arc::clone(&pulse);
        let locked = home.open();
        let thread = locked.and_then(|file| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || runtime.block_on(run(&working, received, &file, open));
            std::thread::Builder::new().name("heartbeat".to_owned()).spawn(run)
        });
        let failed = |source| SyncError::Index { path: home.as_str().into(), source };
        let thread = Some(thread.map_err(failed)?);
        Ok(Self(Arc::new(Handle { home, pulse, orders, thread })))
    }

    /// Returns the identity of the home.
    pub fn home(&self) -> &HomeId {
        &self.0.home
    }

    /// Returns the address under which other machines reach this one.
    pub fn url(&self) -> Option<&str> {
        self.0.pulse.url.as_deref()
    }

    /// Returns the time since the last acknowledged beat was sent, also while the machine slept.
    /// The age of a beat proves no ownership; only the log does.
    pub fn acknowledged(&self) -> Option<Duration> {
        lock(&self.0.pulse.acknowledged).map(|sent| sent.elapsed())
    }

    pub(crate) fn timings(&self) -> Timings {
        self.0.pulse.timings
    }

    /// Returns the key of another home's heartbeat.
    pub(crate) fn key_of(&self, home: &str) -> Key {
        key(&self.0.pulse.general, home)
    }

    /// Announces this home before it takes a session over. Homes that lose the race then watch it.
    pub(crate) async fn announce(&self, store: &dyn ObjectStore) -> Result<(), Error> {
        self.0.pulse.beat(store).await
    }

    /// Counts a session as owned until the returned value is dropped.
    pub(crate) fn hold(&self) -> Hold {
        self.0.orders.send_modify(|orders| orders.held += 1);
        Hold(self.0.orders.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.send_modify(|orders| orders.held -= 1);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| orders.ends = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Pulse {
    /// Sends one beat through this store, which is that of the thread or of a mirror.
    async fn beat(&self, store: &dyn ObjectStore) -> Result<(), Error> {
        let beat =
            Beat { format: FORMAT, url: self.url.clone(), beat: Token::random().to_string() };
        let content = serde_json::to_vec(&beat).expect("text and numbers only");
        let sent = Moment::now();
        store.put(&self.key, content.into()).await?;
        *lock(&self.acknowledged) = Some(sent);
        Ok(())
    }
}

/// Sends beats while sessions are owned, until the handle is dropped.
async fn run(
    pulse: &Pulse,
    mut orders: watch::Receiver<Orders>,
    file: &File,
    open: impl FnOnce() -> Result<Arc<dyn ObjectStore>, StoreError>,
) {
    let mut opening = Opening { open: Some(open), store: None };
    loop {
        let wanted = orders.wait_for(|orders| orders.held > 0 || orders.ends).await;
        if wanted.is_ok_and(|orders| orders.ends) {
            break;
        }
        tokio::select! {
            _ = orders.wait_for(|orders| !orders.beats()) => continue,
            () = sleep(pulse.timings.first_beat) => {}
        }
        let Some(store) = opening.store() else { return };
        // Other processes of the home do not delete the object while this lock is held.
        let _ = file.lock_shared();
        loop {
            tokio::select! {
                _ = orders.wait_for(|orders| !orders.beats()) => break,
                beat = timeout(REQUEST_TIMEOUT, pulse.beat(&*store)) => {
                    if let Some(error) = failure(beat) {
                        tracing::warn!(error, "the heartbeat of this home was not stored");
                    }
                }
            }
            tokio::select! {
                _ = orders.wait_for(|orders| !orders.beats()) => break,
                () = sleep(pulse.timings.beat) => {}
            }
        }
        let _ = file.unlock();
    }
    let (held, has_beaten) = (orders.borrow().held, lock(&pulse.acknowledged).is_some());
    if held == 0
        && has_beaten
        && is_alone(file)
        && let Some(store) = opening.store()
    {
        let deleted = timeout(DELETION_TIMEOUT, store.delete(&pulse.key)).await;
        if let Some(error) = failure(deleted) {
            tracing::debug!(error, "the heartbeat of this home was not deleted");
        }
    }
}

/// Store of the thread, which is opened when it is needed.
struct Opening<F> {
    open: Option<F>,
    store: Option<Arc<dyn ObjectStore>>,
}

impl<F: FnOnce() -> Result<Arc<dyn ObjectStore>, StoreError>> Opening<F> {
    /// Returns the store; `None` if it could not be opened.
    fn store(&mut self) -> Option<Arc<dyn ObjectStore>> {
        if let Some(open) = self.open.take() {
            match open() {
                Ok(store) => self.store = Some(store),
                Err(error) => {
                    let error = sandbox_core::with_causes(&error);
                    tracing::warn!(error, "this home has no heartbeat");
                }
            }
        }
        self.store.clone()
    }
}

/// Returns whether no other process of the home sends beats.
fn is_alone(file: &File) -> bool {
    file.try_lock().is_ok()
}

fn failure(done: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Option<String> {
    match done {
        Ok(Ok(()) | Err(Error::NotFound { .. })) => None,
        Ok(Err(error)) => Some(sandbox_core::with_causes(&error)),
        Err(_) => Some(io::Error::from(io::ErrorKind::TimedOut).to_string()),
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat").field("key", &self.0.pulse.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}
