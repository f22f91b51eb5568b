//! A connection to a web server, kept for the next request to it.

use std::io::ErrorKind::ConnectionReset;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::HTTP_2_WINDOW_BYTES;
use super::body::Body;
use super::http1::MAX_HEADERS;
use super::tasks::{EndTasks, Tasks};
use super::wire::Wire;
use crate::connect::Upstream;
use crate::denial::Failure;
use crate::first_bytes::Version;
use crate::flow::Flow;
use crate::parent::Absolute;

/// The task that moves the bytes of a connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver {
    task: AbortHandle,
    _tasks: Option<EndTasks>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
pub(crate) struct Forward {
    sender: Sender,
    pub(crate) driver: Arc<Driver>,
    pub(crate) flow: Arc<Flow>,
    /// The form of requests to a parent proxy.
    absolute: Option<Absolute>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, Scheme),
}

/// Result of a request that could not be sent.
pub(crate) enum Unsent {
    /// The server had closed the connection. The request can be sent on another one.
    Request(Box<Request<Body>>),
    /// The server failed after the request.
    Failed(Failure),
}

impl Forward {
    /// Begins HTTP without TLS. A parent proxy that gets whole URLs speaks HTTP/1.1 only.
    pub(crate) async fn plain(
        upstream: Upstream,
        version: Version,
        max_head_bytes: usize,
    ) -> Result<Self, Failure> {
        let Upstream { stream, flow, absolute } = upstream;
        let traffic = Some(Arc::clone(flow.traffic()));
        let wire = Wire::new(stream, Bytes::new(), traffic);
        let forward = match version {
            Version::Two if absolute.is_none() => {
                Self::http2(wire, Scheme::HTTP, flow, max_head_bytes).await?
            }
            _ => Self::http1(wire, flow, max_head_bytes).await?,
        };
        Ok(Self { absolute, ..forward })
    }

    pub(crate) async fn http1<S>(
        stream: S,
        flow: Flow,
        max_head_bytes: usize,
    ) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(max_head_bytes)
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Failure::NotHttp)?;
        let driver = tokio::spawn(async move {
            // The sender reports errors.
            let _ = connection.with_upgrades().await;
        });
        let driver = Driver { task: driver.abort_handle(), _tasks: None };
        Ok(Self::new(Sender::Http1(sender), driver, flow))
    }

    pub(crate) async fn http2<S>(
        stream: S,
        scheme: Scheme,
        flow: Flow,
        max_head_bytes: usize,
    ) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (tasks, end) = Tasks::new();
        let handshake = http2::Builder::new(tasks)
            .max_header_list_size(u32::try_from(max_head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP_2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP_2_WINDOW_BYTES)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Failure::NotHttp)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        let driver = Driver { task: driver.abort_handle(), _tasks: Some(end) };
        Ok(Self::new(Sender::Http2(sender, scheme), driver, flow))
    }

    fn new(sender: Sender, driver: Driver, flow: Flow) -> Self {
        Self { sender, driver: Arc::new(driver), flow: Arc::new(flow), absolute: None }
    }

    /// Returns the same connection for another request at the same time. HTTP/1 has none.
    pub(crate) fn shared(&self) -> Option<Self> {
        let Sender::Http2(sender, scheme) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Http2(sender.clone(), scheme.clone()),
            driver: Arc::clone(&self.driver),
            flow: Arc::clone(&self.flow),
            absolute: self.absolute.clone(),
        })
    }

    /// Waits until the connection can take a request, and returns whether it still can.
    pub(crate) async fn is_ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender, _) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request, whose URL is a path and whose header `Host` is the server.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unsent> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                *request.version_mut() = hyper::Version::HTTP_11;
                if let Some(absolute) = &self.absolute {
                    make_absolute(&mut request, Scheme::HTTP);
                    if let Some(authorization) = &absolute.authorization {
                        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
                    }
                }
                sender.try_send_request(request).await.map_err(unsent)
            }
            Sender::Http2(sender, scheme) => {
                *request.version_mut() = hyper::Version::HTTP_2;
                make_absolute(&mut request, scheme.clone());
                let host = request.headers_mut().remove(HOST);
                // HTTP/2 has no such header, and `TE` would go with it.
                request.headers_mut().remove(CONNECTION);
                sender.try_send_request(request).await.map_err(|error| {
                    let unsent = unsent(error);
                    match (unsent, host) {
                        (Unsent::Request(mut request), Some(host)) => {
                            request.headers_mut().insert(HOST, host);
                            Unsent::Request(request)
                        }
                        (unsent, _) => unsent,
                    }
                })
            }
        }
    }
}

fn unsent(mut error: hyper::client::conn::TrySendError<Request<Body>>) -> Unsent {
    match error.take_message() {
        Some(request) => Unsent::Request(Box::new(request)),
        None if error.error().is_parse() => Unsent::Failed(Failure::NotHttp),
        None => Unsent::Failed(Failure::Unreachable { kind: ConnectionReset }),
    }
}

/// Puts the header `Host` into the URL.
fn make_absolute(request: &mut Request<Body>, scheme: Scheme) {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let Some(Ok(authority)) = host.map(Authority::try_from) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
