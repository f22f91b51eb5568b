//! A web server on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConnection, StreamOwned};

use super::authority::Identity;

/// The first byte of a connection with TLS.
const HANDSHAKE: u8 = 22;
/// Time between two events of `/events`.
const PAUSE: Duration = Duration::from_millis(100);

/// A web server for the files of a directory, with and without TLS on the same port. `/slow` sends
/// bytes until the client leaves, and `/events` an event stream.
pub(super) struct Origin {
    pub(super) port: u16,
    pub(super) dir: tempfile::TempDir,
    pub(super) identity: Identity,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    authorizations: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.html"), "hello\n").unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<_>>::default());
        let authorizations = Arc::<Mutex<_>>::default();
        let (root, counted) = (dir.path().to_owned(), Arc::clone(&connections));
        let kept = Received { lines: Arc::clone(&requests), values: Arc::clone(&authorizations) };
        let identity = Identity::new();
        let config = Arc::clone(&identity.config);
        // The thread ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let (root, kept, config) = (root.clone(), kept.clone(), Arc::clone(&config));
                std::thread::spawn(move || {
                    let mut first = [0];
                    if stream.peek(&mut first).is_ok_and(|_| first == [HANDSHAKE]) {
                        let mut tls =
                            StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                        serve(&mut tls, &root, &kept);
                        tls.conn.send_close_notify();
                        // The client may be gone.
                        let _ = tls.flush();
                    } else {
                        serve(stream, &root, &kept);
                    }
                });
            }
        });
        Self { port, dir, identity, connections, requests, authorizations }
    }

    /// Writes a file to serve.
    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        testkit::write_file(self.dir.path(), name, content)
    }

    /// Returns the number of connections so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the request lines so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the values of `Authorization` since the last call. Those of `Basic` are decoded.
    pub(super) fn authorizations(&self) -> Vec<String> {
        std::mem::take(&mut *self.authorizations.lock().unwrap())
    }
}

/// The parts of requests that a server keeps.
#[derive(Clone)]
struct Received {
    lines: Arc<Mutex<Vec<String>>>,
    values: Arc<Mutex<Vec<String>>>,
}

fn serve(stream: impl Read + Write, root: &Path, kept: &Received) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut header = String::new();
    while reader.read_line(&mut header).ok()? > 2 {
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            kept.values.lock().unwrap().push(decoded(value.trim()));
        }
        header.clear();
    }
    kept.lines.lock().unwrap().push(line.trim_end().to_owned());
    let stream = reader.get_mut();
    let target = line.split(' ').nth(1)?.split('?').next()?.to_owned();
    if target == "/slow" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").ok()?;
        loop {
            stream.write_all(b"x").ok()?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if target == "/events" {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        for text in ["one", "two", "three"] {
            stream.write_all(format!("data: {text}\n\n").as_bytes()).ok()?;
            stream.flush().ok()?;
            std::thread::sleep(PAUSE);
        }
        return Some(());
    }
    let mut path = root.join(target.trim_start_matches('/'));
    if path.is_dir() {
        path = path.join("index.html");
    }
    let (status, body) = match std::fs::read(&path) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", b"absent\n".to_vec()),
    };
    let kind = match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    if !line.starts_with("HEAD ") {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

/// Returns a value of `Authorization` in plain text.
fn decoded(value: &str) -> String {
    let Some(basic) = value.strip_prefix("Basic ") else { return value.to_owned() };
    String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap()
}
