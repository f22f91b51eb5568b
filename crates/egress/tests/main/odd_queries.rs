//! Rare spellings and parts of DNS: none reaches a denied name.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;

use crate::dns::{address, ask, exchange, raw};
use crate::fixture::{Session, soon};

#[tokio::test]
async fn no_spelling_of_a_query_reaches_a_denied_name() {
    let session = Session::open();
    let answered = async |labels: &[&[u8]]| {
        Message::from_vec(&exchange(session.dns, &raw(labels)).await).unwrap()
    };
    // Each spelling has the address of its canonical name.
    let denied = address(&ask(&session, "denied.test.", RecordType::A).await).0;
    for labels in [
        &[&b"DENIED"[..], b"tEST"][..],
        &["ｄenied".as_bytes(), b"test"],
        &["den\u{ad}ied".as_bytes(), b"test"],
        &["denied。test".as_bytes()],
        &["denied\u{ff0e}test".as_bytes()],
    ] {
        let answer = answered(labels).await;
        assert_eq!(address(&answer).0, denied, "{labels:?}");
    }
    // No host has these names.
    for labels in [
        &[&b"denied.test"[..]][..],
        &[b"allowed.test"],
        &[b"allowed.test\0", b"denied", b"test"],
        &[b"allowed", b"test\0.denied.test"],
        &[b"x\xff", b"allowed", b"test"],
        &[b"xn--", b"allowed", b"test"],
        &[b"xn--a", b"allowed", b"test"],
        &[b" allowed", b"test"],
        &[b"denied@allowed", b"test"],
        &[b"[", b"test"],
        &[b"127", b"0", b"0", b"1"],
        &[b"0x7f", b"1"],
    ] {
        let answer = answered(labels).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{labels:?}");
    }
    assert!(!session.names.asked().iter().any(|name| name.contains("denied")));
}

#[tokio::test]
async fn odd_options_and_records_of_a_query_change_no_answer() {
    let session = Session::open();
    let plain = raw(&[b"allowed", b"test"]);
    let option = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let expected = address(&Message::from_vec(&exchange(session.dns, &plain).await).unwrap()).0;
    // A client subnet, a cookie, padding, a size of 0, and DNSSEC.
    let options: [&[u8]; 5] = [
        &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 8, 0, 4, 0, 1, 0, 0],
        &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 12, 0, 2, 0, 0],
        &[0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0],
    ];
    for extra in options {
        let mut query = plain.clone();
        query[11] = 1;
        query.extend(extra);
        let answer = Message::from_vec(&exchange(session.dns, &query).await).unwrap();
        assert_eq!(address(&answer).0, expected, "{extra:?}");
    }
    // Two options, an option that is cut, an answer in the query, and bytes behind it.
    let mut two = [&plain[..], &option, &option].concat();
    two[11] = 2;
    let mut cut = [&plain[..], &option[..7]].concat();
    cut[11] = 1;
    let mut answered =
        [&plain[..], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]].concat();
    answered[7] = 1;
    let behind = [&plain[..], b"denied"].concat();
    for (query, is_read) in [(two, false), (cut, false), (answered, true), (behind, true)] {
        let answer = Message::from_vec(&exchange(session.dns, &query).await).unwrap();
        match is_read {
            true => assert_eq!(address(&answer).0, expected, "{query:?}"),
            false => assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "{query:?}"),
        }
    }
    let mut response = plain.clone();
    response[2] |= 0x80;
    // No answer: the next one is for the next query.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&response, session.dns).await.unwrap();
    socket.send_to(&plain, session.dns).await.unwrap();
    let mut buffer = [0; 1024];
    let length = soon(socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(address(&Message::from_vec(&buffer[..length]).unwrap()).0, expected);
    assert!(session.events().is_empty());
}
