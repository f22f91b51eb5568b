//! Tests that run the current test program again, in another environment or as another user.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::skip::skipped;

/// Returns a command that runs one test of this test program alone.
///
/// # Panics
/// Panics if the path of the test program is unknown.
#[track_caller]
pub fn rerun(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]);
    command
}

/// Asserts that a rerun ran exactly one test and that it passed.
///
/// # Panics
/// Panics with the output of the rerun if it ran another number of tests or failed.
#[track_caller]
pub fn assert_passed(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}

/// Set in the rerun of a test in its own mount namespace.
const OWN_MOUNTS: &str = "TESTKIT_OWN_MOUNTS";

/// Runs the named test again in its own mount namespace, with a tmpfs of these options at `/mnt`,
/// and asserts that it passed. Returns whether this is the rerun. Without root, reports that `what`
/// is not checked.
///
/// # Panics
/// Panics if the test fails, or if CI would skip it.
#[track_caller]
pub fn has_own_mounts(test: &str, options: &str, what: &str) -> bool {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return true;
    }
    let rerun = rerun(test);
    let script = format!("mount -t tmpfs -o {options} none /mnt || exit 77; exec \"$@\"");
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(rerun.get_program())
        .args(rerun.get_args())
        .env(OWN_MOUNTS, "1")
        .output();
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    match ran {
        Ok(ran) if ran.status.code() == Some(77) || !is_root => skipped(what, "root"),
        Ok(ran) => assert_passed(&ran),
        Err(_) => skipped(what, "package util-linux"),
    }
    false
}

/// Creates a copy of this test program that every user can execute. Returns it with its directory.
///
/// # Panics
/// Panics if the program cannot be copied.
#[track_caller]
pub fn copy_of_this_program() -> (tempfile::TempDir, PathBuf) {
    let readable = Permissions::from_mode(0o755);
    let dir = tempfile::Builder::new().permissions(readable).tempdir().unwrap();
    let program = dir.path().join("tests");
    // Another process copies it: a child that another test starts meanwhile would have a descriptor
    // for writing, and the copy could not be executed (ETXTBSY).
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success(), "the test program cannot be copied");
    (dir, program)
}

/// Returns a command that runs `program` as an ordinary user. Only root can spawn it, and only with
/// the package util-linux.
pub fn as_ordinary_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

/// Runs one test of this program again as an ordinary user, and asserts that it passed. Without the
/// package util-linux, reports that `what` is not checked. Only root can call this.
///
/// # Panics
/// Panics if the test fails, or if CI would skip it.
#[track_caller]
pub fn rerun_as_ordinary_user(test: &str, what: &str) {
    let (_dir, program) = copy_of_this_program();
    let mut run = as_ordinary_user(program);
    match run.args(["--exact", test]).env_remove("TMPDIR").current_dir("/").output() {
        Ok(ran) => assert_passed(&ran),
        Err(_) => skipped(what, "package util-linux"),
    }
}
