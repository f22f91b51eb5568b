//! Tests of init with plans that the engine never encodes.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use policy::{CreationRules, MountOp, MountPlan, Policy};
use rustix::io::Errno;
use testkit::skipped;

use super::connection::Connection;
use super::engine::NativeSandbox;
use super::error::OpenError;
use super::filter::{self, UnixSockets};
use super::launch::Resources;
use super::process::{self, StartedInit};
use super::refresh::CompiledPolicy;
use super::size::SizeLimit;
use super::tree::SessionDirectories;
use super::{plan, probe};
use crate::sandbox::{CommandSpec, CommandStatus, ExecErrorKind, Limits, Sandbox};

/// Mounts of the whole tree of the host, with a watched name so that init is asked about calls.
fn mounts() -> MountPlan {
    let mut mounts = MountPlan::default();
    mounts.ops.push(MountOp::RootWritable);
    mounts.creation_rules.watched_names.push(b"watched".to_vec());
    mounts
}

fn encoded(mounts: &MountPlan) -> Vec<u8> {
    plan::encode(mounts, &[], &Limits::default(), UnixSockets::Denied, None)
}

/// Starts init. Returns `None` if this machine has no user namespaces.
fn start(plan: &[u8]) -> Option<StartedInit> {
    match process::start(plan, None) {
        Err(OpenError::LayerUnavailable { step, .. }) if step.contains("namespace") => {
            skipped("init with a plan of its own", "user namespaces");
            None
        }
        other => Some(other.unwrap()),
    }
}

fn connect(init: StartedInit, dir: &Path) -> Connection {
    let size = SizeLimit::new(dir, &Limits::default(), &MountPlan::read_only());
    Connection::new(init, dir, size).unwrap()
}

/// Inserts the path of a control group, of which an encoded plan has none.
fn with_group(plan: &[u8], group: &Path) -> Vec<u8> {
    let count = |at: usize| u32::from_le_bytes(plan[at..at + 4].try_into().unwrap()) as usize;
    let limits = 12;
    let tag = limits + 4 + count(limits) * 20;
    let secret = tag + 4;
    let filter = secret + 16;
    let worker_filter = filter + 4 + count(filter) * 8;
    let at = worker_filter + 4 + count(worker_filter) * 8;
    assert_eq!(plan[at..at + 5], [0; 5], "an empty text");
    let mut changed = plan[..at].to_vec();
    changed.extend_from_slice(&u32::try_from(group.as_os_str().len()).unwrap().to_le_bytes());
    changed.extend_from_slice(group.as_os_str().as_bytes());
    changed.extend_from_slice(&plan[at + 4..]);
    changed
}

#[test]
fn an_update_follows_no_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    fs::create_dir(dir.join("real")).unwrap();
    fs::write(dir.join("real/file"), "").unwrap();
    symlink("real", dir.join("way")).unwrap();
    symlink("real/file", dir.join("link")).unwrap();
    let Some(init) = start(&encoded(&mounts())) else { return };
    let connection = connect(init, &dir);
    let hide = |path: &str| {
        let op = MountOp::HideFile { path: dir.join(path) };
        let body = plan::encode_additions(&[op], &CreationRules::default());
        connection.update(&body).map_err(|error| Errno::from_io_error(&error).unwrap())
    };
    assert_eq!(hide("link"), Err(Errno::LOOP));
    assert_eq!(hide("way/file"), Err(Errno::NOTDIR));
    assert_eq!(hide("real/absent"), Ok(()));
    assert_eq!(hide("real/file"), Ok(()));
}

#[test]
fn a_file_is_not_opened_as_a_directory() {
    let group = tempfile::tempdir().unwrap();
    // A control group would have a group `init`.
    fs::write(group.path().join("init"), "").unwrap();
    match process::start(&with_group(&encoded(&mounts()), group.path()), None) {
        Err(OpenError::LayerUnavailable { step, .. }) if step.contains("namespace") => {
            skipped("init with a plan of its own", "user namespaces");
        }
        Err(OpenError::LayerUnavailable { source, .. }) => {
            assert_eq!(Errno::from_io_error(&source), Some(Errno::NOTDIR));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_notified_call_without_a_row_is_refused() {
    // getpriority(2), which is in no table.
    let number = if std::env::consts::ARCH == "x86_64" { 140 } else { 141 };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let command = || CommandSpec {
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        ..CommandSpec::new("renice -n 19 -p $$")
    };
    for (notified, expected) in [(None, 0), (Some(number), 1)] {
        let plan = mounts();
        let mut encoded = encoded(&plan);
        if let Some(number) = notified {
            filter::notify_instead_of(&mut encoded, "renameat2", number);
        }
        let Some(init) = start(&encoded) else { return };
        let setup = init.setup;
        let sandbox = NativeSandbox::new(
            connect(init, &dir),
            CompiledPolicy {
                policy: Policy::session(&dir).build().unwrap(),
                plan,
                directories: SessionDirectories::default(),
                has_namespaces: true,
                later: policy::LaterFiles::Covered,
            },
            Path::new("/tmp"),
            probe::enforced(
                UnixSockets::Denied,
                setup,
                &Resources::Processes { why: "not wanted".to_owned() },
            ),
        );
        let ran = sandbox.exec(command()).await.unwrap();
        assert_eq!(ran.status, CommandStatus::Exited(expected), "{ran:?}");
        if notified.is_some() {
            let reason = String::from_utf8_lossy(&ran.stderr.bytes).into_owned();
            assert!(reason.contains("Operation not permitted"), "{reason}");
        }
    }
}

/// Returns whether init is alive.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_child_of_the_host_gets_an_error_and_ends_nothing() {
    let Some(init) = start(&encoded(&mounts())) else { return };
    let mut connection = connect(init, Path::new("/"));
    let pid = connection.init_pid();
    assert!(connection.check_process().is_ok());
    connection.pretend_to_be_inherited();
    let error = connection.check_process().unwrap_err();
    assert_eq!(error.kind(), ExecErrorKind::Ended);
    // The parent keeps its copy of the socket.
    let parent = connection.copy_of_control();
    drop(connection);
    assert!(is_alive(pid));
    drop(parent);
}

#[tokio::test]
async fn closing_waits_for_no_process_that_inherited_the_socket() {
    let Some(init) = start(&encoded(&mounts())) else { return };
    let connection = connect(init, Path::new("/"));
    let inherited = Stdio::from(connection.copy_of_control());
    let mut child = Command::new("sleep").arg("1000").stdin(inherited).spawn().unwrap();
    connection.end().await;
    assert!(!is_alive(connection.init_pid()));
    child.kill().unwrap();
    child.wait().unwrap();
}
