//! A session with listeners on loopback, names that the test chooses, and servers for them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use egress::{EventMark, Gate, Limits, Listeners, Network, NetworkEvent, Outcome, Resolver};
use policy::{NetworkConfig, NetworkPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the result of a future, or fails the test after a long time.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller} waits for ever"),
        }
    }
}

/// Names of a test. Each call for a name takes the next of its answers, and repeats the last one.
#[derive(Debug, Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let addresses = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let names = names
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(addresses).collect()));
        Arc::new(Self { answers: Mutex::new(names.collect()), asked: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        Ok(match answers.get_mut(name) {
            None => Vec::new(),
            Some(answers) if answers.len() == 1 => answers[0].clone(),
            Some(answers) => answers.remove(0),
        })
    }
}

/// Returns a policy from `allowedDomains` and `deniedDomains`.
pub(crate) fn policy(allowed: &[&str], denied: &[&str]) -> NetworkPolicy {
    let mut network = NetworkConfig::default();
    network.allowed_domains = allowed.iter().map(|entry| (*entry).to_owned()).collect();
    network.denied_domains = denied.iter().map(|entry| (*entry).to_owned()).collect();
    NetworkPolicy::compile(&network).unwrap()
}

/// Returns the usual policy: one name, whose address is on loopback.
pub(crate) fn usual() -> NetworkPolicy {
    policy(&["allowed.test", "*.allowed.test", "127.0.0.1"], &[])
}

/// Returns the usual names, all on loopback.
pub(crate) fn usual_names() -> Arc<Names> {
    let here: &[&[&str]] = &[&["127.0.0.1"]];
    Names::new(&[("allowed.test", here), ("b.allowed.test", here), ("denied.test", here)])
}

pub(crate) struct Session {
    pub(crate) network: Network,
    pub(crate) names: Arc<Names>,
    pub(crate) proxy: SocketAddr,
    pub(crate) dns: SocketAddr,
}

impl Session {
    pub(crate) fn open() -> Self {
        Self::open_with(usual(), usual_names(), Limits::default())
    }

    pub(crate) fn open_with(policy: NetworkPolicy, names: Arc<Names>, limits: Limits) -> Self {
        let resolver = Arc::clone(&names);
        let gate = Gate::builder().resolver(resolver).limits(limits).build().unwrap();
        Self::open_at(&gate, policy, names)
    }

    /// Opens a session at a gate, which has these names.
    pub(crate) fn open_at(gate: &Gate, policy: NetworkPolicy, names: Arc<Names>) -> Self {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = (proxy.local_addr().unwrap(), dns.local_addr().unwrap());
        let listeners = Listeners::new().proxy(proxy).dns(dns);
        let network = gate.open(listeners, policy, Arc::new(())).unwrap();
        Self { network, names, proxy: addresses.0, dns: addresses.1 }
    }

    pub(crate) fn events(&self) -> Vec<NetworkEvent> {
        self.network.events_since(EventMark::default())
    }

    /// Returns the text of the only refusal so far.
    #[track_caller]
    pub(crate) fn denial(&self) -> String {
        match &self.events()[..] {
            [NetworkEvent { outcome: Outcome::Denied(denial), host, .. }] => {
                format!("{host}: {denial}")
            }
            events => panic!("{events:?}"),
        }
    }

    /// Waits for a number of events, and returns them.
    pub(crate) async fn wait_for_events(&self, count: usize) -> Vec<NetworkEvent> {
        let events = async {
            while self.events().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, events).await;
        assert!(waited.is_ok(), "{:?}", self.events());
        self.events()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// Sends bytes to the proxy listener, and returns all that it answers until it closes.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut client).await
    }

    /// Opens a tunnel with CONNECT.
    pub(crate) async fn tunnel(&self, to: &str) -> TcpStream {
        let mut client = self.connect().await;
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        client
    }
}

/// Reads to the end, or to a reset.
pub(crate) async fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = soon(client.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads the head of an answer, and no byte more.
pub(crate) async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(client.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads a number of bytes.
pub(crate) async fn exactly(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    soon(client.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Keeps bytes that a server received.
pub(crate) type Keep = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A server on loopback that keeps all bytes that it received.
pub(crate) struct Origin {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Origin {
    /// A server that sends its text as soon as a request's head is there, and serves on.
    pub(crate) async fn answering(text: &'static str) -> Self {
        Self::serving(move |mut stream, received| async move {
            loop {
                let mut seen = 0;
                while seen < 4 {
                    let Ok(byte) = stream.read_u8().await else { return };
                    received(&[byte]);
                    let is_next = byte == b"\r\n\r\n"[seen];
                    seen = if is_next { seen + 1 } else { usize::from(byte == b'\r') };
                }
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// A web server that answers `hello`.
    pub(crate) async fn hello() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await
    }

    /// A server that returns every byte, and closes after its client.
    pub(crate) async fn echo() -> Self {
        Self::serving(|mut stream, received| async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                received(&buffer[..count]);
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub(crate) async fn serving<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream, Keep) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, serve)
    }

    pub(crate) fn on<S, F>(listener: tokio::net::TcpListener, serve: S) -> Self
    where
        S: Fn(TcpStream, Keep) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let all: Arc<Mutex<Vec<Vec<u8>>>> = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let all = Arc::clone(&all);
                let keep: Keep = Box::new(move |bytes: &[u8]| {
                    all.lock().unwrap()[connection].extend_from_slice(bytes);
                });
                tokio::spawn(serve(stream, keep));
            }
        });
        Self { port, received }
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// Returns the bytes of all connections, as text.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap().concat()).into_owned()
    }
}

/// Returns the TLS hello of a client for a name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Returns a hello with these bytes as the name of the server, whatever they are.
pub(crate) fn hello_naming(name: &[u8]) -> Vec<u8> {
    let stand_in = "a".repeat(name.len());
    let mut bytes = hello(&stand_in);
    let at = bytes.windows(name.len()).position(|part| part == stand_in.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(name);
    bytes
}

/// The alert that refuses a name.
pub(crate) const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];
