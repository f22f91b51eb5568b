//! A second TLS hello, for which a server asks (RFC 8446, section 4.1.4). It may name another host
//! than the first one, so it is judged too.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::denial::{Denial, Failure};
use crate::flow::{Flow, Way};
use crate::hello::{self, Hello};
use crate::judge;
use crate::records::{self, HANDSHAKE, RECORD_HEAD};
use crate::session::Session;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const SERVER_HELLO: u8 = 2;
/// The random value by which a hello of a server asks for another hello of the client.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// The place of the random value in the first record of a server.
const RANDOM: Range<usize> = 11..43;
/// Bytes of one read.
const READ_BYTES: usize = 4096;

/// Reason not to continue a connection.
#[derive(Debug)]
pub(crate) enum Stop {
    Denied(Denial),
    Failed(Failure),
    /// An end has closed the connection, or the client did not finish its message in time.
    Gone,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Connections<'c> {
    pub(crate) client: &'c TcpStream,
    pub(crate) server: &'c TcpStream,
    pub(crate) flow: &'c Flow,
}

/// Passes the judged hello at the start of `read`, and the answer of the server. If that asks for
/// another hello, this is judged, and passes too. Later bytes of the client remain in `read`; those
/// of the server are the result.
pub(crate) async fn pass_hello(
    session: &Session,
    ends: Connections<'_>,
    read: &mut BytesMut,
) -> Result<Bytes, Stop> {
    let limits = &session.shared.limits;
    let Connections { client, server, flow } = ends;
    // Nothing else may be in its records: the server could take it for the second hello.
    let end = records::end_of_message(read).ok_or(Stop::Denied(Denial::UnreadableHello))?;
    send(server, &read.split_to(end), flow, Way::Out).await?;
    let mut answer = BytesMut::new();
    let answered = async {
        while !is_known(&answer) && receive(server, &mut answer).await? > 0 {}
        io::Result::Ok(())
    };
    match timeout(limits.dial_timeout, answered).await {
        Ok(answered) => answered?,
        Err(_) => return Err(Stop::Failed(Failure::TimedOut)),
    }
    if !asks_for_retry(&answer) {
        return Ok(answer.freeze());
    }
    send(client, &answer, flow, Way::In).await?;
    match timeout(limits.head_timeout, second_hello(session, ends, read)).await {
        Ok(passed) => passed.map(|()| Bytes::new()),
        Err(_) => Err(Stop::Gone),
    }
}

/// Passes what a client sends before its second hello, and judges this.
async fn second_hello(
    session: &Session,
    ends: Connections<'_>,
    read: &mut BytesMut,
) -> Result<(), Stop> {
    let Connections { client, server, flow } = ends;
    let mut reader = hello::Reader::default();
    loop {
        match read.first() {
            // Early data, which a server drops that has asked for another hello, and warnings,
            // after which it goes on.
            Some(&(CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA)) => {
                if let Some(end) = records::end_of(read, 0).filter(|end| *end <= read.len()) {
                    send(server, &read.split_to(end), flow, Way::Out).await?;
                    continue;
                }
            }
            Some(&HANDSHAKE) => match reader.read(read) {
                Hello::Whole(contents) => {
                    let Some(name) = &contents.name else { return Ok(()) };
                    return judge::same_host(flow.target(), name).map_err(Stop::Denied);
                }
                Hello::Incomplete if read.len() < session.shared.limits.max_head_bytes => {}
                _ => return Err(Stop::Denied(Denial::UnreadableHello)),
            },
            Some(_) => return Err(Stop::Denied(Denial::UnreadableHello)),
            None => {}
        }
        if receive(client, read).await? == 0 {
            return Ok(());
        }
    }
}

/// Returns whether the first bytes of a server decide if it asks for another hello.
fn is_known(answer: &[u8]) -> bool {
    answer.len() >= RANDOM.end
        || answer.first().is_some_and(|kind| *kind != HANDSHAKE)
        || answer.get(RECORD_HEAD).is_some_and(|kind| *kind != SERVER_HELLO)
}

fn asks_for_retry(answer: &[u8]) -> bool {
    answer.first() == Some(&HANDSHAKE)
        && answer.get(RECORD_HEAD) == Some(&SERVER_HELLO)
        && answer.get(RANDOM) == Some(&RETRY[..])
}

async fn receive(from: &TcpStream, read: &mut BytesMut) -> io::Result<usize> {
    read.reserve(READ_BYTES);
    from.async_io(Interest::READABLE, || from.try_read_buf(read)).await
}

async fn send(to: &TcpStream, mut bytes: &[u8], flow: &Flow, way: Way) -> io::Result<()> {
    while !bytes.is_empty() {
        let wrote = to.async_io(Interest::WRITABLE, || to.try_write(bytes)).await?;
        flow.traffic().count(way, wrote);
        bytes = &bytes[wrote..];
    }
    Ok(())
}
