//! HTTP/2 without TLS, with prior knowledge.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use egress::Outcome;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use secrets::{Mask, Masks, SecretString};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fixture::{Origin, Session, rest, soon};
use crate::secure::TOKEN;

type Answered = (u16, String);

/// A server of HTTP/2, which returns the header `x-key` in its body.
async fn origin() -> (Origin, Arc<Mutex<Vec<String>>>) {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&requests);
    let origin = Origin::serving(move |stream, _| {
        let kept = Arc::clone(&kept);
        async move {
            let answer = service_fn(|request: Request<Incoming>| {
                assert_eq!(request.version(), Version::HTTP_2);
                let key =
                    request.headers().get("x-key").map(|key| key.to_str().unwrap().to_owned());
                let key = key.unwrap_or_default();
                kept.lock().unwrap().push(format!("{} {key}", request.uri()));
                async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(key)))) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    })
    .await;
    (origin, requests)
}

/// Sends requests to these authorities, all on one connection.
async fn send(client: TcpStream, requests: &[(&str, &str)]) -> Vec<Answered> {
    let io = TokioIo::new(client);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for (authority, key) in requests {
        let request = Request::get(format!("http://{authority}/path"));
        let request = request.header("x-key", *key).body(Empty::<Bytes>::new()).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        let status = answer.status().as_u16();
        let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
        answers.push((status, String::from_utf8(body.to_vec()).unwrap()));
    }
    answers
}

#[tokio::test]
async fn each_request_needs_the_host_of_the_connection() {
    let (session, (origin, requests)) = (Session::open(), origin().await);
    let to = format!("allowed.test:{}", origin.port);
    let client = session.tunnel(&to).await;
    let other = format!("denied.test:{}", origin.port);
    let asked = [(&*to, "a"), (&*other, "b"), ("ALLOWED.test", "c"), ("b.allowed.test", "d")];
    let answers = send(client, &asked).await;
    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 421, 200, 421]);
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests, [format!("http://{to}/path a"), format!("http://{to}/path c")]);
    assert_eq!(origin.connections(), 1);
    let denied = |event: &egress::NetworkEvent| match &event.outcome {
        Outcome::Denied(denial) => Some(denial.to_string()),
        _ => None,
    };
    let denied: Vec<String> = session.events().iter().filter_map(denied).collect();
    let expected = [&*other, "b.allowed.test"];
    assert_eq!(denied, expected.map(|host| format!("the connection names another host: {host}")));
}

#[tokio::test]
async fn masks_apply_to_requests_and_answers() {
    let (session, (origin, requests)) = (Session::open(), origin().await);
    let own = Mask::new("TOKEN", SecretString::from(TOKEN), ["allowed.test"]);
    let own = own.allow_plaintext();
    let other = Mask::new("OTHER", SecretString::from("other secret"), ["other.test"]);
    let masks = Masks::new([own, other]).unwrap();
    session.network.set_masks(&masks).unwrap();
    let to = format!("allowed.test:{}", origin.port);
    let (own, other) = (masks.placeholder("TOKEN").unwrap(), masks.placeholder("OTHER").unwrap());
    let client = session.tunnel(&to).await;
    let answers = send(client, &[(&to, own), (&to, other)]).await;
    assert_eq!(answers[0], (200, own.to_owned()));
    assert_eq!(answers[1].0, 403, "{answers:?}");
    assert_eq!(*requests.lock().unwrap(), [format!("http://{to}/path {TOKEN}")]);
}

#[tokio::test]
async fn a_preface_does_not_hide_other_protocols() {
    let (session, origin) = (Session::open(), Origin::hello().await);
    let mut client = session.tunnel(&format!("allowed.test:{}", origin.port)).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let request = "GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n";
    client.write_all(format!("{preface}{request}").as_bytes()).await.unwrap();
    rest(&mut client).await;
    assert!(!origin.received().contains("denied.test"), "{}", origin.received());
    // The proxy itself speaks HTTP/1.1 only.
    let mut client = session.connect().await;
    client.write_all(preface.as_bytes()).await.unwrap();
    assert!(!rest(&mut client).await.contains(" 200 "));
}
