//! Requests behind a good one on the same connection: each is judged on its own.

use std::time::Duration;

use egress::{Limits, NetworkEvent, Outcome};
use secrets::{Mask, Masks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fixture::{Origin, Session, exactly, head, rest, soon, usual, usual_names};
use crate::secure::{H1, SecureOrigin};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const AFTER_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                           HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Returns good first requests to a host, each in another framing.
fn first_requests(to: &str) -> [String; 7] {
    [
        "GET / HTTP/1.1\r\nHost: TO\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: TO\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: TO\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: TO\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n\
         3;e=1\r\nabc\r\n0\r\nx: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: TO\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: TO\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: TO\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ]
    .map(|request| request.replace("TO", to))
}

/// Writes bytes in pieces, with time between them for the gate to read each.
async fn write_in_pieces(client: &mut TcpStream, bytes: &[u8], piece: usize) {
    client.set_nodelay(true).unwrap();
    for part in bytes.chunks(piece) {
        // The gate may have refused the rest already.
        if client.write_all(part).await.is_err() {
            return;
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

/// Reads final answers until one refuses, and returns that one.
async fn refusal(client: &mut TcpStream, case: &str) -> String {
    for _ in 0..4 {
        let head = head(client).await;
        if head.starts_with("HTTP/1.1 200 ") {
            exactly(client, 5).await;
        } else if !head.starts_with("HTTP/1.1 1") {
            return head + &rest(client).await;
        }
    }
    panic!("{case}: no refusal")
}

#[tokio::test]
async fn a_request_behind_a_good_one_is_judged_in_every_framing() {
    for answer in [OK, AFTER_HINTS] {
        let (session, origin) = (Session::open(), Origin::answering(answer).await);
        let to = format!("allowed.test:{}", origin.port);
        for first in first_requests(&to) {
            for (second, status) in [
                ("GET /second HTTP/1.1\r\nHost: denied.test\r\n", "421"),
                ("GET /second HTTP/1.1\r\n", "421"),
                ("GET /second HTTP/1.1\r\nHost: TO\r\nHost: denied.test\r\n", "421"),
                ("GET http://denied.test/second HTTP/1.1\r\nHost: TO\r\n", "421"),
                ("GET http://TO@denied.test/second HTTP/1.1\r\nHost: TO\r\n", "421"),
                ("CONNECT denied.test:80 HTTP/1.1\r\nHost: TO\r\n", "400"),
            ] {
                let second = second.replace("TO", &to);
                let both = format!("{first}{second}Connection: close\r\n\r\n");
                for piece in [usize::MAX, first.len(), first.len() + 9, 40] {
                    let mut client = session.tunnel(&to).await;
                    write_in_pieces(&mut client, both.as_bytes(), piece).await;
                    let answer = refusal(&mut client, &both).await;
                    let expected = format!("HTTP/1.1 {status} ");
                    assert!(answer.starts_with(&expected), "{piece} {both}: {answer}");
                }
            }
        }
        let received = origin.received();
        assert!(!received.contains("second") && !received.contains("denied"), "{received}");
    }
}

#[tokio::test]
async fn a_placeholder_behind_a_good_request_is_refused() {
    let session = Session::open_with(usual(), usual_names(), Limits::default());
    let mask = Mask::new("KEY", "a long secret value".into(), ["other.test"]);
    let masks = Masks::new([mask]).unwrap();
    session.network.set_masks(&masks).unwrap();
    let own = masks.placeholder("KEY").unwrap();
    let origin = Origin::answering(OK).await;
    let to = format!("allowed.test:{}", origin.port);
    for first in first_requests(&to) {
        for second in [
            format!("GET /second HTTP/1.1\r\nHost: {to}\r\nX-Key: {own}\r\n"),
            format!("GET /second?key={own} HTTP/1.1\r\nHost: {to}\r\n"),
            format!("GET /{own} HTTP/1.1\r\nHost: {to}\r\n"),
        ] {
            let both = format!("{first}{second}Connection: close\r\n\r\n");
            for piece in [usize::MAX, first.len(), 40] {
                let mark = session.network.mark();
                let mut client = session.tunnel(&to).await;
                write_in_pieces(&mut client, both.as_bytes(), piece).await;
                let answer = refusal(&mut client, &both).await;
                assert!(answer.starts_with("HTTP/1.1 403 Blocked secret"), "{both}: {answer}");
                let events = session.network.events_since(mark);
                let is_denied = |outcome: &Outcome| matches!(outcome, Outcome::Denied(_));
                assert!(events.iter().any(|event| is_denied(&event.outcome)), "{events:?}");
            }
        }
    }
    let received = origin.received();
    assert!(!received.contains("second") && !received.contains(own), "{received}");
}

/// Requests that hyper cannot read, with their problems.
const UNREADABLE: [(&str, &str); 5] = [
    ("GET /second HTTP/9.9\r\n\r\n", "invalid HTTP version"),
    ("G\x01T /second HTTP/1.1\r\n\r\n", "invalid HTTP method"),
    ("GET /second\x7f HTTP/1.1\r\n\r\n", "invalid URI"),
    ("GET /second HTTP/1.1\r\nX\0: 1\r\n\r\n", "invalid HTTP header"),
    ("POST /second HTTP/1.1\r\nContent-Length: x\r\n\r\n", "invalid content-length"),
];

/// Returns the text of the only refusal among events.
#[track_caller]
fn denial(events: &[NetworkEvent]) -> String {
    let denied = events.iter().filter_map(|event| match &event.outcome {
        Outcome::Denied(denial) => Some(denial.to_string()),
        _ => None,
    });
    let denied: Vec<_> = denied.collect();
    let [denial] = &denied[..] else { panic!("{events:?}") };
    denial.clone()
}

#[tokio::test]
async fn an_unreadable_request_behind_a_good_one_gets_the_reason() {
    let (session, origin) = (Session::open(), Origin::answering(OK).await);
    let to = format!("allowed.test:{}", origin.port);
    for first in first_requests(&to) {
        for (second, problem) in UNREADABLE {
            let both = format!("{first}{second}");
            for piece in [usize::MAX, first.len(), first.len() + 9, 40] {
                let mark = session.network.mark();
                let mut client = session.tunnel(&to).await;
                write_in_pieces(&mut client, both.as_bytes(), piece).await;
                let answer = refusal(&mut client, &both).await;
                let rule = format!("the request is not valid HTTP: {problem}");
                let text = format!(
                    "Bad request: {to}\nRule: {rule}\nRemedy: send valid HTTP, or use TLS\n"
                );
                let is_explained =
                    answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.ends_with(&text);
                assert!(is_explained, "{piece} {both}: {answer}");
                assert_eq!(denial(&session.network.events_since(mark)), rule);
            }
        }
    }
    assert!(!origin.received().contains("second"), "{}", origin.received());
}

#[tokio::test]
async fn an_unreadable_request_to_the_proxy_behind_a_good_one_gets_the_reason() {
    let (session, origin) = (Session::open(), Origin::answering(OK).await);
    let to = format!("allowed.test:{}", origin.port);
    let first = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n");
    for (second, problem) in UNREADABLE {
        let mut client = session.connect().await;
        client.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
        let answer = refusal(&mut client, second).await;
        assert!(answer.ends_with(&format!("Bad request: {problem}\n")), "{answer}");
    }
}

#[tokio::test]
async fn an_unreadable_request_inside_terminated_tls_gets_the_reason() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let to = format!("allowed.test:{}", origin.port);
    let good = format!("GET /first HTTP/1.1\r\nHost: {to}\r\n\r\n");
    for first in ["", &good, &good.repeat(3)] {
        for (second, problem) in UNREADABLE {
            let mark = masked.session.network.mark();
            let mut client = masked.tls("allowed.test", H1).await.unwrap();
            client.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
            let mut answer = String::new();
            soon(client.read_to_string(&mut answer)).await.unwrap();
            let rule = format!("the request is not valid HTTP: {problem}");
            let text = format!("Bad request: {to}\nRule: {rule}\nRemedy: send valid HTTP\n");
            assert!(answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert!(answer.ends_with(&text), "{second}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), first.lines().count() / 3 + 1);
            // A first request is that of the connection to the server.
            let events = masked.session.network.events_since(mark);
            assert_eq!(denial(&events), rule);
        }
    }
    while origin.has_received() {
        assert_eq!(origin.received().head.uri.path(), "/first");
    }
}

#[tokio::test]
async fn a_head_beyond_a_limit_gets_the_limit_and_is_recorded() {
    let mut limits = Limits::default();
    limits.max_head_bytes = 8192;
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::answering(OK).await;
    let to = format!("allowed.test:{}", origin.port);
    let first = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let long = format!("GET /second HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9000));
    let many = format!("GET /second HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(101));
    for first in ["", &first] {
        for (second, limit) in [(&long, "8192 bytes"), (&many, "100 headers")] {
            let mark = session.network.mark();
            let mut client = session.tunnel(&to).await;
            client.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
            let answer = refusal(&mut client, limit).await;
            let second = &second[..20];
            let rule = format!("the head of the request has more than {limit}");
            assert!(answer.starts_with("HTTP/1.1 431 "), "{first} {second}: {answer}");
            let text = format!("Rule: {rule}\nRemedy: send fewer or shorter headers\n");
            assert!(answer.ends_with(&text), "{answer}");
            assert_eq!(denial(&session.network.events_since(mark)), rule);
        }
    }
    let answer = session.send(&many.replace("/second", &format!("http://{to}/"))).await;
    assert!(answer.ends_with("the head of the request has more than 100 headers\n"), "{answer}");
    assert!(!origin.received().contains("second"), "{}", origin.received());
}

#[tokio::test]
async fn a_head_that_is_broken_off_is_recorded_with_the_reason() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(300);
    let session = Session::open_with(usual(), usual_names(), limits);
    let origin = Origin::answering(OK).await;
    let to = format!("allowed.test:{}", origin.port);
    let first = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let closed = "the client closed before the end of the head of its request";
    let late = "the client did not finish the head of its request in time";
    for (first, second, is_closed, reason) in [
        ("", "GET /second HTTP/1.1\r\nHost: al", true, Some(closed)),
        (&*first, "GET /second HTTP/1.1\r\nHost: al", true, Some(closed)),
        (&first, "G", true, Some(closed)),
        (&first, "GET /second HTTP/1.1\r\nHost: al", false, Some(late)),
        (&first, "", true, None),
        (&first, "", false, None),
        (&first, "\r\n", true, None),
    ] {
        let (case, mark) = (format!("{first:?} {second:?}"), session.network.mark());
        let mut client = session.tunnel(&to).await;
        client.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
        if is_closed {
            client.shutdown().await.unwrap();
        }
        let answer = rest(&mut client).await;
        drop(client);
        let count = 1 + usize::from(reason.is_some() && !first.is_empty());
        let events = async {
            while session.network.events_since(mark).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(events).await;
        let events = session.network.events_since(mark);
        assert_eq!(events.len(), count, "{case}: {events:?}");
        match reason {
            Some(reason) => {
                assert_eq!(denial(&events), reason, "{case}");
                let status = if is_closed { "HTTP/1.1 400 " } else { "HTTP/1.1 408 " };
                assert!(answer.contains(status) && answer.contains(reason), "{case}: {answer}");
            }
            None => assert!(matches!(events[0].outcome, Outcome::Allowed(_)), "{case}"),
        }
    }
    assert!(!origin.received().contains("second"), "{}", origin.received());
}
