//! Tunnels to a judged destination, whose first bytes must not name another one.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::connect::Upstream;
use crate::denial::Denial;
use crate::first_bytes::{self, Protocol, Version};
use crate::flow::{Cut, Way};
use crate::hello::{self, Contents, Hello};
use crate::http;
use crate::judge::{self, Content, Target};
use crate::retry::{self, Connections, Stop};
use crate::session::Session;
use crate::ssh;
use crate::terminate;
use crate::tunnel::{self, Direction, End};

/// Bytes of one read.
const READ_BYTES: usize = 4096;
/// A port whose clients speak HTTP or TLS.
pub(crate) const HTTP_PORT: u16 = 80;
/// Bytes of the head of a frame of HTTP/2.
const HTTP_2_FRAME_HEAD: usize = 9;

/// First message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A TLS hello.
    Hello(Contents),
    /// The start of a TLS hello that cannot be read.
    BadHello,
    /// The start of a request.
    Http(Version),
    /// Bytes of any other protocol, or none at all.
    Other,
    /// The client started a message, and did not finish it in time.
    Late,
    /// The connection of the client is broken.
    Gone,
}

/// Reads the first message of a client. The bytes so far remain in `read`, also if the call is
/// dropped. It waits for the first byte as long as `first` says, or without limit.
///
/// On the port of HTTP, every message but one of TLS counts as a request: a server there may
/// understand what others do not.
pub(crate) async fn opening(
    client: &TcpStream,
    read: &mut BytesMut,
    session: &Session,
    port: u16,
    first: Option<Duration>,
) -> Opening {
    let opening = known_opening(client, read, session, first).await;
    match opening {
        Opening::Other if port == HTTP_PORT && !read.is_empty() => Opening::Http(Version::One),
        opening => opening,
    }
}

async fn known_opening(
    client: &TcpStream,
    read: &mut BytesMut,
    session: &Session,
    first: Option<Duration>,
) -> Opening {
    let limits = &session.shared.limits;
    let mut deadline = match (read.is_empty(), first) {
        (true, None) => None,
        (true, Some(first)) => Some(Instant::now() + first),
        (false, _) => Some(Instant::now() + limits.head_timeout),
    };
    let mut hello = hello::Reader::default();
    loop {
        match first_bytes::protocol(read) {
            Some(Protocol::Http(version)) => return Opening::Http(version),
            Some(Protocol::Other) => return Opening::Other,
            Some(Protocol::Tls) => match hello.read(read) {
                Hello::Whole(contents) => return Opening::Hello(contents),
                Hello::Invalid => return Opening::BadHello,
                Hello::Incomplete if read.len() >= limits.max_head_bytes => {
                    return Opening::BadHello;
                }
                Hello::Incomplete => {}
            },
            None if read.len() >= limits.max_head_bytes => return Opening::Late,
            None => {}
        }
        let was_empty = read.is_empty();
        read.reserve(READ_BYTES);
        let more = async {
            loop {
                client.readable().await?;
                match client.try_read_buf(read) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        };
        let more = match deadline {
            Some(deadline) => match timeout_at(deadline, more).await {
                Ok(more) => more,
                Err(_) if was_empty => return Opening::Other,
                Err(_) => return Opening::Late,
            },
            None => more.await,
        };
        match more {
            Ok(0) if first_bytes::is_unfinished_request(read) => {
                return Opening::Http(Version::One);
            }
            Ok(0) => return Opening::Other,
            Err(_) => return Opening::Gone,
            Ok(_) if was_empty => deadline = Some(Instant::now() + limits.head_timeout),
            Ok(_) => {}
        }
    }
}

/// Judges the name in a TLS hello.
pub(crate) fn judge_hello(target: &Target, opening: &Opening) -> Result<(), Denial> {
    match opening {
        Opening::Hello(Contents { name: Some(name), .. }) => judge::same_host(target, name),
        Opening::BadHello => Err(Denial::UnreadableHello),
        _ => Ok(()),
    }
}

/// Writes an alert to a client that began TLS, as far as its socket takes it at once. Seven bytes
/// always fit into the socket of a new connection.
pub(crate) fn alert(client: &TcpStream) {
    let _ = client.try_write(&hello::ACCESS_DENIED);
    let _ = rustix::net::shutdown(client, rustix::net::Shutdown::Write);
}

/// Refuses a client that has sent these bytes, which are neither TLS nor HTTP: in SSH, whose client
/// prints the reason, or with a reset.
pub(crate) async fn refuse(client: &TcpStream, read: &[u8], target: &Target, denial: &Denial) {
    if !ssh::is_client(read) {
        return tunnel::reset(client);
    }
    let host = target.host.with_port(target.port);
    let mut text = format!("Blocked by allowedDomains: {host}: {denial}");
    if let Some(remedy) = denial.remedy() {
        text.push_str("; ");
        text.push_str(&remedy);
    }
    answer_last(client, &ssh::refusal(&text)).await;
}

/// Returns the refusal of a client whose first message does not tell its protocol. On the port of
/// HTTP, that is also one that has sent nothing.
pub(crate) fn judge_silence(
    client: &TcpStream,
    opening: &Opening,
    read: &[u8],
    port: u16,
) -> Result<(), Denial> {
    match opening {
        Opening::Late => Err(Denial::UnfinishedMessage),
        // A client that has closed its direction only tries whether the port is open.
        Opening::Other if port == HTTP_PORT && read.is_empty() && !has_left(client) => {
            Err(Denial::NoRequest)
        }
        _ => Ok(()),
    }
}

/// Returns whether a client that has sent nothing will send nothing any more.
pub(crate) fn has_left(client: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let next = rustix::net::recv(client, &mut [0_u8; 1], flags);
    !matches!(next, Ok((1.., _)) | Err(Errno::AGAIN))
}

/// Refuses a client whose first message does not tell its protocol: in HTTP on the port of HTTP, if
/// it has not begun TLS, or with a reset.
pub(crate) async fn refuse_silence(
    client: &TcpStream,
    read: &[u8],
    target: &Target,
    denial: &Denial,
) {
    if target.port != HTTP_PORT || first_bytes::protocol(read) == Some(Protocol::Tls) {
        return refuse(client, read, target, denial).await;
    }
    answer_last(client, http::unread(target, denial).as_bytes()).await;
}

/// Writes the last answer of a connection. It fits into the socket of a new connection.
pub(crate) async fn answer_last(client: &TcpStream, answer: &[u8]) {
    let _ = client.try_write(answer);
    let _ = rustix::net::shutdown(client, rustix::net::Shutdown::Write);
    drain(client).await;
}

/// Connects a client with a destination. No byte of the client passes before its first message is
/// judged; bytes of a server that speaks first pass at once.
pub(crate) async fn run(
    session: &Arc<Session>,
    cut: &Arc<Cut>,
    client: TcpStream,
    read: Bytes,
    upstream: Upstream,
) {
    if upstream.flow.content() == Content::Terminated {
        let target = upstream.flow.target().clone();
        let read = BytesMut::from(read);
        let upstream = Some(upstream);
        return Box::pin(terminate::run(session, cut, client, read, target, upstream)).await;
    }
    let Upstream { stream, flow, absolute } = upstream;
    let traffic = Arc::clone(flow.traffic());
    let mut read = BytesMut::from(read);
    let port = flow.target().port;
    let mut back = Direction::new(&stream, &client, Bytes::new(), &traffic, Way::In);
    // A server of HTTP does not speak first, and what it would say could hide a request.
    let is_web = port == HTTP_PORT;
    let first = is_web.then_some(session.shared.limits.head_timeout);
    let opening = tokio::select! {
        opening = opening(&client, &mut read, session, port, first) => Some(opening),
        result = speak_first(&stream, &mut back), if !is_web => {
            result.ok().map(|()| Opening::Other)
        }
        () = flow.cut().ordered() => None,
    };
    let opening = match opening {
        // The server has closed its direction. The client's first message still counts.
        Some(Opening::Other) if back.is_ended() => tokio::select! {
            opening = self::opening(&client, &mut read, session, port, None) => Some(opening),
            () = flow.cut().ordered() => None,
        },
        opening => opening,
    };
    // Each request is judged, and refused in HTTP.
    let is_silent = traffic.received() == 0 && !back.holds_bytes();
    let is_http = matches!(opening, Some(Opening::Http(_))) && is_silent;
    let judged = match &opening {
        Some(_) if is_http => Ok(()),
        Some(opening) => judge_silence(&client, opening, &read, port)
            .and_then(|()| judge_hello(flow.target(), opening))
            .and_then(|()| session.masks().check_opaque(flow.target(), &read)),
        None => return abandon(&client, &stream),
    };
    if let Err(denial) = judged {
        flow.refuse(denial.clone());
        if let Some(Opening::Hello(_) | Opening::BadHello) = opening {
            alert(&client);
            drain(&client).await;
        } else if matches!(denial, Denial::NoRequest | Denial::UnfinishedMessage) {
            tunnel::reset(&stream);
            refuse_silence(&client, &read, flow.target(), &denial).await;
        } else {
            abandon(&client, &stream);
        }
        return;
    }
    match opening {
        Some(Opening::Gone) | None => abandon(&client, &stream),
        Some(Opening::Http(version)) if is_http => {
            drop(back);
            let scope = http::Scope::Fixed(flow.target().clone(), version);
            let upstream = Some(Upstream { stream, flow, absolute });
            Box::pin(http::serve(session, cut, client, read.freeze(), scope, upstream)).await;
        }
        Some(Opening::Hello(_)) if is_silent => {
            drop(back);
            let ends = Connections { client: &client, server: &stream, flow: &flow };
            let passed = tokio::select! {
                passed = retry::pass_hello(session, ends, &mut read) => passed,
                () = flow.cut().ordered() => Err(Stop::Gone),
            };
            match passed {
                Ok(received) => {
                    let client = End { stream: client, read: read.freeze() };
                    let server = End { stream, read: received };
                    return tunnel::run(client, server, &flow).await;
                }
                Err(Stop::Denied(denial)) => {
                    flow.refuse(denial);
                    tunnel::reset(&stream);
                    alert(&client);
                    return drain(&client).await;
                }
                Err(Stop::Failed(failure)) => flow.fail(failure),
                Err(Stop::Gone) => {}
            }
            abandon(&client, &stream);
        }
        Some(_) => {
            let pending = read.freeze();
            let mut out = Direction::new(&client, &stream, pending, &traffic, Way::Out);
            tunnel::finish(&mut out, &mut back, &flow).await;
        }
    }
}

/// Passes on what a server says before its client. A server of HTTP/2 may begin before it knows
/// that the client speaks HTTP/2 too. Its bytes wait, because the gate then reads them itself.
async fn speak_first(server: &TcpStream, back: &mut Direction<'_>) -> std::io::Result<()> {
    let mut first = [0; HTTP_2_FRAME_HEAD];
    if !back.is_ended() && server.peek(&mut first).await? == first.len() && is_settings(first) {
        return std::future::pending().await;
    }
    back.run().await
}

/// Returns whether a frame of HTTP/2 begins the direction of a server: `SETTINGS` of the
/// connection (RFC 9113, sections 4.1 and 6.5).
fn is_settings(head: [u8; HTTP_2_FRAME_HEAD]) -> bool {
    let [0, length, _, 4, 0, 0, 0, 0, 0] = head else { return false };
    // The largest frame before settings.
    length <= 0x40
}

fn abandon(client: &TcpStream, upstream: &TcpStream) {
    tunnel::reset(client);
    tunnel::reset(upstream);
}

/// Reads and drops what a client sends, for a short time. A socket that is closed with unread bytes
/// sends a reset, which would overtake the answer.
pub(crate) async fn drain(client: &TcpStream) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut dropped = [0; 4096];
    let drain = async {
        while client.readable().await.is_ok() {
            match client.try_read(&mut dropped) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, drain).await;
}
