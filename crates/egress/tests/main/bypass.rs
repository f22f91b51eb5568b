//! Ways around the policy that a session may try. None sends a byte to a denied host.

use egress::{Destinations, Limits, NetworkEvent, Outcome};
use policy::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fixture::{
    ACCESS_DENIED, Keep, Names, Origin, Session, exactly, head, hello, hello_naming, policy, rest,
    soon, usual_names,
};

#[tokio::test]
async fn a_hello_for_another_host_is_answered_with_an_alert() {
    let session = Session::open();
    let cuts = [1, 5, 40, usize::MAX];
    for cut in cuts {
        let origin = Origin::echo().await;
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        let hello = hello("denied.test");
        let (first, second) = hello.split_at(cut.min(hello.len()));
        client.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(second).await.unwrap();
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED);
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(origin.received(), "");
    }
    let events = session.events();
    assert_eq!(events.len(), cuts.len());
    let Outcome::Denied(denial) = &events[0].outcome else { panic!("{events:?}") };
    assert_eq!(denial.to_string(), "the connection names another host: denied.test");
}

#[tokio::test]
async fn a_hello_for_the_judged_host_passes_unchanged() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    for named in ["ALLOWED.test", "192.0.2.1"] {
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        // A name in a hello is in lower case; a client with an address sends none.
        let hello = hello(named);
        client.write_all(&hello).await.unwrap();
        assert_eq!(exactly(&mut client, hello.len()).await, hello);
    }
}

#[tokio::test]
async fn an_address_in_a_hello_must_be_the_judged_host() {
    let other = |named: &str| format!("the connection names another host: {named}");
    let origin = Origin::echo().await;
    let policy = policy(&["allowed.test", "203.0.113.7"], &[]);
    let session = Session::open_with(policy, usual_names(), Limits::default());
    // Fixed destinations stand for servers that are elsewhere.
    let address = ([127, 0, 0, 1], origin.port).into();
    let fixed = ["allowed.test", "203.0.113.7"].into_iter().fold(Destinations::new(), |all, to| {
        all.resolve(Host::parse(to).unwrap(), origin.port, address)
    });
    session.network.set_destinations(fixed);
    for (host, named, denial) in [
        ("allowed.test", &b"93.184.216.34"[..], Some(other("93.184.216.34"))),
        ("allowed.test", b"127.0.0.1", Some(other("127.0.0.1"))),
        ("allowed.test", b"::1", Some(other("::1"))),
        ("203.0.113.7", b"203.0.113.8", Some(other("203.0.113.8"))),
        ("203.0.113.7", b"allowed.test", Some(other("allowed.test"))),
        ("203.0.113.7", b"203.0.113.7", None),
        ("203.0.113.7", b"::ffff:203.0.113.7", None),
        ("allowed.test", b"a\0b.test", Some("the TLS hello cannot be read".to_owned())),
        ("allowed.test", b"[::1]", Some("the TLS hello cannot be read".to_owned())),
        ("allowed.test", b"\xff.test", Some("the TLS hello cannot be read".to_owned())),
    ] {
        let (mark, before) = (session.network.mark(), origin.received());
        let mut client = session.tunnel(&format!("{host}:{}", origin.port)).await;
        let hello = hello_naming(named);
        client.write_all(&hello).await.unwrap();
        let Some(denial) = denial else {
            assert_eq!(exactly(&mut client, hello.len()).await, hello);
            let ended = session.events().len() + 1;
            drop(client);
            session.wait_for_events(ended).await;
            continue;
        };
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED, "{named:?}");
        let events = session.network.events_since(mark);
        let [NetworkEvent { outcome: Outcome::Denied(found), .. }] = &events[..] else {
            panic!("{named:?}: {events:?}")
        };
        assert_eq!(found.to_string(), denial);
        assert_eq!(origin.received(), before, "{named:?}");
    }
}

#[tokio::test]
async fn records_before_a_hello_do_not_hide_it() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    for record in [&b"\x15\x03\x01\0\x02\x01\x64"[..], b"\x14\x03\x03\0\x01\x01"] {
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        client.write_all(&[record, &hello("denied.test")].concat()).await.unwrap();
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED);
    }
    assert_eq!(origin.received(), "");
}

#[tokio::test]
async fn a_request_inside_a_tunnel_needs_the_host_of_the_tunnel() {
    let session = Session::open();
    let after_blanks = "\r\n".repeat(5000) + "GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n";
    for (request, status) in [
        (&*after_blanks, "421"),
        ("GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n", "421"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: denied.test\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\n\r\n", "421"),
        ("GET http://denied.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "421"),
        ("CONNECT denied.test:80 HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "400"),
    ] {
        let origin = Origin::hello().await;
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(origin.received(), "", "{request}");
    }
    let origin = Origin::hello().await;
    let to = format!("allowed.test:{}", origin.port);
    let mut client = session.tunnel(&to).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    // The connection that the tunnel had opened carries the request.
    assert_eq!(origin.connections(), 1);
    // Two hosts are refused, although the first one is right.
    exactly(&mut client, 5).await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {to}\r\nHost: denied.test\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(answer.contains("the request has two headers Host"), "{answer}");
}

#[tokio::test]
async fn an_empty_host_is_refused_as_such() {
    let session = Session::open();
    for host in ["", " ", " \t "] {
        let (origin, mark) = (Origin::hello().await, session.network.mark());
        let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        let request = format!("GET / HTTP/1.1\r\nHost:{host}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        let rule = "the request has an empty header Host";
        let text = format!("Rule: {rule}\nRemedy: send one header Host\n");
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.ends_with(&text), "{answer}");
        let events = session.network.events_since(mark);
        let is_recorded = |outcome: &Outcome| match outcome {
            Outcome::Denied(denial) => denial.to_string() == rule,
            _ => false,
        };
        assert!(events.iter().any(|event| is_recorded(&event.outcome)), "{events:?}");
        assert_eq!(origin.received(), "");
    }
}

#[tokio::test]
async fn no_spelling_of_loopback_or_metadata_reaches_the_host() {
    let session = Session::open();
    let secret = Origin::hello().await;
    let port = secret.port;
    for host in [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "127.1",
        "0x7f.1",
        "2130706433",
        "localhost",
        "a.localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "198.18.0.9",
        "198.19.0.9",
        "[::ffff:198.18.1.0]",
        "10.0.0.1",
    ] {
        let mark = session.network.mark();
        let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut client = session.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
        assert_eq!(session.network.events_since(mark).len(), 1, "{host}");
    }
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_a_refused_address_is_not_dialled() {
    let addresses = [
        "127.0.0.2",
        "::1",
        "::ffff:127.0.0.2",
        "64:ff9b::7f00:2",
        "2002:7f00:2::",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
    ];
    for address in addresses {
        let names = Names::new(&[("allowed.test", &[&[address]])]);
        let policy = policy(&["allowed.test", "127.0.0.1"], &[]);
        let session = Session::open_with(policy, names, Limits::default());
        let answer = session.send("GET http://allowed.test/ HTTP/1.0\r\n\r\n").await;
        assert!(answer.contains(" 403 ") && answer.contains("Rule: it leads to"), "{answer}");
    }
}

#[tokio::test]
async fn the_judged_address_is_the_dialled_one() {
    // Both addresses have a server on the same port; the policy opens only the first one.
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let text = |text: &'static str| {
        move |mut stream: tokio::net::TcpStream, _: Keep| async move {
            head(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{text}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let (first, second) = (Origin::on(first, text("1")), Origin::on(second, text("2")));
    let (one, two): (&[&str], &[&str]) = (&["127.0.0.1"], &["127.0.0.2"]);
    let names = Names::new(&[("allowed.test", &[one, two, &["127.0.0.2", "127.0.0.1"]])]);
    let policy = policy(&["allowed.test", "127.0.0.1"], &[]);
    let session = Session::open_with(policy, names, Limits::default());
    let request = format!("GET http://allowed.test:{port}/ HTTP/1.0\r\n\r\n");
    for expected in ["\r\n\r\n1", "it leads to 127.0.0.2, a loopback address", "\r\n\r\n1"] {
        let answer = session.send(&request).await;
        assert!(answer.contains(expected), "{answer}");
    }
    assert_eq!((first.connections(), second.connections()), (2, 0));
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let session = Session::open();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "X : 1\r\n\r\n",
        "X: 1\r\n folded\r\n\r\n",
        "X\0: 1\r\n\r\n",
        "X: a\rb\r\n\r\n",
    ] {
        let origin = Origin::hello().await;
        let request =
            format!("POST http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n{lines}", origin.port);
        let answer = session.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?}: {answer}");
        assert_eq!(origin.received(), "", "{lines:?}");
    }
}

#[tokio::test]
async fn a_smuggled_request_is_judged_on_its_own() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let to = format!("http://allowed.test:{}/", origin.port);
    let smuggled = "GET http://denied.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = session
        .send(format!(
            "POST {to} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            smuggled.len() + 5
        ))
        .await;
    assert!(!origin.received().contains("denied.test"), "{}", origin.received());
    assert!(!origin.received().to_lowercase().contains("content-length"));
    // The connection ends after a request with two framings.
    assert!(answer.matches("HTTP/1.1 ").count() == 1 || answer.contains(" 403 "), "{answer}");

    // The same without a trick: the second request of a connection is judged like the first.
    let answer = session.send(format!("GET {to} HTTP/1.1\r\nHost: x\r\n\r\n{smuggled}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(" 403 "), "{answer}");
    assert!(!origin.received().contains("denied.test"));
}

#[tokio::test]
async fn bytes_after_a_chunk_size_cannot_end_the_body() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let mut client = session.connect().await;
    let request = format!(
        "POST http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;\nxx\r\nhi\r\n0\r\n\r\n",
        origin.port
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(client.read_to_end(&mut answer)).await;
    assert!(!origin.received().contains("xx"), "{}", origin.received());
}

#[tokio::test]
async fn the_host_after_a_user_counts() {
    let session = Session::open();
    for request in [
        "GET http://allowed.test@denied.test/ HTTP/1.0\r\n\r\n",
        "GET http://allowed.test:80@denied.test:80/ HTTP/1.0\r\n\r\n",
        "CONNECT allowed.test:443@denied.test:443 HTTP/1.0\r\n\r\n",
    ] {
        let answer = session.send(request).await;
        assert!(answer.contains(" 403 ") || answer.contains(" 400 "), "{answer}");
    }
    for event in session.events() {
        assert_eq!(event.host.to_string(), "denied.test");
    }
}

#[tokio::test]
async fn a_head_with_bare_line_feeds_is_written_anew() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let port = origin.port;
    session.send(format!("GET http://allowed.test:{port}/ HTTP/1.0\nX: 1\n\n")).await;
    let received = origin.received();
    assert!(received.ends_with("\r\n\r\n") && !received.replace("\r\n", "").contains('\n'));
}

#[tokio::test]
async fn a_denied_name_below_an_allowed_one_is_denied_in_every_spelling() {
    let policy = policy(&["*.corp.test", "127.0.0.1"], &["denied.corp.test"]);
    let session = Session::open_with(policy, usual_names(), Limits::default());
    for host in ["denied.corp.test", "DENIED.corp.test.", "\u{ff44}enied.corp.test"] {
        let answer = session.send(format!("CONNECT {host}:443 HTTP/1.0\r\n\r\n")).await;
        assert!(answer.contains(" 403 ") || answer.contains(" 400 "), "{host}: {answer}");
    }
    assert!(session.names.asked().is_empty());
}

#[tokio::test]
async fn a_second_answer_to_one_request_answers_no_other() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
               Content-Length: 4\r\n\r\nevil";
    let (session, origin) = (Session::open(), Origin::answering(two).await);
    let request = format!("GET http://allowed.test:{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port);
    let mut client = session.connect().await;
    for _ in 0..3 {
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(exactly(&mut client, 2).await, b"ok");
    }
    assert_eq!(origin.connections(), 3, "each answer needs a connection of its own");
    // A field with a line end is one of the answer, and begins no other one.
    for (field, expected) in [("X: a\rb", "502"), ("X: a\0b", "502"), ("X: a\nY: b", "200")] {
        let split = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nok");
        let origin = Origin::answering(split.leak()).await;
        let to = format!("GET http://allowed.test:{}/ HTTP/1.0\r\n\r\n", origin.port);
        let answer = session.send(to).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!(" {expected} ")), "{field:?}: {answer}");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{field:?}: {answer}");
    }
}
