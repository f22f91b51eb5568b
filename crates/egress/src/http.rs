//! HTTP from a session: requests to a proxy, and requests that were captured.

mod body;
mod coding;
mod delay;
mod exchange;
mod forward;
mod held;
mod hop;
mod host_header;
mod http1;
mod insertions;
mod prepare;
mod refuse;
mod tasks;
mod terminated;
mod unreadable;
mod watch;
mod whole;
mod wire;

pub(crate) use whole::PERMITS as WHOLE_PERMITS;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response};
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
use body::Body;
use exchange::Exchange;
use tasks::Tasks;

pub(crate) use forward::Forward;
pub(crate) use refuse::unread;
pub(crate) use terminated::{explain, serve_terminated};
pub(crate) use wire::Wire;

/// Bytes of HTTP/2 on their way without an acknowledgement.
const HTTP_2_WINDOW_BYTES: u32 = 1 << 20;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 100;

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
    let answer = |request| {
        let exchange = Arc::clone(&exchange);
        async move { exchange.answer(request).await }
    };
    let wire = Wire::new(client, read, None);
    if version == Version::Two {
        return serve_http2(limits, TokioIo::new(wire), answer).await;
    }
    if let Err(unread) = http1::serve(limits, wire, answer).await {
        return exchange.refuse_unread(*unread).await;
    }
    match exchange.take_next() {
        Some(Next::Connect { client, upstream }) => {
            let Some(client) = client_end(client).await else { return };
            Box::pin(relay::run(session, cut, client.stream, client.read, *upstream)).await;
        }
        Some(Next::Upgrade { client, upstream, flow, _driver }) => {
            let (Some(client), Some(upstream)) =
                (client_end(client).await, server_end(upstream).await)
            else {
                return;
            };
            tunnel::run(client, upstream, &flow).await;
        }
        None => {}
    }
}

/// Serves the requests of a connection in HTTP/2.
async fn serve_http2<I, A, F>(limits: &Limits, client: I, answer: A)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    // The exchange refuses a head beyond the limit with a reason, and h2 one of twice the size
    // without.
    let max_list_bytes = u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX).saturating_mul(2);
    let (tasks, _end) = Tasks::new();
    // The client sent no HTTP, or left, if that fails.
    let _ = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_list_bytes)
        .initial_stream_window_size(HTTP_2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_2_WINDOW_BYTES)
        .serve_connection(client, service)
        .await;
}

/// Returns the socket of a client that has left HTTP.
async fn client_end(upgrade: OnUpgrade) -> Option<End> {
    let upgraded: Upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<http1::Stream<Wire>>().ok()?;
    Some(parts.io.into_inner().into_inner().into_end(parts.read_buf))
}

/// Returns the socket of a server that has left HTTP.
async fn server_end(upgrade: OnUpgrade) -> Option<End> {
    let upgraded: Upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    Some(parts.io.into_inner().into_end(parts.read_buf))
}
