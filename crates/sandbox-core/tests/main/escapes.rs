//! Attempts to get out, each tried for real: system calls, files, processes, and random
//! compositions of moves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use policy::Policy;
use sandbox_core::{CommandOutput, CommandStatus, Enforcement, NativeSandbox, Sandbox, SessionDir};

use crate::calls::number;
use crate::fixture::{open, spec, without_namespaces};
use testkit::skipped;

/// A session whose policy denies a little of everything, and what must stay as it is outside of it
/// and in it.
struct Target {
    _root: tempfile::TempDir,
    root: PathBuf,
    sandbox: NativeSandbox,
    /// What is protected in the session directory; without namespaces nothing can be.
    protected: &'static [&'static str],
}

const CONTENT: &str = "as it was";
/// In the session directory, protected by the policy or always.
const PROTECTED: [&str; 6] = [
    "denied.txt",
    "locked/inner/file",
    "secret/file",
    "deep/repo/.git/hooks/pre-commit",
    "deep/repo/.git/config",
    ".bashrc",
];
/// In the session directory; nothing may ever be there.
const ABSENT: [&str; 4] = [".gitconfig", ".vscode", "ghost", "no/where"];
/// Beside it.
const OUTSIDE: [&str; 2] = ["outside/canary", "sessions/s2/file"];

fn target() -> Target {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().canonicalize().unwrap();
    let dir = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
    let protected: &[&str] = if without_namespaces() { &[] } else { &PROTECTED };
    for path in
        protected.iter().map(|path| dir.join(path)).chain(OUTSIDE.map(|path| root.join(path)))
    {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, CONTENT).unwrap();
        // Nothing but the sandbox protects them.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let mut policy = Policy::session(&dir).sessions_root(&root.join("sessions")).home(&root);
    policy = policy.deny_write(&dir.join("ghost")).deny_write(&dir.join("no/where"));
    if !without_namespaces() {
        policy = policy
            .deny_write(&dir.join("denied.txt"))
            .deny_write(&dir.join("locked"))
            .deny_read(&dir.join("secret"));
    }
    let sandbox = open(&policy.build().unwrap(), &dir);
    Target { _root: temporary, root, sandbox, protected }
}

impl Target {
    fn dir(&self) -> PathBuf {
        self.root.join("sessions/s1")
    }

    async fn run(&self, command: &str) -> CommandOutput {
        self.sandbox.exec(spec(command)).await.unwrap()
    }

    async fn text(&self, command: &str) -> String {
        String::from_utf8(self.run(command).await.stdout.bytes).unwrap()
    }

    /// Everything that must stay is as it was, with its name, its content, and one name only.
    #[track_caller]
    fn is_untouched(&self, after: &str) {
        use std::os::unix::fs::MetadataExt;
        let dir = self.dir();
        let protected = self.protected.iter().map(|path| dir.join(path));
        for path in protected.chain(OUTSIDE.map(|path| self.root.join(path))) {
            let content = fs::read_to_string(&path).unwrap_or_else(|error| format!("{error}"));
            assert_eq!(content, CONTENT, "{} after {after}", path.display());
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(
                metadata.is_file() && metadata.nlink() == 1,
                "{} after {after}",
                path.display()
            );
            assert_eq!(metadata.mode() & 0o7777, 0o666, "{} after {after}", path.display());
        }
        for path in ABSENT {
            assert!(fs::symlink_metadata(dir.join(path)).is_err(), "{path} after {after}");
        }
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((names(&self.root), names(&self.root.join("outside"))), (2, 1), "after {after}");
        if self.protected.is_empty() {
            return;
        }
        assert_eq!(
            (names(&dir.join("locked")), names(&dir.join("locked/inner"))),
            (1, 1),
            "after {after}"
        );
        assert_eq!(names(&dir.join("deep/repo/.git/hooks")), 1, "after {after}");
    }
}

/// Makes a system call from a program that every Debian has; prints its error number, or `done`.
fn call(number: u32, arguments: &str) -> String {
    // Perl hands over the memory of a variable, never that of a literal.
    format!(
        "perl -e 'my @all = ({number}{arguments}); my $n = shift @all; $! = 0; print syscall($n, @all) == -1 ? $! + 0 : \"done\"'"
    )
}

#[tokio::test]
async fn dangerous_system_calls_are_denied() {
    const EPERM: &str = "1";
    const ENOSYS: &str = "38";
    const READ_MEMORY: &str = ", 1, pack(\"QQ\", unpack(\"Q\", pack(\"p\", my $b = \"x\" x 8)), 8), 1, pack(\"QQ\", 0x400000, 8), 1, 0";
    // pidfd_open has this number on every architecture.
    const GET_FD: &str = ", syscall(434, 1, 0), 0, 0";
    let target = target();
    if target.text("command -v perl").await.is_empty() {
        return skipped("system calls against the walls", "package perl-base");
    }
    assert_eq!(target.text(&call(number("getpid"), "")).await, "done", "getpid works");
    for (name, call_number, arguments, expected) in [
        ("unshare of a user namespace", number("unshare"), ", 0x10000000", EPERM),
        ("unshare of a mount namespace", number("unshare"), ", 0x20000", EPERM),
        ("unshare of a process namespace", number("unshare"), ", 0x20000000", EPERM),
        ("clone of a user namespace", number("clone"), ", 0x10000011, 0, 0, 0, 0", EPERM),
        ("clone3", number("clone3"), ", 0, 0", ENOSYS),
        ("setns", number("setns"), ", 0, 0", EPERM),
        ("mount", number("mount"), ", \"none\", \"/tmp\", \"tmpfs\", 0, 0", EPERM),
        ("umount2", number("umount2"), ", \"/proc\", 2", EPERM),
        ("pivot_root", number("pivot_root"), ", \".\", \".\"", EPERM),
        ("chroot", number("chroot"), ", \".\"", EPERM),
        ("open_tree", number("open_tree"), ", -100, \"/\", 1", EPERM),
        ("move_mount", number("move_mount"), ", 0, \"\", -100, \"/tmp\", 4", EPERM),
        ("fsopen", number("fsopen"), ", \"tmpfs\", 0", EPERM),
        ("fsmount", number("fsmount"), ", 0, 0, 0", EPERM),
        ("mount_setattr", number("mount_setattr"), ", -100, \"/\", 0, 0, 0", EPERM),
        ("open_by_handle_at", number("open_by_handle_at"), ", 0, 0, 0", EPERM),
        ("mknod of a device", number("mknodat"), ", -100, \"device\", 0x2180, 0x103", EPERM),
        ("io_uring_setup", number("io_uring_setup"), ", 8, 0", EPERM),
        ("bpf", number("bpf"), ", 0, 0, 0", EPERM),
        ("perf_event_open", number("perf_event_open"), ", 0, 0, 0, 0, 0", EPERM),
        ("userfaultfd", number("userfaultfd"), ", 0", EPERM),
        ("kexec_load", number("kexec_load"), ", 0, 0, 0, 0", EPERM),
        ("add_key", number("add_key"), ", \"user\", \"a\", \"b\", 1, -3", EPERM),
        ("keyctl", number("keyctl"), ", 0, -3, 0", EPERM),
        ("reboot", number("reboot"), ", 0, 0, 0", EPERM),
        ("sethostname", number("sethostname"), ", \"x\", 1", EPERM),
        ("an x32 call", 0x4000_0027, "", ENOSYS),
        ("a call of the future", 9_999, "", ENOSYS),
        ("a unix socket", number("socket"), ", 1, 1, 0", EPERM),
        ("a pair of datagram sockets", number("socketpair"), ", 1, 2, 0, \"12345678\"", EPERM),
        ("a raw socket", number("socket"), ", 2, 3, 1", EPERM),
        ("a packet socket", number("socket"), ", 17, 3, 0", "97"),
        ("a vsock socket", number("socket"), ", 40, 1, 0", "97"),
        ("ptrace of the first process", number("ptrace"), ", 16, 1, 0, 0", EPERM),
        ("process_vm_readv of the first process", number("process_vm_readv"), READ_MEMORY, EPERM),
        ("pidfd_getfd of the first process", number("pidfd_getfd"), GET_FD, EPERM),
    ] {
        let found = target.text(&call(call_number, arguments)).await;
        // Where another wall stands in the way first, it may say so in its own way.
        const EACCES: &str = "13";
        let is_refused = found == expected
            || (without_namespaces() && [EPERM, EACCES].contains(&found.as_str()));
        assert!(is_refused, "{name}: {found} instead of {expected}");
    }
    target.is_untouched("system calls");
}

/// Returns a 32-bit program that exits with 0 after its first system call, which is getpid(2).
fn program_of_32_bits() -> Vec<u8> {
    // The machine and its flags (`elf(5)`), and the code.
    let (machine, flags, code): (u16, u32, &[u8]) = if cfg!(target_arch = "x86_64") {
        // mov eax, 20; int 0x80; mov eax, 1; xor ebx, ebx; int 0x80
        (3, 0, b"\xb8\x14\0\0\0\xcd\x80\xb8\x01\0\0\0\x31\xdb\xcd\x80")
    } else {
        // mov r7, #20; svc 0; mov r7, #1; mov r0, #0; svc 0
        let code = b"\x14\x70\xa0\xe3\0\0\0\xef\x01\x70\xa0\xe3\0\0\xa0\xe3\0\0\0\xef";
        (40, 0x0500_0000, code)
    };
    const HEADERS: u32 = 52 + 32;
    const ADDRESS: u32 = 0x10000;
    let size = HEADERS + u32::try_from(code.len()).unwrap();
    let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |program: &mut Vec<u8>, halves: &[u16]| {
        program.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    };
    let words = |program: &mut Vec<u8>, words: &[u32]| {
        program.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    halves(&mut program, &[2, machine]);
    words(&mut program, &[1, ADDRESS + HEADERS, 52, 0, flags]);
    halves(&mut program, &[52, 32, 1, 0, 0, 0]);
    // One segment, readable and executable, with the whole file.
    words(&mut program, &[1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1000]);
    program.extend_from_slice(code);
    program
}

#[tokio::test]
async fn calls_of_32_bit_programs_are_denied() {
    const SIGSYS: i32 = 31;
    let target = target();
    let program = target.dir().join("program");
    fs::write(&program, program_of_32_bits()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // The kernel may have no such calls at all.
    let works = std::process::Command::new(&program).status().is_ok_and(|status| status.success());
    let ran = target.run("./program").await;
    let expected = if works { CommandStatus::Signaled(SIGSYS) } else { CommandStatus::Exited(126) };
    assert_eq!(ran.status, expected, "{ran:?}");
}

#[tokio::test]
async fn a_tagged_address_of_a_path_is_denied_too() {
    // PR_SET_TAGGED_ADDR_CTRL and PR_TAGGED_ADDR_ENABLE: the kernel then ignores the upper byte of
    // addresses, as the processor does. x86-64 has no such calls.
    const CREATE: &str = "perl -e 'my $path = \"ghost\"; my $at = unpack(\"Q\", pack(\"p\", $path)); \
        exit 3 if syscall(PRCTL, 55, 1, 0, 0, 0) != 0; \
        exit(syscall(MKDIRAT, -100, $at | TAG, 0755) == -1 && $! == 30 ? 4 : 0)'";
    if !cfg!(target_arch = "aarch64") {
        return;
    }
    let target = target();
    let command = CREATE
        .replace("PRCTL", &number("prctl").to_string())
        .replace("MKDIRAT", &number("mkdirat").to_string());
    for tag in ["0", "(0x5a << 56)"] {
        let ran = target.run(&command.replace("TAG", tag)).await;
        assert_eq!(ran.status, CommandStatus::Exited(4), "{tag}: {ran:?}");
        assert!(ran.quarantined.is_empty(), "{tag}: {ran:?}");
    }
    target.is_untouched("a tagged address");
}

#[tokio::test]
async fn no_protected_file_can_be_changed_under_any_name() {
    let target = target();
    let root = target.root.display();
    let exchange =
        |a: &str, b: &str| call(number("renameat2"), &format!(", -100, \"{a}\", -100, \"{b}\", 2"));
    let open_for_writing = |path: &str| format!("exec 3<{path} && echo x >/proc/self/fd/3");
    let attempts = [
        format!("echo x > {root}/outside/canary"),
        format!("ln -s {root}/outside/canary l1 && echo x > l1"),
        format!("ln {root}/outside/canary hard && echo x > hard"),
        format!("mkdir -p {root}/outside/new"),
        format!("mv {root}/outside {root}/moved"),
        "echo x > ../s2/file".to_owned(),
        "ls ../s2 && echo x > ../s2/new".to_owned(),
        "rm -rf ../s2".to_owned(),
        "echo x > denied.txt".to_owned(),
        open_for_writing("denied.txt"),
        "rm -f denied.txt".to_owned(),
        "mv denied.txt away".to_owned(),
        "echo x > new && mv -f new denied.txt".to_owned(),
        "ln denied.txt hard2 && echo x > hard2".to_owned(),
        "ln -sf /etc/passwd denied.txt".to_owned(),
        "chmod 777 denied.txt && echo x > denied.txt".to_owned(),
        format!("chmod 777 {root}/outside/canary ../s2/file; chmod -R 777 {root}/outside ../s2"),
        format!(
            "touch -d 2001-01-01 {root}/outside/canary; setfattr -n user.x -v y {root}/outside/canary; chattr +i {root}/outside/canary"
        ),
        "truncate -s 0 denied.txt".to_owned(),
        "touch e; ".to_owned() + &exchange("e", "denied.txt") + "; echo x > denied.txt",
        "echo x > locked/new".to_owned(),
        "echo x > locked/inner/file".to_owned(),
        "mv locked away2".to_owned(),
        "mv locked/inner locked/other".to_owned(),
        "mkdir d2; ".to_owned() + &exchange("d2", "locked") + "; mkdir -p locked/x",
        "ln -s locked way && echo x > way/inner/file; echo x > way/new".to_owned(),
        "cd locked/inner && echo x > file; cd .. && mv inner outer".to_owned(),
        "cat secret/file && echo x > secret/file".to_owned(),
        "mv secret open; cat open/file".to_owned(),
        "ln -s secret way2; cat way2/file".to_owned(),
        "rm -rf secret && mkdir secret".to_owned(),
        "echo x > deep/repo/.git/hooks/pre-commit".to_owned(),
        "echo x > deep/repo/.git/hooks/post-commit".to_owned(),
        "echo x > deep/repo/.git/config".to_owned(),
        "mv deep/repo/.git deep/repo/git".to_owned(),
        "mv deep/repo deep/other".to_owned(),
        "mv deep shallow".to_owned(),
        "rm -rf deep".to_owned(),
        "echo x > .bashrc".to_owned(),
        "mv .bashrc b; echo x > .bashrc".to_owned(),
        "rm -f .bashrc; ln -s /etc/passwd .bashrc".to_owned(),
        "echo x > .gitconfig".to_owned(),
        "mkdir .vscode".to_owned(),
        "echo x > ghost".to_owned(),
        "ln -s /etc/passwd ghost".to_owned(),
        "ln -s ghost to-ghost && echo x > to-ghost".to_owned(),
        "mkdir -p no/where".to_owned(),
        "mkdir -p d3/where && mv -T d3 no".to_owned(),
        "mkdir -p d4/where && ln -s d4 no2 && mv -T no2 no".to_owned(),
        "mkdir -p no d5/where; ".to_owned() + &exchange("d5", "no"),
        "exec 3<. ; cd /; ".to_owned()
            + &call(number("mkdirat"), ", -100, \"/proc/self/fd/3/ghost\", 0755"),
        "exec 3<. ; cd /; ".to_owned()
            + &call(number("renameat"), ", 3, \"denied.txt\", 3, \"through-a-descriptor\""),
    ];
    for attempt in &attempts {
        let ran = target.run(attempt).await;
        let seen = String::from_utf8_lossy(&ran.stdout.bytes).into_owned();
        assert!(!seen.contains(CONTENT), "{attempt} read what is hidden");
        target.is_untouched(attempt);
    }
    let readable =
        if without_namespaces() { "/etc/passwd" } else { "denied.txt locked/inner/file" };
    assert!(
        !target.text(&format!("cat {readable}")).await.is_empty(),
        "what may be read can be read"
    );
}

#[tokio::test]
async fn proc_gives_no_access_to_the_machine_or_the_engine() {
    let target = target();
    for attempt in [
        "echo c > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sys/kernel/hostname",
        "echo 1000 > /proc/1/oom_score_adj",
        "cat /proc/1/environ",
        "cat /proc/1/mem",
        "ls /proc/1/root/",
        "cat /proc/1/fd/*",
        "for fd in /proc/1/fd/*; do echo x > $fd && exit 0; done; exit 1",
        "head -c 1 /proc/kcore",
        "head -c 1 /proc/kmsg",
        "nsenter -t 1 -m -U true",
        "mkdir /sys/fs/cgroup/x",
        "echo 0 > /proc/self/loginuid",
        "cat /dev/mem /dev/sda /dev/vda /dev/kmsg",
    ] {
        let ran = target.run(attempt).await;
        assert_ne!(ran.status, CommandStatus::Exited(0), "{attempt}");
        assert!(
            ran.stdout.bytes.is_empty(),
            "{attempt}: {}",
            String::from_utf8_lossy(&ran.stdout.bytes)
        );
    }
    // A kernel without a mount of the mounts of others: the session sees its own only.
    let mounts = target.text("cat /proc/self/mountinfo").await;
    assert!(!mounts.contains("/sessions/s2"), "{mounts}");
}

#[tokio::test]
async fn resources_that_host_processes_share_are_not_accessible() {
    let target = target();
    let socket = target.root.join("sessions/s1/host.sock");
    let _by_path = UnixListener::bind(&socket).unwrap();
    let name = format!("agent-tools-test-{}", std::process::id());
    let address =
        <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let _by_name = UnixListener::bind_addr(&address).unwrap();
    let shared = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    fs::write(shared.path(), CONTENT).unwrap();
    let connect = |address: &str| {
        format!(
            "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die \"no socket\"; connect($s, pack_sockaddr_un({address})) or die; print \"connected\"'"
        )
    };
    for attempt in [
        connect("\"host.sock\""),
        connect(&format!("\"\\0{name}\"")),
        format!("cat {}", shared.path().display()),
        "perl -MIO::Socket::INET -e 'print \"connected\" if IO::Socket::INET->new(\"127.0.0.1:22\")'".to_owned(),
    ] {
        assert_eq!(target.text(&attempt).await, "", "{attempt}");
    }
    assert_eq!(
        target
            .text("ls /dev/shm; ls /proc/sysvipc >/dev/null; tail -n +2 /proc/sysvipc/*")
            .await
            .trim_matches(|c: char| !c.is_ascii_digit()),
        ""
    );
    let own = if without_namespaces() { "" } else { "mine\n" };
    assert_eq!(target.text("echo mine > /dev/shm/x; cat /dev/shm/x").await, own);
    assert!(!Path::new("/dev/shm/x").exists());
}

#[tokio::test]
async fn a_command_cannot_fill_the_machine_with_processes_or_with_one_file() {
    let target = target();
    if target.text("command -v perl").await.is_empty() {
        return skipped("a bomb of processes", "package perl-base");
    }
    const BOMB: &str = "perl -e '$n = 0; while (defined(my $child = fork)) { if (!$child) { sleep 600; exit } last if ++$n == 6000 } print $n'";
    let report = &target.sandbox.report().resources;
    if !matches!(report, Enforcement::Weaker { why } if why.contains("the number of processes is not limited"))
    {
        let started: u32 = target.text(BOMB).await.parse().unwrap();
        // Without namespaces root is not held back, and others are together with all that the user
        // runs.
        assert!(without_namespaces() || (1000..4096).contains(&started), "{started}");
        assert_eq!(target.text("echo again").await, "again\n", "nothing of the bomb is left");
    }
    let ran = target.run("head -c 1 /dev/zero | dd of=large bs=1 seek=16G status=none").await;
    const KILLED_BY_SIGXFSZ: i32 = 128 + 25;
    assert_eq!(ran.status, CommandStatus::Exited(KILLED_BY_SIGXFSZ), "{ran:?}");
    target.is_untouched("what fills machines");
}

/// Moves that change names, links and directories while others look at them.
const MOVES: [&str; 27] = [
    "mkdir -p a/b",
    "ln -sfn ../ghost a/l; echo x > a/l",
    "echo x > a/x; mv -T a/x ghost; ln a/x .gitconfig",
    "mkdir -p a/where; mv -T a no; mkdir -p no; perl -e 'syscall(RENAMEAT2, -100, \"a\", -100, \"no\", 2)'",
    "ln -sfn a no; ln -sfn a .vscode; mkdir .vscode",
    "mv -T no a; rm -rf no",
    "ln -sfn OUTSIDE a/out",
    "ln -sfn ../s2 a/out",
    "ln -sfn /proc/self/root a/out",
    "ln -sfn /proc/self/cwd a/out",
    "echo x > a/out/canary",
    "echo x > a/out/file",
    "rm -rf a/out/*",
    "mv -T a locked/a",
    "mv -T locked a",
    "mv -T a deep",
    "mv -T deep a",
    "cp -r . a/copy",
    "echo x > a/.git/config",
    "rm -rf a",
    "ln denied.txt a/hard; echo x > a/hard",
    "exec 4<a; cd a; echo x > /proc/self/fd/4/../denied.txt; cd -",
    "mv -T a secret; cat secret/*",
    "chmod -R 777 . ; chmod 000 locked",
    "truncate -s 0 a/out/* a/* denied.txt",
    "perl -e 'syscall(RENAMEAT2, -100, \"a\", -100, \"locked\", 2)'",
    "perl -e 'syscall(RENAMEAT2, -100, \"deep/repo/.git\", -100, \"a\", 2)'",
];
const SEQUENCES: u64 = 60;

#[tokio::test]
async fn concurrent_random_moves_lead_nowhere() {
    let target = target();
    let outside = target.root.join("outside").display().to_string();
    for seed in 1..=SEQUENCES {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut pick = || {
            // xorshift64: enough to choose, and the same everywhere.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            MOVES[(state % MOVES.len() as u64) as usize]
                .replace("OUTSIDE", &outside)
                .replace("RENAMEAT2", &number("renameat2").to_string())
        };
        let mut sequence = |length| (0..length).map(|_| pick()).collect::<Vec<_>>().join("; ");
        let command = format!("( {} ) & ( {} ) & {}; wait", sequence(6), sequence(6), sequence(6));
        let ran = target.run(&command).await;
        let seen = String::from_utf8_lossy(&ran.stdout.bytes).into_owned();
        assert!(!seen.contains(CONTENT), "seed {seed} read what is hidden: {command}");
        target.is_untouched(&format!("seed {seed}: {command}"));
    }
}
