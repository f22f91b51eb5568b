//! Files and directories that deny access to their owner, and mount points.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, SkipReason};
use sandbox_core::{FileErrorKind, SessionDir};
use testkit::{Calls, FailingStore, assert_passed, rerun, rerun_as_ordinary_user, skipped};

use crate::machine::{Machine, changed, expected};

const SOURCES: [ChangeSource; 2] = [ChangeSource::Walks, ChangeSource::Events];
/// Set in the rerun of a test in its own mount namespace.
const NAMESPACE: &str = "ARTIFACT_SYNC_TEST_MOUNTS";

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

#[tokio::test]
async fn a_mount_point_is_reported_and_not_entered() {
    let what = "mount points";
    if std::env::var_os(NAMESPACE).is_none() {
        let rerun = rerun("access::a_mount_point_is_reported_and_not_entered");
        let ran = Command::new("unshare")
            .args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt || exit 77; exec \"$@\"", "sh"])
            .arg(rerun.get_program())
            .args(rerun.get_args())
            .env(NAMESPACE, "1")
            .output();
        return match ran {
            Ok(ran) if ran.status.code() == Some(77) || !rustix::process::geteuid().is_root() => {
                skipped(what, "root");
            }
            Ok(ran) => assert_passed(&ran),
            Err(_) => skipped(what, "package util-linux"),
        };
    }
    for source in SOURCES {
        let machine = Machine::in_memory();
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("foreign"), "x").unwrap();
        machine.write("d/data/own", "1");
        machine.write("d/file", "2");
        let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
        mirror.sync().await.unwrap();
        let mount = |from: &Path, to: &str| {
            let at = machine.dir().join(to);
            let ran = Command::new("mount").arg("--bind").arg(from).arg(at).status();
            assert!(ran.unwrap().success());
        };
        mount(foreign.path(), "d/data");
        mount(&foreign.path().join("foreign"), "d/file");
        let report = mirror.flush().await.unwrap();
        let skipped: Vec<_> = report.skipped.iter().map(|skip| skip.path.as_str()).collect();
        assert_eq!(skipped, ["d/data", "d/file"]);
        assert!(report.skipped.iter().all(|skip| skip.reason == SkipReason::MountPoint));
        // The files below the mount points may still exist.
        assert!(report.changed.is_empty() && report.deleted.is_empty());
        let stored = expected(&[("d/data/own", "1"), ("d/file", "2")]);
        assert_eq!(machine.objects().await, stored);
        machine.write("d/beside", "3");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["d/beside"]);
        drop(mirror);

        let remove_all = || SessionDir::open(&machine.dir()).unwrap().remove_all();
        let error = remove_all().unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::MountPoint);
        assert!(error.to_string().contains("d/data"), "{error}");
        assert_eq!(fs::read_to_string(foreign.path().join("foreign")).unwrap(), "x");
        assert!(!machine.dir().join("d/beside").exists(), "the rest is removed");
        for path in ["d/data", "d/file"] {
            let ran = Command::new("umount").arg(machine.dir().join(path)).status();
            assert!(ran.unwrap().success());
        }
        remove_all().unwrap();
        assert!(!machine.dir().exists());
    }
}
