//! The DNS listener: addresses that stand for names. No query leaves the host.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, RecordSet, RecordType};
use policy::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::datagrams;
use crate::denial::{Denial, Failure};
use crate::event::{Outcome, Via};
use crate::names::Range;
use crate::session::Session;

/// Queries of one session at once. Further ones wait in the socket.
const MAX_QUERIES: usize = 64;
/// Bytes of a query. Longer ones are cut, and then answered as malformed.
const MAX_QUERY_BYTES: usize = 1232;
/// Bytes of a header (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;
/// Bytes of the explanation of a refusal. With the longest name, the answer still fits into the 512
/// bytes that every client accepts.
const MAX_EXPLANATION: usize = 200;
/// Seconds for which a session may keep an answer. The address of a name never changes; a decision
/// about it may.
const TTL_ALLOWED: u32 = 60;
const TTL_DENIED: u32 = 1;
/// Option and values of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
const BLOCKED: u16 = 15;
const NOT_SUPPORTED: u16 = 21;
const NETWORK_ERROR: u16 = 23;

/// Answers queries until the future is dropped.
pub(crate) async fn serve(session: Arc<Session>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(MAX_QUERIES));
    let mut tasks = JoinSet::new();
    let mut buffer = [0; MAX_QUERY_BYTES];
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        while tasks.try_join_next().is_some() {}
        let Ok((length, client)) = datagrams::receive(&socket, &mut buffer).await else {
            // An earlier answer reached no client. That concerns no other query.
            tokio::task::yield_now().await;
            continue;
        };
        let query = buffer[..length].to_vec();
        let (session, socket) = (Arc::clone(&session), Arc::clone(&socket));
        let answered = async move {
            if let Some(answer) = answer(&session, &query).await {
                // A client that is gone needs no answer.
                let _ = datagrams::send(&socket, &answer, &client).await;
            }
            drop(permit);
        };
        tasks.spawn(answered.in_current_span());
    }
}

/// Answers the queries of a TCP connection, each after its length (RFC 1035, section 4.2.2).
pub(crate) async fn serve_stream(session: &Session, mut client: TcpStream) {
    let mut query = Vec::new();
    let next = async |client: &mut TcpStream, query: &mut Vec<u8>| {
        let length = client.read_u16().await?;
        query.resize(usize::from(length), 0);
        client.read_exact(query).await
    };
    let limit = session.shared.limits.head_timeout;
    while let Ok(Ok(_)) = timeout(limit, next(&mut client, &mut query)).await {
        let Some(answer) = answer(session, &query).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let bytes = [&length.to_be_bytes()[..], &answer].concat();
        match timeout(limit, client.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Returns the answer to a query. The result is `None` for bytes that are no query.
pub(crate) async fn answer(session: &Session, bytes: &[u8]) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(bytes) else { return malformed(bytes) };
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let version = query.edns.as_ref().map_or(0, Edns::version);
    let content = match (query.metadata.op_code, &query.queries[..]) {
        // RFC 6891, section 6.1.3.
        _ if version != 0 => Content::error(ResponseCode::BADVERS, None),
        (OpCode::Query, [question]) => {
            answer.add_query(question.clone());
            content(session, question).await
        }
        (OpCode::Query, _) => Content::error(ResponseCode::FormErr, None),
        _ => Content::error(ResponseCode::NotImp, None),
    };
    answer.metadata.response_code = content.code;
    if let (Some((address, ttl)), Some(question)) = (content.address, query.queries.first()) {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        let mut records = RecordSet::with_ttl(question.name.clone(), data.record_type(), ttl);
        records.add_rdata(data);
        answer.add_answers(records.records_without_rrsigs().cloned());
    }
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        if let Some((error, explanation)) = content.extended_error {
            let bytes = [&error.to_be_bytes()[..], explanation.as_bytes()].concat();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, bytes));
        }
        answer.set_edns(edns);
    }
    answer.to_vec().ok()
}

/// Returns the answer to a query that cannot be read, such as one with a name that is too long: a
/// header with the code `FORMERR`. A client would wait for an answer otherwise.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    /// Bits of the flags: an answer, recursion that is available, and the code.
    const ANSWER: u8 = 0x80;
    const AVAILABLE: u8 = 0x80;
    const FORMAT_ERROR: u8 = 1;
    /// Bits that an answer repeats: the operation, and recursion that is desired.
    const REPEATED: u8 = 0x79;
    let [id_high, id_low, flags, ..] = *bytes.get(..HEADER_BYTES)? else { return None };
    let is_query = flags & ANSWER == 0;
    let flags = [ANSWER | flags & REPEATED, AVAILABLE | FORMAT_ERROR];
    let header = [&[id_high, id_low][..], &flags, &[0; HEADER_BYTES - 4]].concat();
    is_query.then_some(header)
}

/// The code `REFUSED` (RFC 1035, section 4.1.1).
fn denied_code() -> ResponseCode {
    ResponseCode::from(0, 5)
}

/// Content of an answer.
struct Content {
    code: ResponseCode,
    address: Option<(IpAddr, u32)>,
    /// A code, and an explanation.
    extended_error: Option<(u16, String)>,
}

impl Content {
    /// The name exists, and has no record of the type.
    const EMPTY: Self = Self { code: ResponseCode::NoError, address: None, extended_error: None };

    fn error(code: ResponseCode, extended_error: Option<(u16, &str)>) -> Self {
        let extended_error = extended_error.map(|(error, explanation)| {
            let end = explanation.floor_char_boundary(MAX_EXPLANATION);
            (error, explanation[..end].to_owned())
        });
        Self { code, address: None, extended_error }
    }

    fn address(address: impl Into<IpAddr>, ttl: u32) -> Self {
        Self { address: Some((address.into(), ttl)), ..Self::EMPTY }
    }
}

async fn content(session: &Session, question: &Query) -> Content {
    if question.query_class != DNSClass::IN {
        return Content::error(denied_code(), Some((NOT_SUPPORTED, "the only class is IN")));
    }
    // Addresses have no names.
    if question.query_type == RecordType::PTR {
        return Content::error(ResponseCode::NXDomain, None);
    }
    let Some(host) = host(question) else {
        return Content::error(ResponseCode::NXDomain, None);
    };
    if host.is_loopback() {
        return match question.query_type {
            RecordType::A => Content::address(Ipv4Addr::LOCALHOST, TTL_ALLOWED),
            RecordType::AAAA => Content::address(std::net::Ipv6Addr::LOCALHOST, TTL_ALLOWED),
            _ => Content::EMPTY,
        };
    }
    if session.policy().reaches(&host) {
        allowed(session, &host, question.query_type).await
    } else {
        denied(session, &host, question.query_type)
    }
}

/// Answers for an allowed name, if the host can resolve it.
async fn allowed(session: &Session, host: &Host, kind: RecordType) -> Content {
    // IPv4 is enough for the way to the gate; the gate itself uses both versions. Without an
    // `HTTPS` record, a client has no key for an encrypted hello.
    match kind {
        RecordType::A | RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => {}
        _ => {
            let explanation = "a session gets A records only";
            return Content::error(denied_code(), Some((NOT_SUPPORTED, explanation)));
        }
    }
    // A parent proxy resolves names itself, and the host may be unable to. A name with a fixed
    // destination need not exist elsewhere.
    let parent = session.parent();
    let is_known = session.destinations().has(host);
    if !is_known && !parent.is_some_and(|parent| parent.covers(host)) {
        let resolve = session.shared.resolver.resolve(host.as_name().unwrap_or_default());
        match timeout(session.shared.limits.dial_timeout, resolve).await {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                fail(session, host, kind, Failure::NoSuchName);
                return Content::error(ResponseCode::NXDomain, None);
            }
            Ok(Ok(_)) => {}
            failed => {
                let failure = match failed {
                    Ok(Err(error)) => Failure::Resolver { kind: error.kind() },
                    _ => Failure::TimedOut,
                };
                fail(session, host, kind, failure);
                let explanation = "the host cannot ask for the name now";
                return Content::error(ResponseCode::ServFail, Some((NETWORK_ERROR, explanation)));
            }
        }
    }
    if kind != RecordType::A {
        return Content::EMPTY;
    }
    let address = session.names().address(host, Range::Allowed);
    match address {
        Some(address) => Content::address(address, TTL_ALLOWED),
        None => refuse(session, host, Denial::TooManyNames),
    }
}

/// Answers for a denied name, which is never resolved. A connection to the address is refused with
/// the reason; tools would repeat a query for a name without one.
fn denied(session: &Session, host: &Host, kind: RecordType) -> Content {
    match kind {
        RecordType::A => {}
        RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => return Content::EMPTY,
        _ => {
            // No port decides here, and port 0 is in no list.
            let decided = Denial::of(session.policy().decide(host, 0));
            let denial = decided.err().unwrap_or(Denial::UnknownAddress);
            return refuse(session, host, denial);
        }
    }
    let address = session.names().address(host, Range::Denied);
    match address {
        Some(address) => Content::address(address, TTL_DENIED),
        None => refuse(session, host, Denial::TooManyNames),
    }
}

fn refuse(session: &Session, host: &Host, denial: Denial) -> Content {
    let explanation = match denial.remedy() {
        Some(remedy) => format!("{denial}; {remedy}"),
        None => denial.to_string(),
    };
    session.record_flow(host, None, Via::Dns, Outcome::Denied(denial), None);
    Content::error(denied_code(), Some((BLOCKED, &explanation)))
}

/// Records an allowed name that the host cannot resolve. A client asks for several types at once.
fn fail(session: &Session, host: &Host, kind: RecordType, failure: Failure) {
    if kind == RecordType::A {
        session.record_flow(host, None, Via::Dns, Outcome::Failed(failure), None);
    }
}

/// Returns the name of a question, if a host can have it. A record of a service, such as `SRV` for
/// `_http._tcp.NAME` (RFC 2782), belongs to the host NAME.
fn host(question: &Query) -> Option<Host> {
    let is_of_service = !matches!(
        question.query_type,
        RecordType::A | RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB
    );
    let labels = question.name.iter();
    let mut text = String::new();
    for label in labels.skip_while(|label| is_of_service && label.starts_with(b"_")) {
        let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    Host::parse(&text).ok().filter(|host| host.as_name().is_some())
}
