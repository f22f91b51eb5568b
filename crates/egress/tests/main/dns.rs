//! Answers of the DNS listener.

use std::net::{Ipv4Addr, SocketAddr};

use egress::{Limits, Outcome, Via};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;
use tokio::net::UdpSocket;

use crate::fixture::{Names, Session, policy, soon, usual, usual_names};

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query.set_edns(Edns::new());
    query
}

pub(crate) async fn exchange(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut answer = vec![0; 4096];
    let (length, _) = soon(socket.recv_from(&mut answer)).await.unwrap();
    answer.truncate(length);
    answer
}

pub(crate) async fn ask(session: &Session, name: &str, kind: RecordType) -> Message {
    let query = query(name, kind);
    let answer = exchange(session.dns, &query.to_vec().unwrap()).await;
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.queries, query.queries, "{name}");
    answer
}

/// The code `REFUSED` (RFC 1035, section 4.1.1).
fn denied_code() -> ResponseCode {
    ResponseCode::from(0, 5)
}

/// Returns the address of a name.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> Ipv4Addr {
    let answer = exchange(server, &query(name, RecordType::A).to_vec().unwrap()).await;
    address(&Message::from_vec(&answer).unwrap()).0
}

/// Returns the only address of an answer, with its lifetime in seconds.
#[track_caller]
pub(crate) fn address(answer: &Message) -> (Ipv4Addr, u32) {
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{answer:?}");
    match &answer.answers[..] {
        [record] => match &record.data {
            RData::A(address) => (address.0, record.ttl),
            data => panic!("{data:?}"),
        },
        records => panic!("{records:?}"),
    }
}

#[tokio::test]
async fn a_name_has_an_address_that_says_whether_it_is_allowed() {
    let session = Session::open();
    let (allowed, ttl) = address(&ask(&session, "Allowed.TEST.", RecordType::A).await);
    assert_eq!((allowed.octets()[..2].to_vec(), ttl), (vec![198, 18], 60));
    assert_eq!(address(&ask(&session, "allowed.test.", RecordType::A).await).0, allowed);
    let (other, _) = address(&ask(&session, "b.allowed.test.", RecordType::A).await);
    assert_ne!(other, allowed);
    let (denied, ttl) = address(&ask(&session, "denied.test.", RecordType::A).await);
    assert_eq!((denied.octets()[..2].to_vec(), ttl), (vec![198, 19], 1));
    assert!(!session.names.asked().contains(&"denied.test".to_owned()));
}

#[tokio::test]
async fn an_allowed_name_that_does_not_exist_is_unknown() {
    let session = Session::open();
    let answer = ask(&session, "missing.allowed.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let answer = ask(&session, "missing.allowed.test.", RecordType::AAAA).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let events = session.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].outcome, Outcome::Failed(egress::Failure::NoSuchName));
    assert_eq!((events[0].host.to_string(), events[0].port), ("missing.allowed.test".into(), None));
}

#[tokio::test]
async fn a_name_whose_only_allowed_port_is_named_is_allowed() {
    let policy = policy(&["allowed.test:5432"], &[]);
    let session = Session::open_with(policy, usual_names(), Limits::default());
    let (allowed, _) = address(&ask(&session, "allowed.test.", RecordType::A).await);
    assert_eq!(allowed.octets()[1], 18);
}

#[tokio::test]
async fn other_records_are_empty_or_refused_with_the_reason() {
    let session = Session::open();
    for name in ["allowed.test.", "denied.test."] {
        for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
            let answer = ask(&session, name, kind).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
            assert!(answer.answers.is_empty());
        }
    }
    let blocked = (15, "no entry of allowedDomains covers it; add denied.test to");
    let unsupported = (21, "a session gets A records only");
    for (name, kind, extended) in [
        ("denied.test.", RecordType::TXT, blocked),
        ("denied.test.", RecordType::SRV, blocked),
        ("denied.test.", RecordType::ANY, blocked),
        ("denied.test.", RecordType::AXFR, blocked),
        ("denied.test.", RecordType::Unknown(65_399), blocked),
        ("_http._tcp.denied.test.", RecordType::SRV, blocked),
        ("allowed.test.", RecordType::TXT, unsupported),
        ("allowed.test.", RecordType::ANY, unsupported),
        ("_http._tcp.allowed.test.", RecordType::SRV, unsupported),
    ] {
        let answer = ask(&session, name, kind).await;
        assert_eq!(answer.metadata.response_code, denied_code(), "{name} {kind}");
        assert!(answer.answers.is_empty());
        let (code, text) = extended_error(&answer);
        assert_eq!(code, extended.0, "{name} {kind}");
        assert!(text.starts_with(extended.1), "{name} {kind}: {text}");
    }
    let events = session.events();
    assert_eq!(events.len(), 6);
    for event in events {
        assert!(matches!(event.outcome, Outcome::Denied(_)));
        assert_eq!(event.host.to_string(), "denied.test");
        assert_eq!((event.via, event.port), (Via::Dns, None));
    }
}

/// Returns the code and the text of an extended error (RFC 8914).
#[track_caller]
fn extended_error(answer: &Message) -> (u16, String) {
    let edns = answer.edns.as_ref().unwrap();
    match edns.option(EdnsCode::from(15)) {
        Some(EdnsOption::Unknown(_, bytes)) => {
            let (code, text) = bytes.split_first_chunk().unwrap();
            (u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap())
        }
        option => panic!("{option:?}"),
    }
}

#[tokio::test]
async fn odd_queries_are_refused_and_explained() {
    let session = Session::open();
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::Unknown(4711)] {
        let mut query = query("allowed.test.", RecordType::A);
        query.queries[0].query_class = class;
        let answer = exchange(session.dns, &query.to_vec().unwrap()).await;
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, denied_code(), "{class}");
        assert_eq!(extended_error(&answer), (21, "the only class is IN".to_owned()));
    }
    let odd = |change: fn(&mut Message)| {
        let mut query = query("allowed.test.", RecordType::A);
        change(&mut query);
        query.to_vec().unwrap()
    };
    let two: fn(&mut Message) = |query| {
        let again = query.queries[0].clone();
        query.add_query(again);
    };
    let version: fn(&mut Message) = |query| {
        query.edns.as_mut().unwrap().set_version(1);
    };
    for (query, code) in [
        (odd(two), ResponseCode::FormErr),
        (odd(|query| drop(query.queries.pop())), ResponseCode::FormErr),
        (odd(|query| query.metadata.op_code = OpCode::Update), ResponseCode::NotImp),
        (odd(|query| query.metadata.op_code = OpCode::Notify), ResponseCode::NotImp),
        (odd(version), ResponseCode::BADVERS),
    ] {
        let answer = Message::from_vec(&exchange(session.dns, &query).await).unwrap();
        // One number has two names.
        let (own, expected) = (answer.metadata.response_code, code);
        assert_eq!(u16::from(own), u16::from(expected), "{query:?}");
        assert_eq!((answer.metadata.id, answer.answers.len()), (4711, 0));
        assert_eq!(answer.edns.unwrap().version(), 0);
    }
    assert!(session.events().is_empty() && session.names.asked().is_empty());
}

/// Returns a query for a name of these labels, in any length.
pub(crate) fn raw(labels: &[&[u8]]) -> Vec<u8> {
    let mut query = vec![0x12, 0x67, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label);
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

#[tokio::test]
async fn a_name_of_any_length_has_an_answer() {
    let session = Session::open();
    let (label, last) = ([b'a'; 63], [b'a'; 61]);
    // 253 characters, which is the longest name, and one more.
    let longest = raw(&[&label, &label, &label, &last]);
    let answer = Message::from_vec(&exchange(session.dns, &longest).await).unwrap();
    assert_eq!(address(&answer).0.octets()[..2], [198, 19]);
    let mut refused = raw(&[&label, &label, &label, &last]);
    let kind = refused.len() - 3;
    refused[kind] = 16;
    refused[11] = 1;
    refused.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let answer = exchange(session.dns, &refused).await;
    assert!(answer.len() <= 512, "{}", answer.len());
    let text = extended_error(&Message::from_vec(&answer).unwrap()).1;
    assert!(text.starts_with("no entry of allowedDomains covers it; add aaaa"), "{text}");

    let longer = raw(&[&label, &label, &label, &[b'a'; 62]]);
    // The length of a label has 6 bits; the other two mark a pointer, or have no meaning.
    let wide = raw(&[&[b'a'; 64], b"test"]);
    let pointer = raw(&[&[b'a'; 192]]);
    let header = &longest[..12];
    for query in [&longer[..], &wide, &pointer, header, &longest[..40], &[b'a'; 1300][..]] {
        let mut query = query.to_vec();
        query[..4].copy_from_slice(&[0x12, 0x67, 1, 0]);
        let answer = Message::from_vec(&exchange(session.dns, &query).await).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "{query:?}");
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!((answer.metadata.id, answer.queries.len()), (0x1267, 0));
    }
}

#[tokio::test]
async fn localhost_is_the_sessions_own() {
    let session = Session::open();
    let answer = ask(&session, "localhost.", RecordType::A).await;
    assert_eq!(address(&answer).0, Ipv4Addr::LOCALHOST);
    assert!(session.names.asked().is_empty());
}

#[tokio::test]
async fn names_beyond_the_limit_are_refused_and_earlier_ones_stay() {
    let names = usual_names();
    let mut limits = Limits::default();
    limits.max_names = 16;
    let session = Session::open_with(usual(), names, limits);
    let (allowed, _) = address(&ask(&session, "allowed.test.", RecordType::A).await);
    for at in 0..16 {
        address(&ask(&session, &format!("n{at}.denied.test."), RecordType::A).await);
    }
    let answer = ask(&session, "n16.denied.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, denied_code());
    assert_eq!(session.denial(), "n16.denied.test: the session has asked for too many names");
    assert_eq!(address(&ask(&session, "allowed.test.", RecordType::A).await).0, allowed);
    address(&ask(&session, "b.allowed.test.", RecordType::A).await);
}

#[tokio::test]
async fn the_default_limit_is_4096_names() {
    let session = Session::open_with(policy(&[], &[]), Names::new(&[]), Limits::default());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut codes = Vec::new();
    for at in 0..=4096 {
        let bytes = query(&format!("n{at}.test."), RecordType::A).to_vec().unwrap();
        socket.send_to(&bytes, session.dns).await.unwrap();
        let mut answer = [0; 512];
        let (length, _) = soon(socket.recv_from(&mut answer)).await.unwrap();
        codes.push(Message::from_vec(&answer[..length]).unwrap().metadata.response_code);
    }
    assert_eq!(codes.pop(), Some(denied_code()));
    assert!(codes.iter().all(|code| *code == ResponseCode::NoError));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A changed query gets an answer that parses and belongs to it, or none. The listener serves
    /// on, and no answer has an address for a name that the policy denies.
    #[test]
    fn every_answer_belongs_to_its_query(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let valid = query("denied.test.", RecordType::A).to_vec().unwrap();
        let mut bytes = valid.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        runtime.block_on(async {
            let session = Session::open();
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(&bytes, session.dns).await.unwrap();
            socket.send_to(&valid, session.dns).await.unwrap();
            let mut answers = 0;
            let mut buffer = [0; 4096];
            // The valid query is always answered, before or after the changed one.
            while answers < 2 {
                let milliseconds = if answers == 0 { 20_000 } else { 5 };
                let patience = std::time::Duration::from_millis(milliseconds);
                let received = tokio::time::timeout(patience, socket.recv_from(&mut buffer)).await;
                let Ok(Ok((length, _))) = received else { break };
                let answer = Message::from_vec(&buffer[..length]).unwrap();
                assert_eq!(answer.metadata.message_type, MessageType::Response);
                for record in &answer.answers {
                    let RData::A(address) = &record.data else { panic!("{record:?}") };
                    assert_ne!(address.0.octets()[..2], [198, 18]);
                }
                answers += 1;
            }
            assert!(answers > 0);
        });
    }
}
