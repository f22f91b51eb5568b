//! HTTP/1 with a client, and the end of a connection with what is no request.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::body::Body;
use super::held::{Answered, Held, Turns};
use crate::limits::Limits;

/// Headers of one request or answer.
pub(super) const MAX_HEADERS: usize = 100;
/// Time for writing a last answer, and for reading what the client still sends.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client that has sent what is no request.
#[derive(Debug)]
pub(super) struct Unread<S> {
    pub(super) error: hyper::Error,
    /// Bytes that were read, and are no request so far.
    pub(super) read: Bytes,
    pub(super) max_head_bytes: usize,
    pub(super) is_first: bool,
    /// The stream, unless an earlier answer is on its way.
    stream: Option<S>,
}

/// Returns the settings of a server, with the bounds on what a client may send.
fn server(limits: &Limits) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_head_bytes)
        // A read may go beyond the size of the buffer.
        .max_header_size(limits.max_head_bytes)
        .half_close(true)
        .preserve_header_case(true);
    server
}

/// Answers the requests of a connection until it ends, or leaves HTTP. A protocol after HTTP gets a
/// stream of the type [`Stream`].
pub(super) async fn serve<S, A, F>(
    limits: &Limits,
    client: S,
    answer: A,
) -> Result<(), Box<Unread<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let turns = Arc::new(Turns::default());
    let staying = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let asked = request.extensions().get::<OnUpgrade>().cloned();
        let is_connect = request.method() == Method::CONNECT;
        let (turn, answered) = (turns.begin(), answer(request));
        let staying = Arc::clone(&staying);
        async move {
            let answer = answered.await;
            let leaves = answer.status() == StatusCode::SWITCHING_PROTOCOLS
                || is_connect && answer.status().is_success();
            if asked.is_some() {
                let refused = asked.filter(|_| !leaves);
                *staying.lock().unwrap_or_else(PoisonError::into_inner) = refused;
            }
            Ok::<_, Infallible>(answer.map(|body| Answered::new(body, turn)))
        }
    });
    let client = TokioIo::new(Held::new(client, Arc::clone(&turns)));
    let mut serving = server(limits).serve_connection(client, service).with_upgrades();
    let Err(error) = (&mut serving).await else {
        drop(serving);
        let refused = staying.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(refused) = refused {
            close::<S>(refused).await;
        }
        return Ok(());
    };
    let Some(parts) = serving.into_parts() else { return Ok(()) };
    let client = parts.io.into_inner();
    let stream = client.is_holding().then(|| client.into_inner());
    Err(Box::new(Unread {
        error,
        read: parts.read_buf,
        max_head_bytes: limits.max_head_bytes,
        is_first: turns.begun() == 0,
        stream,
    }))
}

/// Ends the connection of a client that asked to leave HTTP and was refused. hyper gives the stream
/// up then, and does not close it.
async fn close<S>(refused: OnUpgrade)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(stream) = refused.await else { return };
    let Ok(parts) = stream.downcast::<Stream<S>>() else { return };
    let _ = timeout(PATIENCE, parts.io.into_inner().into_inner().shutdown()).await;
}

/// A stream that has left HTTP.
pub(super) type Stream<S> = TokioIo<Held<S>>;

impl<S> Unread<S> {
    /// Returns whether an answer can be written: no earlier answer is on its way.
    pub(super) fn is_answerable(&self) -> bool {
        self.stream.is_some()
    }
}

impl<S: AsyncWrite + Unpin> Unread<S> {
    /// Writes the last answer of the connection, unless an earlier answer has no end.
    pub(super) async fn answer(self, text: &str) {
        let Some(mut stream) = self.stream else { return };
        let written = async {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        };
        // The client may have left.
        let _ = timeout(PATIENCE, written).await;
    }
}
