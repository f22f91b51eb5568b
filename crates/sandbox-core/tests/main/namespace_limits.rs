//! The limits of objects that belong to a session's namespaces.

use sandbox_core::{Enforcement, Limits, Sandbox};

use crate::fixture::{Fixture, fixture, open_with, spec, without_namespaces};
use testkit::skipped;

/// Numbers of `inotify_init1`, `shmget` and `shmat` (`syscalls(2)`).
fn numbers() -> [u32; 3] {
    if std::env::consts::ARCH == "x86_64" { [294, 29, 30] } else { [26, 194, 196] }
}

/// Returns whether the test can run: with namespaces, and with perl for its system calls.
async fn is_possible(fixture: &Fixture) -> bool {
    if without_namespaces() {
        return false;
    }
    let has_perl = !fixture.text("command -v perl").await.is_empty();
    if !has_perl {
        skipped("limits of namespaces", "package perl-base");
    }
    has_perl
}

/// Returns whether the report of the sandbox says that these objects are not limited.
fn is_unlimited(fixture: &Fixture, objects: &str) -> bool {
    match &fixture.sandbox.report().resources {
        Enforcement::Weaker { why } if why.contains(objects) => {
            skipped(objects, "Linux 5.19");
            true
        }
        _ => false,
    }
}

#[tokio::test]
async fn inotify_instances_and_watches_are_limited() {
    let fixture = fixture();
    if !is_possible(&fixture).await || is_unlimited(&fixture, "inotify") {
        return;
    }
    let mut limits = Limits::default();
    (limits.inotify_instances, limits.inotify_watches) = (7, 5);
    let sandbox = open_with(&fixture.policy(), &fixture.dir, &limits);
    let [inotify, ..] = numbers();
    let command = format!("perl -e '$n++ while syscall({inotify}, 0) >= 0; print \"$n $!\"'");
    let ran = sandbox.exec(spec(&command)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), "7 Too many open files");
    // The limits count a session as a whole, and a command cannot change them.
    let setting = "/proc/sys/user/max_inotify_watches";
    let ran = sandbox.exec(spec(&format!("cat {setting}; echo 9 > {setting}"))).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), "5\n");
    assert!(String::from_utf8_lossy(&ran.stderr.bytes).contains("Read-only"), "{ran:?}");
}

#[tokio::test]
async fn shared_memory_of_a_command_is_bounded_and_does_not_outlive_it() {
    let fixture = fixture();
    if !is_possible(&fixture).await || is_unlimited(&fixture, "System V") {
        return;
    }
    let [_, shmget, shmat] = numbers();
    let segment = |mib: u32| {
        format!(
            "perl -e '$id = syscall({shmget}, 0, {mib} << 20, 01600); $id < 0 and die \"$!\\n\"; \
             $at = syscall({shmat}, $id, 0, 0); $at == -1 and die \"$!\\n\"; \
             open my $f, q(<), q(/proc/sysvipc/shm); @lines = <$f>; print scalar @lines'"
        )
    };
    for _ in 0..3 {
        // The heading, and the one segment.
        assert_eq!(fixture.text(&segment(200)).await, "2");
        assert_eq!(fixture.text("wc -l < /proc/sysvipc/shm").await, "1\n");
    }
    assert_eq!(fixture.text(&segment(513)).await, "No space left on device\n");
    let lost = format!("perl -e 'exit(syscall({shmget}, 0, 200 << 20, 01600) < 0)'");
    assert_eq!(fixture.text(&lost).await, "");
    assert_eq!(fixture.text("wc -l < /proc/sysvipc/shm").await, "1\n");
}

#[tokio::test]
async fn semaphores_and_queues_are_bounded() {
    let fixture = fixture();
    if without_namespaces() || is_unlimited(&fixture, "System V") {
        return;
    }
    let settings = "kernel/sem kernel/msgmni kernel/msgmnb fs/mqueue/queues_max";
    let found = fixture.text(&format!("cd /proc/sys && cat {settings}")).await;
    assert_eq!(found, "32000\t32000\t500\t128\n32\n16384\n32\n");
    let mut created = fixture.text("while ipcmk -Q; do :; done 2> /dev/null | wc -l").await;
    created.truncate(created.trim_end().len());
    match created.as_str() {
        "0" => skipped("message queues", "package util-linux"),
        count => assert_eq!(count, "32"),
    }
}

#[tokio::test]
async fn connections_within_a_session_have_their_own_congestion_control() {
    let fixture = fixture();
    if without_namespaces() {
        return;
    }
    assert_eq!(fixture.text("cat /proc/sys/net/ipv4/tcp_congestion_control").await, "reno\n");
}
