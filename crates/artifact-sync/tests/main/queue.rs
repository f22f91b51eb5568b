//! The limit on the bytes that are queued for upload.

use std::fs::File;
use std::time::Duration;

use artifact_sync::{MirrorBuilder, SyncReport};
use testkit::LatencyStore;

use crate::machine::Machine;

const MAX: u64 = 1000;
const REASON: &str = "more than 1000 bytes would wait for upload";

fn pending(report: &SyncReport) -> Vec<(&str, &str)> {
    report.pending.iter().map(|change| (change.path.as_str(), change.reason.as_str())).collect()
}

/// Returns the changed files that the store has.
fn stored(report: &SyncReport) -> Vec<&str> {
    let stored = report.changed.iter().filter(|changed| changed.entry.is_some());
    stored.map(|changed| changed.path.as_str()).collect()
}

#[tokio::test]
async fn files_beyond_the_queue_are_pending_with_the_reason_and_stored_later() {
    let machine = Machine::in_memory();
    let mirror = machine.open_with(|mirror| mirror.max_queued_bytes(MAX)).await;
    for name in ["a", "b", "c", "d"] {
        // Holes count: an upload reads them.
        File::create(machine.dir().join(name)).unwrap().set_len(400).unwrap();
    }
    let report = mirror.sync().await.unwrap();
    assert_eq!(stored(&report), ["a", "b"]);
    assert_eq!(pending(&report), [("c", REASON), ("d", REASON)]);
    let reasons: Vec<String> = mirror.pending().into_iter().map(|change| change.reason).collect();
    assert_eq!(reasons, [REASON, REASON]);
    let report = mirror.sync().await.unwrap();
    assert_eq!((stored(&report), report.is_complete()), (vec!["c", "d"], true));
    assert_eq!(machine.objects().await, machine.files());
}

#[tokio::test]
async fn a_file_larger_than_the_queue_is_stored_alone() {
    let machine = Machine::in_memory();
    let mirror = machine.open_with(|mirror| mirror.max_queued_bytes(MAX)).await;
    machine.write("large", &"x".repeat(5000));
    machine.write("small", "x");
    let report = mirror.sync().await.unwrap();
    assert_eq!((stored(&report), pending(&report)), (vec!["large"], vec![("small", REASON)]));
    assert_eq!(stored(&mirror.sync().await.unwrap()), ["small"]);
}

#[tokio::test]
async fn files_that_earlier_calls_have_queued_take_its_room() {
    let machine = Machine::new(LatencyStore::new(Duration::from_millis(100)));
    let set = |mirror: MirrorBuilder| mirror.max_queued_bytes(MAX);
    let mirror = machine.open_with(|mirror| set(mirror).deadline(Duration::ZERO)).await;
    machine.write("a", &"x".repeat(900));
    assert_eq!(pending(&mirror.sync().await.unwrap())[0].0, "a");
    machine.write("b", &"y".repeat(900));
    let report = mirror.sync().await.unwrap();
    assert_eq!((pending(&report), report.still_pending), (vec![("b", REASON)], 1));
    while !mirror.flush().await.unwrap().is_complete() {}
    assert_eq!(machine.objects().await, machine.files());
}
