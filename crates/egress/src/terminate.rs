//! Connections whose TLS the gate terminates, so that it reads their requests.

use std::sync::Arc;

use bytes::BytesMut;
use hyper::http::uri::Scheme;
use policy::Tls;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::authority::Leaf;
use crate::connect::{self, Blocked, Upstream};
use crate::denial::Denial;
use crate::event::Outcome;
use crate::flow::Cut;
use crate::hello::{Contents, Protocols};
use crate::http::{self, Scope, Wire};
use crate::judge::{self, Content, Target};
use crate::relay::{self, Opening};
use crate::secure::Protocol;
use crate::session::Session;

/// Returns the treatment of connections to a destination that are no plain requests.
pub(crate) fn content(session: &Session, target: &Target) -> Content {
    let policy = session.policy();
    let is_masked = session.masks().has_host(&target.host, target.port);
    if policy.treatment(&target.host) == Tls::Terminate
        || is_masked && !policy.keeps_tls(&target.host)
    {
        Content::Terminated
    } else {
        Content::Tunnel
    }
}

/// Serves a connection to a host whose requests the gate must read. Another protocol is refused.
pub(crate) async fn run(
    session: &Arc<Session>,
    cut: &Arc<Cut>,
    client: TcpStream,
    mut read: BytesMut,
    target: Target,
    upstream: Option<Upstream>,
) {
    let limit = session.handshake_timeout();
    let opening = relay::opening(&client, &mut read, session, target.port, Some(limit));
    let opening = timeout(limit, opening).await.unwrap_or(Opening::Late);
    if opening == Opening::Other && read.is_empty() && relay::has_left(&client)
        || opening == Opening::Gone
    {
        // The client only tried whether the port is open.
        return;
    }
    let judged = match &opening {
        Opening::Http(version) => {
            let scope = Scope::Fixed(target, *version);
            return http::serve(session, cut, client, read.freeze(), scope, upstream).await;
        }
        Opening::Hello(Contents { name: None, .. }) if target.host.as_address().is_none() => {
            Err(Denial::NoServerName)
        }
        Opening::Hello(contents) => match usable(contents.protocols) {
            Some(protocols) => relay::judge_hello(&target, &opening).map(|()| protocols),
            None => Err(Denial::OtherProtocols { offered: contents.others.clone() }),
        },
        Opening::BadHello => Err(Denial::UnreadableHello),
        Opening::Other | Opening::Late | Opening::Gone => Err(Denial::Termination),
    };
    let protocols = match judged {
        Ok(protocols) => protocols,
        Err(denial) => {
            match upstream {
                Some(upstream) => upstream.flow.refuse(denial.clone()),
                None => session.record(&target, Outcome::Denied(denial.clone())),
            }
            if let Opening::Hello(_) | Opening::BadHello = opening {
                relay::alert(&client);
                return relay::drain(&client).await;
            }
            return relay::refuse(&client, &read, &target, &denial).await;
        }
    };
    let wire = Wire::new(client, read.freeze(), None);
    let secure = &session.shared.secure;
    let upstream = match upstream {
        Some(upstream) => Ok(upstream),
        None => connect::connect(session, &target, Content::Terminated, cut).await,
    };
    let secured = match upstream {
        Ok(upstream) => secure_upstream(session, upstream, protocols).await,
        Err(blocked) => Err(blocked),
    };
    let leaf = match &secured {
        Err(Blocked::Denied(_)) => session.refused_leaf(&target.host),
        _ => secure.authority.leaf(&target.host).ok(),
    };
    match (secured, leaf) {
        (Ok((forward, protocol)), Some(leaf)) => {
            if let Ok(client) = secure.accept(wire, leaf, protocol, limit).await {
                let scope = Scope::Terminated(target, protocol);
                http::serve_terminated(session, cut, client, scope, forward).await;
            }
        }
        (Err(blocked), Some(leaf)) => {
            explain(session, wire, &target, &blocked, leaf, protocols).await;
        }
        (_, None) => {}
    }
}

/// Answers the requests of a client to a denied name with the refusal, whose event is recorded. It
/// is a TLS alert beyond the limit of the session, and for a hello that names another host.
pub(crate) async fn explain_denied(
    session: &Arc<Session>,
    client: TcpStream,
    read: BytesMut,
    target: &Target,
    denial: Denial,
    contents: &Contents,
) {
    let is_same = match &contents.name {
        Some(name) => judge::same_host(target, name).is_ok(),
        None => target.host.as_address().is_some(),
    };
    let leaf = if is_same { session.refused_leaf(&target.host) } else { None };
    match (leaf, usable(contents.protocols)) {
        (Some(leaf), Some(protocols)) => {
            let wire = Wire::new(client, read.freeze(), None);
            let blocked = Blocked::Denied(denial);
            explain(session, wire, target, &blocked, leaf, protocols).await;
        }
        _ => {
            relay::alert(&client);
            relay::drain(&client).await;
        }
    }
}

async fn explain(
    session: &Arc<Session>,
    client: Wire,
    target: &Target,
    blocked: &Blocked,
    leaf: Leaf,
    protocols: Protocols,
) {
    let protocol = match protocols {
        Protocols { http2: true, .. } => Protocol::Http2,
        Protocols { http1, .. } => Protocol::Http1 { by_alpn: http1 },
    };
    let limit = session.handshake_timeout();
    if let Ok(client) = session.shared.secure.accept(client, leaf, protocol, limit).await {
        http::explain(session, client, protocol, target, blocked).await;
    }
}

/// Begins TLS with the server. The client gets the protocol that the server chose.
pub(crate) async fn secure_upstream(
    session: &Arc<Session>,
    upstream: Upstream,
    protocols: Protocols,
) -> Result<(http::Forward, Protocol), Blocked> {
    let Upstream { stream, flow, .. } = upstream;
    let wire = Wire::new(stream, bytes::Bytes::new(), Some(Arc::clone(flow.traffic())));
    let host = flow.target().host.clone();
    let limit = session.handshake_timeout();
    let secured = session.shared.secure.connect(&host, wire, protocols, limit).await;
    let (stream, protocol) = match secured {
        Ok(secured) => secured,
        Err(failure) => {
            flow.fail(failure.clone());
            return Err(Blocked::Failed(failure));
        }
    };
    let max_head_bytes = session.shared.limits.max_head_bytes;
    let forward = match protocol {
        Protocol::Http1 { .. } => http::Forward::http1(stream, flow, max_head_bytes).await,
        Protocol::Http2 => http::Forward::http2(stream, Scheme::HTTPS, flow, max_head_bytes).await,
    };
    Ok((forward.map_err(Blocked::Failed)?, protocol))
}

/// Returns the offered versions of HTTP. The result is `None` if there are only other protocols.
fn usable(protocols: Protocols) -> Option<Protocols> {
    let Protocols { http1, http2, other } = protocols;
    (http1 || http2 || !other).then_some(protocols)
}
