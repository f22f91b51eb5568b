//! Costs of TLS: directly, in a tunnel of a gate, and terminated by a gate that redacts.
//!
//! The ways take turns, so that other load affects them all. The gates have a thread of their own,
//! so that their processor time can be read alone. Origin and client have another one each. Prints
//! a table in Markdown: medians, and the differences from the direct way or the ratios to it.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, UdpSocket};
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
use rustls::client::Resumption;
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
const PIECE: usize = 64 << 10;

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
    /// Address of a name server that returns each query.
    dns: SocketAddr,
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
    let body = match request.uri().path().strip_prefix("/long/") {
        Some(count) => {
            let (piece, count) = (piece(), count.parse().unwrap());
            let pieces = (0..count).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone())));
            Either::Left(StreamBody::new(Pieces(pieces)))
        }
        None => Either::Right(Full::new(piece().slice(..1024))),
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
        let names = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dns = names.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((count, client)) = names.recv_from(&mut query) {
                names.send_to(&query[..count], client).unwrap();
            }
        });
        Self { _runtime: runtime, port, root: pem(&root), dns }
    }
}

struct Session {
    _runtime: Runtime,
    _network: Network,
    proxy: SocketAddr,
    dns: SocketAddr,
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
    let names = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = names.local_addr().unwrap();
    let _entered = runtime.enter();
    let listeners = Listeners::new().proxy(listener).dns(names);
    let network = gate.open(listeners, policy, Arc::new(())).unwrap();
    network.set_masks(masks).unwrap();
    let trust = gate.trust().authority();
    drop(_entered);
    Session { _runtime: runtime, _network: network, proxy, dns, trust }
}

/// A way to the origin.
struct Way<'w> {
    origin: &'w Origin,
    session: Option<&'w Session>,
    tls: TlsConnector,
}

impl<'w> Way<'w> {
    fn new(origin: &'w Origin, session: Option<&'w Session>, trust: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(trust.as_bytes()).flatten());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self { origin, session, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Asks for the address of the origin.
    async fn resolve(&self) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = self.session.map_or(self.origin.dns, |session| session.dns);
        socket.send_to(&query(), server).await.unwrap();
        let mut answer = [0; 512];
        assert!(socket.recv(&mut answer).await.unwrap() >= query().len());
        assert_eq!(answer[3] & 0xf, 0, "the name server refuses the name");
    }

    /// Connects with the origin, through a session if there is one, and begins TLS.
    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let Self { origin, session, tls } = self;
        let address = session.map_or(([127, 0, 0, 1], origin.port).into(), |session| session.proxy);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if session.is_some() {
            let connect = format!("CONNECT {NAME}:{} HTTP/1.1\r\nHost: a\r\n\r\n", origin.port);
            stream.write_all(connect.as_bytes()).await.unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).await.unwrap();
            assert!(head[..count].ends_with(b"\r\n\r\n"));
        }
        let stream = tls.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// A query for the address of the origin (RFC 1035).
fn query() -> Vec<u8> {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in NAME.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
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

/// Times of one work in every way.
#[derive(Default)]
struct Times {
    whole: Vec<f64>,
    gate: Vec<f64>,
}

/// Runs a work in every way in turn, `rounds` times. The work returns the seconds of one piece of
/// it, and `count` pieces make a round.
async fn measure(
    ways: &[Way<'_>],
    rounds: usize,
    count: usize,
    work: impl AsyncFn(&Way<'_>) -> f64,
) -> Vec<Times> {
    let mut times: Vec<Times> = ways.iter().map(|_| Times::default()).collect();
    for _ in 0..rounds {
        for (way, times) in ways.iter().zip(&mut times) {
            let before = gate_time();
            times.whole.push(work(way).await);
            times.gate.push((gate_time() - before).as_secs_f64() / count as f64);
        }
    }
    times
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the medians of a short work, and the differences from the direct way.
fn short_row(what: &str, times: &[Times]) {
    let [direct, tunnel, terminated] = [0, 1, 2].map(|way| median(&times[way].whole) * 1e6);
    let (tunnel, terminated) = (tunnel - direct, terminated - direct);
    println!("| {what} | {direct:.0} µs | {tunnel:+.0} µs | {terminated:+.0} µs |");
    let [tunnel, terminated] = [1, 2].map(|way| median(&times[way].gate) * 1e6);
    println!("| {GATE_TIME} | – | {tunnel:.0} µs | {terminated:.0} µs |");
}

/// Prints the medians of a long work, and the ratios to the direct way of the same round.
fn long_row(what: &str, times: &[Times]) {
    let ratio = |way: usize| {
        let pairs = times[way].whole.iter().zip(&times[0].whole);
        median(&pairs.map(|(time, direct)| time / direct).collect::<Vec<_>>())
    };
    let direct = median(&times[0].whole);
    println!("| {what} | {direct:.2} s | × {:.2} | × {:.2} |", ratio(1), ratio(2));
    let [tunnel, terminated] = [1, 2].map(|way| median(&times[way].gate));
    println!("| {GATE_TIME} | – | {tunnel:.2} s | {terminated:.2} s |");
}

/// Label of a row with the processor time of the gate for the work of the row above.
const GATE_TIME: &str = "processor time of the gate for it";

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, large_rounds) = if is_test { (1, 1) } else { (21, 5) };
    let (requests, connections, bytes) = if is_test { (2, 2, 1 << 20) } else { (200, 10, 1 << 30) };
    let origin = Origin::start();
    let masked = Mask::new("TOKEN", "ghp_0123456789abcdefghijABCDEFGHIJ012345".into(), [NAME]);
    let (masks, none) = (Masks::new([masked]).unwrap(), Masks::default());
    let (tunnel, terminated) = (session(&origin, &none), session(&origin, &masks));
    let ways = [
        Way::new(&origin, None, &origin.root),
        Way::new(&origin, Some(&tunnel), &origin.root),
        Way::new(&origin, Some(&terminated), &terminated.trust),
    ];
    println!("| TLS | directly | in a tunnel | terminated, redacted |\n|---|---|---|---|");
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    client.block_on(async {
        let each = |started: Instant, count: usize| started.elapsed().as_secs_f64() / count as f64;
        let times = measure(&ways, rounds, connections, async |way| {
            let started = Instant::now();
            for _ in 0..connections {
                way.resolve().await;
                drop(way.connect().await);
            }
            each(started, connections)
        });
        short_row("a new connection with its query for the address", &times.await);
        let times = measure(&ways, rounds, requests, async |way| {
            let mut sender = way.connect().await;
            let started = Instant::now();
            for _ in 0..requests {
                assert_eq!(get(&mut sender, &origin, "/").await, 1024);
            }
            each(started, requests)
        });
        short_row("1 KB over a connection that is kept", &times.await);
        let path = format!("/long/{}", bytes / PIECE);
        let times = measure(&ways, large_rounds, 1, async |way| {
            let mut sender = way.connect().await;
            let started = Instant::now();
            assert_eq!(get(&mut sender, &origin, &path).await, bytes);
            started.elapsed().as_secs_f64()
        });
        long_row("1 GiB", &times.await);
    });
}
