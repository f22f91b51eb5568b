//! Connections to the outside: judge, resolve, judge each address, and dial a judged one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use policy::Host;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::denial::{Denial, Failure};
use crate::destinations::Destination;
use crate::event::Outcome;
use crate::flow::{Cut, Flow};
use crate::judge::{Content, Target};
use crate::parent::{self, Absolute};
use crate::session::Session;

/// Reason of a missing connection. Its event is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    Denied(Denial),
    Failed(Failure),
}

/// A connection to the outside.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) flow: Flow,
    /// The form of requests, if the other end is a parent proxy for them.
    pub(crate) absolute: Option<Absolute>,
}

/// Connects to a destination for one connection of the session.
pub(crate) async fn connect(
    session: &Arc<Session>,
    target: &Target,
    content: Content,
    cut: &Arc<Cut>,
) -> Result<Upstream, Blocked> {
    let blocked = match dial(session, target, content, cut).await {
        Ok(upstream) => return Ok(upstream),
        Err(blocked) => blocked,
    };
    session.record(
        target,
        match blocked.clone() {
            Blocked::Denied(denial) => Outcome::Denied(denial),
            Blocked::Failed(failure) => Outcome::Failed(failure),
        },
    );
    Err(blocked)
}

async fn dial(
    session: &Arc<Session>,
    target: &Target,
    content: Content,
    cut: &Arc<Cut>,
) -> Result<Upstream, Blocked> {
    let rule = session.ask_and_judge(target, content).await.map_err(Blocked::Denied)?;
    let terminated = match content {
        Content::Terminated => Some(session.begin_termination().map_err(Blocked::Denied)?),
        Content::Http | Content::Tunnel => None,
    };
    let deadline = Instant::now() + session.shared.limits.dial_timeout;
    // A fixed destination is dialled directly.
    let is_fixed = !session.destinations().of(&target.host, target.port).is_empty();
    let parent = session.parent().filter(|_| !is_fixed);
    if let Some(server) = parent.as_ref().and_then(|parent| parent.server(target, content)) {
        let mut upstream =
            through_parent(session, target, content, cut, rule, server, deadline).await?;
        upstream.flow.hold(terminated);
        return Ok(upstream);
    }
    let mut refused = None;
    let mut judged = Vec::new();
    for address in addresses(session, target, deadline).await? {
        match session.judge_address(target, address.ip()) {
            Ok(()) => judged.push(SocketAddr::new(address.ip().to_canonical(), address.port())),
            Err(denial) => refused = Some(denial),
        }
    }
    if let (true, Some(denial)) = (judged.is_empty(), refused) {
        return Err(Blocked::Denied(denial));
    }
    let (stream, address) = first_connected(&judged, deadline).await.map_err(Blocked::Failed)?;
    // Small messages in both directions must not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut flow = Flow::open(session, target, content, Some(address), rule, cut);
    flow.hold(terminated);
    judge_again(session, &flow, Some(address))?;
    Ok(Upstream { stream, flow, absolute: None })
}

/// Connects through a parent proxy, which resolves the name. The addresses of a name cannot be
/// judged then.
async fn through_parent(
    session: &Arc<Session>,
    target: &Target,
    content: Content,
    cut: &Arc<Cut>,
    rule: policy::Rule,
    server: &parent::Server,
    deadline: Instant,
) -> Result<Upstream, Blocked> {
    let literal = target.host.as_address();
    if let Some(address) = literal {
        session.judge_address(target, address).map_err(Blocked::Denied)?;
    }
    let addresses = resolve(session, &server.host, deadline).await?;
    let addresses: Vec<SocketAddr> =
        addresses.into_iter().map(|address| SocketAddr::new(address, server.port)).collect();
    let (mut stream, _) = first_connected(&addresses, deadline).await.map_err(Blocked::Failed)?;
    let _ = stream.set_nodelay(true);
    let absolute = match content {
        Content::Http => Some(server.absolute()),
        Content::Terminated | Content::Tunnel => {
            let tunnel = server.tunnel(&mut stream, target);
            match timeout_at(deadline, tunnel).await {
                Ok(tunnel) => tunnel.map_err(Blocked::Failed)?,
                Err(_) => return Err(Blocked::Failed(Failure::TimedOut)),
            }
            None
        }
    };
    let flow = Flow::open(session, target, content, literal, rule, cut);
    flow.traffic().set_through_parent();
    judge_again(session, &flow, literal)?;
    Ok(Upstream { stream, flow, absolute })
}

/// Judges a flow that is open. The policy may have changed before; later changes cut it.
fn judge_again(session: &Session, flow: &Flow, address: Option<IpAddr>) -> Result<(), Blocked> {
    let again = session.judge(flow.target(), flow.content(), address);
    again.map(drop).map_err(|denial| {
        flow.refuse(denial.clone());
        Blocked::Denied(denial)
    })
}

/// Returns the addresses of a destination: the fixed ones, or those of its name.
async fn addresses(
    session: &Session,
    target: &Target,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, Blocked> {
    let destinations = session.destinations();
    let fixed = destinations.of(&target.host, target.port);
    let mut found = Vec::new();
    for destination in fixed {
        match destination {
            Destination::Address(address) => found.push(*address),
            Destination::Host(host) => {
                let addresses = resolve(session, host, deadline).await?;
                found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)));
            }
        }
    }
    if fixed.is_empty() {
        let addresses = resolve(session, &target.host, deadline).await?;
        found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)));
    }
    Ok(found)
}

async fn resolve(
    session: &Session,
    host: &Host,
    deadline: Instant,
) -> Result<Vec<IpAddr>, Blocked> {
    let Some(name) = host.as_name() else {
        return Ok(host.as_address().into_iter().collect());
    };
    match timeout_at(deadline, session.shared.resolver.resolve(name)).await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(Blocked::Failed(Failure::NoSuchName)),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(Blocked::Failed(Failure::Resolver { kind: error.kind() })),
        Err(_) => Err(Blocked::Failed(Failure::TimedOut)),
    }
}

/// Tries the addresses in turn. Each gets its share of the remaining time.
async fn first_connected(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(TcpStream, IpAddr), Failure> {
    let mut failure = Failure::TimedOut;
    for (at, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address.ip())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Failure::TimedOut,
            Ok(Err(error)) => Failure::Unreachable { kind: error.kind() },
            Err(_) => Failure::TimedOut,
        };
    }
    Err(failure)
}
