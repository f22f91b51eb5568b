//! Rare parts of HTTP on their way through the gate: each is judged, or does not pass.

use egress::{Limits, Outcome};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use secrets::{Mask, Masks};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::fixture::{Origin, Session, exactly, head, rest, soon, usual, usual_names};
use crate::secure::{BOTH, H1, SecureOrigin, TOKEN, get};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Opens a session with a secret of another host, and returns its placeholder.
fn with_other() -> (Session, String) {
    let session = Session::open_with(usual(), usual_names(), Limits::default());
    let mask = Mask::new("KEY", "a long secret value".into(), ["other.test"]);
    let masks = Masks::new([mask]).unwrap();
    session.network.set_masks(&masks).unwrap();
    let placeholder = masks.placeholder("KEY").unwrap().to_owned();
    (session, placeholder)
}

fn has_denied(session: &Session) -> bool {
    session.events().iter().any(|event| matches!(event.outcome, Outcome::Denied(_)))
}

/// Begins HTTP/2 as a client.
async fn http_2<S, B>(stream: S) -> http2::SendRequest<B>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_placeholder_in_trailers_is_refused_like_one_in_headers() {
    let (session, own) = with_other();
    // The server answers when the body has ended.
    let origin = Origin::serving(|mut stream, received| async move {
        let mut all = Vec::new();
        while all.windows(4).filter(|window| window == b"\r\n\r\n").count() < 2 {
            let Ok(byte) = stream.read_u8().await else { break };
            received(&[byte]);
            all.push(byte);
        }
        let _ = stream.write_all(OK.as_bytes()).await;
    })
    .await;
    let to = format!("allowed.test:{}", origin.port);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\nTrailer: x-key\r\n\
         Connection: close\r\n\r\n3\r\nabc\r\n0\r\nx-key: {own}\r\n\r\n"
    );
    let mut client = session.tunnel(&to).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403 Blocked secret"), "{answer}");
    assert!(!origin.received().contains(&own), "{}", origin.received());
    assert!(has_denied(&session));
}

#[tokio::test]
async fn a_placeholder_in_trailers_of_http_2_is_refused() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let mut sender = http_2(masked.tls("allowed.test", BOTH).await.unwrap()).await;
    for (placeholder, expected) in [(masked.other(), 403), ("other", 200)] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-key", placeholder.parse().unwrap());
        // The gate reads a shorter body of known length as a whole, without trailers.
        let body = Full::new(Bytes::from("a".repeat(100_000)));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        let uri = format!("https://allowed.test:{}/", origin.port);
        let request = Request::post(uri).body(body).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), expected);
    }
}

#[tokio::test]
async fn extensions_of_chunks_and_names_in_trailers_do_not_pass() {
    let (session, own) = with_other();
    let origin = Origin::answering(OK).await;
    let to = format!("allowed.test:{}", origin.port);
    for body in [
        format!("3;key={own}\r\nabc\r\n0\r\n\r\n"),
        format!("3;a=\"{own}\"\r\nabc\r\n0;b={own}\r\n\r\n"),
        "0\r\nHost: denied.test\r\nContent-Length: 4\r\n\r\n".to_owned(),
        "0\r\nTransfer-Encoding: denied.test\r\nTrailer: denied.test\r\n\r\n".to_owned(),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\n\
             Trailer: host, content-length, transfer-encoding\r\nConnection: close\r\n\r\n{body}"
        );
        let mut client = session.tunnel(&to).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{body:?}: {answer}");
    }
    let received = origin.received();
    assert!(!received.contains(&own) && !received.contains("denied.test"), "{received}");
}

#[tokio::test]
async fn a_request_that_expects_to_continue_is_judged_before_its_body() {
    let session = Session::open();
    let origin = Origin::answering(OK).await;
    let to = format!("allowed.test:{}", origin.port);
    for (host, expectation, expected) in [
        (&*to, "100-continue", "HTTP/1.1 100 "),
        ("denied.test", "100-continue", "HTTP/1.1 421 "),
        ("denied.test", "200-ok", "HTTP/1.1 421 "),
    ] {
        let mut client = session.tunnel(&to).await;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: {expectation}\r\nContent-Length: 3\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with(expected), "{host} {expectation}: {answer}");
        if host == to {
            client.write_all(b"abc").await.unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
            assert_eq!(exactly(&mut client, 5).await, b"hello");
        }
    }
    assert!(!origin.received().to_lowercase().contains("expect"));
}

#[tokio::test]
async fn http_2_has_one_host_and_no_proxy() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let mut sender = http_2(masked.tls("allowed.test", BOTH).await.unwrap()).await;
    let to = format!("allowed.test:{}", origin.port);
    for (authority, hosts, expected) in [
        (format!("{to}@denied.test"), &[][..], 421),
        (format!("denied.test@{to}"), &[], 200),
        (to.clone(), &["denied.test", &*to], 421),
        (to.clone(), &[&*to, &*to], 421),
        (to.clone(), &[""], 421),
        (format!("allowed.test.:{}", origin.port), &[], 200),
    ] {
        let mut request = get("/", &[]);
        *request.uri_mut() = format!("https://{authority}/").parse().unwrap();
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        match soon(sender.send_request(request)).await {
            Ok(answer) => assert_eq!(answer.status(), expected, "{authority} {hosts:?}"),
            Err(error) => assert_ne!(expected, 200, "{authority} {hosts:?}: {error}"),
        }
    }
    let mut connect = get("/", &[]);
    *connect.method_mut() = hyper::Method::CONNECT;
    *connect.uri_mut() = "denied.test:443".parse().unwrap();
    let answer = soon(sender.send_request(connect)).await.unwrap();
    assert_eq!(answer.status(), 400);
    let mut extended = get("/", &[]);
    *extended.method_mut() = hyper::Method::CONNECT;
    *extended.uri_mut() = format!("https://{to}/").parse().unwrap();
    extended.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let answer = soon(sender.send_request(extended)).await;
    assert!(answer.map_or(true, |answer| answer.status() == 400));
    while origin.has_received() {
        let received = origin.received();
        assert_eq!(received.head.uri.host(), Some("allowed.test"));
        assert!(!received.head.uri.to_string().contains("denied"), "{:?}", received.head.uri);
    }
}

#[tokio::test]
async fn a_value_in_the_trailers_of_an_answer_is_redacted() {
    let origin = SecureOrigin::serving(BOTH, |stream| async move {
        let answer = hyper::service::service_fn(|_: Request<hyper::body::Incoming>| async {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            let encoded: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
            trailers.insert("grpc-message", format!("bad {TOKEN}").parse().unwrap());
            trailers.insert("grpc-encoded", format!("bad {encoded}").parse().unwrap());
            let body = Full::new(Bytes::from("message"));
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    })
    .await;
    let masked = origin.masked();
    let mut sender = http_2(masked.tls("allowed.test", &[b"h2"]).await.unwrap()).await;
    let mut request = get("/", &[("te", "trailers")]);
    *request.uri_mut() = format!("https://allowed.test:{}/", origin.port).parse().unwrap();
    let answer = soon(sender.send_request(request)).await.unwrap();
    let body = soon(answer.into_body().collect()).await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "7");
    let all = format!("{trailers:?}");
    assert!(!all.contains(TOKEN), "{all}");
    let encoded: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert!(!all.contains(&encoded), "{all}");
}

#[tokio::test]
async fn a_websocket_gets_values_in_its_headers_and_query_only() {
    let origin = SecureOrigin::serving(H1, |mut stream| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            request.push(byte);
        }
        let request = String::from_utf8(request).unwrap();
        let count = request.matches(TOKEN).count();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             \r\n{count}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let masked = origin.masked();
    let to = format!("allowed.test:{}", origin.port);
    let own = masked.placeholder();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut client = masked.tls("allowed.test", H1).await.unwrap();
    let request = format!(
        "GET /ws?key={own} HTTP/1.1\r\nHost: {to}\r\n{upgrade}Sec-WebSocket-Protocol: bearer, {own}\
         \r\n\r\nearly {own}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let expected = format!("\r\n\r\n2early {own}");
    let mut answer = Vec::new();
    while !answer.ends_with(expected.as_bytes()) {
        match soon(client.read_u8()).await {
            Ok(byte) => answer.push(byte),
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&answer)),
        }
    }
    let mut client = masked.tls("allowed.test", H1).await.unwrap();
    let other = masked.other();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {to}\r\n{upgrade}Sec-WebSocket-Protocol: {other}\r\n\
         Connection: close\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Blocked secret"), "{answer}");
}

#[tokio::test]
async fn an_answer_is_whole_before_the_refusal_of_the_next_request() {
    let long: &'static str = Box::leak("x".repeat(3 << 20).into_boxed_str());
    let origin = Origin::serving(move |mut stream, _| async move {
        let request = head(&mut stream).await;
        if request.starts_with("POST") {
            exactly(&mut stream, 2).await;
        }
        let answer = match () {
            () if request.starts_with("HEAD") => {
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_owned()
            }
            () if request.contains("/none") => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
            () if request.contains("/chunks") => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n300000\r\n{long}\r\n0\r\n\r\n"
            ),
            () if request.contains("/end") => format!("HTTP/1.0 200 OK\r\n\r\n{long}"),
            () => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        if !request.contains("/end") {
            rest(&mut stream).await;
        }
    })
    .await;
    let session = Session::open();
    let to = format!("allowed.test:{}", origin.port);
    for (line, body, bytes) in [
        ("GET /", "", long.len()),
        ("GET /chunks", "", long.len()),
        ("GET /end", "", long.len()),
        ("GET /none", "", 0),
        ("HEAD /", "", 0),
        ("POST /", "abcdefghij", long.len()),
    ] {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n{body}\
             GET / HTTP/9.9\r\n\r\n"
        );
        let mut client = session.tunnel(&to).await;
        client.write_all(request.as_bytes()).await.unwrap();
        // The answer fills the socket first.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let answer = rest(&mut client).await;
        assert!(answer.matches('x').count() >= bytes, "{line}: {}", answer.len());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{line}");
        let is_explained = answer.ends_with("Remedy: send valid HTTP, or use TLS\n");
        assert!(is_explained, "{line}: {}", &answer[answer.len().saturating_sub(300)..]);
    }
}

#[tokio::test]
async fn many_answers_are_whole_before_a_refusal() {
    let (session, origin) = (Session::open(), Origin::answering(OK).await);
    let to = format!("allowed.test:{}", origin.port);
    let good = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let all = good.repeat(2000) + "GET / HTTP/9.9\r\n\r\n";
    let mut client = session.tunnel(&to).await;
    let (mut read, mut write) = client.split();
    let sent = async {
        write.write_all(all.as_bytes()).await.unwrap();
    };
    let mut answer = String::new();
    let (_, received) = tokio::join!(sent, soon(read.read_to_string(&mut answer)));
    received.unwrap();
    assert_eq!(answer.matches("hello").count(), 2000);
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1);
    assert!(answer.ends_with("Remedy: send valid HTTP, or use TLS\n"));
}

#[tokio::test]
async fn a_denied_upload_in_http_2_still_receives_its_answer() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let mut sender = http_2(masked.tls("allowed.test", BOTH).await.unwrap()).await;
    for (authority, expected) in [("denied.test", 421), ("allowed.test", 200)] {
        let uri = format!("https://{authority}:{}/", origin.port);
        let body = Full::new(Bytes::from("a".repeat(8 << 20)));
        let request = Request::post(uri).body(body).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), expected);
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_inside_terminated_tls_is_recorded() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let to = format!("allowed.test:{}", origin.port);
    for first in [String::new(), format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n")] {
        let mut client = masked.tls("allowed.test", H1).await.unwrap();
        let before = masked.session.events().len();
        client.write_all(format!("{first}GET /second HT").as_bytes()).await.unwrap();
        if !first.is_empty() {
            assert_eq!(soon(client.read_u8()).await.unwrap(), b'H');
        }
        // Without the end of TLS.
        drop(client);
        let count = before + 1 + usize::from(!first.is_empty());
        let events = masked.session.wait_for_events(count).await;
        let is_recorded = events[before..].iter().any(|event| match &event.outcome {
            Outcome::Denied(denial) => denial.to_string().starts_with("the client closed before"),
            _ => false,
        });
        assert!(is_recorded, "{events:?}");
    }
}

#[tokio::test]
async fn a_large_head_of_http_2_gets_the_limit() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let mut sender = http_2(masked.tls("allowed.test", BOTH).await.unwrap()).await;
    let rule = "the head of the request has more than 65536 bytes";
    for (bytes, expected) in [(9000, 200), (66_000, 431), (100_000, 431), (140_000, 431)] {
        let before = masked.session.events().len();
        let mut request = get("/", &[("x-long", &"a".repeat(bytes))]);
        *request.uri_mut() = format!("https://allowed.test:{}/", origin.port).parse().unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), expected, "{bytes}");
        let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        // h2 itself refuses what is twice as long.
        let is_explained = expected == 431 && bytes < 2 * 65_536;
        assert_eq!(text.contains(&format!("Rule: {rule}\n")), is_explained, "{bytes}: {text}");
        let events = masked.session.events();
        let is_recorded = events[before..].iter().any(|event| match &event.outcome {
            Outcome::Denied(denial) => denial.to_string() == rule,
            _ => false,
        });
        assert_eq!(is_recorded, is_explained, "{bytes}");
    }
}
