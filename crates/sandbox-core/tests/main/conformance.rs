//! One table of cases, each run in the native engine and in srt. The same settings must have the
//! same effect, except for the differences that the table names with reasons.

mod cases;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy::Policy;
use sandbox_core::{NativeSandbox, Sandbox, SrtSandbox};

use crate::fixture::{BASE, NO_DIRECTORY_IN_SIGHT, directory_in_sight};
use cases::Outcome::{self, Fails};
use cases::{CASES, Case};
use testkit::{copy_of_this_program, skipped};
use tree::{Fixture, settings};

async fn native(case: &Case) -> (Outcome, String) {
    let fixture = Fixture::new();
    let policy = Policy::from_config(settings(case, &fixture), Path::new("/nonexistent")).unwrap();
    let sandbox = NativeSandbox::builder(&policy, &fixture.dir).open().unwrap();
    let outcome = fixture.outcome(&sandbox, case.command).await;
    sandbox.close().await;
    outcome
}

async fn srt(case: &Case, program: &[OsString]) -> (Outcome, String) {
    let fixture = Fixture::new();
    let policy = Policy::from_config(settings(case, &fixture), Path::new("/nonexistent")).unwrap();
    match SrtSandbox::open(&policy, &fixture.dir, program.to_vec(), &fixture.settings).await {
        Ok(sandbox) => fixture.outcome(&sandbox, case.command).await,
        Err(error) => (Fails, error.to_string()),
    }
}

/// Returns the node that runs srt, which needs a newer one than distributions have.
fn node() -> OsString {
    std::env::var_os("NODE22").unwrap_or_else(|| "node".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_native_engine_matches_the_table() {
    if directory_in_sight().is_none() {
        return skipped("the table of cases", NO_DIRECTORY_IN_SIGHT);
    }
    let mut wrong = Vec::new();
    for case in CASES {
        let (outcome, why) = native(case).await;
        if outcome != case.expected {
            wrong.push(format!("{}: {outcome:?} instead of {:?}: {why}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srt_matches_the_table_except_for_the_named_differences() {
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from) else {
        return skipped("the same settings run by the real srt", "`cargo xtask peers` installs it");
    };
    if !["bwrap", "socat", "rg"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        return skipped(
            "the same settings run by the real srt",
            "packages bubblewrap, socat and ripgrep",
        );
    }
    if directory_in_sight().is_none() {
        return skipped("the table of cases, run by the real srt", NO_DIRECTORY_IN_SIGHT);
    }
    let program = [node(), package.join("dist/cli.js").into()];
    // srt mostly waits, so three cases run at the same time.
    let lane = async |first: usize| {
        let mut wrong = Vec::new();
        for case in CASES.iter().skip(first).step_by(3) {
            let (outcome, why) = srt(case, &program).await;
            let (expected, reason) = case.expected_of_srt();
            if outcome != expected {
                wrong.push(format!(
                    "{}: {outcome:?} instead of {expected:?} ({reason}): {why}",
                    case.name
                ));
            }
        }
        wrong
    };
    let (a, b, c) = tokio::join!(lane(0), lane(1), lane(2));
    let wrong = [a, b, c].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A directory that every user can access, in a private mount namespace.
    let (dir, program) = copy_of_this_program();
    let packages = dir.path().join("node_modules");
    fs::create_dir(&packages).unwrap();
    let package = std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from);
    let source = package
        .as_deref()
        .and_then(|package| package.ancestors().find(|above| above.ends_with("node_modules")));
    let script = "set -e; mount -t tmpfs -o mode=1777 none /mnt; \
                  if [ -n \"$1\" ]; then mount --bind \"$1\" \"$2\"; fi; \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \
                  \"$0\" conformance:: agreement:: creation::";
    let mut run = Command::new("unshare");
    run.args(["--mount", "bash", "-c", script])
        .arg(&program)
        .arg(source.unwrap_or(Path::new("")))
        .arg(&packages);
    run.env(BASE, "/mnt").env("HOME", "/nonexistent").env_remove("TMPDIR");
    for name in ["SRT_PACKAGE_DIR", "NODE22"] {
        let path = std::env::var_os(name).map(PathBuf::from);
        if let Some(below) = path.as_deref().zip(source).and_then(|(p, s)| p.strip_prefix(s).ok()) {
            run.env(name, packages.join(below));
        }
    }
    let Ok(run) = run.output() else {
        return skipped("conformance as an ordinary user", "package util-linux");
    };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("the_native_engine_matches_the_table ... ok"), "{text}");
}
