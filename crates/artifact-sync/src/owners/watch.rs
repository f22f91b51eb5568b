//! Observation of another home's heartbeat.

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use tokio::time::{Instant, sleep_until};

use crate::builder::Takeover;
use crate::error::SyncError;
use crate::log::{End, LogStore, Moment, Owner, Position, ReadError, end_of};
use crate::owners::Beat;
use crate::owners::timings::Timings;
use crate::report::Progress;

/// Equal reads after which the home counts as dead.
const EQUAL_READS: u32 = 4;
/// Reads without a heartbeat after which the owner of a young entry counts as dead. A live one
/// sends its first beat before the second read.
const ABSENT_READS: u32 = 2;

/// Context of an observation.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) log: &'a LogStore,
    /// End of the log as it was read.
    pub(crate) position: Position,
    pub(crate) owner: &'a Owner,
    /// Key of the owner's heartbeat; `None` if heartbeats are not in use.
    pub(crate) key: Option<Key>,
    pub(crate) timings: Timings,
    pub(crate) takeover: Takeover,
    pub(crate) progress: Option<&'a dyn Progress>,
}

/// Result of an observation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The owner counts as dead.
    Dead,
    /// The owner is alive, and the caller does not wait.
    Alive { url: Option<String> },
    /// The log was continued, so it has to be read again.
    Moved,
}

impl Watch<'_> {
    /// Watches until the owner counts as dead, the log moves on, or there is nothing to wait for.
    ///
    /// # Cancel safety
    /// Nothing is kept.
    pub(crate) async fn observe(&self) -> Result<Verdict, SyncError> {
        if self.takeover == Takeover::Steal {
            return Ok(Verdict::Dead);
        }
        let waits = self.takeover == Takeover::Wait;
        if self.key.is_none() && !waits {
            return Ok(Verdict::Alive { url: self.owner.url.clone() });
        }
        let mut last: Option<(Option<Bytes>, Moment)> = None;
        let mut equal = 0;
        let mut at = Instant::now();
        loop {
            let read = self.read().await;
            let moment = Moment::now();
            match read {
                Ok(current) => {
                    let before = last.as_ref();
                    let is_changed = before.is_some_and(|(before, _)| *before != current);
                    if is_changed && current.is_some() && !waits {
                        return Ok(Verdict::Alive { url: self.url(current.as_ref()) });
                    }
                    let is_consecutive =
                        before.is_some_and(|(_, when)| when.elapsed() <= self.timings.longest_gap);
                    equal = if is_consecutive && !is_changed { equal + 1 } else { 1 };
                    if self.key.is_some() && equal >= self.needed(current.as_ref()).await? {
                        return Ok(Verdict::Dead);
                    }
                    if equal == 1 {
                        let url = self.url(current.as_ref());
                        tracing::info!(url, "waiting for the owner of the session");
                        if let Some(progress) = self.progress.filter(|_| last.is_none()) {
                            progress.waiting_for_owner(url.as_deref());
                        }
                    }
                    last = Some((current, moment));
                }
                Err(error) if waits => {
                    let error = sandbox_core::with_causes(&error);
                    tracing::warn!(error, "the owner of the session could not be watched");
                }
                Err(error) => return Err(SyncError::Log { source: error.into() }),
            }
            at = Instant::now().max(at + self.timings.beat);
            sleep_until(at).await;
            match end_of(self.log, self.position).await {
                Ok(End::Here) => {}
                Ok(End::Later | End::Elsewhere) => return Ok(Verdict::Moved),
                Err(ReadError::Store { .. }) if waits => {}
                Err(source) => return Err(SyncError::Log { source }),
            }
        }
    }

    /// Returns how many equal reads prove the owner dead.
    async fn needed(&self, current: Option<&Bytes>) -> Result<u32, SyncError> {
        if current.is_some() {
            return Ok(EQUAL_READS);
        }
        // A home that has just become the owner has no heartbeat yet. The clocks of the store and
        // of this machine may differ, so this is only a courtesy.
        let written = self.log.written(self.position.number).await;
        let written = written.map_err(|source| SyncError::Log { source: source.into() })?;
        let young = self.timings.first_beat * 2;
        let is_young = written.is_some_and(|at| match at.elapsed() {
            Ok(age) => age < young,
            Err(future) => future.duration() < young,
        });
        Ok(if is_young { ABSENT_READS } else { 1 })
    }

    async fn read(&self) -> Result<Option<Bytes>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        match self.log.store().get(key).await {
            Ok(got) => got.bytes().await.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn url(&self, current: Option<&Bytes>) -> Option<String> {
        let beat: Option<Beat> = current.and_then(|beat| serde_json::from_slice(beat).ok());
        beat.and_then(|beat| beat.url).or_else(|| self.owner.url.clone())
    }
}
