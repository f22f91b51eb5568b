//! Change detection by kernel events.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, ChangeSourceReport, Mirror};
use object_store::ObjectStoreExt;
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore, skipped};

use crate::machine::{Machine, changed, expected, key};

fn uses_events(mirror: &Mirror) -> bool {
    matches!(mirror.change_source(), ChangeSourceReport::Events { .. })
}

/// Opens a mirror that has walked and has no dirty paths, so that only events reveal changes.
async fn watching(machine: &Machine) -> Mirror {
    let mirror = machine.open().await;
    // Signatures become evidence once the clock has ticked.
    let opened = Instant::now();
    while opened.elapsed() < Duration::from_millis(30) {
        mirror.sync().await.unwrap();
    }
    mirror.sync().await.unwrap();
    assert!(uses_events(&mirror));
    mirror
}

/// Runs a Python script in the session directory. Prints a SKIPPED line and returns `false` if
/// Python is not installed.
fn python(machine: &Machine, what: &str, script: &str) -> bool {
    let ran = Command::new("python3").args(["-c", script]).current_dir(machine.dir()).status();
    let Ok(status) = ran else {
        skipped(what, "package python3");
        return false;
    };
    assert!(status.success());
    true
}

#[tokio::test]
async fn a_write_through_a_mapping_raises_an_event() {
    let machine = Machine::in_memory();
    machine.write("d/a", "1234");
    let mirror = watching(&machine).await;
    let script = "import mmap\nf = open('d/a', 'r+b')\nm = mmap.mmap(f.fileno(), 0)\n\
                  f.close()\nm[0:1] = b'x'\nm.close()";
    if python(&machine, "writes through a mapping", script) {
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["d/a"]);
        assert_eq!(machine.objects().await, expected(&[("d/a", "x234")]));
    }
}

#[tokio::test]
async fn a_truncation_by_path_raises_an_event() {
    let machine = Machine::in_memory();
    machine.write("d/a", "1234");
    let mirror = watching(&machine).await;
    if python(&machine, "truncate(2)", "import os\nos.truncate('d/a', 2)") {
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["d/a"]);
        assert_eq!(machine.objects().await, expected(&[("d/a", "12")]));
    }
}

#[tokio::test]
async fn replacing_a_file_by_one_with_an_older_time_raises_an_event() {
    let machine = Machine::in_memory();
    machine.write("a", "1");
    machine.write("b", "2");
    let before = fs::metadata(machine.dir().join("a")).unwrap().modified().unwrap();
    let mirror = watching(&machine).await;
    for (content, command) in [("3", "cp -p new a"), ("4", "mv new a")] {
        machine.write("new", content);
        File::options()
            .write(true)
            .open(machine.dir().join("new"))
            .unwrap()
            .set_modified(before)
            .unwrap();
        let ran = Command::new("sh").args(["-c", command]).current_dir(machine.dir()).status();
        assert!(ran.unwrap().success());
        assert!(changed(&mirror.sync().await.unwrap()).contains(&"a"), "{command}");
        assert_eq!(machine.objects().await["a"], content);
    }
}

#[tokio::test]
async fn a_write_through_another_name_is_found_for_every_name() {
    let machine = Machine::in_memory();
    machine.write("d/a", "1");
    let mirror = watching(&machine).await;
    fs::create_dir(machine.dir().join("e")).unwrap();
    fs::hard_link(machine.dir().join("d/a"), machine.dir().join("e/b")).unwrap();
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["e/b"]);
    machine.write("e/b", "2");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["d/a", "e/b"]);
    // The name through which the file was opened is removed before the write.
    let mut open = File::options().append(true).open(machine.dir().join("d/a")).unwrap();
    machine.remove("d/a");
    mirror.sync().await.unwrap();
    open.write_all(b"3").unwrap();
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["e/b"]);
    assert_eq!(machine.objects().await, expected(&[("e/b", "23")]));
    assert!(uses_events(&mirror));
}

#[tokio::test(start_paused = true)]
async fn a_change_without_an_event_is_found_by_the_next_walk() {
    let machine = Machine::in_memory();
    machine.write("a", "1");
    machine.write("node_modules/x", "");
    let mirror = watching(&machine).await;
    fs::hard_link(machine.dir().join("a"), machine.dir().join("node_modules/b")).unwrap();
    machine.write("node_modules/b", "2");
    assert!(changed(&mirror.sync().await.unwrap()).is_empty());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["a"]);
    machine.write("node_modules/b", "3");
    assert_eq!(changed(&mirror.flush().await.unwrap()), ["a"], "flush walks");
}

#[tokio::test]
async fn an_overflow_of_the_event_queue_leads_to_a_walk() {
    let machine = Machine::in_memory();
    machine.write("a", "");
    machine.write("b", "");
    let mirror = watching(&machine).await;
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let open = |path| File::options().append(true).open(machine.dir().join(path)).unwrap();
    let (mut a, mut b) = (open("a"), open("b"));
    // The kernel merges consecutive equal events, so two files alternate.
    for _ in 0..limit.trim().parse().unwrap() {
        a.write_all(b"x").unwrap();
        b.write_all(b"x").unwrap();
    }
    machine.write("lost/c", "1");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["a", "b", "lost/c"]);
    machine.write("lost/d", "1");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["lost/d"]);
    assert!(uses_events(&mirror));
}

#[tokio::test]
async fn too_many_changes_lead_to_a_walk() {
    let machine = Machine::in_memory();
    let mirror = watching(&machine).await;
    for number in 0..5_000 {
        machine.write(&format!("d{}/{number}", number % 7), "x");
    }
    assert_eq!(mirror.sync().await.unwrap().changed.len(), 5_000);
    fs::remove_dir_all(machine.dir().join("d3")).unwrap();
    assert_eq!(mirror.sync().await.unwrap().deleted.len(), 714);
}

#[tokio::test]
async fn each_mirror_receives_the_events_of_its_own_directory() {
    let (machine, other) = (Machine::in_memory(), Machine::in_memory());
    machine.write("d/a", "1");
    other.write("d/a", "1");
    let first = watching(&machine).await;
    let beside = watching(&other).await;
    // A task of a closed mirror may keep its watches while the next mirror is open.
    let second = machine.open_beside("second").await;
    second.sync().await.unwrap();
    machine.write("d/b", "2");
    // Each mirror drains the queue for all.
    assert!(changed(&beside.sync().await.unwrap()).is_empty());
    assert_eq!(changed(&first.sync().await.unwrap()), ["d/b"]);
    drop(first);
    machine.write("d/c", "3");
    assert!(changed(&beside.sync().await.unwrap()).is_empty());
    assert_eq!(changed(&second.sync().await.unwrap()), ["d/b", "d/c"]);
    other.write("d/d", "4");
    assert!(changed(&second.sync().await.unwrap()).is_empty());
    assert_eq!(changed(&beside.sync().await.unwrap()), ["d/d"]);
    let watches = |mirror: &Mirror| mirror.change_source();
    assert_eq!(watches(&second), ChangeSourceReport::Events { watches: 2 });
}

#[tokio::test]
async fn an_unfinished_change_is_retried_without_an_event() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = watching(&machine).await;
    machine.write("d/a", "1");
    machine.write("d/gone", "1");
    mirror.sync().await.unwrap();
    machine.write("d/b", "2");
    machine.remove("d/gone");
    store.fail(Calls::All, 0, usize::MAX);
    for named in [2, 0] {
        let report = mirror.sync().await.unwrap();
        assert_eq!((report.pending.len(), report.still_pending), (named, 2 - named), "{report:?}");
        assert_eq!(mirror.pending().len(), 2);
    }
    store.recover();
    let report = mirror.flush().await.unwrap();
    assert_eq!((changed(&report), report.deleted.len()), (vec!["d/b"], 1));
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn files_that_the_mirror_wrote_are_not_uploaded_again() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = watching(&machine).await;
    machine.write("d/a", "1");
    mirror.put_file(&RelativePath::parse("d/a").unwrap()).await.unwrap();
    machine.put("upload/b", "2").await;
    assert_eq!(mirror.refresh().await.unwrap().restored.len(), 1);
    mirror.pull_key(key("upload/b").as_ref()).await.unwrap();
    let puts = store.count(Calls::Puts);
    let report = mirror.sync().await.unwrap();
    assert!(report.changed.is_empty() && report.pending.is_empty(), "{report:?}");
    assert_eq!(store.count(Calls::Puts), puts);
    // A file that the mirror removed is not taken for a change either.
    machine.store.delete(&key("d/a")).await.unwrap();
    assert_eq!(mirror.refresh().await.unwrap().removed.len(), 1);
    assert!(mirror.sync().await.unwrap().deleted.is_empty());
}

#[tokio::test]
async fn events_can_be_turned_off() {
    let machine = Machine::in_memory();
    let mirror = machine.open_with(|mirror| mirror.change_source(ChangeSource::Walks)).await;
    machine.write("a", "1");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["a"]);
    assert_eq!(
        mirror.change_source(),
        ChangeSourceReport::Walks { reason: "events are turned off".to_owned() }
    );
}

/// Environment variable of a child that may have few watches.
const FEW: &str = "ARTIFACT_SYNC_FEW_WATCHES";

#[tokio::test]
async fn a_mirror_without_watches_walks() {
    if std::env::var_os(FEW).is_none() {
        // A separate user namespace has its own limits.
        let script = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$0\" \
                      --exact events::a_mirror_without_watches_walks --nocapture";
        let ran = Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(FEW, "1")
            .output();
        let Ok(ran) = ran else { return skipped("watches that are used up", "package util-linux") };
        let (text, error) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        if error.starts_with("unshare") {
            return skipped("watches that are used up", "a kernel that allows user namespaces");
        }
        assert!(ran.status.success() && text.contains("1 passed"), "{text}{error}");
        return;
    }
    let (small, large) = (Machine::in_memory(), Machine::in_memory());
    small.write("d/a", "1");
    let with_events = watching(&small).await;
    for number in 0..5 {
        large.write(&format!("d{number}/a"), "1");
    }
    let without_watches = large.open().await;
    for content in ["2", "3"] {
        large.write("d4/a", content);
        assert!(changed(&without_watches.sync().await.unwrap()).contains(&"d4/a"));
        let ChangeSourceReport::Walks { reason } = without_watches.change_source() else {
            panic!("it uses events")
        };
        assert!(reason.contains("max_user_watches"), "{reason}");
    }
    // The watches of the other mirror were released.
    small.write("e/a", "1");
    assert_eq!(changed(&with_events.sync().await.unwrap()), ["e/a"]);
    assert!(uses_events(&with_events));
}
