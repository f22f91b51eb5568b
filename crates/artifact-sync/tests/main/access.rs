//! Files and directories that deny access to their owner.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, Durability, Mirror, open_directory};
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore, rerun, rerun_as_ordinary_user};

use crate::machine::{Machine, changed, expected, keys};

const SOURCES: [ChangeSource; 2] = [ChangeSource::Walks, ChangeSource::Events];
/// Set in the child that a test kills, to its directories.
const PLACE: &str = "ARTIFACT_SYNC_ACCESS_PLACE";

fn set_mode(machine: &Machine, path: &str, mode: u32) {
    fs::set_permissions(machine.dir().join(path), Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn files_that_deny_access_to_their_owner_are_stored_and_keep_their_modes() {
    // Root ignores modes, so an ordinary user runs the test.
    if rustix::process::geteuid().is_root() {
        let test = "access::files_that_deny_access_to_their_owner_are_stored_and_keep_their_modes";
        return rerun_as_ordinary_user(test, "unreadable files");
    }
    for source in SOURCES {
        let store = FailingStore::new();
        let machine = Machine::new(store.clone());
        let files =
            [("closed", "1"), ("no-list/a/b", "2"), ("no-enter/c", "3"), ("outer/inner/d", "4")];
        for (path, content) in files {
            machine.write(path, content);
        }
        let modes = [
            ("closed", 0o000),
            ("no-list/a/b", 0o200),
            ("no-list/a", 0o311),
            ("no-list", 0o000),
            ("no-enter", 0o644),
            ("outer/inner", 0o000),
            ("outer", 0o000),
        ];
        // The modes are set and read from the inside out.
        for (path, mode) in modes {
            set_mode(&machine, path, mode);
        }
        let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
        let report = mirror.sync().await.unwrap();
        assert!(report.skipped.is_empty() && report.pending.is_empty(), "{report:?}");
        assert_eq!(machine.objects().await, expected(&files));
        // Signatures become evidence once the clock has ticked.
        let stored = Instant::now();
        while stored.elapsed() < Duration::from_millis(30) {
            mirror.sync().await.unwrap();
        }
        // Reading changes the modes for a moment, which must not look like a change.
        let puts = store.count(Calls::Puts);
        let index = machine.state().join("journal");
        let length = fs::metadata(&index).unwrap().len();
        for _ in 0..20 {
            assert!(changed(&mirror.sync().await.unwrap()).is_empty());
        }
        assert!(mirror.pending().is_empty());
        assert_eq!(store.count(Calls::Puts), puts);
        assert_eq!(fs::metadata(&index).unwrap().len(), length, "nothing is read again");
        for (path, mode) in modes.into_iter().rev() {
            let found = fs::metadata(machine.dir().join(path)).unwrap().mode() & 0o777;
            assert_eq!(found, mode, "{path}");
            set_mode(&machine, path, 0o755);
        }
    }
}

/// Paths whose modes deny access to their owner, from the inside out.
const UNREADABLE: [(&str, u32); 4] =
    [("outer/inner/d", 0o200), ("outer/inner", 0o000), ("outer", 0o644), ("closed", 0o000)];

async fn open_at(place: &Path) -> Mirror {
    let store = open_directory(&place.join("store")).unwrap().store;
    let mirror = Mirror::builder(place.join("session"), store, keys());
    mirror.state_dir(place.join("state")).durability(Durability::Memory).open().await.unwrap()
}

/// Reads files without permissions until the parent kills this process. In the end, it keeps a
/// directory accessible.
async fn read_unreadable_files(place: &Path) -> ! {
    let mirror = open_at(place).await;
    let held = RelativePath::parse("outer/inner").unwrap();
    println!("\nbegun");
    for _ in 0..200 {
        mirror.flush().await.unwrap();
    }
    let _held = mirror.dir().open_readable_directory(&held).unwrap();
    println!("held");
    std::future::pending().await
}

#[tokio::test]
async fn a_kill_while_an_unreadable_file_is_read_changes_no_mode() {
    let test = "access::a_kill_while_an_unreadable_file_is_read_changes_no_mode";
    if let Some(place) = std::env::var_os(PLACE) {
        read_unreadable_files(Path::new(&place)).await;
    }
    if rustix::process::geteuid().is_root() {
        return rerun_as_ordinary_user(test, "a kill while an unreadable file is read");
    }
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path();
    let dir = place.join("session");
    for path in ["closed", "outer/inner/d"] {
        testkit::write_file(&dir, path, "1");
    }
    open_at(place).await.sync().await.unwrap();
    let set_mode = |path: &str, mode| {
        fs::set_permissions(dir.join(path), Permissions::from_mode(mode)).unwrap();
    };
    UNREADABLE.iter().for_each(|(path, mode)| set_mode(path, *mode));
    open_at(place).await.sync().await.unwrap();
    for kill in 0..20 {
        let mut child = rerun(test)
            .arg("--nocapture")
            .env(PLACE, place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let is_late = kill % 2 == 0;
        let awaited = if is_late { "held" } else { "begun" };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == awaited), "{kill}");
        std::thread::sleep(Duration::from_micros(if is_late { 0 } else { kill * 311 }));
        child.kill().unwrap();
        child.wait().unwrap();
        let is_recorded = fs::read_dir(place.join("state/modes")).is_ok_and(|dir| dir.count() > 0);
        assert!(is_recorded || !is_late, "{kill}: the kill was in time");

        let mirror = open_at(place).await;
        let report = mirror.sync().await.unwrap();
        assert!(report.is_complete() && changed(&report).is_empty(), "{kill}: {report:?}");
        for (path, mode) in UNREADABLE.into_iter().rev() {
            let found = fs::symlink_metadata(dir.join(path)).unwrap().mode() & 0o777;
            assert_eq!(found, mode, "{kill}: {path}");
            set_mode(path, 0o755);
        }
        UNREADABLE.iter().for_each(|(path, mode)| set_mode(path, *mode));
    }
    UNREADABLE.iter().rev().for_each(|(path, _)| set_mode(path, 0o755));
}
