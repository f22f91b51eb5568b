//! Bodies on their way through the gate.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use secrets::{RedactionStream, Segment, SubstitutionStream};

use super::delay::{Delay, Parts};
use super::insertions::Insertions;
use super::watch::Watch;
use crate::judge::Target;
use crate::masks::Answers;

/// Bytes that are copied at first, where a value may begin.
const FIRST_STEP_BYTES: usize = 64;

pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// The gate has the whole body.
    Whole(Full<Bytes>),
    /// The body passes unread.
    Passed(Incoming),
    /// The body is read on its way, and may be changed.
    Filtered(Box<Filtered>),
    /// The body of a request. The mark is set if the client or the gate has ended it early.
    Marked(Box<Body>, Arc<AtomicBool>),
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    pub(crate) fn filtered(body: Incoming, filter: Filter) -> Self {
        Self::Filtered(Box::new(Filtered {
            body,
            filter,
            rest: VecDeque::new(),
            state: State::Open,
        }))
    }

    /// Returns a mark that is set if the body ends early.
    pub(crate) fn mark(&mut self) -> Arc<AtomicBool> {
        let mark = Arc::default();
        if !matches!(self, Self::Whole(_)) && !self.is_end_stream() {
            let body = std::mem::replace(self, Self::whole(Bytes::new()));
            *self = Self::Marked(Box::new(body), Arc::clone(&mark));
        }
        mark
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Passed(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Filtered(body) => body.poll(context),
            Self::Marked(body, mark) => {
                let frame = Pin::new(&mut **body).poll_frame(context);
                if let Poll::Ready(Some(Err(_))) = &frame {
                    mark.store(true, Ordering::Relaxed);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
            Self::Filtered(body) => match body.state {
                State::Open => body.body.is_end_stream() && body.filter.is_empty(),
                State::Trailers(_) => false,
                State::Ended => body.rest.is_empty(),
            },
            Self::Marked(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Passed(body) => body.size_hint(),
            Self::Filtered(body) if body.filter.keeps_length() => body.body.size_hint(),
            Self::Filtered(_) => SizeHint::default(),
            Self::Marked(body, _) => body.size_hint(),
        }
    }
}

/// A body that is read on its way.
#[derive(Debug)]
pub(crate) struct Filtered {
    body: Incoming,
    filter: Filter,
    /// The end of a piece whose beginning was passed on.
    rest: VecDeque<Bytes>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The body has ended, and its trailers follow.
    Trailers(HeaderMap),
    Ended,
}

impl Filtered {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(rest) = self.rest.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Open => {}
                State::Trailers(trailers) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                State::Ended => return Poll::Ready(None),
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.state = State::Open;
                    return Poll::Pending;
                }
            };
            let data = match frame {
                None => match self.filter.finish() {
                    Ok(rest) => rest,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Err(error) = self.filter.push(data, &mut self.rest) {
                            return Poll::Ready(Some(Err(error)));
                        }
                        self.state = State::Open;
                        self.rest.pop_front().unwrap_or_default()
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let ended = self.filter.trailers(trailers).and_then(|trailers| {
                            let rest = self.filter.finish()?;
                            Ok((trailers, rest))
                        });
                        match ended {
                            Ok((trailers, rest)) => {
                                self.state = State::Trailers(trailers);
                                rest
                            }
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    }
                },
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

/// Work on a body.
#[derive(Debug)]
pub(crate) enum Filter {
    /// Values in an answer are replaced by texts of the same length.
    Redact { stream: Option<RedactionStream>, answers: Answers, delay: Delay },
    /// Placeholders in a request are replaced by values, or end it.
    Request { insert: Option<Insert>, watch: Option<Watch> },
}

/// Insertion of values into the body of a request.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) stream: SubstitutionStream,
    pub(crate) insertions: Insertions,
    pub(crate) target: Target,
}

impl Insert {
    fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.stream.push(data, out);
        self.insertions.record(&self.target, self.stream.inserted());
    }
}

impl Filter {
    pub(crate) fn redact(answers: Answers, parts: Parts) -> Self {
        let delay = Delay::new(parts, answers.delay);
        Self::Redact { stream: Some(answers.redactor.stream()), answers, delay }
    }

    /// Processes a piece, and appends what can pass.
    fn push(&mut self, data: Bytes, passed: &mut VecDeque<Bytes>) -> Result<(), BodyError> {
        match self {
            Self::Redact { stream: None, .. } => passed.push_back(data),
            Self::Redact { stream: Some(stream), answers, delay } => {
                let mut data = data;
                if let Some(end) = delay.ends(&data) {
                    redact(stream, answers, data.split_to(end), delay.waiting());
                    let ended = std::mem::replace(stream, answers.redactor.stream());
                    delay.waiting().push_back(rest_of(ended, answers));
                    delay.pass_all(end, passed);
                }
                let bytes = data.len();
                redact(stream, answers, data, delay.waiting());
                delay.pass(bytes, passed);
            }
            Self::Request { insert, watch } => {
                let data = match watch {
                    Some(watch) => watch.push(&data)?.into(),
                    None => data,
                };
                match insert {
                    None => passed.push_back(data),
                    Some(insert) => {
                        let mut out = Vec::with_capacity(data.len());
                        insert.push(&data, &mut out);
                        passed.push_back(out.into());
                    }
                }
            }
        }
        passed.retain(|piece| !piece.is_empty());
        Ok(())
    }

    /// Returns the rest of the body.
    fn finish(&mut self) -> Result<Bytes, BodyError> {
        let mut out = Vec::new();
        match self {
            Self::Redact { stream, answers, delay } => {
                if let Some(stream) = stream.take() {
                    out.extend(delay.waiting().drain(..).flatten());
                    out.extend(rest_of(stream, answers));
                }
            }
            Self::Request { insert, watch } => {
                let rest = watch.as_mut().map_or(Ok(Vec::new()), Watch::finish)?;
                match insert.take() {
                    Some(mut insert) => {
                        insert.push(&rest, &mut out);
                        insert.stream.finish(&mut out);
                    }
                    None => out = rest,
                }
            }
        }
        Ok(out.into())
    }

    /// Redacts trailers, or judges those of a request.
    fn trailers(&self, mut trailers: HeaderMap) -> Result<HeaderMap, BodyError> {
        match self {
            Self::Redact { answers, .. } => redact_headers(&mut trailers, answers),
            Self::Request { watch: Some(watch), .. } => watch.trailers(&trailers)?,
            Self::Request { watch: None, .. } => {}
        }
        Ok(trailers)
    }

    /// Returns whether the body keeps its length.
    fn keeps_length(&self) -> bool {
        match self {
            Self::Redact { .. } => true,
            Self::Request { insert, .. } => insert.is_none(),
        }
    }

    /// Returns whether nothing is held back for certain.
    fn is_empty(&self) -> bool {
        match self {
            Self::Redact { stream, .. } => stream.is_none(),
            Self::Request { insert, watch } => insert.is_none() && watch.is_none(),
        }
    }
}

/// Returns the text that a stream holds back.
fn rest_of(stream: RedactionStream, answers: &Answers) -> Bytes {
    let mut rest = Vec::new();
    stream.finish_segments(|segment| write(segment, answers, &mut rest));
    rest.into()
}

/// Redacts a piece. Text without values passes without a copy.
fn redact(
    stream: &mut RedactionStream,
    answers: &Answers,
    mut data: Bytes,
    passed: &mut VecDeque<Bytes>,
) {
    let mut copied = Vec::new();
    let mut step = FIRST_STEP_BYTES;
    while !data.is_empty() {
        let clear = stream.clear_bytes(&data);
        if clear > 0 {
            passed.push_back(std::mem::take(&mut copied).into());
            passed.push_back(data.split_to(clear));
        }
        // What the stream holds is soon decided, mostly.
        let next = data.split_to(data.len().min(step));
        stream.push_segments(&next, |segment| write(segment, answers, &mut copied));
        step *= 2;
    }
    passed.push_back(copied.into());
}

fn write(segment: Segment<'_>, answers: &Answers, out: &mut Vec<u8>) {
    match segment {
        Segment::Text(text) => out.extend_from_slice(text),
        Segment::Value { name, bytes, .. } => answers.write(name, bytes, out),
        // Segments of a later version hold no text that may pass.
        _ => {}
    }
}

/// Replaces the values of secrets in headers.
pub(crate) fn redact_headers(headers: &mut HeaderMap, answers: &Answers) {
    for value in headers.values_mut() {
        if let Some(redacted) = answers.replace(value.as_bytes())
            && let Ok(redacted) = redacted.try_into()
        {
            *value = redacted;
        }
    }
}
