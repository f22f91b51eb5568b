//! A connection to a web server, kept for the next request to it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::MAX_HEADERS;
use super::wire::Wire;
use crate::connect::Upstream;
use crate::denial::Failure;
use crate::flow::Flow;

/// The task that moves the bytes of a connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
pub(crate) struct Forward {
    sender: SendRequest<Incoming>,
    pub(crate) driver: Driver,
    pub(crate) flow: Arc<Flow>,
}

/// Result of a request that could not be sent.
pub(crate) enum Unsent {
    /// The server had closed the connection. The request can be sent on another one.
    Request(Box<Request<Incoming>>),
    /// The server failed after the request.
    Failed(Failure),
}

impl Forward {
    pub(crate) async fn new(upstream: Upstream, max_head_bytes: usize) -> Result<Self, Failure> {
        let Upstream { stream, flow } = upstream;
        let traffic = Some(Arc::clone(flow.traffic()));
        let wire = TokioIo::new(Wire::new(stream, Bytes::new(), traffic));
        let handshake = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(max_head_bytes)
            .preserve_header_case(true)
            .handshake(wire);
        let (sender, connection) = handshake.await.map_err(|_| Failure::NotHttp)?;
        let driver = tokio::spawn(async move {
            // The sender reports errors.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, driver: Driver(driver.abort_handle()), flow: Arc::new(flow) })
    }

    /// Waits until the connection can take a request, and returns whether it still can.
    pub(crate) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Unsent> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Unsent::Request(Box::new(request)),
                None if error.error().is_parse() => Unsent::Failed(Failure::NotHttp),
                None => Unsent::Failed(Failure::Unreachable {
                    kind: std::io::ErrorKind::ConnectionReset,
                }),
            }),
        }
    }
}
