//! Answers of hosts that receive the values of secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrets::RequestPart;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::soon;
use crate::secure::{BOTH, H1, SecureOrigin, TOKEN, get, post};

#[tokio::test]
async fn values_in_headers_and_bodies_become_placeholders_of_the_same_length() {
    let origin = SecureOrigin::echo(BOTH).await;
    let parts = [RequestPart::Headers, RequestPart::Body];
    let masked = origin.masked_with(|mask| mask.parts(parts));
    let own = masked.placeholder();
    for protocols in [H1, BOTH] {
        let body = format!("<{own}>");
        let request = post("/", &[("x-key", own)], &body);
        let answer = masked.send_to("allowed.test", protocols, request).await;
        assert_eq!(origin.received().header("x-key"), TOKEN);
        assert_eq!(answer.headers()["echo-x-key"], own);
        assert_eq!(answer.body(), &body);
        let basic = format!("Basic {}", STANDARD.encode(format!("git:{own}")));
        let request = get("/", &[("authorization", &basic)]);
        let answer = masked.send_to("allowed.test", protocols, request).await;
        let sent = origin.received().header("authorization").to_owned();
        let echoed = answer.headers()["echo-authorization"].to_str().unwrap();
        assert_eq!(echoed.len(), sent.len());
        let decoded = STANDARD.decode(&echoed[6..]).unwrap();
        assert!(!decoded.windows(8).any(|part| TOKEN.as_bytes().windows(8).any(|own| own == part)));
    }
}

#[tokio::test]
async fn an_event_stream_is_redacted_without_waiting_for_its_end() {
    let origin = SecureOrigin::serving(H1, |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..3 {
            let event = format!("data: {TOKEN}\n\n");
            let (first, second) = event.split_at(20);
            for part in [first, second] {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            // The next event follows only the answer of the client.
            let _ = stream.read(&mut request).await;
        }
    })
    .await;
    let masked = origin.masked();
    let stream = masked.tls("allowed.test", H1).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let request = format!("GET / HTTP/1.1\r\nHost: allowed.test:{}\r\n\r\n", origin.port);
    write.write_all(request.as_bytes()).await.unwrap();
    let event = format!("data: {}\n\n", masked.placeholder());
    let mut text = String::new();
    let mut buffer = [0; 4096];
    // The first event arrives while the answer is open.
    while !unchunked(&text).contains(&event) {
        let count = soon(read.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(!text.contains(&TOKEN[4..20]), "{text}");
}

/// Returns a chunked text without the lines of the chunks.
fn unchunked(text: &str) -> String {
    let is_size = |line: &&str| line.trim_end().len() <= 3 && !line.trim_end().is_empty();
    let mut out = String::new();
    for line in text.split_inclusive("\r\n").filter(|line| !is_size(line)) {
        out.push_str(line.strip_suffix("\r\n").unwrap_or(line));
    }
    out
}

#[tokio::test]
async fn a_long_answer_keeps_its_length_and_loses_its_values() {
    let origin = SecureOrigin::serving(H1, |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let body = format!("{}{TOKEN}", "x".repeat(100_000)).repeat(40);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let _ = stream.read(&mut request).await;
    })
    .await;
    let masked = origin.masked();
    let answer = masked.send(get("/", &[])).await;
    let expected = format!("{}{}", "x".repeat(100_000), masked.placeholder()).repeat(40);
    assert_eq!(answer.headers()["content-length"], expected.len().to_string());
    assert!(answer.body() == &expected);
}

#[tokio::test]
async fn trace_is_refused_where_a_secret_is_inserted() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let mut request = get("/", &[]);
    *request.method_mut() = hyper::Method::TRACE;
    assert_eq!(masked.send(request).await.status(), 405);
}

#[tokio::test]
async fn trailers_are_redacted_too() {
    let origin = SecureOrigin::serving(H1, |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-key\r\n\r\n\
             2\r\nok\r\n0\r\nx-key: {TOKEN}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read(&mut request).await;
    })
    .await;
    let masked = origin.masked();
    let stream = masked.tls("allowed.test", H1).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let host = format!("allowed.test:{}", origin.port);
    let request = get("/", &[("host", &*host), ("te", "trailers")]);
    let answer = soon(sender.send_request(request)).await.unwrap();
    let body = soon(answer.into_body().collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    assert_eq!(body.to_bytes(), Bytes::from("ok"));
    assert_eq!(trailers["x-key"], masked.placeholder());
}

/// An answer in two chunks with the client's text before the end, and the bytes that the client
/// gets before it asks for the second.
async fn before_the_second_chunk(text: &str) -> String {
    let text = text.to_owned();
    let origin = SecureOrigin::serving(H1, move |mut stream| {
        let text = text.clone();
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            let head = "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
            let _ = stream.read(&mut request).await;
        }
    })
    .await;
    let masked = origin.masked();
    let mut stream = masked.tls("allowed.test", H1).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: allowed.test:{}\r\n\r\n", origin.port);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let arrives = async {
        while stream.read(&mut buffer).await.is_ok_and(|count| {
            seen.extend_from_slice(&buffer[..count]);
            count > 0
        }) {}
    };
    let _ = tokio::time::timeout(std::time::Duration::from_millis(300), arrives).await;
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn the_time_of_a_text_does_not_show_whether_it_begins_a_value() {
    let right = before_the_second_chunk(&format!("x|{}", &TOKEN[..9])).await;
    let wrong = before_the_second_chunk(&format!("x|{}#", &TOKEN[..8])).await;
    for answer in [right, wrong] {
        // The text of the status is the server's own and does not pass.
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

/// Returns the sizes of the chunks of an answer that has this text in its first one.
async fn chunks_after(text: &str) -> Vec<usize> {
    let first = format!("{}{text}", "A".repeat(100));
    let origin = SecureOrigin::serving(H1, move |mut stream| {
        let pieces = [first.clone(), "x".repeat(17_000), "x".repeat(17_000), String::new()];
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for piece in pieces {
                answer.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                answer.clear();
            }
        }
    })
    .await;
    let masked = origin.masked();
    let mut stream = masked.tls("allowed.test", H1).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: allowed.test:{}\r\nConnection: close\r\n\r\n",
        origin.port
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut sizes = Vec::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        sizes.push(size);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    sizes
}

#[tokio::test]
async fn the_sizes_of_chunks_do_not_show_whether_a_text_begins_a_value() {
    let guess = &TOKEN[..8];
    let wrong = format!("{}~", &TOKEN[..7]);
    // On a busy machine, the pieces of a chunk may arrive apart, whatever the text is.
    let mut sizes = Vec::new();
    for _ in 0..5 {
        sizes = vec![chunks_after(guess).await, chunks_after(&wrong).await];
        if sizes[0] == sizes[1] {
            return;
        }
    }
    panic!("{sizes:?}");
}

#[tokio::test]
async fn no_part_of_an_answer_can_be_asked_for() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    let range = [
        ("range", "bytes=7-20"),
        ("if-range", "\"tag\""),
        ("request-range", "bytes=7-20"),
        ("x-ms-range", "bytes=7-20"),
        ("x-own", "1"),
    ];
    masked.send(get("/", &range)).await;
    let received = origin.received();
    assert_eq!(received.header("x-own"), "1");
    for (name, _) in &range[..4] {
        assert!(!received.head.headers.contains_key(*name), "{name}");
    }
}

#[tokio::test]
async fn values_are_found_in_the_escapes_of_html_json_and_urls() {
    let half: String = TOKEN[..20].bytes().map(|byte| format!("&#x{byte:x};")).collect();
    let unicode: String = TOKEN[20..].bytes().map(|byte| format!("\\u{byte:04X}")).collect();
    let percent: String = TOKEN.bytes().map(|byte| format!("%25{byte:02x}")).collect();
    let body = format!("<{half}{unicode}>{percent}<");
    let expected = body.len();
    let origin = SecureOrigin::serving(H1, move |mut stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        let answer = format!("{head}X-Echo: {percent}\r\n\r\n{body}");
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut request).await;
        }
    })
    .await;
    let answer = origin.masked().send(get("/", &[])).await;
    let body = String::from_utf8(answer.body().to_vec()).unwrap();
    assert_eq!(body.len(), expected);
    for text in [&body, answer.headers()["x-echo"].to_str().unwrap()] {
        assert!(!text.contains(['%', '\\', '&']), "{text}");
    }
}

/// Returns the answer of a server that sends this head and the value.
async fn answered_with(head: &'static str) -> hyper::Response<String> {
    let origin = SecureOrigin::serving(H1, move |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let length = TOKEN.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {length}\r\n\r\n{TOKEN}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read(&mut request).await;
    })
    .await;
    let masked = origin.masked();
    let answer = masked.send(get("/", &[])).await;
    let answer = answer.map(|body| String::from_utf8(body.to_vec()).unwrap());
    assert!(!answer.body().contains(TOKEN), "{head}");
    answer
}

#[tokio::test]
async fn a_coding_that_hides_the_text_is_refused_and_an_unknown_one_is_redacted() {
    for head in ["Content-Encoding: identity", "Content-Encoding: aws-chunked", "content-encoding:"]
    {
        assert_eq!(answered_with(head).await.status(), 200, "{head}");
    }
    for head in ["Content-Encoding: GZIP", "Content-Encoding: x, br", "Content-Encoding: zstd"] {
        let refused = answered_with(head).await;
        assert_eq!(refused.status(), 502, "{head}");
        assert!(refused.body().contains("compressed"), "{}", refused.body());
    }
}

#[tokio::test]
async fn only_websocket_leaves_http_to_a_host_that_gets_values() {
    let origin = SecureOrigin::echo(H1).await;
    let masked = origin.masked();
    for (protocol, passes) in [("websocket", true), ("h2c", false), ("tcp", false)] {
        let upgrade = [("connection", "Upgrade"), ("upgrade", protocol)];
        masked.send(get("/", &upgrade)).await;
        let received = origin.received();
        assert_eq!(received.head.headers.contains_key("upgrade"), passes, "{protocol}");
    }
}
