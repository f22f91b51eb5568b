//! Working copies whose position is older than the log that is retained.

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::GarbageOptions;
use object_store::memory::InMemory;
use testkit::ClockStore;

use crate::interrupted::{give, open};
use crate::machine::Machine;

const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 60 * 60);

#[tokio::test]
async fn a_file_that_only_this_machine_has_keeps_its_name_after_missed_entries() {
    let clock = ClockStore::new(Arc::new(InMemory::new()));
    let first = Machine::new(clock.clone());
    let second = Machine::new(clock.clone());
    let mirror = open(&first, "first").await;
    first.write("shared", "1");
    give(mirror).await;
    give(open(&second, "second").await).await;
    let mirror = open(&first, "first").await;
    let mut deleted = 0;
    for version in 0..4 {
        first.write("shared", &format!("of the first, {version}"));
        assert!(mirror.flush().await.unwrap().is_complete());
        clock.advance(TWO_DAYS);
        deleted += mirror.collect_garbage(GarbageOptions::default()).await.unwrap().entries;
    }
    assert!(deleted > 3, "{deleted}");
    give(mirror).await;
    second.write("new", "2");
    second.write("shared", "of the second");
    let mirror = open(&second, "second").await;
    let conflicts = &mirror.opened().conflicts;
    let paths: Vec<_> = conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    assert_eq!(paths, ["shared"], "{conflicts:?}");
    let files = second.files();
    assert_eq!((&*files["new"], &*files["shared"]), ("2", "of the first, 3"));
    assert_eq!(files[conflicts[0].kept_as.as_str()], "of the second");
    give(mirror).await;
    open(&first, "first").await;
    assert_eq!(first.files(), files);
}
