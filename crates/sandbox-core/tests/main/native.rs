//! The native engine: what a command can do, what it cannot, and what is left of it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::Policy;
use sandbox_core::{
    CommandOutput, CommandSpec, CommandStatus, ExecErrorKind, Limits, NativeSandbox, Sandbox,
    SessionDir, Tier,
};

/// Names a directory for trees in the host's view; without it one is looked for.
pub(crate) const BASE: &str = "SANDBOX_CORE_TEST_BASE";

/// A new directory where the engine puts nothing of its own: not below `/tmp` and `/var/tmp`.
/// `None` where this user has no such fixture.
pub(crate) fn directory_in_sight() -> Option<tempfile::TempDir> {
    let named = std::env::var_os(BASE).map(PathBuf::from);
    let usual = [
        env!("CARGO_TARGET_TMPDIR").into(),
        std::env::home_dir().unwrap_or_default(),
        "/var/lib".into(),
    ];
    let places = named.into_iter().chain(usual).filter_map(|place| place.canonicalize().ok());
    let mut in_sight =
        places.filter(|place| !place.starts_with("/tmp") && !place.starts_with("/var/tmp"));
    in_sight.find_map(|place| tempfile::tempdir_in(place).ok())
}

/// What is said where there is none.
pub(crate) const NO_PLACE: &str = "a build directory or a home outside /tmp";

/// Has sandboxes opened on the weaker tier.
pub(crate) const WITHOUT_NAMESPACES: &str = "SANDBOX_CORE_TEST_WITHOUT_NAMESPACES";

pub(crate) fn without_namespaces() -> bool {
    std::env::var_os(WITHOUT_NAMESPACES).is_some()
}

/// Opens a sandbox on the tier that is being tested.
pub(crate) fn open(policy: &Policy, dir: &Path) -> NativeSandbox {
    open_with(policy, dir, &Limits::default())
}

pub(crate) fn open_with(policy: &Policy, dir: &Path, limits: &Limits) -> NativeSandbox {
    NativeSandbox::builder(policy, dir).limits(limits.clone()).tier(tier()).open().unwrap()
}

/// Returns the tier that is being tested.
pub(crate) fn tier() -> Tier {
    if without_namespaces() { Tier::Landlock { accepted: Vec::new() } } else { Tier::Namespaces }
}

pub(crate) struct Fixture {
    temporary: Arc<tempfile::TempDir>,
    pub(crate) root: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) sandbox: NativeSandbox,
}

/// A session `s1` beside another one, `s2`, that has a file.
pub(crate) fn fixture() -> Fixture {
    fixture_in(Arc::new(tempfile::tempdir().unwrap()))
}

fn fixture_in(temporary: Arc<tempfile::TempDir>) -> Fixture {
    let root = temporary.path().canonicalize().unwrap();
    let dir = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
    fs::create_dir_all(root.join("sessions/s2")).unwrap();
    fs::write(root.join("sessions/s2/secret"), "of another").unwrap();
    let sandbox = open(&policy(&root, &dir), &dir);
    Fixture { temporary, root, dir, sandbox }
}

fn policy(root: &Path, dir: &Path) -> Policy {
    Policy::session(dir).sessions_root(&root.join("sessions")).home(root).build().unwrap()
}

pub(crate) fn spec(command: &str) -> CommandSpec {
    let mut spec = CommandSpec::new(command);
    spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    spec.timeout = Duration::from_secs(60);
    spec
}

impl Fixture {
    pub(crate) fn policy(&self) -> Policy {
        policy(&self.root, &self.dir)
    }

    /// The same session in another sandbox.
    pub(crate) fn again(&self) -> Fixture {
        fixture_in(Arc::clone(&self.temporary))
    }

    pub(crate) async fn run(&self, command: &str) -> CommandOutput {
        self.sandbox.exec(spec(command)).await.unwrap()
    }

    async fn text(&self, command: &str) -> String {
        let output = self.run(command).await;
        String::from_utf8_lossy(&output.stdout.bytes).into_owned()
            + &String::from_utf8_lossy(&output.stderr.bytes)
    }

    #[track_caller]
    fn refused(output: &CommandOutput, message: &str) {
        let stderr = String::from_utf8_lossy(&output.stderr.bytes);
        assert!(
            output.status != CommandStatus::Exited(0) && stderr.contains(message),
            "{:?}: {stderr}",
            output.status
        );
    }
}

/// Whether a process with this unusual argument is alive anywhere on the machine.
pub(crate) fn alive(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|part| part == argument.as_bytes())
    })
}

/// A number of seconds that no other test sleeps.
pub(crate) fn unique_seconds() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 5000 + std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition holds, for at most ten seconds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[tokio::test]
async fn a_command_gives_its_output_and_its_exit_code() {
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
async fn it_starts_in_the_session_directory_and_may_write_there_and_nowhere_else() {
    let fixture = fixture();
    assert_eq!(
        fixture.text("pwd && echo x > f && cat f").await,
        format!("{}\nx\n", fixture.dir.display())
    );
    assert_eq!(fs::read_to_string(fixture.dir.join("f")).unwrap(), "x\n");
    Fixture::refused(&fixture.run("touch /usr/x").await, "Read-only file system");
    // Beside the session directory there is nothing of the host's, so what arises there is not the
    // host's.
    fixture.run(&format!("touch {}/x", fixture.root.display())).await;
    assert!(!fixture.root.join("x").exists());
    Fixture::refused(&fixture.run("ln /etc/passwd ./passwd").await, "cross-device");
    let outside = fixture.root.join("outside");
    fs::write(&outside, "untouched").unwrap();
    std::os::unix::fs::symlink(&outside, fixture.dir.join("link")).unwrap();
    fixture.run("echo x > link").await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

#[tokio::test]
async fn another_session_and_the_home_directory_are_out_of_sight() {
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
async fn it_has_no_privileges() {
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
    Fixture::refused(
        &fixture.run("echo 1 > /proc/sys/kernel/panic").await,
        "Read-only file system",
    );
}

#[tokio::test]
async fn it_sees_only_its_own_processes_and_cannot_reach_the_first() {
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
async fn it_has_its_own_tmp_dev_and_host_name() {
    let fixture = fixture();
    let marker = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let name = marker.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(!fixture.text("ls -A /tmp").await.contains(&name));
    assert_eq!(
        fixture.text("echo kept > /tmp/x; ls /dev | sort | tr '\\n' ' '").await,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(
        fixture.text("cat /tmp/x; hostname 2>/dev/null || cat /proc/sys/kernel/hostname").await,
        "kept\nsandbox\n"
    );
    assert!(!Path::new("/tmp/x").exists());
    assert_eq!(
        fixture
            .text("echo x > /dev/null && head -c 3 /dev/zero | wc -c; echo ok > /dev/stderr")
            .await,
        "3\nok\n"
    );
}

#[tokio::test]
async fn it_has_no_network_but_its_own_loopback() {
    let fixture = fixture();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Fixture::refused(&fixture.run(&format!("echo x > /dev/tcp/127.0.0.1/{port}")).await, "refused");
    Fixture::refused(&fixture.run("echo x > /dev/tcp/192.0.2.1/80").await, "unreachable");
    let devices = fixture.text("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(devices, "lo\n");
}

#[tokio::test]
async fn nothing_is_inherited_from_the_host() {
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
async fn what_a_command_leaves_behind_is_dead_when_it_returns() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let daemon = format!(
        "(setsid bash -c 'trap \"\" TERM HUP; setsid sleep {seconds} & sleep {seconds}' &) ; sleep 0.2; exit 3"
    );
    assert_eq!(fixture.run(&daemon).await.status, CommandStatus::Exited(3));
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn overlapping_commands_die_each_for_itself() {
    let fixture = fixture();
    let (long, short) = (unique_seconds(), unique_seconds());
    let long_command = format!("(sleep {long} &); while [ ! -e go ]; do sleep 0.01; done");
    let short_command = format!("(setsid sleep {short} &); exit 5");
    let waiting = fixture.run(&long_command);
    let others = async {
        eventually("the long command runs", || alive(&long)).await;
        for _ in 0..3 {
            assert_eq!(fixture.run(&short_command).await.status, CommandStatus::Exited(5));
            assert!(!alive(&short), "the short one is gone whole");
            assert!(alive(&long), "the long one goes on");
        }
        fs::write(fixture.dir.join("go"), "").unwrap();
    };
    let (output, ()) = tokio::join!(waiting, others);
    assert_eq!(output.status, CommandStatus::Exited(0));
    assert!(!alive(&long));
}

#[tokio::test]
async fn many_commands_at_once_all_give_their_own_output() {
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
async fn a_timeout_kills_even_what_ignores_signals() {
    let fixture = fixture();
    let seconds = unique_seconds();
    let mut spec = spec(&format!("trap '' TERM INT; echo begun; sleep {seconds}"));
    // Enough for a shell to begin on a machine that is emulated.
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
async fn closing_ends_what_runs_and_refuses_what_comes() {
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
async fn long_commands_and_environments_arrive_whole_and_too_long_ones_are_refused() {
    let fixture = fixture();
    let mut spec = spec(&format!("x={}; echo ${{#x}} ${{#BIG}} $N299", "y".repeat(100_000)));
    spec.env.push(("BIG".into(), OsString::from("z".repeat(100_000))));
    spec.env.extend((0..300).map(|n| (format!("N{n}").into(), format!("{n}").into())));
    let output = fixture.sandbox.exec(spec.clone()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), "100000 100000 299\n");
    for (command, value) in [
        ("y".repeat(200_000), "v".to_owned()),
        ("true".to_owned(), "v".repeat(200_000)),
        ("a\0b".to_owned(), "v".to_owned()),
    ] {
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
async fn a_working_directory_that_is_not_there_is_an_error_that_names_it() {
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
    assert!(without_namespaces() || &report == opened);
}
