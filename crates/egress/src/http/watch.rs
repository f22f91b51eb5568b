//! The search for placeholders of other hosts in the body of a request.

use std::sync::{Arc, OnceLock};

use hyper::HeaderMap;
use secrets::{RedactionStream, Redactor, Segment};

use super::body::BodyError;
use crate::denial::Denial;
use crate::event::Outcome;
use crate::judge::Target;
use crate::session::Session;

/// Watches a request for placeholders of other hosts.
pub(crate) struct Watch {
    foreign: Redactor,
    stream: Option<RedactionStream>,
    session: Arc<Session>,
    target: Target,
    found: Arc<OnceLock<Denial>>,
}

impl Watch {
    /// Starts to watch a request. The cell gets the reason that ends it.
    pub(crate) fn new(
        foreign: &Redactor,
        session: &Arc<Session>,
        target: &Target,
        found: &Arc<OnceLock<Denial>>,
    ) -> Self {
        Self {
            foreign: foreign.clone(),
            stream: Some(foreign.stream()),
            session: Arc::clone(session),
            target: target.clone(),
            found: Arc::clone(found),
        }
    }

    /// Returns what can pass: the end of the data may be the start of a placeholder.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<Vec<u8>, BodyError> {
        let (mut passed, mut misdirected) = (Vec::with_capacity(data.len()), None);
        let Some(stream) = &mut self.stream else { return Ok(passed) };
        stream.push_segments(data, |segment| sort(segment, &mut passed, &mut misdirected));
        self.judge(misdirected).map(|()| passed)
    }

    /// Returns the rest.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, BodyError> {
        let (mut passed, mut misdirected) = (Vec::new(), None);
        if let Some(stream) = self.stream.take() {
            stream.finish_segments(|segment| sort(segment, &mut passed, &mut misdirected));
        }
        self.judge(misdirected).map(|()| passed)
    }

    /// Judges the values of trailers.
    pub(super) fn trailers(&self, trailers: &HeaderMap) -> Result<(), BodyError> {
        let found = trailers.values().find_map(|value| {
            self.foreign
                .find(value.as_bytes())
                .into_iter()
                .next()
                .map(|found| found.name.to_owned())
        });
        self.judge(found)
    }

    fn judge(&self, misdirected: Option<String>) -> Result<(), BodyError> {
        let Some(name) = misdirected else { return Ok(()) };
        let denial = Denial::Misdirected { name };
        self.session.record(&self.target, Outcome::Denied(denial.clone()));
        let text = denial.to_string();
        let _ = self.found.set(denial);
        Err(text.into())
    }
}

/// Adds a text to what passes, or notes the name of a value.
fn sort(segment: Segment<'_>, passed: &mut Vec<u8>, misdirected: &mut Option<String>) {
    match segment {
        Segment::Value { name, .. } => {
            misdirected.get_or_insert_with(|| name.to_owned());
        }
        Segment::Text(text) => passed.extend_from_slice(text),
        _ => {}
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
