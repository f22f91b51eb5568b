//! Deletion of sessions everywhere, interrupted at any step.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{GarbageOptions, LogView, Mirror, SyncError, Takeover, open_directory};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use testkit::{Calls, ClockStore, FailingStore, Failure, LatencyStore};

use crate::machine::{LOG, Machine, PREFIX, expected, key, keys};

const PLACE: &str = "ARTIFACT_SYNC_ERASE_PLACE";
const KILLS: u32 = 30;

const TOMBSTONE: &str = "erased\n";

/// Returns the keys of the log, below its prefix, without those of tombstones.
async fn log_keys(machine: &Machine) -> Vec<String> {
    let listed = log_objects(machine).await.into_iter();
    let real = listed.filter(|(_, size)| *size != TOMBSTONE.len() as u64);
    real.map(|(key, _)| key).collect()
}

/// Returns the keys of the log, below its prefix, and the sizes of their objects.
async fn log_objects(machine: &Machine) -> Vec<(String, u64)> {
    let prefix = Key::parse(LOG).unwrap();
    let listed: Vec<_> = machine.store.list(Some(&prefix)).try_collect().await.unwrap();
    let below = |key: &Key| key.as_ref()[LOG.len() + 1..].to_owned();
    listed.iter().map(|meta| (below(&meta.location), meta.size)).collect()
}

/// Asserts that nothing but the final entry is left of a session.
async fn assert_erased(machine: &Machine, context: &str) {
    let left = log_keys(machine).await;
    assert!(left.len() == 1 && left[0].len() == 20, "{context}: {left:?}");
    assert!(machine.objects().await.is_empty(), "{context}");
}

/// Opens a session with files of each kind, in several entries.
async fn filled(machine: &Machine) -> Mirror {
    let mirror = machine.open().await;
    machine.write("inline", "1");
    machine.write("d/blob", &"2".repeat(40_000));
    mirror.sync().await.unwrap();
    machine.write("inline", "3");
    machine.remove("d/blob");
    machine.write("other", &"4".repeat(40_000));
    mirror.sync().await.unwrap();
    machine.put("external", "5").await;
    mirror.refresh().await.unwrap();
    mirror
}

/// Interrupts the deletion at each request in turn.
async fn for_each_request(
    failing: usize,
    mut then: impl AsyncFnMut(Machine, Arc<FailingStore>, Mirror, String),
) {
    for failure in [Failure::Rejected, Failure::ResponseLost] {
        let (mut at, mut has_failed) = (0, true);
        while has_failed {
            let store = FailingStore::new();
            let machine = Machine::new(store.clone());
            let mirror = filled(&machine).await;
            store.set_failure(failure);
            store.fail(Calls::All, at, failing);
            has_failed = mirror.erase().await.is_err();
            store.recover();
            then(machine, store, mirror, format!("{failure:?} {at}")).await;
            at += 1;
        }
        assert!(at > 8, "the deletion was interrupted at {at} requests");
    }
}

#[tokio::test]
async fn a_repeated_deletion_continues_after_a_failure_of_any_request() {
    for failing in [1, usize::MAX] {
        for_each_request(failing, async |machine, _store, mirror, context| {
            if machine.dir().exists() {
                mirror.erase().await.unwrap();
            }
            assert_erased(&machine, &context).await;
            assert!(!machine.dir().exists(), "{context}");
            assert!(!machine.state().join("journal").exists(), "{context}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_next_opening_finishes_a_deletion_that_the_log_records() {
    for failing in [1, usize::MAX] {
        for_each_request(failing, async |machine, _store, mirror, context| {
            drop(mirror);
            let before = log_keys(&machine).await;
            let mirror = machine.open().await;
            assert_eq!(mirror.opened().conflicts, [], "{context}");
            if machine.files().is_empty() {
                assert_erased(&machine, &context).await;
            } else {
                // The log does not record the deletion.
                assert_eq!(machine.files().len(), 3, "{context}");
                assert_eq!(machine.objects().await, machine.files(), "{context}");
                assert_eq!(log_keys(&machine).await, before, "{context}");
            }
            // The id can be used further, or again.
            machine.write("new", "1");
            assert!(mirror.sync().await.unwrap().is_complete(), "{context}");
            let files = machine.files();
            drop(mirror);
            let other = Machine::new(Arc::clone(&machine.store));
            other.open().await;
            assert_eq!(other.files(), files, "{context}");
        })
        .await;
    }
}

#[tokio::test]
async fn another_machine_finishes_a_deletion_and_uses_the_id_again() {
    for_each_request(usize::MAX, async |machine, _store, mirror, context| {
        drop(mirror);
        let other = Machine::new(Arc::clone(&machine.store));
        let mirror = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
        let is_erased = other.files().is_empty();
        if is_erased {
            assert_erased(&machine, &context).await;
        }
        other.write("new", "of the other machine");
        mirror.sync().await.unwrap();
        drop(mirror);
        if is_erased && machine.dir().exists() {
            // This machine had begun the deletion, so nothing here belongs to the new session.
            let mirror = machine.open().await;
            assert_eq!(machine.files(), expected(&[("new", "of the other machine")]), "{context}");
            assert!(mirror.pending().is_empty(), "{context}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_has_not_begun_the_deletion_finishes_it_in_the_store_only() {
    for_each_request(usize::MAX, async |machine, _store, mirror, context| {
        drop(mirror);
        let had = log_keys(&machine).await.len();
        let builder = Mirror::builder("/nowhere", Arc::clone(&machine.store), keys());
        builder.finish_erasure().await.unwrap();
        let left = log_keys(&machine).await;
        assert!(left.len() == had || left.len() == 1, "{context}: {left:?}");
        if left.len() == 1 {
            assert_erased(&machine, &context).await;
        }
    })
    .await;
}

#[tokio::test]
async fn objects_that_come_after_the_deletion_belong_to_the_next_session() {
    let failing = FailingStore::new();
    let clock = ClockStore::new(failing.clone());
    let machine = Machine::new(clock.clone());
    let mirror = filled(&machine).await;
    failing.fail(Calls::All, 0, usize::MAX);
    // The deletion is recorded, and nothing more is done.
    let mut at = 0;
    loop {
        failing.fail(Calls::All, at, usize::MAX);
        assert!(mirror.erase().await.is_err());
        failing.recover();
        let newest = log_keys(&machine).await.into_iter().filter(|key| key.len() == 20).max();
        let entry = machine.store.get(&Key::from(format!("{LOG}/{}", newest.unwrap()))).await;
        let text = entry.unwrap().bytes().await.unwrap();
        if String::from_utf8_lossy(&text).contains(r#"{"op":"erased"}"#) {
            break;
        }
        at += 1;
    }
    drop(mirror);
    clock.advance(Duration::from_secs(60));
    machine.put("upload", "for the next session").await;
    assert!(machine.objects().await.len() > 1, "the deletion is not finished");
    let mirror = machine.open().await;
    assert_eq!(machine.files(), expected(&[("upload", "for the next session")]));
    assert_eq!(machine.objects().await, machine.files());
    drop(mirror);
    assert!(machine.store.head(&key("upload")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_stored_after_a_deletion_by_calls_that_run_beside_it() {
    for _ in 0..200 {
        let machine = Machine::in_memory();
        let mirror = filled(&machine).await;
        machine.write("beside", &"6".repeat(40_000));
        machine.put("uploaded beside", "7").await;
        let (_, _, erased) = tokio::join!(mirror.sync(), mirror.refresh(), mirror.erase());
        erased.unwrap();
        let view = LogView::open(Arc::clone(&machine.store), keys(), None).await;
        assert!(matches!(view, Err(SyncError::Erased)), "{view:?}");
        assert!(matches!(mirror.sync().await, Err(SyncError::Closing)));
        drop(mirror);
        machine.open().await;
        assert!(machine.files().is_empty());
        assert_eq!(log_keys(&machine).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_deletion_is_finished_by_a_repeated_one_or_by_the_next_opening() {
    for is_repeated in [true, false] {
        let (mut is_complete, mut after) = (false, Duration::ZERO);
        while !is_complete {
            let machine = Machine::new(LatencyStore::new(Duration::from_millis(10)));
            let mirror = filled(&machine).await;
            is_complete = tokio::time::timeout(after, mirror.erase()).await.is_ok();
            if is_repeated && !is_complete {
                mirror.erase().await.unwrap();
            }
            drop(mirror);
            if is_repeated || is_complete {
                assert_erased(&machine, &format!("{after:?}")).await;
                assert!(!machine.dir().exists());
            } else {
                machine.open().await;
                // The log may not have recorded the deletion.
                assert!(matches!(machine.files().len(), 0 | 3), "{after:?}");
                assert_eq!(machine.objects().await, machine.files(), "{after:?}");
            }
            after += Duration::from_millis(5);
        }
        assert!(after > Duration::from_millis(50), "{after:?}");
    }
}

#[tokio::test]
async fn a_refill_does_not_bring_a_deleted_session_back() {
    for entries in [1, 80] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let [a, b] = [(); 2].map(|()| Machine::new(Arc::clone(&store)));
        let here = a.open_with(|mirror| mirror.home("a", Takeover::Refuse)).await;
        a.write("old", "secret");
        assert!(here.sync().await.unwrap().is_complete());
        here.drain(Duration::ZERO).await.unwrap();
        drop(here);
        let there = b.open_with(|mirror| mirror.home("b", Takeover::Refuse)).await;
        there.erase().await.unwrap();
        drop(there);
        let there = b.open_with(|mirror| mirror.home("b", Takeover::Refuse)).await;
        for number in 0..entries {
            b.write("new", &number.to_string());
            assert!(there.sync().await.unwrap().is_complete());
        }
        there.drain(Duration::ZERO).await.unwrap();
        for _ in 0..2 {
            let refused = a.try_open_with(|mirror| mirror.home("a", Takeover::Steal)).await;
            assert!(matches!(refused, Err(SyncError::Erased)), "{entries} {refused:?}");
            let refused = a.try_open_with(|mirror| mirror.home("a", Takeover::Steal).refill());
            let refused = refused.await;
            assert!(matches!(refused, Err(SyncError::Erased)), "{entries} {refused:?}");
        }
        assert_eq!(b.objects().await.len(), 1);
    }
}

/// Last act of the owner before another machine deleted the session.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Changed,
    Released,
}

#[tokio::test]
async fn an_owner_that_does_not_know_of_the_deletion_stores_nothing() {
    for owner in [Owner::Changed, Owner::Released] {
        for is_used_again in [false, true] {
            let clock = ClockStore::new(Arc::new(InMemory::new()));
            let store: Arc<dyn ObjectStore> = clock.clone();
            let [a, b, c] = [(); 3].map(|()| Machine::new(Arc::clone(&store)));
            let here = a.open_with(|mirror| mirror.home("a", Takeover::Refuse)).await;
            for number in 0..3 {
                a.write("f", &number.to_string());
                assert!(here.sync().await.unwrap().is_complete());
            }
            if let Owner::Released = owner {
                assert!(here.release_if_idle().await.unwrap());
            }
            let there = b.open_with(|mirror| mirror.home("b", Takeover::Steal)).await;
            there.erase().await.unwrap();
            let mut files = Vec::new();
            if is_used_again {
                let again = c.open_with(|mirror| mirror.home("c", Takeover::Refuse)).await;
                c.write("new", "of c");
                assert!(again.sync().await.unwrap().is_complete());
                again.drain(Duration::ZERO).await.unwrap();
                files.push(("new", "of c"));
            }
            for _ in 0..10 {
                a.write("late", "of a");
                let late = here.sync().await;
                let is_told = matches!(late, Err(SyncError::LeaseLost | SyncError::Erased));
                let is_pending = late.as_ref().is_ok_and(|report| !report.pending.is_empty());
                assert!(is_told || is_pending, "{owner:?} {is_used_again} {late:?}");
            }
            assert!(here.sync().await.is_err());
            drop(here);
            let d = Machine::new(Arc::clone(&store));
            let mirror = d.open_with(|mirror| mirror.home("d", Takeover::Steal)).await;
            assert_eq!(d.files(), expected(&files), "{owner:?}");
            assert!(mirror.flush().await.unwrap().is_complete());
            assert_eq!(d.objects().await, expected(&files), "{owner:?}");
            let is_tombstone = |(_, size): &(String, u64)| *size == TOMBSTONE.len() as u64;
            assert!(log_objects(&d).await.iter().any(is_tombstone), "{owner:?}");
            clock.advance(Duration::from_secs(16 * 60));
            mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
            assert!(!log_objects(&d).await.iter().any(is_tombstone), "{owner:?}");
        }
    }
}

fn machine_at(place: &Path) -> (PathBuf, artifact_sync::MirrorBuilder) {
    let store = open_directory(&place.join("store")).unwrap();
    let dir = place.join("session");
    let mirror = Mirror::builder(&dir, store.store, keys())
        .capabilities(store.capabilities)
        .state_dir(place.join("state"));
    (dir, mirror)
}

/// Fills and deletes the session, and waits until the parent kills this process.
async fn child(place: &Path) -> ! {
    let (dir, builder) = machine_at(place);
    let mirror = builder.open().await.unwrap();
    for number in 0..40 {
        let content = number.to_string().repeat(if number % 2 == 0 { 1 } else { 20_000 });
        std::fs::write(dir.join(format!("f{number}")), content).unwrap();
    }
    mirror.sync().await.unwrap();
    println!("filled");
    mirror.erase().await.unwrap();
    println!("erased");
    std::future::pending().await
}

/// Starts a process that deletes a session, and waits until it begins.
fn begin_deletion(place: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = testkit::rerun("erase::a_deletion_that_is_killed_at_any_moment_is_finished")
        .arg("--nocapture")
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("filled")));
    (child, lines)
}

#[tokio::test]
async fn a_deletion_that_is_killed_at_any_moment_is_finished() {
    if let Some(place) = std::env::var_os(PLACE) {
        child(Path::new(&place)).await;
    }
    let mut duration = Duration::ZERO;
    for kill in 0..=KILLS {
        let temporary = tempfile::tempdir().unwrap();
        let place = temporary.path();
        let (mut child, mut lines) = begin_deletion(place);
        if kill == 0 {
            let began = Instant::now();
            assert!(lines.any(|line| line.unwrap().contains("erased")));
            duration = began.elapsed();
        } else {
            tokio::time::sleep(duration * (kill - 1) / KILLS).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let (dir, builder) = machine_at(place);
        let mirror = builder.open().await.unwrap();
        let left = std::fs::read_dir(&dir).unwrap().count();
        assert!(matches!(left, 0 | 40), "kill {kill}: {left} files");
        mirror.erase().await.unwrap();
        let entries = std::fs::read_dir(place.join("store").join(LOG)).unwrap();
        let is_tombstone = |entry: &std::fs::DirEntry| {
            std::fs::read(entry.path()).is_ok_and(|content| content == TOMBSTONE.as_bytes())
        };
        let real = entries.map(|entry| entry.unwrap()).filter(|entry| !is_tombstone(entry));
        let names: Vec<_> = real.map(|entry| entry.file_name()).collect();
        assert_eq!((names.len(), dir.exists()), (1, false), "kill {kill}: {names:?}");
        assert!(!place.join("store").join(PREFIX).exists(), "kill {kill}");
    }
}
