//! The limits of a command as a whole, which a control group enforces: each reached by root and by
//! an ordinary user. No group remains.
//!
//! Few build machines delegate control groups. `cargo xtask ci vm` runs these tests in a virtual
//! machine that delegates one, so that none is left out there.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use policy::Policy;
use sandbox_core::{
    Cgroups, CommandOutput, CommandStatus, Enforcement, Limit, Limits, NativeSandbox, OpenError,
    Sandbox,
};

use crate::fixture::{
    Fixture, alive, eventually, fixture, open_with, spec, tier, unique_seconds, without_namespaces,
};
use crate::reruns::PART;

/// Environment variable that requires this machine to delegate a group.
const GROUPS: &str = "SANDBOX_CORE_TEST_GROUPS";

/// Opens a sandbox of the fixture with some limits changed. Returns `None` if this machine
/// delegates no group.
fn limited(fixture: &Fixture, set: impl FnOnce(&mut Limits)) -> Option<NativeSandbox> {
    let mut limits = Limits::default();
    set(&mut limits);
    let sandbox = open_with(&fixture.policy(), &fixture.dir, &limits);
    if sandbox.report().resources.to_string().contains("not for a command as a whole") {
        assert!(std::env::var_os(GROUPS).is_none(), "{}", sandbox.report().resources);
        println!("left to `cargo xtask ci vm`: {}", sandbox.report().resources);
        return None;
    }
    assert!(without_namespaces() || sandbox.report().resources == Enforcement::Full);
    Some(sandbox)
}

async fn run(sandbox: &NativeSandbox, command: &str) -> CommandOutput {
    sandbox.exec(spec(command)).await.unwrap()
}

fn stdout(output: &CommandOutput) -> String {
    String::from_utf8_lossy(&output.stdout.bytes).into_owned()
}

/// Returns the group of the session, above the group of its init.
fn group_of(sandbox: &NativeSandbox) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", sandbox.init_pid())).unwrap();
    let init = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    Path::new("/sys/fs/cgroup").join(init).parent().unwrap().to_owned()
}

/// Four processes that together exceed the limit although none does alone.
const HOG: &str =
    "for i in 1 2 3 4; do perl -e '$x = \"x\" x (30 << 20); sleep 100' & done; wait; echo survived";

#[tokio::test]
async fn memory_of_all_processes_together_is_limited() {
    let fixture = fixture();
    let Some(sandbox) = limited(&fixture, |limits| limits.command_memory_bytes = 64 << 20) else {
        return;
    };
    let seconds = unique_seconds();
    let ran = run(&sandbox, &format!("(setsid sleep {seconds} &); {HOG}")).await;
    assert_eq!(
        (ran.limit_reached(), ran.status),
        (Some(Limit::Memory), CommandStatus::Signaled(9)),
        "{ran:?}"
    );
    assert_eq!(stdout(&ran), "");
    assert!(!alive(&seconds), "all its processes are dead");
    let ran = run(&sandbox, "echo again").await;
    assert_eq!((stdout(&ran).as_str(), ran.limit_reached()), ("again\n", None));
}

#[tokio::test]
async fn memory_of_files_counts_against_the_command_that_writes_them() {
    let fixture = fixture();
    let Some(sandbox) = limited(&fixture, |limits| limits.command_memory_bytes = 64 << 20) else {
        return;
    };
    if without_namespaces() {
        // On the Landlock tier, temporary files are on a disk.
        return;
    }
    let fill = |name: &str| format!("head -c 40M /dev/zero > /tmp/{name}");
    for name in ["a", "b", "c"] {
        let ran = run(&sandbox, &fill(name)).await;
        assert_eq!((ran.status, ran.limit_reached()), (CommandStatus::Exited(0), None), "{ran:?}");
    }
    // The files stay, so no memory becomes free when the kernel has killed every process.
    for _ in 0..3 {
        let ran = run(&sandbox, &format!("{}; {}", fill("d"), fill("e"))).await;
        assert_eq!((ran.limit_reached(), &ran.sandbox_ended), (Some(Limit::Memory), &None));
        run(&sandbox, "rm /tmp/d; rm -f /tmp/e").await;
    }
    let ran = run(&sandbox, "cat /tmp/[abc] | wc -c").await;
    assert_eq!((stdout(&ran).as_str(), ran.limit_reached()), ("125829120\n", None), "{ran:?}");
}

/// A program of one page that writes to its standard output for ever. It is smaller than a worker.
fn small_writer() -> Vec<u8> {
    const ADDRESS: u64 = 0x40_0000;
    // write(1, ADDRESS, 4096) in a loop
    #[cfg(target_arch = "x86_64")]
    let (machine, code): (u16, &[u32]) =
        (62, &[0x0000_01b8, 0x0001_bf00, 0x00be_0000, 0xba00_4000, 0x0000_1000, 0xe8eb_050f]);
    #[cfg(target_arch = "aarch64")]
    let (machine, code): (u16, &[u32]) =
        (183, &[0xd280_0808, 0xd280_0020, 0xd2a0_0801, 0xd282_0002, 0xd400_0001, 0x17ff_fffb]);
    // `Elf64_Ehdr` and `Elf64_Phdr` (`elf(5)`).
    let (header, program_header) = (64_u16, 56_u16);
    let start = header + program_header;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let shorts = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let longs = |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    file.extend(shorts(&[2, machine, 1, 0]));
    file.extend(longs(&[ADDRESS + u64::from(start), u64::from(header), 0]));
    file.extend(shorts(&[0, 0, header, program_header, 1, 0, 0, 0]));
    // PT_LOAD, readable and executable
    file.extend(shorts(&[1, 0, 5, 0]));
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let length = u64::from(start) + code.len() as u64;
    file.extend(longs(&[0, ADDRESS, ADDRESS, length, length, 4096]));
    file.extend(code);
    file
}

#[tokio::test]
async fn a_command_whose_worker_was_killed_for_its_memory_reports_the_limit() {
    let fixture = fixture();
    let writer = fixture.dir.join("writer");
    std::fs::write(&writer, small_writer()).unwrap();
    std::fs::set_permissions(&writer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let set = |limits: &mut Limits| limits.command_memory_bytes = 64 << 20;
    let Some(sandbox) = limited(&fixture, set) else { return };
    if without_namespaces() {
        // On the Landlock tier, temporary files are on a disk.
        return;
    }
    const FILL: &str = "exec ./writer > /tmp/full";
    let ran = run(&sandbox, FILL).await;
    assert_eq!(
        (ran.limit_reached(), ran.status),
        (Some(Limit::Memory), CommandStatus::Signaled(9)),
        "{ran:?}"
    );
    assert!(ran.sandbox_ended.is_some_and(|why| why.contains("memory")), "{ran:?}");
    assert!(sandbox.exec(spec("true")).await.is_err());

    let sandbox = limited(&fixture, set).expect("the machine has groups");
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let streams = [null.as_fd(); 3];
    let mut attached = sandbox.start(&spec(FILL), streams).await.unwrap();
    let outcome = attached.wait().await.unwrap();
    assert_eq!(outcome.limit_reached(), Some(Limit::Memory), "{outcome:?}");
    assert!(outcome.sandbox_ended.is_some(), "{outcome:?}");
}

#[tokio::test]
async fn processes_are_limited_exactly_even_for_root() {
    let fixture = fixture();
    let Some(sandbox) = limited(&fixture, |limits| limits.processes = 20) else { return };
    const BOMB: &str = "perl -e 'while (defined($child = fork)) \
                        { if (!$child) { sleep 100; exit } $n++ } print $n'; true";
    let ran = run(&sandbox, BOMB).await;
    // The shell and the first perl count too.
    assert_eq!(
        (stdout(&ran).as_str(), ran.limit_reached()),
        ("18", Some(Limit::Processes)),
        "{ran:?}"
    );
    let ran = run(&sandbox, "echo again").await;
    assert_eq!((stdout(&ran).as_str(), ran.limit_reached()), ("again\n", None));
    let mut bomb = spec(":() { : | : & }; :; sleep 100");
    bomb.timeout = Duration::from_secs(2);
    let ran = sandbox.exec(bomb).await.unwrap();
    assert_eq!(
        (ran.status, ran.limit_reached()),
        (CommandStatus::TimedOut, Some(Limit::Processes))
    );
}

#[tokio::test]
async fn processor_time_of_many_short_processes_is_limited() {
    let fixture = fixture();
    let Some(sandbox) = limited(&fixture, |limits| limits.cpu_time = Some(Duration::from_secs(2)))
    else {
        return;
    };
    let ran =
        run(&sandbox, "for i in 1 2 3 4; do (while /bin/true; do :; done) & done; wait").await;
    assert_eq!(
        (ran.limit_reached(), ran.status),
        (Some(Limit::CpuTime), CommandStatus::Signaled(9)),
        "{ran:?}"
    );
    assert_eq!(
        run(&sandbox, "true").await.limit_reached(),
        None,
        "the next command starts from zero"
    );
}

#[tokio::test]
async fn only_the_command_that_reached_a_limit_reports_it() {
    let fixture = fixture();
    let set =
        |limits: &mut Limits| (limits.command_memory_bytes, limits.processes) = (64 << 20, 20);
    let Some(sandbox) = limited(&fixture, set) else { return };
    let seconds = unique_seconds();
    let innocent =
        format!("sleep {seconds} & while [ ! -e go ]; do sleep 0.05; done; kill $!; echo fine");
    let guilty = async {
        eventually("the innocent one runs", || alive(&seconds)).await;
        assert_eq!(run(&sandbox, HOG).await.limit_reached(), Some(Limit::Memory));
        let bomb = "for i in {1..30}; do sleep 100 & done 2>/dev/null; kill -9 $$";
        assert_eq!(run(&sandbox, bomb).await.limit_reached(), Some(Limit::Processes));
        assert!(alive(&seconds));
        std::fs::write(fixture.dir.join("go"), "").unwrap();
    };
    let (ran, ()) = tokio::join!(run(&sandbox, &innocent), guilty);
    assert_eq!((stdout(&ran).as_str(), ran.limit_reached()), ("fine\n", None), "{ran:?}");
}

#[tokio::test]
async fn a_session_runs_in_its_group_which_no_command_can_change() {
    let fixture = fixture();
    let Some(sandbox) = limited(&fixture, |_| ()) else { return };
    let group = group_of(&sandbox);
    let name = group.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("agent-sandbox-{}-", std::process::id())), "{name}");
    let seconds = unique_seconds();
    let command = format!(
        "(setsid sleep {seconds} &) ; while [ ! -e go ]; do sleep 0.05; done; cat /proc/self/cgroup"
    );
    let checking = async {
        eventually("the command runs", || alive(&seconds)).await;
        let processes = std::fs::read_to_string(group.join("worker-0/cgroup.procs")).unwrap();
        assert!(
            processes.lines().count() >= 3,
            "the worker, the shell, and its background process: {processes}"
        );
        std::fs::write(fixture.dir.join("go"), "").unwrap();
    };
    let (ran, ()) = tokio::join!(run(&sandbox, &command), checking);
    let own = if without_namespaces() { "" } else { "0::/\n" };
    assert_eq!(stdout(&ran), own, "{ran:?}");
    let write = format!(
        "echo max > {0}/worker-0/pids.max; echo $$ > {0}/../cgroup.procs; mkdir {0}/x",
        group.display()
    );
    assert_ne!(run(&sandbox, &write).await.status, CommandStatus::Exited(0));
    assert_eq!(std::fs::read_to_string(group.join("worker-0/pids.max")).unwrap(), "4097\n");
    assert!(!group.join("x").exists());
    tokio::join!(
        run(&sandbox, "sleep 0.1"),
        run(&sandbox, "sleep 0.1"),
        run(&sandbox, "sleep 0.1")
    );
    assert!(group.join("worker-1").exists());
    sandbox.close().await;
    assert!(!group.exists());
}

#[tokio::test]
async fn a_policy_that_allows_writing_everywhere_does_not_open_groups() {
    let fixture = fixture();
    if without_namespaces() || limited(&fixture, |_| ()).is_none() {
        return;
    }
    for open in ["/", "/sys/fs/cgroup", "/sys/fs/cgroup/delegated"] {
        let policy = Policy::reference(&fixture.dir)
            .home("/nonexistent".as_ref())
            .allow_write(open.as_ref());
        let sandbox = open_with(&policy.build().unwrap(), &fixture.dir, &Limits::default());
        let group = group_of(&sandbox);
        assert_eq!(run(&sandbox, "echo x > f && cat f").await.status, CommandStatus::Exited(0));
        let write = format!("echo max > {}/worker-0/pids.max", group.display());
        assert_ne!(run(&sandbox, &write).await.status, CommandStatus::Exited(0), "{open}");
        assert_eq!(
            std::fs::read_to_string(group.join("worker-0/pids.max")).unwrap(),
            "4097\n",
            "{open}"
        );
    }
}

#[tokio::test]
async fn the_group_of_a_killed_host_is_removed_by_the_next_one() {
    const THIS: &str = "groups::the_group_of_a_killed_host_is_removed_by_the_next_one";
    if let Some(part) = std::env::var_os(PART) {
        let fixture = fixture();
        if part == "again" {
            return fixture.sandbox.close().await;
        }
        std::fs::write(&part, group_of(&fixture.sandbox).to_str().unwrap()).unwrap();
        fixture.sandbox.exec(spec("sleep 1000")).await.unwrap();
    }
    let fixture = fixture();
    if limited(&fixture, |_| ()).is_none() {
        return;
    }
    let report = fixture.root.join("group");
    let host =
        |part: &Path| testkit::rerun(THIS).env(PART, part).stdout(Stdio::null()).spawn().unwrap();
    let mut killed = host(&report);
    let read = || std::fs::read_to_string(&report).unwrap_or_default();
    eventually("the other host has a session", || !read().is_empty()).await;
    let group = PathBuf::from(read());
    assert!(group.exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let is_empty =
        || std::fs::read_to_string(group.join("cgroup.events")).unwrap().contains("populated 0");
    eventually("its session has ended", is_empty).await;
    assert!(host(Path::new("again")).wait().unwrap().success());
    assert!(!group.exists());
    assert!(group_of(&fixture.sandbox).exists(), "a group in use stays");
}

#[test]
fn a_named_group_is_used_or_opening_fails() {
    let fixture = fixture();
    let open = |at: &Path| {
        let mut limits = Limits::default();
        limits.cgroups = Cgroups::At(at.to_owned());
        NativeSandbox::builder(&fixture.policy(), &fixture.dir).limits(limits).tier(tier()).open()
    };
    for not_one in ["/tmp", "/no/such/group"] {
        let error = open(not_one.as_ref()).unwrap_err();
        let OpenError::LayerUnavailable { step, remedy, source } = &error else {
            panic!("{error:?}")
        };
        assert!(
            step.contains(not_one) && source.to_string().contains("no control group"),
            "{error:?}"
        );
        assert!(remedy.contains("DelegateSubgroup="), "{error}");
    }
    let Some(sandbox) = limited(&fixture, |_| ()) else { return };
    let parent = group_of(&sandbox).parent().unwrap().to_owned();
    let named = open(&parent).unwrap();
    assert_eq!(group_of(&named).parent(), Some(parent.as_path()));
    // The group of init contains a process.
    let error = open(&group_of(&sandbox).join("init")).unwrap_err();
    assert!(matches!(error, OpenError::LayerUnavailable { .. }), "{error:?}");
    if !rustix::process::geteuid().is_root() {
        let OpenError::LayerUnavailable { source, .. } =
            open("/sys/fs/cgroup".as_ref()).unwrap_err()
        else {
            panic!()
        };
        assert!(source.to_string().contains("may not write"), "{source}");
    }
}

#[test]
fn groups_can_be_turned_off() {
    let fixture = fixture();
    let mut limits = Limits::default();
    limits.cgroups = Cgroups::Off;
    let report = open_with(&fixture.policy(), &fixture.dir, &limits).report().resources.to_string();
    assert!(report.contains("control groups are turned off"), "{report}");
}
