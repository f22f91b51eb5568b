//! Attempts to escape from the sandbox, each in a real one: system calls, files, processes, and
//! random sequences of moves.

mod calls;
mod random;
mod target;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use sandbox_core::{CommandStatus, Sandbox};
use testkit::skipped;

use crate::calls::number;
use crate::fixture::{spec, without_namespaces};
use calls::call;
use target::{CONTENT, Target, target};

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
            "touch -d 2001-01-01 {root}/outside/canary; \
             setfattr -n user.x -v y {root}/outside/canary; chattr +i {root}/outside/canary"
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
        assert!(!seen.contains(CONTENT), "{attempt} read a hidden file");
        target.is_untouched(attempt);
    }
    let readable =
        if without_namespaces() { "/etc/passwd" } else { "denied.txt locked/inner/file" };
    assert!(
        !target.text(&format!("cat {readable}")).await.is_empty(),
        "allowed files are readable"
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
    // The session sees only its own mounts.
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
            "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die \"no socket\"; \
             connect($s, pack_sockaddr_un({address})) or die; print \"connected\"'"
        )
    };
    for attempt in [
        connect("\"host.sock\""),
        connect(&format!("\"\\0{name}\"")),
        format!("cat {}", shared.path().display()),
        "perl -MIO::Socket::INET -e \
         'print \"connected\" if IO::Socket::INET->new(\"127.0.0.1:22\")'"
            .to_owned(),
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
async fn no_device_of_the_host_can_be_changed() {
    let target = target();
    // The mode stays as it is, so that a failure of this test changes nothing on the host.
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/proc/self/fd/0"] {
        let ran = target.run(&format!("chmod 666 {path}")).await;
        assert_ne!(ran.status, CommandStatus::Exited(0), "{path}: {ran:?}");
    }
    // Streams that the host hands over.
    for (device, read) in [("/dev/null", 0), ("/dev/zero", 3), ("/dev/full", 3)] {
        let open = || fs::File::options().read(true).write(true).open(device).unwrap();
        let devices = [open(), open(), open()];
        for command in ["chmod 666 /proc/self/fd/0", "chmod 666 /dev/stdout", "chmod 666 /dev/fd/2"]
        {
            let ended = run_on(&target, command, &devices).await;
            assert_ne!(ended, CommandStatus::Exited(0), "{device}: {command}");
        }
        let command = format!("[ $(head -c 3 | wc -c) -eq {read} ] && echo x > /dev/null");
        assert_eq!(run_on(&target, &command, &devices).await, CommandStatus::Exited(0), "{device}");
    }
}

async fn run_on(target: &Target, command: &str, streams: &[fs::File; 3]) -> CommandStatus {
    let streams = streams.each_ref().map(AsFd::as_fd);
    let mut running = target.sandbox.start(&spec(command), streams).await.unwrap();
    running.wait().await.unwrap().status
}

#[tokio::test]
async fn a_command_cannot_fill_the_machine_with_processes_or_with_one_file() {
    let target = target();
    if target.text("command -v perl").await.is_empty() {
        return skipped("a fork bomb", "package perl-base");
    }
    const BOMB: &str = "perl -e '$n = 0; while (defined(my $child = fork)) \
                        { if (!$child) { sleep 600; exit } last if ++$n == 6000 } print $n'";
    let report = target.sandbox.report().resources.to_string();
    if !report.contains("the number of processes is not limited") {
        let started: u32 = target.text(BOMB).await.parse().unwrap();
        // Without namespaces, the limit does not apply to root, and counts all processes of another
        // user.
        assert!(without_namespaces() || (1000..4096).contains(&started), "{started}");
        assert_eq!(target.text("echo again").await, "again\n", "every process of the bomb is dead");
    }
    let ran = target.run("head -c 1 /dev/zero | dd of=large bs=1 seek=16G status=none").await;
    const KILLED_BY_SIGXFSZ: i32 = 128 + 25;
    assert_eq!(ran.status, CommandStatus::Exited(KILLED_BY_SIGXFSZ), "{ran:?}");
    target.is_untouched("a fork bomb and a large file");
}
