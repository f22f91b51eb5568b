//! Processes that are stopped, and wake up after another home took their session over.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::internal::Timings;
use artifact_sync::{Heartbeat, HomeId, Mirror, SyncError, Takeover, open_directory};
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::keys;
use crate::owners::GENERAL;

const PLACE: &str = "OWNERS_PLACE";

/// Returns short intervals, with beats from the start.
pub(crate) fn short() -> Timings {
    Timings {
        beat: Duration::from_millis(100),
        first_beat: Duration::from_millis(50),
        longest_gap: Duration::from_secs(1),
        lease: Duration::from_millis(200),
        ..Timings::default()
    }
}

/// Opens the session for a home of the local disk.
pub(crate) async fn open_at(
    place: &Path,
    name: &str,
    store: Arc<dyn ObjectStore>,
    takeover: Takeover,
    heartbeat: &Heartbeat,
) -> Result<Mirror, SyncError> {
    let home = place.join(name);
    Mirror::builder(home.join("session"), store, keys())
        .state_dir(home.join("state"))
        .deadline(Duration::from_secs(2))
        .heartbeat(heartbeat, takeover)
        .open()
        .await
}

pub(crate) fn heartbeat_at(place: &Path, name: &str, store: Arc<dyn ObjectStore>) -> Heartbeat {
    let home = place.join(name);
    std::fs::create_dir_all(&home).unwrap();
    let id = HomeId::load_or_create(&home.join("id")).unwrap();
    Heartbeat::start_with(move || Ok(store), &Key::from(GENERAL), id, None, short()).unwrap()
}

pub(crate) fn store_at(place: &Path) -> Arc<dyn ObjectStore> {
    open_directory(&place.join("store")).unwrap().store
}

/// Stores files until another home takes the session over.
async fn write_until_lost(place: &Path) -> ! {
    let store = store_at(place);
    let heartbeat = heartbeat_at(place, "old", store.clone());
    let mirror = open_at(place, "old", store, Takeover::Refuse, &heartbeat).await.unwrap();
    for number in 0.. {
        std::fs::write(place.join("old/session/f"), number.to_string()).unwrap();
        let stored = async {
            let call = mirror.begin_call().await?;
            mirror.sync().await?;
            call.confirm().await
        };
        match stored.await {
            Ok(()) => say(&format!("ack {number}")),
            Err(SyncError::LeaseLost) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(mirror.is_lost());
    assert!(matches!(mirror.flush().await, Err(SyncError::LeaseLost)));
    say("lost");
    std::process::exit(0);
}

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

async fn all_objects(store: &dyn ObjectStore) -> Vec<(Key, Vec<u8>)> {
    let mut listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    listed.retain(|meta| !meta.location.as_ref().contains("/owners/"));
    listed.sort_by(|a, b| a.location.cmp(&b.location));
    let mut objects = Vec::new();
    for meta in listed {
        let content = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.push((meta.location, content.to_vec()));
    }
    objects
}

#[tokio::test]
async fn a_stopped_process_that_wakes_up_after_a_takeover_changes_nothing() {
    if let Some(place) = std::env::var_os(PLACE) {
        write_until_lost(Path::new(&place)).await;
    }
    let temporary = tempfile::tempdir().unwrap();
    let place: PathBuf = temporary.path().to_owned();
    let test = "stopped::a_stopped_process_that_wakes_up_after_a_takeover_changes_nothing";
    let mut child = testkit::rerun(test)
        .arg("--nocapture")
        .env(PLACE, &place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "ack 3"));
    signal(&child, Signal::STOP);
    let store = store_at(&place);
    let heartbeat = heartbeat_at(&place, "new", store.clone());
    let mirror = open_at(&place, "new", store.clone(), Takeover::Wait, &heartbeat).await.unwrap();
    std::fs::write(place.join("new/session/new"), "1").unwrap();
    assert!(mirror.flush().await.unwrap().is_complete());
    let before = all_objects(&*store).await;
    signal(&child, Signal::CONT);
    assert!(lines.any(|line| line == "lost"));
    assert!(child.wait().unwrap().success());
    let after = all_objects(&*store).await;
    assert!(after == before, "{:?}", difference(&before, &after));
    assert!(mirror.flush().await.unwrap().is_complete());
}

fn difference(before: &[(Key, Vec<u8>)], after: &[(Key, Vec<u8>)]) -> Vec<String> {
    let differs = after.iter().filter(|object| !before.contains(object));
    differs.map(|(key, content)| format!("{key}: {}", String::from_utf8_lossy(content))).collect()
}
