//! Bodies of requests that the gate reads as a whole before it sends them, within the memory that a
//! session has for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::prepare::Unsendable;
use crate::session::Session;

/// Bytes of one whole body, and of all whole bodies of a session at once. Further requests wait.
pub(crate) const MAX_WHOLE_BYTES: usize = 64 << 20;
/// Bytes that one permit of the session stands for.
const PERMIT_BYTES: usize = 1 << 10;
/// Permits of a session.
pub(crate) const PERMITS: usize = MAX_WHOLE_BYTES / PERMIT_BYTES;

/// A whole body. Its memory counts until it was sent.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    permit: OwnedSemaphorePermit,
}

impl Whole {
    /// Reads a body. One of an unknown length has all memory of the session meanwhile, so that no
    /// two bodies wait for each other.
    pub(crate) async fn read(
        session: &Arc<Session>,
        mut body: Incoming,
    ) -> Result<Self, Unsendable> {
        let length = body.size_hint().exact();
        let most = match length.map(usize::try_from) {
            None => MAX_WHOLE_BYTES,
            Some(Ok(length)) if length <= MAX_WHOLE_BYTES => length,
            Some(_) => return Err(Unsendable::TooLarge),
        };
        let permits = u32::try_from(most.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&session.whole_bodies).acquire_many_owned(permits).await;
        // The semaphore is never closed.
        let mut permit = permit.map_err(|_| Unsendable::TooLarge)?;
        let pause = session.shared.limits.head_timeout;
        let mut bytes = BytesMut::new();
        while let Some(frame) = next(&mut body, pause).await? {
            if bytes.len() + frame.len() > most {
                return Err(Unsendable::TooLarge);
            }
            bytes.extend_from_slice(&frame);
        }
        let unused = (permit.num_permits()).saturating_sub(bytes.len().div_ceil(PERMIT_BYTES));
        drop(permit.split(unused));
        Ok(Self { bytes: bytes.freeze(), permit })
    }

    /// Returns the body with its bytes, or with others in their place.
    pub(crate) fn into_body(self, changed: Option<Bytes>) -> Body {
        Body::whole_with(changed.unwrap_or(self.bytes), self.permit)
    }
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
