//! Session directories and journals on a disk that is full.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use artifact_sync::Takeover;
use testkit::has_own_mounts;

use crate::interrupted::{give, open};
use crate::machine::{Machine, expected};

const LARGE: usize = 3 << 20;

/// Runs the named test again with a file system of 4 MiB. Returns whether this is the rerun.
fn has_small_disk(test: &str) -> bool {
    has_own_mounts(test, "size=4m", "a full disk")
}

/// Fills the small disk, and leaves nothing or some pages.
fn fill(free_pages: usize) {
    let content = vec![0; 1 << 16];
    let mut filler = fs::File::create("/mnt/filler").unwrap();
    while std::io::Write::write_all(&mut filler, &content).is_ok() {}
    let size = filler.metadata().unwrap().len();
    filler.set_len(size - (free_pages as u64 * 4096).min(size)).unwrap();
}

fn free() {
    fs::remove_file("/mnt/filler").unwrap();
}

#[tokio::test]
async fn a_session_opens_although_the_disk_cannot_take_a_file() {
    if !has_small_disk("full_disk::a_session_opens_although_the_disk_cannot_take_a_file") {
        return;
    }
    for free_pages in [0, 32] {
        let first = Machine::in_memory();
        let second = Machine::at(Path::new("/mnt"), Arc::clone(&first.store));
        let mirror = open(&first, "first").await;
        first.write("gone", "1");
        first.write("grows", "1");
        first.write("same", "1");
        give(mirror).await;
        give(open(&second, "second").await).await;

        let mirror = open(&first, "first").await;
        first.remove("gone");
        first.write("grows", &"2".repeat(LARGE / 4));
        first.write("d/large", &"3".repeat(LARGE / 4));
        give(mirror).await;
        fill(free_pages);
        let mut mirror = open(&second, "second").await;
        for again in [false, true] {
            if again {
                drop(mirror);
                mirror = open(&second, "second").await;
            }
            let failed = &mirror.opened().failed;
            let keys: Vec<_> = failed.iter().map(|failure| failure.key.as_str()).collect();
            assert_eq!(keys, ["d/large", "grows"], "{free_pages} {failed:?}");
            for failure in failed {
                assert!(failure.reason.contains("No space left on device"), "{failure:?}");
            }
            assert_eq!(second.files(), expected(&[("grows", "1"), ("same", "1")]));
            let report = mirror.flush().await.unwrap();
            assert!(report.is_complete() && report.deleted.is_empty(), "{report:?}");
        }
        // What a program does now is stored, and undoes nothing of the other machine.
        second.remove("same");
        let report = mirror.flush().await.unwrap();
        assert_eq!(report.deleted.len(), 1, "{report:?}");
        second.remove("grows");
        let report = mirror.flush().await.unwrap();
        assert!(report.deleted.is_empty(), "{report:?}");
        assert_eq!(report.pending[0].path.as_str(), "grows", "{report:?}");
        drop(mirror);
        free();
        let mirror = open(&second, "second").await;
        assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
        assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
        assert_eq!(second.files().into_keys().collect::<Vec<_>>(), ["d/large", "grows"]);
        give(mirror).await;
        open(&first, "first").await;
        assert_eq!(first.files(), second.files());
    }
}

#[tokio::test]
async fn a_cold_restore_to_a_full_disk_fails_whole_and_continues_later() {
    if !has_small_disk("full_disk::a_cold_restore_to_a_full_disk_fails_whole_and_continues_later") {
        return;
    }
    let first = Machine::in_memory();
    let second = Machine::at(Path::new("/mnt"), Arc::clone(&first.store));
    let mirror = open(&first, "first").await;
    first.write("small", "1");
    first.write("large", &"2".repeat(LARGE));
    give(mirror).await;
    fill(64);
    let opened = second.try_open_with(|mirror| mirror.home("second", Takeover::Refuse)).await;
    let error = opened.unwrap_err();
    assert!(sandbox_core::with_causes(&error).contains("No space left"), "{error}");
    assert!(!second.dir().exists());
    free();
    let mirror = open(&second, "second").await;
    assert!(mirror.opened().failed.is_empty());
    assert_eq!(second.files(), first.files());
}
