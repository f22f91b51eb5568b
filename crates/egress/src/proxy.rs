//! The proxy listener: HTTP or SOCKS5, by the first byte.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{self, Blocked};
use crate::denial::Failure;
use crate::event::Via;
use crate::flow::Cut;
use crate::http::{self, Scope};
use crate::judge::Target;
use crate::relay;
use crate::session::Session;
use crate::socks::{self, Parsed, Reply};
use crate::terminate;

pub(crate) async fn serve(session: &Arc<Session>, cut: &Arc<Cut>, client: TcpStream) {
    let head_timeout = session.shared.limits.head_timeout;
    let mut first = [0];
    match timeout(head_timeout, client.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        _ => return,
    }
    if first[0] == socks::VERSION {
        socks(session, cut, client).await;
    } else {
        http::serve(session, cut, client, Bytes::new(), Scope::Proxy, None).await;
    }
}

async fn socks(session: &Arc<Session>, cut: &Arc<Cut>, mut client: TcpStream) {
    let mut read = BytesMut::new();
    let negotiation =
        timeout(session.shared.limits.head_timeout, negotiate(&mut client, &mut read));
    let Ok(Some((host, port))) = negotiation.await else {
        relay::drain(&client).await;
        return;
    };
    let target = Target::new(session, host, port, Via::Socks);
    match connect::connect(session, &target, terminate::content(session, &target), cut).await {
        Ok(upstream) => {
            if client.write_all(&Reply::Succeeded.bytes()).await.is_ok() {
                relay::run(session, cut, client, read.freeze(), upstream).await;
            }
        }
        Err(blocked) => {
            let _ = client.write_all(&reply(&blocked).bytes()).await;
            let _ = client.shutdown().await;
            relay::drain(&client).await;
        }
    }
}

fn reply(blocked: &Blocked) -> Reply {
    match blocked {
        Blocked::Denied(_) => Reply::NotAllowed,
        Blocked::Failed(Failure::TimedOut) => Reply::TimedOut,
        Blocked::Failed(Failure::Unreachable { kind: std::io::ErrorKind::ConnectionRefused }) => {
            Reply::Unavailable
        }
        Blocked::Failed(_) => Reply::HostUnreachable,
    }
}

/// Reads the greeting and the request. The result is `None` if the client broke the protocol, which
/// it then knows by an answer.
async fn negotiate(client: &mut TcpStream, read: &mut BytesMut) -> Option<(policy::Host, u16)> {
    let without_authentication = message(client, read, socks::greeting).await?;
    if !without_authentication {
        let _ = client.write_all(&socks::NO_METHOD).await;
        return None;
    }
    client.write_all(&socks::NO_AUTHENTICATION).await.ok()?;
    message(client, read, socks::request).await
}

async fn message<T>(
    client: &mut TcpStream,
    read: &mut BytesMut,
    parse: fn(&[u8]) -> Parsed<T>,
) -> Option<T> {
    loop {
        match parse(read) {
            Parsed::Message(message, length) => {
                read.advance(length);
                return Some(message);
            }
            Parsed::Invalid(reply) => {
                let _ = client.write_all(&reply.bytes()).await;
                return None;
            }
            // The parser bounds the length of a message.
            Parsed::Incomplete => match client.read_buf(read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            },
        }
    }
}
