//! Mirrors on an S3 server that verifies signatures.

use std::sync::Arc;

use artifact_sync::{OpenedStore, open_store};
use object_store::path::Path as Key;
use testkit::{S3Server, assert_passed, http_get, rerun};

use crate::machine::{Machine, PREFIX, expected};

/// Runs one test of this file again, in a process whose environment has a server's address and
/// credentials. Returns `true` in that process.
fn in_a_process_with_a_server(test: &str) -> bool {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return true;
    }
    assert_passed(&rerun(test).envs(S3Server::start().environment()).output().unwrap());
    false
}

fn machine(store: &OpenedStore) -> Machine {
    let mut machine = Machine::new(Arc::clone(&store.store));
    machine.linker = store.linker.clone();
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn files_survive_a_round_trip_and_links_open_without_credentials() {
    if !in_a_process_with_a_server(
        "s3::files_survive_a_round_trip_and_links_open_without_credentials",
    ) {
        return;
    }
    let opened = open_store("s3://bucket/general/user_7").unwrap();
    assert_eq!((opened.name.as_str(), opened.prefix.as_ref()), ("bucket", "general/user_7"));
    assert!(PREFIX.starts_with(opened.prefix.as_ref()));
    let first = machine(&opened);
    let mirror = first.open().await;
    first.write("a b é+&%20#?.txt", "odd");
    let large = "0123456789abcdef".repeat(600_000);
    first.write("large", &large);
    let report = mirror.sync().await.unwrap();
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
    assert_eq!(http_get(&link("a b é+&%20#?.txt")), (200, b"odd".to_vec()));
    assert!(http_get(&link("large")) == (200, large.clone().into_bytes()), "byte for byte");
    assert_eq!(
        http_get(&link("large").replace("/large?", "/other?")).0,
        403,
        "a link opens only its object"
    );
    assert_eq!(http_get(link("large").split('?').next().unwrap()).0, 403);

    let second = machine(&open_store("s3://bucket").unwrap());
    let mirror = second.open().await;
    let report = mirror.opened().clone();
    assert!(report.problems().is_empty(), "{report:?}");
    assert_eq!(second.files(), first.files());
    second.remove("large");
    assert_eq!(mirror.sync().await.unwrap().deleted.len(), 1);
    assert_eq!(second.objects().await, expected(&[("a b é+&%20#?.txt", "odd")]));
}

#[tokio::test]
async fn an_absent_bucket_fails_the_restore() {
    if !in_a_process_with_a_server("s3::an_absent_bucket_fails_the_restore") {
        return;
    }
    let opened = open_store("s3://no-such-bucket-here").unwrap();
    let machine = machine(&opened);
    let opened_mirror = machine.try_open_with(|mirror| mirror).await;
    assert!(opened_mirror.is_err(), "an absent bucket cannot be listed");
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
fn missing_credentials_are_named_without_a_request() {
    let ran = rerun("s3::without_credentials")
        .arg("--nocapture")
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
