//! The same settings and requests, in the gate and in the proxy of the real srt.

mod keys;
mod seeded;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use egress::{Answer, Ask, Limits, ParentProxy};
use policy::{Host, NetworkConfig, NetworkPolicy};
use serde::Serialize;
use testkit::skipped;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Names, Origin, Session, exactly, head, rest};

/// Settings, and the requests that are sent under them.
#[derive(Clone, Debug, Default, Serialize)]
struct Work {
    /// Set if srt must start again. It reads some settings only then.
    anew: bool,
    /// Set if a user is asked, who allows everything.
    asks: bool,
    names: BTreeMap<String, Vec<String>>,
    network: NetworkConfig,
    requests: Vec<String>,
}

/// The decision that an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The origin, or a tunnel to it.
    Reached,
    /// Denied, or no request at all.
    Denied,
    /// The name leads to a refused address.
    AddressDenied,
    /// Another host in the header.
    Misdirected,
    /// Allowed, and not reached.
    Failed,
    /// Anything else.
    Unknown,
}

impl Verdict {
    fn of(answer: &str) -> Self {
        if let Some(code) = answer.strip_prefix("SOCKS ") {
            return match code {
                "0" => Self::Reached,
                // A general failure answers to what is no host.
                "1" | "2" => Self::Denied,
                "4" | "5" | "6" => Self::Failed,
                _ => Self::Unknown,
            };
        }
        match answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
            Some("200") => Self::Reached,
            Some("403") if answer.contains("resolved to") || answer.contains("leads to") => {
                Self::AddressDenied
            }
            // srt answers 500 to a request without a whole URL.
            Some("400" | "403" | "500") => Self::Denied,
            Some("421") => Self::Misdirected,
            Some("502" | "504") => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// Returns a request with CONNECT.
fn connect(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")
}

/// Returns a request with a whole URL.
fn absolute(to: &str) -> String {
    with_host(to, to)
}

/// Returns a request with a whole URL, and a header `Host` of its own.
fn with_host(to: &str, host: &str) -> String {
    format!("GET http://{to}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Returns a request with SOCKS5, which has no text: `SOCKS BYTES HOST:PORT`, with the bytes of its
/// last message in hexadecimal.
fn socks(to: &str) -> String {
    let (host, port) = to.rsplit_once(':').unwrap();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    let name = || [&[3, u8::try_from(host.len()).unwrap()], host.as_bytes()].concat();
    let host = match address {
        Ok(IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
        Ok(IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
        Err(_) => name(),
    };
    let port = port.parse::<u16>().unwrap().to_be_bytes();
    let bytes = [&[5, 1, 0][..], &host, &port].concat();
    let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("SOCKS {bytes} {to}")
}

/// Sends such a request to the gate. The answer is `SOCKS CODE`.
async fn answer_of_socks(session: &Session, request: &str) -> String {
    let text = request.split(' ').nth(1).unwrap().as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
    let bytes: Vec<u8> = text.chunks(2).map(|two| digit(&two[0]) << 4 | digit(&two[1])).collect();
    let mut client = session.connect().await;
    client.write_all(&[5, 1, 0]).await.unwrap();
    assert_eq!(exactly(&mut client, 2).await, [5, 0]);
    client.write_all(&bytes).await.unwrap();
    format!("SOCKS {}", exactly(&mut client, 2).await[1])
}

/// A user who allows everything.
#[derive(Debug)]
struct AllowAll;

#[async_trait]
impl Ask for AllowAll {
    async fn ask(&self, _: &Host, _: u16) -> Answer {
        Answer::Allow
    }
}

/// Returns the answers of the gate.
async fn answers_of_gate(work: &Work) -> Vec<String> {
    let addresses: Vec<(&str, Vec<&str>)> = work
        .names
        .iter()
        .map(|(name, list)| (name.as_str(), list.iter().map(String::as_str).collect()))
        .collect();
    let lists: Vec<[&[&str]; 1]> = addresses.iter().map(|(_, list)| [&list[..]]).collect();
    let names: Vec<(&str, &[&[&str]])> =
        addresses.iter().zip(&lists).map(|((name, _), list)| (*name, &list[..])).collect();
    let names = Names::new(&names);
    let policy = NetworkPolicy::compile(&work.network).unwrap();
    let session = Session::open_with(policy, names, Limits::default());
    session.network.set_ask(work.asks.then(|| Arc::new(AllowAll) as Arc<dyn Ask>));
    session.network.set_parent_proxy(work.network.parent_proxy.as_ref().map(|parent| {
        let proxy = ParentProxy::new().no_proxy(parent.no_proxy.as_deref().unwrap_or_default());
        let proxy = parent.http.iter().fold(proxy, |proxy, url| proxy.http(url).unwrap());
        parent.https.iter().fold(proxy, |proxy, url| proxy.https(url).unwrap())
    }));
    let mut answers = Vec::new();
    for request in &work.requests {
        if request.starts_with("SOCKS ") {
            answers.push(answer_of_socks(&session, request).await);
            continue;
        }
        let mut client = session.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = head(&mut client).await;
        if !(request.starts_with("CONNECT") && answer.starts_with("HTTP/1.1 200 ")) {
            answer.push_str(&rest(&mut client).await);
        }
        answers.push(answer);
    }
    answers
}

/// The answers of srt's proxy to each piece of work, and the keys of its section `network`.
struct OfSrt {
    keys: Vec<String>,
    answers: Vec<Vec<String>>,
}

/// Runs srt's proxy. The result is `None` if it is not installed.
async fn answers_of_srt(work: &[Work]) -> Option<OfSrt> {
    const WHAT: &str = "the same requests through the proxy of the real srt";
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR") else {
        skipped(WHAT, "`cargo xtask peers` installs it");
        return None;
    };
    if !["bwrap", "socat", "rg"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        skipped(WHAT, "packages bubblewrap, socat and ripgrep");
        return None;
    }
    let mut lines = Vec::new();
    for work in work {
        serde_json::to_writer(&mut lines, work).unwrap();
        lines.push(b'\n');
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/conformance/srt.mjs");
    let mut node = Command::new(std::env::var_os("NODE22").unwrap_or_else(|| "node".into()));
    node.arg(script).arg(package).current_dir("/");
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        node.env_remove(variable).env_remove(variable.to_lowercase());
    }
    node.stdin(Stdio::piped()).stdout(Stdio::piped());
    let run = move || {
        let mut node = node.spawn().unwrap();
        node.stdin.take().unwrap().write_all(&lines).unwrap();
        node.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let keys = serde_json::from_str(lines.next().unwrap()).unwrap();
    let answers = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    Some(OfSrt { keys, answers })
}

/// A web server whose answers have some headers.
async fn origin() -> Origin {
    Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nX-Kept: 1\r\n\r\nhello",
    )
    .await
}

/// A parent proxy that leads every request and tunnel to one origin.
async fn parent(port: u16) -> Origin {
    Origin::serving(move |mut stream, received| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        received(&head);
        let mut origin = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if head.starts_with(b"CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        } else {
            origin.write_all(&head).await.unwrap();
        }
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
    })
    .await
}
