//! Requests inside TLS that the gate terminates.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::server::TlsStream;

use super::body::Body;
use super::exchange::Exchange;
use super::http1::{self, Unread};
use super::wire::Wire;
use super::{Forward, Next, Scope, refuse, serve_http2, unreadable};
use crate::connect::Blocked;
use crate::flow::Cut;
use crate::judge::Target;
use crate::secure::Protocol;
use crate::session::Session;

/// Bytes of a copy between two TLS connections.
const COPY_BYTES: usize = 64 * 1024;

/// Serves the requests of a connection, and then the protocol that both ends may agree on.
pub(crate) async fn serve_terminated(
    session: &Arc<Session>,
    cut: &Arc<Cut>,
    client: TlsStream<Wire>,
    scope: Scope,
    forward: Forward,
) {
    let Scope::Terminated(_, protocol) = scope else { return };
    let exchange = Arc::new(Exchange::over(session, cut, scope, Some(forward)));
    let answer = {
        let exchange = Arc::clone(&exchange);
        move |request| {
            let exchange = Arc::clone(&exchange);
            async move { exchange.answer(request).await }
        }
    };
    if let Err(unread) = serve(session, client, protocol, answer).await {
        return exchange.refuse_unread(*unread).await;
    }
    if let Some(Next::Upgrade { client, upstream, flow: _flow, _driver }) = exchange.take_next() {
        copy(client, upstream).await;
    }
}

/// Answers each request with the same refusal.
pub(crate) async fn explain(
    session: &Arc<Session>,
    client: TlsStream<Wire>,
    protocol: Protocol,
    target: &Target,
    blocked: &Blocked,
) {
    let reason = Arc::new((target.clone(), blocked.clone()));
    let answer = move |_| {
        let reason = Arc::clone(&reason);
        async move { refuse::blocked(&reason.0, &reason.1) }
    };
    if let Err(unread) = serve(session, client, protocol, answer).await {
        unreadable::explain(*unread, target, blocked).await;
    }
}

async fn serve<A, F>(
    session: &Arc<Session>,
    client: TlsStream<Wire>,
    protocol: Protocol,
    answer: A,
) -> Result<(), Box<Unread<TlsStream<Wire>>>>
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let limits = &session.shared.limits;
    match protocol {
        Protocol::Http1 { .. } => http1::serve(limits, client, answer).await,
        Protocol::Http2 => {
            serve_http2(limits, TokioIo::new(client), answer).await;
            Ok(())
        }
    }
}

/// Passes bytes between two connections that have left HTTP. Nothing is replaced in them.
async fn copy(client: OnUpgrade, upstream: OnUpgrade) {
    let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return };
    let Ok(parts) = client.downcast::<http1::Stream<TlsStream<Wire>>>() else { return };
    let (mut client, mut upstream) = (parts.io.into_inner().into_inner(), TokioIo::new(upstream));
    if upstream.write_all(&parts.read_buf).await.is_err() {
        return;
    }
    let _ = tokio::io::copy_bidirectional_with_sizes(
        &mut client,
        &mut upstream,
        COPY_BYTES,
        COPY_BYTES,
    )
    .await;
}
