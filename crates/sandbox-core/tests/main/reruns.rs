//! Tests that run a part of this test program again: as another user, without user namespaces, or
//! in a process that is killed.

use std::process::Command;
use std::time::Duration;

use sandbox_core::Sandbox;
use testkit::{copy_of_this_program, rerun, skipped};

use crate::fixture::{
    BASE, Fixture, WITHOUT_NAMESPACES, fixture, repetitions, spec, without_namespaces,
};

/// Environment variable that selects the part of a rerun.
pub(crate) const PART: &str = "SANDBOX_CORE_TEST_PART";

/// Start of a command with a directory that every user can access, in a private mount namespace.
/// Needs root.
const IN_SIGHT: [&str; 6] = [
    "unshare",
    "--mount",
    "bash",
    "-c",
    "mount -t tmpfs -o mode=1777 none /mnt && exec \"$@\"",
    "bash",
];

/// Start of a command that runs as an ordinary user. Needs root.
const ORDINARY_USER: [&str; 5] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

#[test]
fn the_engine_works_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_dir, program) = copy_of_this_program();
    let mut run = Command::new(IN_SIGHT[0]);
    run.args(&IN_SIGHT[1..]).args(ORDINARY_USER).arg(program).env(BASE, "/mnt");
    let run = run
        .args(["prestart::", "native::", "files::", "escapes::", "limits::"])
        .args(["linger::", "modes::", "network::", "size::", "sockets::", "wrapped::"])
        .env_remove("TMPDIR")
        .output();
    let Ok(run) = run else {
        return skipped("the engine as an ordinary user", "package util-linux");
    };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("a_command_returns_its_output_and_its_exit_code ... ok"), "{text}");
}

/// Tests that need namespaces: private files, processes and devices, and a loopback. `landlock`
/// tests the other tier instead.
const NAMESPACE_TESTS: [&str; 9] = [
    "another_session_and_the_home_directory_are_hidden",
    "a_session_has_a_private_tmp_and_dev_and_a_host_name",
    "a_session_has_no_network_except_its_loopback",
    "a_command_has_no_privileges",
    "a_command_sees_only_its_own_processes_and_cannot_access_the_first",
    "a_command_starts_in_the_session_directory_and_can_write_only_there",
    "the_number_of_processes_is_limited",
    "private_directories_are_limited",
    "the_number_of_files_in_private_directories_is_limited",
];

#[test]
fn without_user_namespaces_the_other_tests_pass_on_landlock() {
    if let Some(reason) =
        sandbox_core::probe(&sandbox_core::Tier::Landlock { accepted: Vec::new() })
            .layers()
            .into_iter()
            .find_map(|(_, layer)| match layer {
                sandbox_core::Enforcement::None { why, .. } => Some(why.clone()),
                _ => None,
            })
    {
        return skipped("the tier without namespaces", &reason);
    }
    let (_dir, program) = copy_of_this_program();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let users: Vec<Vec<&str>> = match rustix::process::geteuid().is_root() {
        true => vec![IN_SIGHT.to_vec(), [&IN_SIGHT[..], &ORDINARY_USER].concat()],
        false => vec![Vec::new()],
    };
    for user in users {
        let denied = ["unshare", "--user", "--map-root-user", "bash", "-c", script, "bash"];
        let command: Vec<_> = user.iter().chain(&denied).collect();
        let mut run = Command::new(command[0]);
        // Without namespaces, the limit counts all processes of the user, and one test starts as
        // many as it can.
        run.args(&command[1..]).arg(&program).arg("--test-threads=1");
        run.args([
            "agreement::",
            "prestart::",
            "creation::",
            "escapes::",
            "landlock::",
            "limits::",
            "linger::",
            "modes::",
            "native::",
            "network::",
            "reopening::",
            "size::",
            "sockets::",
            "streams::",
            "wrapped::",
        ]);
        run.args(["killing_the_host", "killing_init", "killing_an_idle", "leave_nothing_behind"]);
        run.args(NAMESPACE_TESTS.iter().flat_map(|test| ["--skip", test]));
        if rustix::process::geteuid().is_root() {
            run.env(BASE, "/mnt").env("HOME", "/nonexistent");
        }
        let Ok(run) = run.env(WITHOUT_NAMESPACES, "1").env_remove("TMPDIR").output() else {
            return skipped("the tier without namespaces", "package util-linux");
        };
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{user:?} {text}\n{}", String::from_utf8_lossy(&run.stderr));
        assert!(text.contains("landlock::another_session_is_not_accessible ... ok"), "{text}");
    }
}

#[test]
fn without_user_namespaces_the_probe_reports_the_cause_and_the_remedy() {
    if std::env::var_os(PART).is_some_and(|part| part == "denied") {
        let report = sandbox_core::probe(&sandbox_core::Tier::Namespaces);
        assert!(!report.is_usable());
        println!("{}", report.filesystem);
        return;
    }
    // In a new user namespace, the limit can be set to zero without changing the host's.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact --nocapture \
                  reruns::without_user_namespaces_the_probe_reports_the_cause_and_the_remedy";
    let (_dir, program) = copy_of_this_program();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "bash", "-c", script])
        .arg(&program)
        .env(PART, "denied")
        .output();
    let Ok(run) = run else {
        return skipped("the remedy without user namespaces", "package util-linux");
    };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(
        text.contains("none: cannot create a user namespace"),
        "{text}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(text.contains("sysctl -w user.max_user_namespaces"), "{text}");
}

/// Counts the descriptors, child processes, threads and mounts of this process, and the files in
/// the directory for temporary files.
fn resources(temporary: &std::path::Path) -> [usize; 5] {
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    let own = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children =
        own.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children = children.map(|text| text.split_whitespace().count()).sum();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    [
        count("/proc/self/fd"),
        children,
        count("/proc/self/task"),
        mounts,
        std::fs::read_dir(temporary).unwrap().count(),
    ]
}

/// Closes a session while its commands connect, and drops its listeners afterwards.
async fn close_under_load(first: &Fixture) {
    let session = first.again();
    let listeners = session.sandbox.open_network(&[]).await.unwrap();
    let connect = "while :; do exec {fd}<>/dev/tcp/127.0.0.1/3128; done 2>/dev/null";
    let mut commands = [(); 3].map(|()| {
        let command = spec(connect);
        Box::pin(async { session.sandbox.exec(command).await.is_ok() })
    });
    let [a, b, c] = &mut commands;
    let close = async {
        listeners.proxy.set_nonblocking(true).unwrap();
        let proxy = tokio::net::TcpListener::from_std(listeners.proxy.try_clone().unwrap());
        let proxy = proxy.unwrap();
        let mut accepted = Vec::new();
        while accepted.len() < 100 {
            accepted.push(proxy.accept().await.unwrap());
        }
        session.sandbox.close().await;
    };
    assert_eq!(tokio::join!(a, b, c, close), (false, false, false, ()));
    drop(listeners);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_and_commands_leave_nothing_behind() {
    const SESSIONS: usize = 1_000;
    const COMMANDS: usize = 10_000;
    const AT_ONCE: usize = 16;
    // A separate process, so that other tests do not count.
    if std::env::var_os(PART).is_none() {
        let temporary = tempfile::tempdir().unwrap();
        let run = rerun("reruns::many_sessions_and_commands_leave_nothing_behind")
            .env(PART, "leaks")
            .env("TMPDIR", temporary.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let temporary = std::env::temp_dir();
    let first = fixture();
    for _ in 0..AT_ONCE {
        first.sandbox.exec(spec("true")).await.unwrap();
        first.again().sandbox.close().await;
    }
    first.sandbox.close().await;
    let settled = || async {
        // The thread of a closing session, and threads of the runtime, may live a moment longer.
        tokio::time::sleep(Duration::from_millis(300)).await;
        resources(&temporary)
    };
    let before = settled().await;
    for _ in 0..repetitions(SESSIONS) {
        let session = first.again();
        session.sandbox.wrap_command(&spec("true")).unwrap();
        let listeners = session.sandbox.open_network(&[5432]).await;
        session.sandbox.dial(5432).await.unwrap_err();
        assert_eq!(listeners.is_ok(), !without_namespaces());
        drop(session);
        drop(listeners);
    }
    if !without_namespaces() {
        close_under_load(&first).await;
    }
    let session = std::sync::Arc::new(first.again());
    let workers = (0..AT_ONCE).map(|_| {
        let session = std::sync::Arc::clone(&session);
        tokio::spawn(async move {
            for _ in 0..repetitions(COMMANDS) / AT_ONCE {
                let output = session.sandbox.exec(spec(": & :")).await.unwrap();
                assert_eq!(output.status, sandbox_core::CommandStatus::Exited(0));
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    session.sandbox.close().await;
    drop(session);
    // A thread of the runtime may have exited since, so lower counts are fine. An idle one that was
    // started meanwhile exits after ten seconds.
    let is_no_more = |now: [usize; 5]| now.iter().zip(&before).all(|(now, before)| now <= before);
    for _ in 0..200 {
        if is_no_more(resources(&temporary)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = settled().await;
    assert!(
        is_no_more(now),
        "descriptors, children, threads, mounts, files: {before:?}, now {now:?}"
    );
}

#[test]
fn the_error_without_executable_files_in_memory_names_the_setting() {
    if std::env::var_os(PART).is_some() {
        println!("{}", sandbox_core::probe(&crate::fixture::tier()).filesystem);
        return;
    }
    // The setting belongs to the process namespace.
    let script = "mount -t proc proc /proc && echo 2 > /proc/sys/vm/memfd_noexec && exec \"$0\" \
                  --exact --nocapture \
                  reruns::the_error_without_executable_files_in_memory_names_the_setting";
    let (_dir, program) = copy_of_this_program();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "bash", "-c", script])
        .arg(&program)
        .env(PART, "denied")
        .output();
    let Ok(run) = run else {
        return skipped("the error without executable files in memory", "package util-linux");
    };
    let (text, errors) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if !run.status.success() && errors.contains("memfd_noexec") {
        return skipped("the error without executable files in memory", "Linux 6.3 or newer");
    }
    assert!(text.contains("sysctl -w vm.memfd_noexec=1"), "{text}{errors}");
}
