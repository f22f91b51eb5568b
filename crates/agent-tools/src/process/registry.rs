//! The processes that run in a session which this process serves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox_core::internal::lock;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::Lifetime;
use super::handle::Order;
use super::reattach::{Findable, FindableProcess, Publisher, forget_ended};
use super::request::SpawnProcess;

/// The time that the processes of a session have to die. The kernel kills what remains.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The processes of a session. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// It begins anywhere, so that no id of an earlier host process names a process of this one.
    last_number: AtomicU64,
    /// The request to each process to end.
    running: Mutex<BTreeMap<u64, Arc<Notify>>>,
    changed: Notify,
    /// The processes with the lifetime of the session.
    findable: Mutex<Findable>,
}

impl Default for Shared {
    fn default() -> Self {
        let mut first = [0; 2];
        // Without random numbers, ids begin anew.
        let _ = getrandom::fill(&mut first);
        Self {
            last_number: u64::from(u16::from_le_bytes(first)).into(),
            running: Mutex::default(),
            changed: Notify::default(),
            findable: Mutex::default(),
        }
    }
}

impl Processes {
    /// Lets other calls find a process with the lifetime of the session, until its end is published
    /// and for some time afterwards.
    pub(super) fn publish(
        &self,
        registration: &Registration,
        request: &SpawnProcess<'_>,
        orders: &UnboundedSender<Order>,
    ) -> Option<Publisher> {
        (request.lifetime == Lifetime::Session).then(|| {
            let (process, publisher) = FindableProcess::new(&request.command, orders);
            let mut findable = lock(&self.0.findable);
            forget_ended(&mut findable);
            findable.insert(registration.number, process);
            publisher
        })
    }

    pub(super) fn with_findable<T>(&self, read: impl FnOnce(&Findable) -> T) -> T {
        read(&lock(&self.0.findable))
    }

    /// Counts a process as running until the registration is dropped.
    pub(super) fn register(&self) -> Registration {
        let number = self.0.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let ending = Arc::<Notify>::default();
        lock(&self.0.running).insert(number, Arc::clone(&ending));
        Registration { number, ending, processes: self.clone() }
    }

    /// Returns whether a process runs.
    pub(crate) fn are_running(&self) -> bool {
        !lock(&self.0.running).is_empty()
    }

    /// Kills all processes, and waits until they are dead. What they have changed is left to the
    /// caller.
    pub(crate) async fn end(&self) {
        let ended = async {
            loop {
                let changed = self.0.changed.notified();
                {
                    let running = lock(&self.0.running);
                    if running.is_empty() {
                        return;
                    }
                    running.values().for_each(|ending| ending.notify_one());
                }
                changed.await;
            }
        };
        let _ = timeout(END_TIMEOUT, ended).await;
    }
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Registration {
    number: u64,
    ending: Arc<Notify>,
    processes: Processes,
}

impl Registration {
    /// Returns the id of the process in its session.
    pub(super) fn id(&self) -> String {
        super::reattach::id(self.number)
    }

    /// Waits for the end of the session.
    pub(super) async fn session_ends(&self) {
        self.ending.notified().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.processes.0.running).remove(&self.number);
        self.processes.0.changed.notify_waiters();
    }
}
