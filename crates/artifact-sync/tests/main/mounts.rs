//! File systems that the host has mounted below the session directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use artifact_sync::{ChangeSource, Mirror, SkipReason};
use sandbox_core::{FileErrorKind, RelativePath, SessionDir};
use testkit::has_own_mounts;

use crate::half_applied::differences;
use crate::interrupted::{give, open};
use crate::machine::{Machine, changed, expected};

const SOURCES: [ChangeSource; 2] = [ChangeSource::Walks, ChangeSource::Events];

/// Returns whether this process may mount. Otherwise runs the test in a mount namespace.
fn may_mount(test: &str) -> bool {
    has_own_mounts(test, "mode=1777", "mount points")
}

fn mount(from: &Path, machine: &Machine, to: &str) {
    let ran = Command::new("mount").arg("--bind").arg(from).arg(machine.dir().join(to)).status();
    assert!(ran.unwrap().success());
}

fn unmount(machine: &Machine, path: &str) {
    let ran = Command::new("umount").arg(machine.dir().join(path)).status();
    assert!(ran.unwrap().success());
}

#[tokio::test]
async fn a_mount_point_is_reported_and_not_entered() {
    if !may_mount("mounts::a_mount_point_is_reported_and_not_entered") {
        return;
    }
    for source in SOURCES {
        let machine = Machine::in_memory();
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("foreign"), "x").unwrap();
        machine.write("d/data/own", "1");
        machine.write("d/file", "2");
        let mirror = machine.open_with(|mirror| mirror.change_source(source)).await;
        mirror.sync().await.unwrap();
        mount(foreign.path(), &machine, "d/data");
        mount(&foreign.path().join("foreign"), &machine, "d/file");
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
        ["d/data", "d/file"].iter().for_each(|path| unmount(&machine, path));
        remove_all().unwrap();
        assert!(!machine.dir().exists());
    }
}

/// Returns the files of a directory of the host.
fn files_of(dir: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let content = fs::read_to_string(entry.path()).unwrap_or_else(|_| "directory".to_owned());
        (entry.file_name().into_string().unwrap(), content)
    });
    files.collect()
}

/// Makes two machines with the same session. The second one has another file system mounted on the
/// directory `m`.
async fn covered(source: ChangeSource) -> (Machine, Machine, tempfile::TempDir) {
    let first = Machine::in_memory();
    let second = Machine::new(Arc::clone(&first.store));
    let mirror = open(&first, "first").await;
    for path in ["m/same", "m/removed", "m/changed", "m/removed-too", "m/s/below", "beside"] {
        first.write(path, path);
    }
    give(mirror).await;
    give(open_with(&second, source).await).await;
    let foreign = tempfile::tempdir().unwrap();
    for name in ["changed", "removed", "own"] {
        fs::write(foreign.path().join(name), "of the host").unwrap();
    }
    fs::create_dir(foreign.path().join("s")).unwrap();
    mount(foreign.path(), &second, "m");
    (first, second, foreign)
}

async fn open_with(machine: &Machine, source: ChangeSource) -> Mirror {
    let set = |mirror: artifact_sync::MirrorBuilder| mirror.change_source(source);
    machine.open_with(|mirror| set(mirror).home("second", Default::default())).await
}

#[tokio::test]
async fn what_the_log_has_below_a_mount_point_follows_once_that_is_gone() {
    if !may_mount("mounts::what_the_log_has_below_a_mount_point_follows_once_that_is_gone") {
        return;
    }
    for source in SOURCES {
        for is_open_meanwhile in [false, true] {
            let (first, second, foreign) = covered(source).await;
            let host = files_of(foreign.path());
            let mirror = open(&first, "first").await;
            for path in ["m/removed", "m/removed-too", "m/s/below"] {
                first.remove(path);
            }
            first.write("m/changed", "anew");
            first.write("m/new", "1");
            first.write("m/d/new", "2");
            first.write("beside", "3");
            give(mirror).await;

            let mirror = open_with(&second, source).await;
            assert_eq!(files_of(foreign.path()), host, "the host's files are left alone");
            let failed: Vec<&str> =
                mirror.opened().failed.iter().map(|failed| failed.key.as_str()).collect();
            assert!(failed.contains(&"m/changed") && failed.contains(&"m/new"), "{failed:?}");
            assert_eq!(fs::read_to_string(second.dir().join("beside")).unwrap(), "3");
            let below = RelativePath::parse("m/changed").unwrap();
            mirror.restore_version(&below, 1).await.unwrap_err();
            assert_eq!(files_of(foreign.path()), host);
            second.write("own", "4");
            assert_eq!(changed(&mirror.sync().await.unwrap()), ["own"]);
            let mirror = if is_open_meanwhile {
                unmount(&second, "m");
                let report = mirror.flush().await.unwrap();
                assert!(report.changed.is_empty() && report.deleted.is_empty(), "{report:?}");
                drop(mirror);
                open_with(&second, source).await
            } else {
                drop(mirror);
                unmount(&second, "m");
                open_with(&second, source).await
            };
            assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened().conflicts);
            assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened().failed);
            give(mirror).await;
            open(&first, "first").await;
            let what = format!("{source:?} {is_open_meanwhile}");
            assert_eq!(differences(&first, &second), [""; 0], "{what}");
            assert_eq!(fs::read_to_string(first.dir().join("m/changed")).unwrap(), "anew");
            assert!(!first.dir().join("m/removed").exists(), "{what}");
        }
    }
}

#[tokio::test]
async fn a_file_takes_the_place_of_a_covered_directory_once_nothing_is_mounted_there() {
    let test =
        "mounts::a_file_takes_the_place_of_a_covered_directory_once_nothing_is_mounted_there";
    if !may_mount(test) {
        return;
    }
    for source in SOURCES {
        let (first, second, foreign) = covered(source).await;
        let host = files_of(foreign.path());
        let mirror = open(&first, "first").await;
        fs::remove_dir_all(first.dir().join("m")).unwrap();
        first.write("m", "a file");
        give(mirror).await;
        drop(open_with(&second, source).await);
        assert_eq!(files_of(foreign.path()), host);
        unmount(&second, "m");
        let mirror = open_with(&second, source).await;
        assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened().conflicts);
        give(mirror).await;
        open(&first, "first").await;
        assert_eq!(differences(&first, &second), [""; 0]);
        assert_eq!(first.files(), expected(&[("beside", "beside"), ("m", "a file")]));
    }
}
