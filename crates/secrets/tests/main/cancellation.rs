//! Each async call, dropped at every place at which it waits.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use secrets::sql::{Encryption, VariableStore};
use secrets::{DotenvSource, ExposeSecret as _, VariableSource as _};

/// Polls a call once more in each round, and drops it, until it ends. Calls `check` after each
/// round.
async fn drop_everywhere<T>(call: impl AsyncFn() -> T, check: impl AsyncFn()) {
    for polls in 1..2000 {
        let mut is_done = false;
        {
            let mut call = pin!(call());
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if call.as_mut().poll(&mut context).is_ready() {
                    is_done = true;
                    break;
                }
                // Lets the thread of the database answer.
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        }
        check().await;
        if is_done {
            return;
        }
    }
}

#[tokio::test]
async fn calls_of_a_store_that_are_dropped_leave_it_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let url = format!("sqlite:{}", path.display());
    let connect = async || VariableStore::connect_or_create(&url, None).await.unwrap();
    drop_everywhere(connect, async || drop(connect().await)).await;
    let store = connect().await;
    let value = async || {
        let loaded = store.load().await.unwrap();
        loaded.variables.get("A").map(|value| value.expose_secret().to_owned())
    };
    store.set("A", "old".into(), Encryption::Plain).await.unwrap();
    let set = async || store.set("A", "new".into(), Encryption::Plain).await.unwrap();
    drop_everywhere(set, async || assert!(matches!(value().await.as_deref(), Some("old" | "new"))))
        .await;
    drop_everywhere(
        async || store.list().await.unwrap(),
        async || assert!(value().await.is_some()),
    )
    .await;
    drop_everywhere(
        async || store.load().await.unwrap(),
        async || assert!(value().await.is_some()),
    )
    .await;
    let remove = async || store.remove("A").await.unwrap();
    drop_everywhere(remove, async || {
        assert!(matches!(value().await.as_deref(), Some("new") | None));
    })
    .await;
    store.set("B", "x".into(), Encryption::Plain).await.unwrap();
    assert!(store.load().await.unwrap().variables.get("B").is_some());
}

#[tokio::test]
async fn a_load_of_a_file_that_is_dropped_has_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.env");
    std::fs::write(&path, "A=1").unwrap();
    let source = DotenvSource::new(&path);
    let load = async || source.load().await.unwrap();
    drop_everywhere(load, async || assert_eq!(load().await.variables.len(), 1)).await;
}
