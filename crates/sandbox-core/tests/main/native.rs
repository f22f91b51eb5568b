//! Commands in the native engine: their abilities, their limits, and their end.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use policy::Policy;
use sandbox_core::{CommandStatus, ExecErrorKind, Sandbox, Tier};

use crate::fixture::{
    Fixture, alive, eventually, fixture, open, spec, unique_seconds, without_namespaces,
};

#[tokio::test]
async fn a_command_returns_its_output_and_its_exit_code() {
    let fixture = fixture();
    let output = fixture.run("echo out; echo err >&2; exit 42").await;
    assert_eq!(output.status, CommandStatus::Exited(42));
    assert_eq!(
        (&output.stdout.bytes[..], &output.stderr.bytes[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(fixture.run("kill -9 $$").await.status, CommandStatus::Signaled(9));
    assert_eq!(fixture.run("no-such-program").await.status, CommandStatus::Exited(127));
    assert_eq!(
        fixture.text("echo $0 $#; echo ${BASH_EXECUTION_STRING:0:7}").await,
        "bash 0\necho $0\n"
    );
}

#[tokio::test]
async fn a_command_starts_in_the_session_directory_and_can_write_only_there() {
    let fixture = fixture();
    assert_eq!(
        fixture.text("pwd && echo x > f && cat f").await,
        format!("{}\nx\n", fixture.dir.display())
    );
    assert_eq!(fs::read_to_string(fixture.dir.join("f")).unwrap(), "x\n");
    Fixture::failed(&fixture.run("touch /usr/x").await, "Read-only file system");
    // The directory above the session is private, so a new file there does not reach the host.
    fixture.run(&format!("touch {}/x", fixture.root.display())).await;
    assert!(!fixture.root.join("x").exists());
    Fixture::failed(&fixture.run("ln /etc/passwd ./passwd").await, "cross-device");
    let outside = fixture.root.join("outside");
    fs::write(&outside, "untouched").unwrap();
    std::os::unix::fs::symlink(&outside, fixture.dir.join("link")).unwrap();
    fixture.run("echo x > link").await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

#[tokio::test]
async fn another_session_and_the_home_directory_are_hidden() {
    let fixture = fixture();
    fs::write(fixture.root.join("home-file"), "private").unwrap();
    let listing = fixture
        .text(&format!(
            "ls -A {0} {0}/sessions; cat {0}/sessions/s2/secret",
            fixture.root.display()
        ))
        .await;
    assert!(
        !listing.contains("s2\n")
            && !listing.contains("home-file")
            && !listing.contains("of another"),
        "{listing}"
    );
    assert!(listing.contains("No such file or directory"), "{listing}");
}

#[tokio::test]
async fn a_command_has_no_privileges() {
    let fixture = fixture();
    let status = fixture.text("cat /proc/self/status").await;
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    for command in
        ["unshare --user true", "unshare --mount true", "mount -t tmpfs none /tmp", "umount /proc"]
    {
        assert_ne!(fixture.run(command).await.status, CommandStatus::Exited(0), "{command}");
    }
    Fixture::failed(&fixture.run("echo 1 > /proc/sys/kernel/panic").await, "Read-only file system");
}

#[tokio::test]
async fn a_command_sees_only_its_own_processes_and_cannot_access_the_first() {
    let fixture = fixture();
    let pids = fixture.text("cd /proc; echo [0-9]*; echo $$").await;
    assert_eq!(pids, "1 2\n2\n");
    for file in ["environ", "mem", "root", "exe", "fd"] {
        let output = fixture.run(&format!("ls /proc/1/{file}/ && cat /proc/1/{file}")).await;
        assert_ne!(output.status, CommandStatus::Exited(0), "{file}");
    }
    assert_eq!(fixture.run("kill -9 1; exit 7").await.status, CommandStatus::Exited(7));
}

#[tokio::test]
async fn a_session_has_a_private_tmp_and_dev_and_a_host_name() {
    let fixture = fixture();
    let marker = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let name = marker.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(!fixture.text("ls -A /tmp").await.contains(&name));
    assert_eq!(
        fixture.text("echo kept > /tmp/of-the-session; ls /dev | sort | tr '\\n' ' '").await,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(
        fixture
            .text("cat /tmp/of-the-session; hostname 2>/dev/null || cat /proc/sys/kernel/hostname")
            .await,
        "kept\nlocalhost\n"
    );
    assert!(!Path::new("/tmp/of-the-session").exists());
    assert_eq!(
        fixture
            .text("echo x > /dev/null && head -c 3 /dev/zero | wc -c; echo ok > /dev/stderr")
            .await,
        "3\nok\n"
    );
}

#[tokio::test]
async fn init_has_a_name_and_leaves_the_terminal_of_the_host() {
    let fixture = fixture();
    assert_eq!(fixture.text("echo ran").await, "ran\n");
    let init = fixture.sandbox.init_pid();
    let name = fs::read_to_string(format!("/proc/{init}/comm")).unwrap();
    assert_eq!(name, "session-init\n");
    let init = rustix::process::Pid::from_raw(init.cast_signed()).unwrap();
    assert_eq!(rustix::process::getpgid(Some(init)).unwrap(), init);
    assert_eq!(rustix::process::getsid(Some(init)).unwrap(), init);
}

#[tokio::test]
async fn a_session_has_no_network_except_its_loopback() {
    let fixture = fixture();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Fixture::failed(&fixture.run(&format!("echo x > /dev/tcp/127.0.0.1/{port}")).await, "refused");
    Fixture::failed(&fixture.run("echo x > /dev/tcp/192.0.2.1/80").await, "unreachable");
    let devices = fixture.text("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(devices, "lo\n");
}

#[tokio::test]
async fn connections_that_need_a_network_are_counted_although_the_program_hides_them() {
    if without_namespaces() {
        // No command has a socket there.
        return;
    }
    let fixture = fixture();
    for (script, count) in [
        ("true", 0),
        ("(: < /dev/tcp/127.0.0.1/9) 2> /dev/null; true", 0),
        ("(: < /dev/tcp/192.0.2.1/80) 2> /dev/null; true", 1),
        ("(: < /dev/udp/2001:db8::1/80) 2> /dev/null; : | cat", 1),
        // A name server is asked wherever it is.
        ("(: < /dev/udp/127.0.0.53/53) 2> /dev/null; true", 1),
        ("for n in 1 2 3; do (: < /dev/tcp/192.0.2.$n/80) 2> /dev/null; done; true", 3),
        ("true", 0),
    ] {
        assert_eq!(fixture.run(script).await.unroutable, count, "{script}");
    }
}

#[tokio::test]
async fn a_command_inherits_nothing_from_the_host() {
    let fixture = fixture();
    let file = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let second =
        open(&Policy::session(&fixture.dir).home(&fixture.root).build().unwrap(), &fixture.dir);
    let names = "env | cut -d= -f1 | sort | tr '\\n' ' '";
    let descriptors = "for fd in {0..200}; do [ -e /proc/self/fd/$fd ] && echo -n \"$fd \"; done";
    let output = second.exec(spec(&format!("{descriptors}; {names}"))).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout.bytes).unwrap(), "0 1 2 PATH PWD SHLVL _ ");
}

#[tokio::test]
async fn every_process_of_a_command_is_dead_when_it_returns() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let daemon = format!(
        "(setsid bash -c 'trap \"\" TERM HUP; setsid sleep {seconds} & sleep {seconds}' &) ; \
         sleep 0.2; exit 3"
    );
    assert_eq!(fixture.run(&daemon).await.status, CommandStatus::Exited(3));
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn overlapping_commands_end_independently() {
    let fixture = fixture();
    let (long, short) = (unique_seconds(), unique_seconds());
    let long_command = format!("(sleep {long} &); while [ ! -e go ]; do sleep 0.01; done");
    let short_command = format!("(setsid sleep {short} &); exit 5");
    let waiting = fixture.run(&long_command);
    let others = async {
        eventually("the long command runs", || alive(&long)).await;
        for _ in 0..3 {
            assert_eq!(fixture.run(&short_command).await.status, CommandStatus::Exited(5));
            assert!(!alive(&short), "every process of the short one is dead");
            assert!(alive(&long), "the long one still runs");
        }
        fs::write(fixture.dir.join("go"), "").unwrap();
    };
    let (output, ()) = tokio::join!(waiting, others);
    assert_eq!(output.status, CommandStatus::Exited(0));
    assert!(!alive(&long));
}

#[tokio::test]
async fn concurrent_commands_return_their_own_output() {
    let fixture = fixture();
    let runs = (0..40).map(|n| {
        let fixture = &fixture;
        async move { (n, fixture.text(&format!("sleep 0.0{}; echo {n}", n % 7)).await) }
    });
    let mut pending: Vec<_> = runs.map(Box::pin).collect();
    let mut done = 0;
    std::future::poll_fn(|context| {
        pending.retain_mut(|run| match run.as_mut().poll(context) {
            std::task::Poll::Ready((n, text)) => {
                assert_eq!(text, format!("{n}\n"));
                done += 1;
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(done, 40);
}

#[tokio::test]
async fn a_timeout_kills_a_command_that_ignores_signals() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let mut spec = spec(&format!("trap '' TERM INT; echo begun; sleep {seconds}"));
    // Enough time for a shell to start on an emulated machine.
    spec.timeout = Duration::from_secs(2);
    let output = fixture.sandbox.exec(spec).await.unwrap();
    assert_eq!(
        (output.status, &output.stdout.bytes[..]),
        (CommandStatus::TimedOut, &b"begun\n"[..])
    );
    assert!(!alive(&seconds));
    assert_eq!(output.status.code(), 124);
}

#[tokio::test]
async fn a_stopped_command_is_killed_and_its_output_is_returned() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let command =
        format!("trap '' TERM INT; echo begun; (setsid sleep {seconds} &); sleep {seconds}");
    let stop = eventually("the command runs", || alive(&seconds));
    let output = fixture.sandbox.exec_until(spec(&command), stop).await.unwrap();
    assert_eq!(
        (output.status, &output.stdout.bytes[..]),
        (CommandStatus::Signaled(9), &b"begun\n"[..])
    );
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn dropping_the_future_kills_the_command() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let running = Box::pin(
        fixture.sandbox.exec(spec(&format!("(setsid sleep {seconds} &); sleep {seconds}"))),
    );
    let begun = Box::pin(eventually("the command runs", || alive(&seconds)));
    let mut both = (running, begun);
    std::future::poll_fn(|context| {
        assert!(both.0.as_mut().poll(context).is_pending());
        both.1.as_mut().poll(context)
    })
    .await;
    drop(both);
    eventually("the command is dead", || !alive(&seconds)).await;
    assert_eq!(fixture.text("echo alive").await, "alive\n");
}

#[tokio::test]
async fn closing_ends_the_running_command_and_rejects_later_ones() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let command = format!("sleep {seconds}");
    let running = fixture.sandbox.exec(spec(&command));
    let closing = async {
        eventually("the command runs", || alive(&seconds)).await;
        fixture.sandbox.close().await;
        assert!(!alive(&seconds));
    };
    let (result, ()) = tokio::join!(running, closing);
    assert_eq!(result.unwrap_err().kind(), ExecErrorKind::Ended);
    assert_eq!(fixture.sandbox.exec(spec("true")).await.unwrap_err().kind(), ExecErrorKind::Ended);
    assert!(
        !Path::new(&format!("/proc/{}", fixture.sandbox.init_pid())).exists(),
        "init is reaped"
    );
}

#[tokio::test]
async fn output_over_the_cap_is_counted_and_dropped() {
    let fixture = fixture();
    let mut spec = spec("head -c 5000000 /dev/zero; head -c 10 /dev/zero >&2");
    spec.max_output_bytes = 1_000_000;
    let output = fixture.sandbox.exec(spec).await.unwrap();
    assert_eq!((output.stdout.bytes.len(), output.stdout.dropped_bytes), (1_000_000, 4_000_000));
    assert_eq!((output.stderr.bytes.len(), output.stderr.dropped_bytes), (10, 0));
}

#[tokio::test]
async fn standard_input_reaches_the_command_and_is_empty_otherwise() {
    let fixture = fixture();
    let mut with_input = spec("wc -c");
    with_input.stdin = vec![b'x'; 3_000_000];
    let output = fixture.sandbox.exec(with_input).await.unwrap();
    assert_eq!(output.stdout.bytes, b"3000000\n");
    assert_eq!(fixture.text("wc -c").await, "0\n");
    let mut unread = spec("exit 4");
    unread.stdin = vec![b'x'; 3_000_000];
    assert_eq!(fixture.sandbox.exec(unread).await.unwrap().status, CommandStatus::Exited(4));
}

#[tokio::test]
async fn long_commands_and_environments_arrive_whole_and_an_overlong_variable_is_rejected() {
    let fixture = fixture();
    let mut spec = spec(&format!("x={}; echo ${{#x}} ${{#BIG}} $N299", "y".repeat(100_000)));
    spec.env.push(("BIG".into(), OsString::from("z".repeat(100_000))));
    spec.env.extend((0..300).map(|n| (format!("N{n}").into(), format!("{n}").into())));
    let output = fixture.sandbox.exec(spec.clone()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), "100000 100000 299\n");
    for (command, value) in
        [("true".to_owned(), "v".repeat(200_000)), ("a\0b".to_owned(), "v".to_owned())]
    {
        spec.command = command;
        spec.env = vec![("BIG".into(), value.into())];
        assert_eq!(
            fixture.sandbox.exec(spec.clone()).await.unwrap_err().kind(),
            ExecErrorKind::BadRequest
        );
    }
    assert!(!format!("{spec:?}").contains("vvv"), "values are not shown");
}

#[tokio::test]
async fn the_error_for_an_absent_working_directory_names_it() {
    let fixture = fixture();
    let mut spec = spec("true");
    spec.cwd = Some("/no/such/place".into());
    let error = fixture.sandbox.exec(spec).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/place"), "{error}");
    assert_eq!(fixture.text("echo fine").await, "fine\n");
}

#[tokio::test]
async fn an_engine_reports_every_layer() {
    let landlock = Tier::Landlock { accepted: Vec::new() };
    let report =
        sandbox_core::probe(if without_namespaces() { &landlock } else { &Tier::Namespaces });
    assert!(report.is_usable(), "{report:?}");
    let fixture = fixture();
    let opened = fixture.sandbox.report();
    assert_eq!((report.engine, &report.network), (opened.engine, &opened.network));
    assert!(without_namespaces() || report.layers() == opened.layers());
}

#[tokio::test]
async fn a_writable_root_does_not_make_settings_of_the_kernel_writable() {
    if without_namespaces() {
        return;
    }
    let mut config = policy::SandboxRuntimeConfig::default();
    config.filesystem.allow_write.push("/".into());
    let policy = Policy::from_config(config, Path::new("/nonexistent")).unwrap();
    let sandbox = open(&policy, Path::new("/usr"));
    let ran = sandbox.exec(spec("touch -c /sys/kernel")).await.unwrap();
    Fixture::failed(&ran, "Read-only file system");
}
