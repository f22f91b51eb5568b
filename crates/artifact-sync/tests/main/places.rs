//! File systems that differ in the times of their files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use testkit::{assert_passed, rerun, skipped};

/// Directory with times of whole seconds, for the rerun of a test in its own mount namespace.
const WHOLE_SECONDS: &str = "ARTIFACT_SYNC_TEST_WHOLE_SECONDS";
const TMPFS: &str = "/dev/shm";
const REMEDY: &str = "root, packages e2fsprogs and util-linux, and loop devices";

/// Returns a directory of the disk, and one of tmpfs if there is one.
pub(crate) fn disk_and_tmpfs() -> Vec<tempfile::TempDir> {
    let mut places = vec![tempfile::tempdir().unwrap()];
    match tempfile::tempdir_in(TMPFS) {
        Ok(place) => places.push(place),
        Err(_) => skipped("files on tmpfs", "mount tmpfs at /dev/shm"),
    }
    places
}

/// Returns the directory with times of whole seconds. Without one, makes an ext4 file system with
/// such times, and runs the named test again in a mount namespace that has it.
pub(crate) fn whole_seconds(test: &str) -> Option<PathBuf> {
    if let Some(place) = std::env::var_os(WHOLE_SECONDS) {
        return Some(place.into());
    }
    if !rerun_with_whole_seconds(test) {
        skipped("files with times of whole seconds", REMEDY);
    }
    None
}

/// Returns whether this machine can run the test.
fn rerun_with_whole_seconds(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let place = tempfile::tempdir().unwrap();
    let [image, mounted] = ["image", "mounted"].map(|name| place.path().join(name));
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    fs::create_dir(&mounted).unwrap();
    // Inodes of 128 bytes have no room for nanoseconds (`ext4(5)`).
    let made = Command::new("mkfs.ext4").args(["-q", "-I", "128"]).arg(&image).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return false;
    }
    const UNMOUNTED: i32 = 77;
    let script = format!("mount -o loop \"$1\" \"$2\" || exit {UNMOUNTED}; shift 2; exec \"$@\"");
    let rerun = rerun(test);
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .args([image, mounted.clone()].map(OsString::from))
        .arg(rerun.get_program())
        .args(rerun.get_args())
        .env(WHOLE_SECONDS, &mounted)
        .output();
    match ran {
        Ok(ran) if ran.status.code() == Some(UNMOUNTED) => false,
        Ok(ran) => {
            assert_passed(&ran);
            true
        }
        Err(_) => false,
    }
}
