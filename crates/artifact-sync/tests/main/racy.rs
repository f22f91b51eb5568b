//! Writes that leave the times of a file as they are, because the clock has not ticked.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, Mirror};
use object_store::memory::InMemory;
use testkit::{assert_passed, rerun, skipped};

use crate::machine::{Machine, changed, expected};

const ROUNDS: usize = 200;
/// Directory with coarse times, for the rerun of a test in its own mount namespace.
const PLACE: &str = "ARTIFACT_SYNC_TEST_COARSE_TIMES";

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

#[tokio::test]
async fn a_rewrite_within_one_tick_of_the_clock_is_stored() {
    for source in [ChangeSource::Walks, ChangeSource::Events] {
        let place = tempfile::tempdir().unwrap();
        no_version_stays_stale(place.path(), source).await;
        match tempfile::tempdir_in("/dev/shm") {
            Ok(place) => drop(no_version_stays_stale(place.path(), source).await),
            Err(_) => skipped("rewrites on tmpfs", "mount tmpfs at /dev/shm"),
        }
    }
}

/// Mounts an ext4 file system whose times have whole seconds, in a mount namespace of this test.
#[tokio::test]
async fn a_rewrite_within_one_second_is_stored_if_times_have_whole_seconds() {
    if let Some(place) = std::env::var_os(PLACE) {
        for source in [ChangeSource::Walks, ChangeSource::Events] {
            let kept = no_version_stays_stale(Path::new(&place), source).await;
            assert!(kept > ROUNDS / 2, "{kept} rewrites kept the time of the file");
        }
        return;
    }
    let remedy = "root, package e2fsprogs and loop devices";
    let place = tempfile::tempdir().unwrap();
    let (image, mounted) = (place.path().join("image"), place.path().join("mounted"));
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    fs::create_dir(&mounted).unwrap();
    // Inodes of 128 bytes have no room for nanoseconds (`ext4(5)`).
    let made = Command::new("mkfs.ext4").args(["-q", "-I", "128"]).arg(&image).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return skipped("rewrites with times of whole seconds", remedy);
    }
    let test = "racy::a_rewrite_within_one_second_is_stored_if_times_have_whole_seconds";
    let script = "mount -o loop \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    let rerun = rerun(test);
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&image, &mounted])
        .arg(rerun.get_program())
        .args(rerun.get_args())
        .env(PLACE, &mounted)
        .output();
    match ran {
        Ok(ran) if ran.status.code() == Some(77) => {
            skipped("rewrites with times of whole seconds", remedy);
        }
        Ok(ran) => assert_passed(&ran),
        Err(_) => skipped("rewrites with times of whole seconds", remedy),
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
