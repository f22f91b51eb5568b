//! Web servers with TLS on loopback, and clients of a session that trust the authority.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use egress::{Gate, GateBuilder};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use policy::NetworkPolicy;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use secrets::{Mask, Masks, SecretString};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::fixture::{Session, soon, usual_names};

pub(crate) const H1: &[&[u8]] = &[b"http/1.1"];
pub(crate) const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
pub(crate) const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// A request as a server received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: Arc<hyper::http::request::Parts>,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A web server with a certificate for `allowed.test` and `b.allowed.test`.
pub(crate) struct SecureOrigin {
    pub(crate) port: u16,
    /// The certificate of the server, in PEM.
    pub(crate) root: String,
    received: Arc<Mutex<VecDeque<Received>>>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl SecureOrigin {
    /// A server that answers with the headers and body that it received.
    pub(crate) async fn echo(protocols: &[&[u8]]) -> Self {
        let received: Arc<Mutex<VecDeque<Received>>> = Arc::default();
        let keep = Arc::clone(&received);
        let answer = move |request: Request<Incoming>| {
            let keep = Arc::clone(&keep);
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return Response::default() };
                let (body, head) = (body.to_bytes(), Arc::new(head));
                let mut response = Response::new(Full::new(body.clone()));
                for (name, value) in &head.headers {
                    let name = format!("echo-{name}");
                    let name = hyper::header::HeaderName::try_from(name).unwrap();
                    response.headers_mut().append(name, value.clone());
                }
                keep.lock().unwrap().push_back(Received { head, body });
                response
            }
        };
        let serve = move |stream: server::TlsStream<TcpStream>| {
            let answer = answer.clone();
            async move {
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let answer = service_fn(|request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let io = TokioIo::new(stream);
                let _ = match is_h2 {
                    true => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, answer)
                            .await
                    }
                    false => {
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(io, answer)
                            .await
                    }
                };
            }
        };
        Self { received, ..Self::serving(protocols, serve).await }
    }

    /// A server whose connections a function serves.
    pub(crate) async fn serving<S, F>(protocols: &[&[u8]], serve: S) -> Self
    where
        S: Fn(server::TlsStream<TcpStream>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let names = ["allowed.test".to_owned(), "b.allowed.test".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let root = own.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // A listener for all addresses can have the same port.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serve(stream));
                }
            }
        });
        Self { port, root: pem(&root), received: Arc::default() }
    }

    pub(crate) fn gate(&self) -> GateBuilder {
        Gate::builder().resolver(usual_names()).roots(self.root.as_bytes())
    }

    /// Opens a session whose gate trusts this server, and which has a masked token for it.
    pub(crate) fn masked(&self) -> Masked {
        self.masked_with(|mask| mask)
    }

    pub(crate) fn masked_with(&self, change: impl Fn(Mask) -> Mask) -> Masked {
        let masks = self.masks(change);
        let masked = self.open(crate::fixture::usual());
        masked.session.network.set_masks(&masks).unwrap();
        Masked { masks, ..masked }
    }

    /// Returns a token for `allowed.test`, and a secret for another host.
    pub(crate) fn masks(&self, change: impl Fn(Mask) -> Mask) -> Masks {
        let mask = Mask::new("TOKEN", SecretString::from(TOKEN), ["allowed.test"]);
        let other = Mask::new("OTHER", SecretString::from("other secret"), ["other.test"]);
        Masks::new([change(mask), change(other)]).unwrap()
    }

    /// Opens a session with a policy, and without masks.
    pub(crate) fn open(&self, policy: NetworkPolicy) -> Masked {
        let gate = self.gate().build().unwrap();
        let session = Session::open_at(&gate, policy, usual_names());
        Masked {
            session,
            trust: gate.trust().authority(),
            masks: Masks::default(),
            port: self.port,
        }
    }

    /// Returns the next request that the server received.
    #[track_caller]
    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap().pop_front().expect("no request arrived")
    }

    pub(crate) fn has_received(&self) -> bool {
        !self.received.lock().unwrap().is_empty()
    }
}

/// Writes a certificate in PEM.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
}

/// A session with masks, whose clients trust the authority.
pub(crate) struct Masked {
    pub(crate) session: Session,
    pub(crate) masks: Masks,
    pub(crate) trust: String,
    port: u16,
}

impl Masked {
    pub(crate) fn new(session: Session, masks: Masks, gate: &Gate, port: u16) -> Self {
        Self { session, masks, trust: gate.trust().authority(), port }
    }

    pub(crate) fn placeholder(&self) -> &str {
        self.masks.placeholder("TOKEN").unwrap()
    }

    pub(crate) fn other(&self) -> &str {
        self.masks.placeholder("OTHER").unwrap()
    }

    /// Begins TLS over a tunnel to a name.
    pub(crate) async fn tls(
        &self,
        name: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<client::TlsStream<TcpStream>> {
        let stream = self.session.tunnel(&format!("{name}:{}", self.port)).await;
        tls(stream, &self.trust, name, protocols).await
    }

    /// Sends a request to `allowed.test` over HTTP/1.1, and returns the answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.send_to("allowed.test", H1, request).await
    }

    pub(crate) async fn send_to(
        &self,
        name: &str,
        protocols: &[&[u8]],
        request: Request<Full<Bytes>>,
    ) -> Response<Bytes> {
        let stream = self.tls(name, protocols).await.unwrap();
        send(stream, &format!("{name}:{}", self.port), request).await
    }
}

/// Sends a request in the protocol that TLS has chosen, and returns the answer.
pub(crate) async fn send(
    stream: client::TlsStream<TcpStream>,
    authority: &str,
    mut request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let response = if is_h2 {
        let path = request.uri().to_string();
        *request.uri_mut() = format!("https://{authority}{path}").parse().unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        soon(sender.send_request(request)).await.unwrap()
    } else {
        request.headers_mut().entry("host").or_insert(authority.parse().unwrap());
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        soon(sender.send_request(request)).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes();
    Response::from_parts(head, body)
}

/// Begins TLS with a name, trusting the certificates of a text.
pub(crate) async fn tls(
    stream: TcpStream,
    trust: &str,
    name: &str,
    protocols: &[&[u8]],
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(trust.as_bytes()).flatten());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Returns a request with headers.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    post(path, headers, "")
}

/// Returns a request with a body, if it is not empty.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.to_owned().into())).unwrap()
}
