//! Writes that leave the times of a file as they are, because the clock has not ticked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, Mirror};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::machine::{Machine, changed, expected, key};
use crate::places::{disk_and_tmpfs, whole_seconds};

const ROUNDS: usize = 100;

/// Rewrites a file with equally long content right after each synchronisation. Returns the number
/// of rewrites that kept the time of the file.
async fn no_version_stays_stale(place: &Path, source: ChangeSource) -> usize {
    let machine = Machine::at(place, Arc::new(InMemory::new()));
    let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
    let mut same_signatures = 0;
    for round in 0..ROUNDS {
        let path = format!("f{}", round % 7);
        let stamp = || {
            let metadata = fs::metadata(machine.dir().join(&path)).unwrap();
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        machine.write(&path, &format!("A{round:03}"));
        let before = stamp();
        mirror.sync().await.unwrap();
        machine.write(&path, &format!("B{round:03}"));
        same_signatures += usize::from(stamp() == before);
        assert_eq!(changed(&mirror.sync().await.unwrap()), [path.as_str()], "round {round}");
        assert_eq!(machine.objects().await[&path], format!("B{round:03}"));
    }
    assert!(mirror.pending().is_empty());
    same_signatures
}

/// Rewrites a file right after each synchronisation, and removes its object.
async fn no_rewrite_follows_the_object(place: &Path, source: ChangeSource) {
    let machine = Machine::at(place, Arc::new(InMemory::new()));
    let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
    for round in 0..ROUNDS / 10 {
        machine.write("f", &format!("A{round:03}"));
        mirror.sync().await.unwrap();
        machine.write("f", &format!("B{round:03}"));
        machine.store.delete(&key("f")).await.unwrap();
        assert!(mirror.refresh().await.unwrap().removed.is_empty());
        assert_eq!(machine.files(), expected(&[("f", &format!("B{round:03}"))]));
        mirror.flush().await.unwrap();
        assert_eq!(machine.objects().await, machine.files());
    }
}

#[tokio::test]
async fn a_rewrite_within_one_tick_of_the_clock_is_stored() {
    for place in disk_and_tmpfs() {
        for source in [ChangeSource::Walks, ChangeSource::Events] {
            no_version_stays_stale(place.path(), source).await;
            no_rewrite_follows_the_object(place.path(), source).await;
        }
    }
}

#[tokio::test]
async fn a_rewrite_within_one_second_is_stored_if_times_have_whole_seconds() {
    let test = "racy::a_rewrite_within_one_second_is_stored_if_times_have_whole_seconds";
    let Some(place) = whole_seconds(test) else { return };
    for source in [ChangeSource::Walks, ChangeSource::Events] {
        no_rewrite_follows_the_object(&place, source).await;
        let kept = no_version_stays_stale(&place, source).await;
        assert!(kept > ROUNDS / 2, "{kept} rewrites kept the time of the file");
    }
}

#[tokio::test]
async fn a_file_is_compared_by_content_only_until_its_times_are_evidence() {
    let machine = Machine::in_memory();
    machine.write("a", "1");
    let mirror: Mirror =
        machine.open_with(|mirror| mirror.change_source(ChangeSource::Walks)).await;
    mirror.sync().await.unwrap();
    let index = machine.state().join("journal");
    let lines = || fs::read_to_string(&index).unwrap().lines().count();
    // Each comparison appends a line, and the last one records evidence.
    let waited = Instant::now();
    let mut known = 0;
    while known != lines() || waited.elapsed() < Duration::from_millis(100) {
        known = lines();
        assert!(changed(&mirror.sync().await.unwrap()).is_empty());
    }
    let last = fs::read_to_string(&index).unwrap();
    assert!(!last.lines().last().unwrap().contains("isRacy"), "{last}");
    for _ in 0..20 {
        mirror.sync().await.unwrap();
    }
    assert_eq!(lines(), known);
    assert_eq!(machine.objects().await, expected(&[("a", "1")]));
}
