//! Acquisition of a session: this home becomes the one that may append.

use std::sync::Arc;

use sandbox_core::internal::lock;

use crate::builder::{Ownership, Takeover};
use crate::error::SyncError;
use crate::log::{AppendError, Appended, LogState, LogStore, LogWriter, Moment, Position};
use crate::mirror::erase::finish_erasure;
use crate::mirror::incoming::{self, Incoming, Wanted};
use crate::mirror::shared::{Appender, SentBatch, Shared, Tenure};
use crate::owners::{Verdict, Watch};
use crate::report::Progress;
use crate::transfer::{Fetcher, Remote};

/// Context of an acquisition.
#[derive(Debug)]
pub(super) struct Acquisition<'a> {
    pub(super) log: &'a LogStore,
    pub(super) remote: &'a Arc<Remote>,
    pub(super) fetcher: &'a Fetcher,
    pub(super) ownership: &'a Ownership,
    pub(super) progress: Option<&'a dyn Progress>,
    pub(super) wanted: Wanted,
}

/// Time at which the log gets the line of the new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// With the first change, unless another home is the owner.
    WithFirstChange,
    AtOnce,
}

/// Log as of the moment from which on this home may append.
#[derive(Debug)]
pub(super) struct Acquired {
    pub(super) incoming: Option<Incoming>,
    pub(super) appender: Appender,
    /// Entry with which this home became the owner.
    pub(super) owned: Option<Appended>,
    pub(super) tenure: Tenure,
}

impl Acquisition<'_> {
    /// Reads the log after a position, and becomes the owner as soon as no other home is.
    ///
    /// # Cancel safety
    /// The log may have the line of the new owner.
    pub(super) async fn acquire(
        &self,
        base: &LogState,
        position: Position,
        claim: Claim,
    ) -> Result<Acquired, SyncError> {
        // The owner that continued the log while it was watched.
        let mut alive = None;
        loop {
            let read = Moment::now();
            let incoming =
                incoming::read(self.log, self.fetcher, base, position, self.wanted).await?;
            let state = incoming.as_ref().map_or(base, |incoming| &incoming.state);
            let end = incoming.as_ref().map_or(position, |incoming| incoming.position);
            let foreign = state.owner.as_ref().filter(|owner| owner.home != self.ownership.home);
            let mut writer = LogWriter::new(self.log.clone(), end, read);
            if incoming.as_ref().is_some_and(|incoming| incoming.has_remains) {
                let own = self.ownership.line();
                match finish_erasure(self.log, self.remote, &mut writer, own).await {
                    Ok(()) | Err(SyncError::LeaseLost) => continue,
                    Err(error) => return Err(error),
                }
            }
            let Some(owner) = foreign else {
                if claim == Claim::WithFirstChange {
                    // Where other homes may be, a new session has an owner before its first change.
                    let is_shared = self.ownership.heartbeat.is_some();
                    let is_free = state.owner.is_none() && (is_shared || end.number > 0);
                    let tenure = if is_free { Tenure::Free } else { self.held() };
                    let own = Some(self.ownership.line());
                    let appender = Appender { writer, sent: None, own };
                    return Ok(Acquired { incoming, appender, owned: None, tenure });
                }
                match self.append_own(&mut writer).await {
                    Ok(owned) => return Ok(self.owned(incoming, writer, owned)),
                    Err(AppendError::Fenced) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            if self.ownership.takeover == Takeover::Refuse && alive.as_ref() == Some(&owner.home) {
                return Err(SyncError::OwnedElsewhere { url: owner.url.clone() });
            }
            let heartbeat = self.ownership.heartbeat.as_ref();
            let watch = Watch {
                log: self.log,
                position: end,
                owner,
                key: heartbeat.map(|heartbeat| heartbeat.key_of(&owner.home)),
                timings: self.ownership.timings,
                takeover: self.ownership.takeover,
                progress: self.progress,
            };
            match watch.observe().await? {
                Verdict::Dead => {}
                Verdict::Alive { url } => return Err(SyncError::OwnedElsewhere { url }),
                Verdict::Moved => {
                    alive = Some(owner.home.clone());
                    continue;
                }
            }
            // Homes that lose the race find a new heartbeat, and watch it.
            if let Some(heartbeat) = heartbeat {
                let announced = heartbeat.announce(&**self.log.store()).await;
                announced.map_err(|source| SyncError::Append { source })?;
            }
            match self.append_own(&mut writer).await {
                Ok(owned) => return Ok(self.owned(incoming, writer, owned)),
                Err(AppendError::Fenced) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn append_own(&self, writer: &mut LogWriter) -> Result<Appended, AppendError> {
        let properties = self.remote.properties().await?;
        writer.set_conditional_create(properties.create);
        writer.append(vec![self.ownership.line()]).await
    }

    fn owned(&self, incoming: Option<Incoming>, writer: LogWriter, owned: Appended) -> Acquired {
        let appender = Appender { writer, sent: None, own: None };
        Acquired { incoming, appender, owned: Some(owned), tenure: self.held() }
    }

    fn held(&self) -> Tenure {
        Tenure::held(self.ownership)
    }
}

impl Tenure {
    pub(super) fn held(ownership: &Ownership) -> Self {
        Self::Held(ownership.heartbeat.as_ref().map(|heartbeat| heartbeat.hold()))
    }
}

impl Shared {
    /// Records that this home is the owner.
    pub(super) fn hold(&self) {
        let mut tenure = lock(&self.tenure);
        if !matches!(*tenure, Tenure::Held(_)) {
            *tenure = Tenure::held(&self.ownership);
        }
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(*lock(&self.tenure), Tenure::Released)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(*lock(&self.tenure), Tenure::Held(_))
    }

    /// Becomes the owner again, with one request if no other home was the owner meanwhile.
    /// Otherwise, the working copy follows the log, and the result is `true`.
    pub(super) async fn reacquire(self: &Arc<Self>) -> Result<bool, SyncError> {
        let mut appender = self.appender.lock().await;
        self.access.check_lease()?;
        if self.is_held() {
            return Ok(false);
        }
        self.learn_conditions(&mut appender).await?;
        // The entry without an answer may be the release, or an earlier attempt of this.
        while !self.is_held() {
            if appender.writer.staged().is_none() {
                self.stage(&mut appender, Vec::new(), SentBatch::default());
            }
            match appender.writer.send().await {
                Ok(appended) => {
                    self.acknowledge(&mut appender, appended).await;
                }
                Err(AppendError::Fenced) => {
                    self.follow_other_owners(&mut appender).await?;
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Becomes the owner after other homes were.
    async fn follow_other_owners(
        self: &Arc<Self>,
        appender: &mut Appender,
    ) -> Result<(), SyncError> {
        let (base, position) = {
            let ledger = self.ledger();
            (ledger.shared_log(), ledger.position())
        };
        let acquisition = Acquisition {
            log: &self.log,
            remote: &self.remote,
            fetcher: &self.fetcher,
            ownership: &self.ownership,
            progress: self.progress.as_deref(),
            wanted: Wanted::All,
        };
        let acquired = acquisition.acquire(&base, position, Claim::AtOnce).await?;
        let Acquired { incoming, appender: acquired, owned, tenure } = acquired;
        if let Some(incoming) = incoming {
            let report = self.follow_log(incoming, None).await?;
            self.reported.add_conflicts(report.conflicts);
        }
        self.ledger().record_own(owned);
        *appender = acquired;
        *lock(&self.tenure) = tenure;
        Ok(())
    }
}
