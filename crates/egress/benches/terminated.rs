//! Costs of terminated connections: certificates, requests, and bytes with redaction.
//!
//! The gate has a thread of its own, so that its processor time can be read alone. Origin and
//! client have another one each. Each line is a median; run it on a quiet machine:
//!
//! ```sh
//! cargo bench -p egress --bench terminated
//! ```

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use egress::{Gate, Listeners, Network, Resolver};
use http_body_util::{BodyExt as _, Either, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use policy::{NetworkConfig, NetworkPolicy};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use secrets::{Mask, Masks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "origin.test";
const GATE_THREAD: &str = "gate";
const REQUESTS: usize = 3_000;
const CERTIFICATES: usize = 500;
const PIECE: usize = 64 << 10;
const BYTES: usize = 1 << 30;

#[derive(Debug)]
struct Loopback;

#[async_trait]
impl Resolver for Loopback {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

struct Origin {
    _runtime: Runtime,
    port: u16,
    root: String,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
}

fn runtime(name: &str) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all().build().unwrap()
}

/// Text of a body, which begins no secret but looks like one.
fn piece() -> Bytes {
    let line = b"{\"id\": 4711, \"name\": \"an entry\", \"text\": \"ghp and sk in a line\"}\n";
    line.iter().copied().cycle().take(PIECE).collect::<Vec<u8>>().into()
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = BoxError>>, Infallible> {
    let body = match request.uri().path() {
        "/long" => {
            let piece = piece();
            let pieces =
                (0..BYTES / PIECE).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone())));
            Either::Left(StreamBody::new(Pieces(pieces)))
        }
        _ => Either::Right(Full::new(piece().slice(..1024))),
    };
    Ok(Response::new(body))
}

/// Pieces that are there at once.
struct Pieces<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Pieces<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

impl Origin {
    fn start() -> Self {
        let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let root = own.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = runtime("origin");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                });
            }
        });
        Self { _runtime: runtime, port, root: pem(&root) }
    }
}

struct Session {
    _runtime: Runtime,
    _network: Network,
    proxy: SocketAddr,
    trust: String,
}

/// Opens a session whose gate has a thread of its own.
fn session(origin: &Origin, masks: &Masks) -> Session {
    let runtime = runtime(GATE_THREAD);
    let mut network = NetworkConfig::default();
    network.allowed_domains = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
    let policy = NetworkPolicy::compile(&network).unwrap();
    let gate = Gate::builder().resolver(Arc::new(Loopback)).roots(origin.root.as_bytes());
    let gate = gate.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let _entered = runtime.enter();
    let network = gate.open(Listeners::new().proxy(listener), policy, Arc::new(())).unwrap();
    network.set_masks(masks).unwrap();
    let trust = gate.trust().authority();
    drop(_entered);
    Session { _runtime: runtime, _network: network, proxy, trust }
}

/// Connects with the origin, through a session if there is one, and begins TLS.
async fn connect(
    origin: &Origin,
    session: Option<&Session>,
    trust: &str,
) -> SendRequest<Empty<Bytes>> {
    let address = session.map_or(([127, 0, 0, 1], origin.port).into(), |session| session.proxy);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    if session.is_some() {
        let connect = format!("CONNECT {NAME}:{} HTTP/1.1\r\nHost: a\r\n\r\n", origin.port);
        stream.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(trust.as_bytes()).flatten());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, origin: &Origin, path: &str) -> usize {
    sender.ready().await.unwrap();
    let host = format!("{NAME}:{}", origin.port);
    let request = Request::get(path).header("host", host).body(Empty::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    bytes
}

/// Returns the processor time of the gate's threads so far.
fn gate_time() -> Duration {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == GATE_THREAD {
            let first = read("schedstat").split(' ').next().map(str::to_owned);
            nanoseconds += first.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Duration::from_nanos(nanoseconds)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed<T>(count: usize, mut run: impl FnMut() -> T) -> Duration {
    let once = || {
        let started = Instant::now();
        drop(run());
        started.elapsed()
    };
    median(std::iter::repeat_with(once).take(count).collect())
}

fn report(what: &str, time: Duration) {
    println!("{what:<44} {:>10.1} us", time.as_secs_f64() * 1e6);
}

fn main() {
    report("gate with its authority", timed(CERTIFICATES, || Gate::builder().build().unwrap()));
    let origin = Origin::start();
    let masked = Mask::new("TOKEN", "ghp_0123456789abcdefghijABCDEFGHIJ012345".into(), [NAME]);
    let (masks, none) = (Masks::new([masked]).unwrap(), Masks::default());
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    for (what, session) in [
        ("direct", None),
        ("tunnel", Some(session(&origin, &none))),
        ("terminated, redacted", Some(session(&origin, &masks))),
    ] {
        let trust = match what {
            "direct" | "tunnel" => &origin.root,
            _ => &session.as_ref().unwrap().trust,
        };
        client.block_on(async {
            let connect = || connect(&origin, session.as_ref(), trust);
            connect().await;
            let mut times = Vec::new();
            for _ in 0..200 {
                let started = Instant::now();
                drop(connect().await);
                times.push(started.elapsed());
            }
            report(&format!("{what}: new connection"), median(times));
            let mut sender = connect().await;
            let mut times = Vec::new();
            get(&mut sender, &origin, "/").await;
            let before = gate_time();
            for _ in 0..REQUESTS {
                let started = Instant::now();
                assert_eq!(get(&mut sender, &origin, "/").await, 1024);
                times.push(started.elapsed());
            }
            let each = (gate_time() - before) / u32::try_from(REQUESTS).unwrap();
            report(&format!("{what}: 1 KB kept alive"), median(times));
            report(&format!("{what}: 1 KB kept alive, CPU of the gate"), each);
            let (before, started) = (gate_time(), Instant::now());
            assert_eq!(get(&mut sender, &origin, "/long").await, BYTES);
            let (spent, took) = (gate_time() - before, started.elapsed());
            println!(
                "{what}: 1 GiB: {:.2} s, CPU of the gate {:.2} s",
                took.as_secs_f64(),
                spent.as_secs_f64()
            );
        });
    }
}
