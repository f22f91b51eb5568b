//! Bodies of requests that the gate reads as a whole before it sends them, within the memory that a
//! session has for them.
//!
//! A request without enough memory is refused. If it waited, its unread bytes would use up the
//! window of its connection in HTTP/2, and with it the bytes that the others wait for.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::prepare::Unsendable;
use crate::session::Session;

/// Bytes of one whole body.
const MAX_WHOLE_BYTES: usize = 64 << 20;
/// Bytes that one permit of the session stands for.
const PERMIT_BYTES: usize = 1 << 10;
/// Permits of a session, for twice the longest body.
pub(crate) const PERMITS: usize = 2 * MAX_WHOLE_BYTES / PERMIT_BYTES;

/// A whole body.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    permit: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// Reads a body.
    pub(crate) async fn read(
        session: &Arc<Session>,
        mut body: Incoming,
    ) -> Result<Self, Unsendable> {
        if body.size_hint().exact().is_some_and(|length| length > MAX_WHOLE_BYTES as u64) {
            return Err(Unsendable::TooLarge);
        }
        let pause = session.shared.limits.head_timeout;
        let (mut bytes, mut permit) = (BytesMut::new(), None);
        while let Some(frame) = next(&mut body, pause).await? {
            let length = bytes.len() + frame.len();
            if length > MAX_WHOLE_BYTES {
                return Err(Unsendable::TooLarge);
            }
            take(session, &mut permit, length.div_ceil(PERMIT_BYTES))?;
            bytes.extend_from_slice(&frame);
        }
        Ok(Self { bytes: bytes.freeze(), permit })
    }

    /// Returns the body with its bytes, or with others in their place. Their memory counts until
    /// the server has taken them.
    pub(crate) fn into_body(self, changed: Option<Bytes>) -> Body {
        let bytes = changed.unwrap_or(self.bytes);
        Body::whole(Bytes::from_owner(Counted { bytes, _permit: self.permit }))
    }
}

/// Bytes that count as long as they are in memory.
struct Counted {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Adds to the permits of a body until it has as many as it needs.
fn take(
    session: &Session,
    permit: &mut Option<OwnedSemaphorePermit>,
    needed: usize,
) -> Result<(), Unsendable> {
    let missing = needed - permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let missing = u32::try_from(missing).unwrap_or(u32::MAX);
    let more = Arc::clone(&session.whole_bodies).try_acquire_many_owned(missing);
    let more = more.map_err(|_| Unsendable::Busy)?;
    match permit {
        Some(permit) => permit.merge(more),
        None => *permit = Some(more),
    }
    Ok(())
}

/// Returns the next bytes of a body. Its trailers are left out.
async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Bytes>, Unsendable> {
    loop {
        let frame = tokio::time::timeout(pause, body.frame()).await;
        match frame.map_err(|_| Unsendable::Stalled)? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unsendable::Bad("the body is incomplete")),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
