//! Values of masked secrets, in requests over TLS that the gate terminates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::{Denial, IntactReason, Outcome};
use secrets::RequestPart;

use crate::fixture::{Origin, head, rest};
use crate::secure::{BOTH, H1, Masked, SecureOrigin, TOKEN, get, post};

/// Returns the refusals so far.
fn denials(masked: &Masked) -> Vec<Denial> {
    let outcomes = masked.session.events().into_iter().map(|event| event.outcome);
    outcomes
        .filter_map(|outcome| match outcome {
            Outcome::Denied(denial) => Some(denial),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_value_is_inserted_into_headers_basic_credentials_and_the_query() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let own = masked.placeholder();
    let basic = STANDARD.encode(format!("git:{own}"));
    for protocols in [H1, BOTH, &[b"http/1.0"]] {
        let bearer = format!("Bearer {own}");
        let headers = [("authorization", &*bearer), ("x-two", "other"), ("x-key", own)];
        let request = get(&format!("/{own}?key={own}&b=1"), &headers);
        masked.send_to("allowed.test", protocols, request).await;
        let received = origin.received();
        let is_h2 = received.head.version == hyper::Version::HTTP_2;
        assert_eq!(is_h2, protocols == BOTH);
        assert_eq!(received.header("authorization"), format!("Bearer {TOKEN}"));
        assert_eq!(received.header("x-key"), TOKEN);
        assert_eq!(received.header("accept-encoding"), "identity");
        // Where nothing is inserted, the placeholder stays.
        let path = format!("/{own}?key={TOKEN}&b=1");
        assert_eq!(received.head.uri.path_and_query().unwrap().as_str(), path);
        let request = get("/", &[("authorization", &format!("Basic {basic}"))]);
        masked.send_to("allowed.test", protocols, request).await;
        let expected = format!("Basic {}", STANDARD.encode(format!("git:{TOKEN}")));
        assert_eq!(origin.received().header("authorization"), expected);
    }
    // A request without a placeholder passes unchanged.
    // Six connections with an insertion.
    assert_eq!(inserted(&masked), ["TOKEN"; 6]);
    masked.send(get("/x?y=1", &[("authorization", "Basic Og==")])).await;
    assert_eq!(origin.received().header("authorization"), "Basic Og==");
    assert_eq!(inserted(&masked).len(), 6);
    assert!(denials(&masked).is_empty());
}

/// Returns the names of the secrets whose values were inserted so far.
fn inserted(masked: &Masked) -> Vec<String> {
    let outcomes = masked.session.events().into_iter().map(|event| event.outcome);
    let names = outcomes.filter_map(|outcome| match outcome {
        Outcome::Masked { name, .. } => Some(name),
        _ => None,
    });
    names.collect()
}

#[tokio::test]
async fn a_body_gets_the_value_only_if_that_is_asked_for() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let body = format!("{{\"key\":\"{}\"}}", masked.placeholder());
    masked.send(post("/", &[], &body)).await;
    assert_eq!(origin.received().body, body);
    let parts = [RequestPart::Body];
    let masked = origin.masked_with(|mask| mask.parts(parts));
    let body = format!("{{\"key\":\"{}\"}}", masked.placeholder());
    for protocols in [H1, BOTH] {
        let headers = [("x-key", masked.placeholder())];
        masked.send_to("allowed.test", protocols, post("/", &headers, &body)).await;
        let received = origin.received();
        assert_eq!(received.body, format!("{{\"key\":\"{TOKEN}\"}}"));
        assert_eq!(received.header("x-key"), masked.placeholder());
        assert_eq!(received.header("content-length"), received.body.len().to_string());
        // A longer body streams.
        let long = "-".repeat(3 << 20) + masked.placeholder();
        masked.send_to("allowed.test", protocols, post("/", &[], &long)).await;
        assert_eq!(origin.received().body, "-".repeat(3 << 20) + TOKEN);
    }
    let encoded = [("content-encoding", "gzip")];
    masked.send(post("/", &encoded, &body)).await;
    assert_eq!(origin.received().body, body);
}

#[tokio::test]
async fn a_placeholder_that_stays_is_recorded_with_the_reason() {
    let (origin, plain) = (SecureOrigin::echo(BOTH).await, Origin::hello().await);
    let masked = origin.masked();
    let own = masked.placeholder();
    masked.send(get(&format!("/{own}?{own}"), &[("x-key", own)])).await;
    masked.send(post("/", &[], &format!("{{\"key\":\"{own}\"}}"))).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("u:{own}")));
    masked.send(get("/", &[("x-auth", &basic)])).await;
    let to = format!("http://allowed.test:{}", plain.port);
    let request = format!("GET {to}/{own} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    masked.session.send(request).await;
    let outcomes = masked.session.events().into_iter().map(|event| event.outcome);
    let kept: Vec<_> = outcomes
        .filter_map(|outcome| match outcome {
            Outcome::Intact { name, reason, .. } => Some((name, reason)),
            _ => None,
        })
        .collect();
    let body = IntactReason::Part(RequestPart::Body);
    let reasons = [IntactReason::Path, body, IntactReason::Encoded, IntactReason::Plaintext];
    assert_eq!(kept, reasons.map(|reason| ("TOKEN".to_owned(), reason)));
    assert!(denials(&masked).is_empty());
}

#[tokio::test]
async fn a_placeholder_on_its_way_to_another_host_is_refused_and_reported() {
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let basic = format!("Basic {}", STANDARD.encode(format!("u:{}", masked.other())));
    let query = format!("/?x={}", masked.other());
    let with_method = || {
        let mut request = get("/", &[]);
        *request.method_mut() = masked.other().parse().unwrap();
        request
    };
    for protocols in [H1, BOTH] {
        for request in [
            with_method(),
            get("/", &[("x-key", masked.other())]),
            get("/", &[("authorization", &basic)]),
            get(&query, &[]),
            post("/", &[], &format!("a {} b", masked.other())),
            post("/", &[], &("-".repeat(3 << 20) + masked.other())),
        ] {
            let answer = masked.send_to("allowed.test", protocols, request).await;
            assert_eq!(answer.status(), 403);
            assert_eq!(answer.headers()["x-proxy-error"], "blocked-secret");
            let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
            assert!(text.contains("the placeholder of OTHER is for other hosts"), "{text}");
            assert!(!text.contains(masked.other()));
        }
    }
    assert!(!origin.has_received());
    let denials = denials(&masked);
    assert_eq!(denials.len(), 12, "{denials:?}");
    for denial in denials {
        assert!(matches!(&denial, Denial::Misdirected { name, .. } if name == "OTHER"));
    }
}

#[tokio::test]
async fn a_placeholder_in_plain_requests_and_tunnels_is_refused() {
    let (secure, plain) = (SecureOrigin::echo(H1).await, Origin::hello().await);
    let masked = secure.masked();
    let (own, port) = (masked.placeholder(), plain.port);
    // No value of `b.allowed.test`, whether proxied or in a tunnel.
    let to_other = format!("GET http://b.allowed.test:{port}/?{own} HTTP/1.0\r\n\r\n");
    let answer = masked.session.send(to_other).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 "));
    let connect =
        format!("CONNECT b.allowed.test:{port} HTTP/1.1\r\nHost: x\r\nX-Key: {own}\r\n\r\n");
    let mut client = masked.session.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut client, connect.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 403 "));
    let mut client = masked.session.tunnel(&format!("b.allowed.test:{port}")).await;
    let line = format!("LOGIN ann {own}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut client, line.as_bytes()).await.unwrap();
    rest(&mut client).await;
    // A request in a tunnel gets its refusal in HTTP.
    let mut client = masked.session.tunnel(&format!("b.allowed.test:{port}")).await;
    let inner = format!("GET /?{own} HTTP/1.0\r\nHost: b.allowed.test:{port}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut client, inner.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.contains(" 403 ") && answer.contains("TOKEN"), "{answer}");
    assert_eq!(plain.received(), "");
    assert_eq!(denials(&masked).len(), 4);
    // Its own host receives the placeholder itself, without TLS.
    let to_own = format!(
        "GET http://allowed.test:{port}/?{own} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    masked.session.send(to_own).await;
    assert!(plain.received().contains(own) && !plain.received().contains(TOKEN));
}

#[tokio::test]
async fn a_request_without_tls_gets_the_value_only_if_that_is_allowed() {
    let (secure, plain) = (SecureOrigin::echo(H1).await, Origin::hello().await);
    let masked = secure.masked_with(|mask| mask.allow_plaintext());
    let request = format!(
        "GET http://allowed.test:{}/?k={own} HTTP/1.1\r\nHost: x\r\nX-Key: {own}\r\n\
         Connection: close\r\n\r\n",
        plain.port,
        own = masked.placeholder(),
    );
    let answer = masked.session.send(request).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(plain.received().matches(TOKEN).count(), 2);
}

#[tokio::test]
async fn a_server_without_a_trusted_certificate_receives_nothing() {
    let (origin, other) = (SecureOrigin::echo(BOTH).await, SecureOrigin::echo(BOTH).await);
    let masked = other.masked();
    let stream = masked.session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let mut client = crate::secure::tls(stream, &masked.trust, "allowed.test", H1).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: allowed.test:{}\r\nX-Key: {}\r\nConnection: close\r\n\r\n",
        origin.port,
        masked.placeholder()
    );
    tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("invalid peer certificate"), "{answer}");
    assert!(!origin.has_received());
    let outcomes: Vec<_> = masked.session.events().into_iter().map(|e| e.outcome).collect();
    assert!(matches!(&outcomes[..], [Outcome::Failed(egress::Failure::Tls { .. })]));
}

#[tokio::test]
async fn a_value_that_does_not_fit_into_a_header_is_an_error() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let value = secrets::SecretString::from("first\r\nX-Second: 1");
    let mask = secrets::Mask::new("LINES", value, ["allowed.test"]);
    let masks = masked.masks.renewed([mask]).unwrap();
    masked.session.network.set_masks(&masks).unwrap();
    let answer = masked.send(get("/", &[("x-key", masks.placeholder("LINES").unwrap())])).await;
    assert_eq!(answer.status(), 500);
    assert!(!origin.has_received());
    assert!(matches!(&denials(&masked)[..], [Denial::UnfitValue { .. }]));
}

/// Signs a request to S3 with a key, as the tools of AWS do, and returns its headers.
fn signed(key_id: &str, key: &str, host: &str, body: &str) -> Vec<(&'static str, String)> {
    signed_with(key_id, key, host, body, "")
}

/// The same with a header `Range`, unless that is empty.
fn signed_with(
    key_id: &str,
    key: &str,
    host: &str,
    body: &str,
    range: &str,
) -> Vec<(&'static str, String)> {
    use ring::{digest, hmac};
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let mac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let (date, scope) = ("20260101T000000Z", "20260101/eu-west-1/s3/aws4_request");
    let (range_name, range_line) = match range {
        "" => ("", String::new()),
        range => ("range;", format!("range:{range}\n")),
    };
    let names = format!("host;{range_name}x-amz-content-sha256;x-amz-date");
    let request = format!(
        "PUT\n/bucket/a%20b\nlist-type=2\nhost:{host}\n{range_line}x-amz-content-sha256:{sha}\n\
         x-amz-date:{date}\n\n{names}\n{sha}",
        sha = sha(body)
    );
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha(&request));
    let derived =
        scope.split('/').fold(format!("AWS4{key}").into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&derived, &text));
    vec![
        ("x-amz-date", date.to_owned()),
        ("x-amz-content-sha256", sha(body)),
        (
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, \
                 Signature={signature}"
            ),
        ),
    ]
}

#[tokio::test]
async fn an_aws_signature_is_made_anew_with_the_real_key() {
    const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let origin = SecureOrigin::echo(BOTH).await;
    let masked = origin.masked();
    let mask = |name: &str, value: &str| {
        secrets::Mask::new(name, secrets::SecretString::from(value), ["allowed.test"])
    };
    let all = [mask("AWS_ACCESS_KEY_ID", KEY_ID), mask("AWS_SECRET_ACCESS_KEY", KEY)];
    let masks = secrets::Masks::new(all).unwrap();
    masked.session.network.set_masks(&masks).unwrap();
    let id = masks.placeholder("AWS_ACCESS_KEY_ID").unwrap();
    let key = masks.placeholder("AWS_SECRET_ACCESS_KEY").unwrap();
    let host = format!("allowed.test:{}", origin.port);
    let request = |headers: &[(&'static str, String)]| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut request = post("/bucket/a%20b?list-type=2", &headers, "body");
        *request.method_mut() = hyper::Method::PUT;
        request
    };
    for protocols in [H1, BOTH] {
        let headers = signed(id, key, &host, "body");
        masked.send_to("allowed.test", protocols, request(&headers)).await;
        let received = origin.received();
        let expected = signed(KEY_ID, KEY, &host, "body");
        assert_eq!(received.header("authorization"), expected[2].1);
        assert_eq!(received.body, "body");
    }
    // Signed by another key, changed on its way, and in signed chunks.
    let mut changed = signed(id, key, &host, "body");
    changed[0].1 = "20260102T000000Z".to_owned();
    let mut chunks = signed(id, key, &host, "body");
    chunks[1].1 = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned();
    for (headers, problem) in [
        (signed(id, "another key", &host, "body"), "no masked secret is its key"),
        (changed, "no masked secret is its key"),
        (chunks, "the body has signed chunks"),
    ] {
        let answer = masked.send(request(&headers)).await;
        assert_eq!(answer.status(), 403);
        let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
        assert!(text.contains(problem), "{text}");
    }
    // A part of an answer can be asked for if no other value goes along.
    let mut ranged = signed_with(id, key, &host, "body", "bytes=7-9");
    ranged.push(("range", "bytes=7-9".to_owned()));
    masked.send(request(&ranged)).await;
    assert_eq!(origin.received().header("range"), "bytes=7-9");
    ranged.push(("x-key", key.to_owned()));
    assert_eq!(masked.send(request(&ranged)).await.status(), 403);
    // A signature with a key of the session itself passes.
    let own = signed("AKIAOWN", "own key of the session", &host, "body");
    masked.send(request(&own)).await;
    assert_eq!(origin.received().header("authorization"), own[2].1);
    assert!(!origin.has_received());
}
