//! A server that speaks S3 and checks signatures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use artifact_sync::{OpenedStore, open_store};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::path::Path as Key;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use crate::place::{Machine, PREFIX, expected};

/// Serves a directory with one bucket on loopback, from a thread of its own.
pub(crate) fn serve(root: &std::path::Path) -> SocketAddr {
    std::fs::create_dir(root.join("bucket")).unwrap();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = service.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
    });
    address
}

/// Runs one test of this file again, in a process that has a server's address and its credentials
/// in the environment, where stores are opened by their URLs. `true` in that process.
fn in_a_process_with_a_server(test: &str) -> bool {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return true;
    }
    let root = tempfile::tempdir().unwrap();
    let address = serve(root.path());
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("AWS_ACCESS_KEY_ID", "access")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT", format!("http://{address}"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    false
}

fn machine(store: &OpenedStore) -> Machine {
    let mut machine = Machine::new(Arc::clone(&store.store));
    machine.linker = store.linker.clone();
    machine
}

/// A plain GET, without any credentials: the status and the body.
pub(crate) fn get(url: &str) -> (u16, Vec<u8>) {
    let url = url::Url::parse(url).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&host).unwrap();
    let target = &url[url::Position::BeforePath..];
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer[head + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_there_and_back_and_their_links_open_without_credentials() {
    if !in_a_process_with_a_server(
        "s3::files_go_there_and_back_and_their_links_open_without_credentials",
    ) {
        return;
    }
    let opened = open_store("s3://bucket/general/user_7").unwrap();
    assert_eq!((opened.name.as_str(), opened.prefix.as_ref()), ("bucket", "general/user_7"));
    assert!(PREFIX.starts_with(opened.prefix.as_ref()));
    let first = machine(&opened);
    let mirror = first.open();
    first.write("a b é+&%20#?.txt", "odd");
    let large = "0123456789abcdef".repeat(600_000);
    first.write("large", &large);
    let report = mirror.sync().await;
    assert!(report.pending.is_empty() && report.skipped.is_empty(), "{report:?}");
    let link = |path: &str| {
        report
            .changed
            .iter()
            .find(|changed| changed.path.as_str() == path)
            .unwrap()
            .url
            .clone()
            .unwrap()
    };
    assert_eq!(get(&link("a b é+&%20#?.txt")), (200, b"odd".to_vec()));
    assert!(get(&link("large")) == (200, large.clone().into_bytes()), "byte for byte");
    assert_eq!(
        get(&link("large").replace("/large?", "/other?")).0,
        403,
        "a link opens one object only"
    );
    assert_eq!(get(link("large").split('?').next().unwrap()).0, 403);

    let second = machine(&open_store("s3://bucket").unwrap());
    let mirror = second.open();
    let report = mirror.restore().await.unwrap();
    assert!(report.problems().is_empty(), "{report:?}");
    assert_eq!(second.files(), first.files());
    second.remove("large");
    assert_eq!(mirror.sync().await.deleted.len(), 1);
    assert_eq!(second.objects().await, expected(&[("a b é+&%20#?.txt", "odd")]));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_of_the_restore() {
    if !in_a_process_with_a_server("s3::a_bucket_that_is_not_there_is_an_error_of_the_restore") {
        return;
    }
    let opened = open_store("s3://no-such-bucket-here").unwrap();
    let machine = machine(&opened);
    let mirror = machine.open();
    assert!(mirror.restore().await.is_err(), "a bucket that is not there cannot be listed");
    assert_eq!(
        opened
            .linker
            .unwrap()
            .link(&Key::from("k"))
            .await
            .unwrap()
            .map(|link| link.contains("X-Amz-Signature")),
        Some(true)
    );
}

#[test]
fn missing_credentials_are_named_and_nobody_is_asked_for_them() {
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "s3::without_credentials", "--nocapture"])
        .env_clear()
        .env("AGENT_TOOLS_TEST_WITHOUT_CREDENTIALS", "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && stdout.contains("named them all"),
        "{stdout}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn without_credentials() {
    if std::env::var_os("AGENT_TOOLS_TEST_WITHOUT_CREDENTIALS").is_none() {
        return;
    }
    for (url, variable) in [
        ("s3://b", "AWS_ACCESS_KEY_ID"),
        ("gs://b", "GOOGLE_SERVICE_ACCOUNT_PATH"),
        ("az://b", "AZURE_STORAGE_ACCOUNT_NAME"),
    ] {
        let error = open_store(url).unwrap_err().to_string();
        assert!(error.contains(variable), "{url}: {error}");
    }
    println!("named them all");
}
