//! Hosts, inits and workers that are killed.

use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox_core::Sandbox;
use testkit::rerun;

use crate::fixture::{alive, eventually, fixture, pids, spec, unique_seconds};
use crate::reruns::PART;

#[tokio::test]
async fn killing_the_host_ends_its_sessions() {
    if let Some(seconds) = std::env::var_os(PART) {
        let fixture = fixture();
        let command = format!("setsid sleep {} & sleep 1000", seconds.to_str().unwrap());
        fixture.sandbox.exec(spec(&command)).await.unwrap();
        return;
    }
    let seconds = unique_seconds();
    let mut host = rerun("kills::killing_the_host_ends_its_sessions")
        .env(PART, &seconds)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the command runs", || alive(&seconds)).await;
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the session is gone", || !alive(&seconds)).await;
}

/// Returns copies of the sockets of this process, as a child gets them that does not execute a
/// program.
pub(crate) fn copies_of_sockets() -> Vec<std::os::fd::OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let is_socket = |fd: &std::fs::DirEntry| {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        target.to_string_lossy().starts_with("socket:")
    };
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = open.filter(is_socket).map(|fd| fd.file_name().to_str().unwrap().parse());
    numbers
        .map(|number| pidfd_getfd(&own, number.unwrap(), PidfdGetfdFlags::empty()).unwrap())
        .collect()
}

/// Returns the parent of a process, if it is a living init.
fn parent_of_init(entry: &std::path::Path) -> Option<u32> {
    let stat = std::fs::read_to_string(entry.join("stat")).ok()?;
    let (_, fields) = stat.split_once(" (session-init) ")?;
    let (state, rest) = fields.split_once(' ')?;
    (state != "Z").then(|| rest.split(' ').next()?.parse().ok())?
}

/// Returns the directory in `/proc` of the init that a host has started.
fn init_of(host: u32) -> Option<std::path::PathBuf> {
    let mut entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries.find(|entry| parent_of_init(entry) == Some(host))
}

#[tokio::test]
async fn killing_the_host_ends_its_sessions_although_children_have_its_sockets() {
    const CHILD: &str = "SANDBOX_CORE_TEST_CHILD";
    if let Some(seconds) = std::env::var_os(PART) {
        let fixture = fixture();
        let child = std::env::var(CHILD).unwrap();
        let mut children = Vec::new();
        for socket in copies_of_sockets() {
            let mut sleep = Command::new("sleep");
            sleep.arg(&child).stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
            children.push(sleep.spawn().unwrap());
        }
        let command = format!("setsid sleep {} & sleep 1000", seconds.to_str().unwrap());
        fixture.sandbox.exec(spec(&command)).await.unwrap();
        for mut child in children {
            child.wait().unwrap();
        }
        return;
    }
    let (seconds, child) = (unique_seconds(), unique_seconds());
    let mut host =
        rerun("kills::killing_the_host_ends_its_sessions_although_children_have_its_sockets")
            .env(PART, &seconds)
            .env(CHILD, &child)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
    eventually("the command runs", || alive(&seconds)).await;
    let init = init_of(host.id()).expect("the host has an init");
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the session is gone", || !alive(&seconds)).await;
    eventually("init is gone", || parent_of_init(&init).is_none()).await;
    let children = pids(&child);
    assert!(!children.is_empty(), "a child of the host has its sockets");
    for pid in children {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[tokio::test]
async fn killing_init_fails_the_running_command_and_later_ones() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let command = format!("sleep {seconds}");
    let running = fixture.sandbox.exec(spec(&command));
    let killing = async {
        eventually("the command runs", || alive(&seconds)).await;
        let init =
            rustix::process::Pid::from_raw(fixture.sandbox.init_pid().cast_signed()).unwrap();
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    };
    let (result, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(running, killing) })
            .await
            .unwrap();
    assert!(result.is_err());
    assert!(fixture.sandbox.exec(spec("true")).await.is_err());
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn killing_an_idle_worker_costs_no_command() {
    let fixture = fixture();
    let children = |pid: u32| {
        let listed =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    };
    let init = fixture.sandbox.init_pid();
    for _ in 0..5 {
        tokio::join!(fixture.run("true"), fixture.run("true"), fixture.run("true"));
        let idle = children(init);
        assert!(!idle.is_empty());
        for &pid in &idle {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
        // A dying worker could still accept a command.
        eventually("the workers are dead", || children(init).iter().all(|pid| !idle.contains(pid)))
            .await;
        let next = tokio::time::timeout(
            Duration::from_secs(20),
            fixture.sandbox.exec(spec("echo $((40 + 2))")),
        )
        .await;
        match next.expect("the command ends") {
            Ok(output) => assert_eq!(output.stdout.bytes, b"42\n"),
            // The prestarted shell was killed with its worker, which is reported. No part of the
            // command ran.
            Err(error) => assert_eq!(error.kind(), sandbox_core::ExecErrorKind::Ended, "{error}"),
        }
    }
}
