//! HTTP from a session: requests to a proxy, and requests that were captured.

mod body;
mod coding;
mod delay;
mod exchange;
mod forward;
mod hop;
mod host_header;
mod insertions;
mod prepare;
mod refuse;
mod tasks;
mod terminated;
mod unreadable;
mod watch;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::connect::Upstream;
use crate::first_bytes::Version;
use crate::flow::{Cut, Flow};
use crate::judge::Target;
use crate::limits::Limits;
use crate::relay;
use crate::secure::Protocol;
use crate::session::Session;
use crate::tunnel::{self, End};
use body::{Body, BodyError};
use exchange::Exchange;
use tasks::Tasks;

pub(crate) use forward::Forward;
pub(crate) use refuse::unread;
pub(crate) use terminated::{explain, serve_terminated};
pub(crate) use wire::Wire;

/// Headers of one request or answer.
const MAX_HEADERS: usize = 100;
/// Bytes of HTTP/2 on their way without an acknowledgement.
const HTTP_2_WINDOW_BYTES: u32 = 1 << 20;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 100;

/// Returns the settings of a server of HTTP/1, with the bounds on what a client may send.
fn server(limits: &Limits) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_head_bytes)
        .half_close(true)
        .preserve_header_case(true);
    server
}

/// Destinations that the requests of a connection may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each request names its own.
    Proxy,
    /// Each request has the destination of its connection, and comes in this version.
    Fixed(Target, Version),
    /// The same, inside TLS that the gate terminates.
    Terminated(Target, Protocol),
}

impl Scope {
    /// Returns the version of requests without TLS.
    fn version(&self) -> Version {
        match self {
            Self::Fixed(_, version) => *version,
            Self::Proxy | Self::Terminated(..) => Version::One,
        }
    }
}

/// Use of a connection after its last request.
#[derive(Debug)]
pub(crate) enum Next {
    /// CONNECT: a tunnel to a new connection.
    Connect { client: OnUpgrade, upstream: Box<Upstream> },
    /// A protocol that both ends agreed on, such as WebSocket.
    Upgrade {
        client: OnUpgrade,
        upstream: OnUpgrade,
        flow: Arc<Flow>,
        _driver: Arc<forward::Driver>,
    },
}

/// Serves the requests of a connection, and then the tunnel that they may end in.
pub(crate) async fn serve(
    session: &Arc<Session>,
    cut: &Arc<Cut>,
    client: TcpStream,
    read: Bytes,
    scope: Scope,
    upstream: Option<Upstream>,
) {
    let limits = &session.shared.limits;
    let version = scope.version();
    let exchange = Arc::new(Exchange::new(session, cut, scope, upstream).await);
    let service = service_fn(|request| {
        let exchange = Arc::clone(&exchange);
        async move { Ok::<_, std::convert::Infallible>(exchange.answer(request).await) }
    });
    let wire = Wire::new(client, read, None);
    if version == Version::Two {
        return serve_http2(limits, TokioIo::new(wire), service).await;
    }
    // hyper answers what is no request itself, and without a reason.
    let wire = wire.hold_until({
        let exchange = Arc::clone(&exchange);
        move || exchange.has_begun()
    });
    let mut serving = server(limits).serve_connection(TokioIo::new(wire), service).with_upgrades();
    if let Err(error) = (&mut serving).await {
        // The client sent no HTTP, left, or did not finish a head in time.
        if let Some(answer) = exchange.refuse_unreadable(&error).await
            && let Some(parts) = serving.into_parts()
        {
            let client = parts.io.into_inner().into_end(Bytes::new()).stream;
            relay::answer_last(&client, answer.as_bytes()).await;
        }
        return;
    }
    match exchange.take_next() {
        Some(Next::Connect { client, upstream }) => {
            let Some(client) = end(client).await else { return };
            Box::pin(relay::run(session, cut, client.stream, client.read, *upstream)).await;
        }
        Some(Next::Upgrade { client, upstream, flow, _driver }) => {
            let (Some(client), Some(upstream)) = (end(client).await, end(upstream).await) else {
                return;
            };
            tunnel::run(client, upstream, &flow).await;
        }
        None => {}
    }
}

/// Serves the requests of a connection in HTTP/2.
async fn serve_http2<I, S>(limits: &Limits, client: I, service: S)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = Body>,
    S::Future: Send + 'static,
    S::Error: Into<BodyError>,
{
    let (tasks, _end) = Tasks::new();
    // The client sent no HTTP, or left, if that fails.
    let _ = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP_2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_2_WINDOW_BYTES)
        .serve_connection(client, service)
        .await;
}

/// Returns the socket of a connection that has left HTTP.
async fn end(upgrade: OnUpgrade) -> Option<End> {
    let upgraded: Upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    Some(parts.io.into_inner().into_end(parts.read_buf))
}
