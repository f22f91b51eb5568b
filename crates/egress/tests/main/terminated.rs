//! Connections whose TLS the gate terminates.

use std::time::Duration;

use egress::{Denial, EventMark, NetworkEvent, Outcome};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use policy::{NetworkConfig, NetworkPolicy, TlsTerminateConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{ACCESS_DENIED, Origin, exactly, hello, rest, soon};
use crate::secure::{BOTH, H1, Masked, SecureOrigin, TOKEN, get, tls};

/// Returns the usual policy with `tlsTerminate`.
fn terminating(excluded: &[&str]) -> NetworkPolicy {
    let mut network = NetworkConfig::default();
    network.allowed_domains =
        ["allowed.test", "*.allowed.test", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut terminate = TlsTerminateConfig::default();
    terminate.exclude_domains = Some(excluded.iter().map(|entry| (*entry).to_owned()).collect());
    network.tls_terminate = Some(terminate);
    NetworkPolicy::compile(&network).unwrap()
}

/// Returns the last refusal.
#[track_caller]
fn last_denial(masked: &Masked) -> Denial {
    match masked.session.events().pop() {
        Some(NetworkEvent { outcome: Outcome::Denied(denial), .. }) => denial,
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn all_hosts_are_terminated_if_the_settings_ask_for_it() {
    let origin = SecureOrigin::echo(BOTH).await;
    let session = origin.open(terminating(&["*.allowed.test"]));
    for protocols in [H1, BOTH, &[]] {
        let answer = session.send_to("allowed.test", protocols, get("/", &[])).await;
        assert_eq!(answer.status(), 200);
        assert!(origin.has_received());
        origin.received();
    }
    // An excluded host shows its own certificate.
    assert!(session.tls("b.allowed.test", H1).await.is_err());
    let stream = session.session.tunnel(&format!("b.allowed.test:{}", origin.port)).await;
    tls(stream, &origin.root, "b.allowed.test", H1).await.unwrap();
}

#[tokio::test]
async fn a_session_terminates_as_many_connections_as_its_settings_say() {
    let origin = SecureOrigin::echo(BOTH).await;
    let mut network = NetworkConfig::default();
    network.allowed_domains = ["allowed.test", "127.0.0.1"].map(str::to_owned).to_vec();
    let terminate = network.tls_terminate.insert(TlsTerminateConfig::default());
    (terminate.max_tunnels, terminate.handshake_timeout_ms) = (Some(1), Some(200));
    let masked = origin.open(NetworkPolicy::compile(&network).unwrap());
    let connect = format!(
        "CONNECT allowed.test:{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        origin.port
    );
    let first = masked.tls("allowed.test", H1).await.unwrap();
    let answer = masked.session.send(&connect).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("network.tlsTerminate.maxTunnels allows 1"), "{answer}");
    assert!(matches!(last_denial(&masked), Denial::TooManyTunnels { max: 1, .. }));
    drop(first);
    masked.session.wait_for_events(2).await;
    // A client that begins no handshake in time is closed, and leaves its place to another one.
    let mut idle = masked.session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    idle.write_all(&hello("allowed.test")[..20]).await.unwrap();
    rest(&mut idle).await;
    masked.session.wait_for_events(3).await;
    masked.tls("allowed.test", H1).await.unwrap();
}

#[tokio::test]
async fn an_excluded_host_receives_no_value() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.open(terminating(&["allowed.test"]));
    masked.session.network.set_masks(&origin.masks(|mask| mask)).unwrap();
    let stream = masked.session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    tls(stream, &origin.root, "allowed.test", H1).await.unwrap();
}

#[tokio::test]
async fn other_hosts_stay_unread_tunnels() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let stream = masked.session.tunnel(&format!("b.allowed.test:{}", origin.port)).await;
    tls(stream, &origin.root, "b.allowed.test", BOTH).await.unwrap();
}

#[tokio::test]
async fn the_host_of_a_request_must_be_that_of_its_connection() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let other = format!("b.allowed.test:{}", origin.port);
    let answer = masked.send(get("/", &[("host", &*other)])).await;
    assert_eq!(answer.status(), 421);
    assert!(matches!(last_denial(&masked), Denial::OtherHost { .. }));
    // Each stream of HTTP/2 names its host.
    let stream = masked.tls("allowed.test", BOTH).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for (authority, host, expected) in [
        (format!("allowed.test:{}", origin.port), "", 200),
        (other.clone(), "", 421),
        (format!("allowed.test:{}", origin.port), "b.allowed.test", 421),
        ("allowed.test:1".to_owned(), "", 421),
    ] {
        let mut request = get("/", &[]);
        *request.uri_mut() = format!("https://{authority}/").parse().unwrap();
        if !host.is_empty() {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), expected, "{authority} {host}");
    }
    origin.received();
    assert!(!origin.has_received());
}

#[tokio::test]
async fn the_name_in_the_hello_must_be_that_of_the_connection() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    for named in ["b.allowed.test", "denied.test", "192.0.2.1"] {
        let mut client = masked.session.tunnel(&format!("allowed.test:{}", origin.port)).await;
        client.write_all(&hello(named)).await.unwrap();
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED);
        assert_eq!(rest(&mut client).await, "");
    }
    assert_eq!(masked.session.wait_for_events(3).await.len(), 3);
    assert!(!origin.has_received());
}

#[tokio::test]
async fn other_protocols_to_the_host_of_a_secret_are_refused() {
    let (secure, origin) = (SecureOrigin::echo(H1).await, Origin::echo().await);
    let masked = secure.masked();
    let to = format!("allowed.test:{}", origin.port);
    // A client of SSH gets the reason.
    let reason = "or give the hosts of masked secrets their port";
    for (bytes, has_reason) in
        [(&b"SSH-2.0-client\r\n"[..], true), (b"\0\0\0\x08\x04\xd2\x16\x2f", false)]
    {
        let mut client = masked.session.tunnel(&to).await;
        client.write_all(bytes).await.unwrap();
        let answer = rest(&mut client).await;
        assert_eq!((answer.contains(reason), answer.is_empty()), (has_reason, !has_reason));
        assert_eq!(last_denial(&masked), Denial::Termination);
    }
    let client = masked.session.tunnel(&to).await;
    let client = tls(client, &masked.trust, "allowed.test", &[b"postgresql"]).await;
    assert!(client.is_err());
    let denial = last_denial(&masked);
    assert!(matches!(denial, Denial::OtherProtocols { .. }), "{denial:?}");
    assert_eq!(origin.received(), "");
    // A client that only tries the port did nothing wrong.
    let before = masked.session.events().len();
    let mut probe = masked.session.tunnel(&to).await;
    probe.shutdown().await.unwrap();
    assert_eq!(rest(&mut probe).await, "");
    let events = masked.session.wait_for_events(before + 1).await;
    assert!(matches!(events.last().unwrap().outcome, Outcome::Allowed(_)));
    // A port keeps the mask from the others.
    let mask = secrets::Mask::new("TOKEN", TOKEN.into(), [format!("allowed.test:{}", secure.port)]);
    let masks = secrets::Masks::new([mask]).unwrap();
    masked.session.network.set_masks(&masks).unwrap();
    let mut client = masked.session.tunnel(&to).await;
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 16).await, b"SSH-2.0-client\r\n");
}

#[tokio::test]
async fn a_hello_that_cannot_be_terminated_is_refused_with_its_problem() {
    let (secure, origin) = (SecureOrigin::echo(H1).await, Origin::echo().await);
    let masked = secure.masked();
    let to = format!("allowed.test:{}", origin.port);
    let text = || {
        let denial = last_denial(&masked);
        format!("{denial}; {}", denial.remedy().unwrap())
    };
    let client = masked.session.tunnel(&to).await;
    let client = tls(client, &masked.trust, "allowed.test", &[b"foo", b"postgresql"]).await;
    assert!(client.is_err());
    let other = "the host needs readable requests, and the TLS hello offers no HTTP (ALPN: foo, \
                 postgresql); offer http/1.1 or h2, or give the hosts of masked secrets their port";
    assert_eq!(text(), other);
    // A client of TLS 1.1 describes no signatures.
    let old = [&[3, 2][..], &[0; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
    let length = u8::try_from(old.len()).unwrap();
    let old = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &old[..]].concat();
    for (hello, expected) in [
        (
            hello("192.0.2.1"),
            "the host needs readable requests, and the TLS hello has no server name; send one \
             (SNI)",
        ),
        (old, "the TLS hello cannot be read; use TLS 1.2 or newer, and a valid server name"),
    ] {
        let mut client = masked.session.tunnel(&to).await;
        client.write_all(&hello).await.unwrap();
        assert_eq!(exactly(&mut client, ACCESS_DENIED.len()).await, ACCESS_DENIED);
        assert_eq!(text(), expected);
    }
    assert_eq!(origin.received(), "");
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel_between_two_connections() {
    let origin = SecureOrigin::serving(BOTH, |mut stream| async move {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut request = vec![0; 4096];
        let count = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..count]).to_lowercase();
        assert!(request.contains("upgrade: websocket"), "{request}");
        let key = if request.contains(&TOKEN.to_lowercase()) { "key" } else { "none" };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             \r\n{key}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let masked = origin.masked();
    let mut client = masked.tls("allowed.test", H1).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: allowed.test:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Authorization: Bearer {}\r\n\r\n",
        origin.port,
        masked.placeholder()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\nkey") {
        head.push(soon(client.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"frame").await.unwrap();
    let mut frame = [0; 5];
    soon(client.read_exact(&mut frame)).await.unwrap();
    assert_eq!(&frame, b"frame");
}

#[tokio::test]
async fn requests_of_one_http_2_connection_share_one_to_the_server_and_keep_trailers() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let origin = SecureOrigin::serving(BOTH, move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let barrier = Arc::new(tokio::sync::Barrier::new(3));
        async move {
            let answer = hyper::service::service_fn(move |request: hyper::Request<_>| {
                let barrier = Arc::clone(&barrier);
                async move {
                    assert_eq!(request.headers()["te"], "trailers");
                    let _: hyper::body::Incoming = request.into_body();
                    // All three requests are there at once.
                    barrier.wait().await;
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let body = Full::new(bytes::Bytes::from("message"));
                    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    })
    .await;
    let masked = origin.masked();
    let stream = masked.tls("allowed.test", &[b"h2"]).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let send = || {
        let mut sender = sender.clone();
        let mut request = get("/", &[("te", "trailers")]);
        *request.uri_mut() = format!("https://allowed.test:{}/", origin.port).parse().unwrap();
        async move {
            let answer = sender.send_request(request).await.unwrap();
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), "message");
        }
    };
    soon(async { tokio::join!(send(), send(), send()) }).await;
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_change_of_the_policy_cuts_terminated_connections_and_unread_tunnels() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let mut terminated = masked.tls("allowed.test", H1).await.unwrap();
    let echo = Origin::echo().await;
    let mut tunnel = masked.session.tunnel(&format!("b.allowed.test:{}", echo.port)).await;
    tunnel.write_all(b"\0").await.unwrap();
    exactly(&mut tunnel, 1).await;
    masked.session.network.set_policy(terminating(&[]));
    assert_eq!(rest(&mut tunnel).await, "");
    let request = format!("GET / HTTP/1.1\r\nHost: allowed.test:{}\r\n\r\n", origin.port);
    terminated.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    soon(terminated.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    masked.session.network.set_policy(crate::fixture::policy(&[], &[]));
    let mut left = Vec::new();
    let _ = soon(terminated.read_to_end(&mut left)).await;
    let events = masked.session.wait_for_events(2).await;
    let denials = events.iter().filter(|event| matches!(event.outcome, Outcome::Denied(_)));
    assert_eq!(denials.count(), 2, "{events:?}");
}

#[tokio::test]
async fn closing_a_session_ends_its_terminated_connections() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let stream = masked.tls("allowed.test", BOTH).await.unwrap();
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let ended = tokio::spawn(connection);
    let mut request = get("/", &[]);
    *request.uri_mut() = format!("https://allowed.test:{}/", origin.port).parse().unwrap();
    sender.send_request(request).await.unwrap();
    soon(masked.session.network.close()).await;
    let _ = soon(ended).await.unwrap();
}

#[tokio::test]
async fn no_value_reaches_an_event() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    masked.send(get("/", &[("x-key", masked.placeholder())])).await;
    masked.send(get("/", &[("x-key", masked.other())])).await;
    tokio::time::timeout(Duration::from_secs(5), masked.session.wait_for_events(2)).await.unwrap();
    let text = format!("{:?}", masked.session.network.events_since(EventMark::default()));
    for hidden in [TOKEN, masked.placeholder(), masked.other(), "other secret"] {
        assert!(!text.contains(hidden), "{text}");
    }
}
