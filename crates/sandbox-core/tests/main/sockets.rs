//! Unix sockets: those of the session connect to each other, and none of the host is in reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use policy::Policy;
use sandbox_core::{CommandStatus, NativeSandbox, Sandbox};
use testkit::skipped;

use crate::fixture::{
    Fixture, NO_DIRECTORY_IN_SIGHT, directory_in_sight, fixture, open, repetitions, spec,
    without_namespaces,
};

/// Perl functions: `serve` answers `pong` to one client, and `ask` prints the answer or an error.
const FUNCTIONS: &str = "use Socket; $| = 1; \
    sub serve { my ($type, $at) = @_; socket(my $s, AF_UNIX, $type, 0) or die \"socket $!\"; \
      bind($s, pack_sockaddr_un($at)) or die \"bind $!\"; listen($s, 9) or die \"listen $!\"; \
      my $child = fork; return if $child; accept(my $c, $s) or die; \
      sysread($c, my $b, 9); syswrite($c, $b eq \"ping\" ? \"pong\" : \"bad\"); exit } \
    sub ask { my ($type, $at) = @_; socket(my $s, AF_UNIX, $type, 0) or die \"socket $!\"; \
      connect($s, pack_sockaddr_un($at)) or return print \"$!\\n\"; \
      syswrite($s, \"ping\"); sysread($s, my $b, 9); print \"$b\\n\" } \
    sub reach { my ($type, $at) = @_; socket(my $s, AF_UNIX, $type, 0) or return; \
      connect($s, pack_sockaddr_un($at)) and print \"reached\\n\" }";

fn perl(script: &str) -> String {
    format!("perl -e '{FUNCTIONS} {script}'")
}

async fn text(sandbox: &NativeSandbox, command: &str) -> String {
    let output = sandbox.exec(spec(command)).await.unwrap();
    String::from_utf8_lossy(&[output.stdout.bytes, output.stderr.bytes].concat()).into_owned()
}

#[tokio::test]
async fn sockets_of_a_session_connect_to_each_other() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    for at in [
        "\"s\"",
        "\"./sub/../s\"",
        "\"/tmp/s\"",
        "\"/dev/shm/s\"",
        "\"$ENV{PWD}/s\"",
        "\"\\0abstract\"",
        "\"link/s\"",
    ] {
        for kind in ["SOCK_STREAM", "SOCK_SEQPACKET"] {
            let command = format!(
                "mkdir -p sub; ln -sfn sub link; {}",
                perl(&format!("my $at = {at}; unlink $at; serve({kind}, $at); ask({kind}, $at)"))
            );
            assert_eq!(fixture.text(&command).await, "pong\n", "{at} {kind}");
        }
    }
    // Paths that only the caller itself can follow.
    for path in ["/proc/self/fd/9/s", "/dev/fd/9/s", "/proc/self/cwd/s"] {
        let script = format!("serve(SOCK_STREAM, \"s\"); ask(SOCK_STREAM, \"{path}\")");
        let command = format!("rm -f s; exec 9<.; {}", perl(&script));
        assert_eq!(fixture.text(&command).await, "pong\n", "{path}");
    }
    // A thread of a program that other processes of the user may not trace.
    let hidden = "use threads; serve(SOCK_STREAM, \"s\"); syscall(157, 4, 0, 0, 0, 0); \
                  threads->create(sub { ask(SOCK_STREAM, \"s\") })->join";
    if cfg!(target_arch = "x86_64") && fixture.text("perl -Mthreads -e1").await.is_empty() {
        assert_eq!(fixture.text(&format!("rm -f s; {}", perl(hidden))).await, "pong\n");
    }
}

#[tokio::test]
async fn a_socket_without_a_listener_refuses_and_an_absent_one_does_not_exist() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let script = "serve(SOCK_STREAM, \"s\"); ask(SOCK_STREAM, \"s\"); wait; unlink \"t\"; \
                  rename \"s\", \"t\"; ask(SOCK_STREAM, \"s\"); ask(SOCK_STREAM, \"t\"); \
                  ask(SOCK_SEQPACKET, \"t\"); ask(SOCK_STREAM, \"/etc/passwd\")";
    let found = fixture.text(&perl(script)).await;
    let expected = "pong\nNo such file or directory\nConnection refused\nConnection refused\n\
                    Connection refused\n";
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_full_queue_makes_a_blocking_socket_wait_and_another_fail() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let script = "use Fcntl; socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
        bind($s, pack_sockaddr_un(\"s\")); listen($s, 0); my @kept; my $n = 0; \
        while (1) { socket(my $c, AF_UNIX, SOCK_STREAM, 0); \
          fcntl($c, F_SETFL, O_NONBLOCK); \
          connect($c, pack_sockaddr_un(\"s\")) or last; $n++; push @kept, $c } \
        print $!{EAGAIN} ? \"again\\n\" : \"$!\\n\"; \
        if (!fork) { select undef, undef, undef, 0.1; accept(my $a, $s) for 0..$n; exit } \
        socket(my $c, AF_UNIX, SOCK_STREAM, 0); \
        print connect($c, pack_sockaddr_un(\"s\")) ? \"connected\\n\" : \"$!\\n\"; \
        print fcntl($c, F_GETFL, 0) & O_NONBLOCK ? \"changed\\n\" : \"blocking\\n\"";
    assert_eq!(fixture.text(&perl(script)).await, "again\nconnected\nblocking\n");
    // Commands that wait forever do not keep others from connecting, and end with their time.
    let mut waiting = spec(&perl(
        "unlink \"w\"; socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un(\"w\")); \
         listen($s, 0); for (1..9) { next if fork; socket(my $c, AF_UNIX, SOCK_STREAM, 0); \
         connect($c, pack_sockaddr_un(\"w\")); sleep 100 } sleep 100",
    ));
    waiting.timeout = std::time::Duration::from_secs(2);
    let others = async {
        for _ in 0..10 {
            let script = "unlink \"o\"; serve(SOCK_STREAM, \"o\"); ask(SOCK_STREAM, \"o\")";
            assert_eq!(fixture.text(&perl(script)).await, "pong\n");
        }
    };
    let (waited, ()) = tokio::join!(fixture.sandbox.exec(waiting), others);
    assert_eq!(waited.unwrap().status, CommandStatus::TimedOut);
}

#[tokio::test]
async fn the_loopback_works_as_before() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let script = "use Fcntl; socket(my $s, AF_INET, SOCK_STREAM, 0); \
        bind($s, pack_sockaddr_in(0, INADDR_LOOPBACK)); listen($s, 9); my $at = getsockname($s); \
        socket(my $c, AF_INET, SOCK_STREAM, 0); \
        print connect($c, $at) ? \"connected\\n\" : \"$!\\n\"; \
        socket($c, AF_INET, SOCK_STREAM, 0); fcntl($c, F_SETFL, O_NONBLOCK); \
        print connect($c, $at) ? \"connected\\n\" : $!{EINPROGRESS} ? \"later\\n\" : \"$!\\n\"; \
        close $s; socket($c, AF_INET, SOCK_STREAM, 0); \
        print connect($c, $at) ? \"connected\\n\" : \"$!\\n\"; \
        socket($c, AF_INET, SOCK_STREAM, 0); \
        print connect($c, pack_sockaddr_in(80, inet_aton(\"1.1.1.1\"))) ? \"out\\n\" : \"$!\\n\"";
    let found = fixture.text(&perl(script)).await;
    assert_eq!(found, "connected\nlater\nConnection refused\nNetwork is unreachable\n");
}

/// Opens the fixture's session with a policy that also opens `dir` for writing.
fn opened(fixture: &Fixture, dir: &Path) -> NativeSandbox {
    let policy = Policy::session(&fixture.dir)
        .sessions_root(&fixture.root.join("sessions"))
        .home(&fixture.root)
        .allow_write(dir)
        .build()
        .unwrap();
    open(&policy, &fixture.dir)
}

#[tokio::test]
async fn no_path_leads_to_a_socket_of_the_host() {
    let fixture = fixture();
    let Some(dir) = directory_in_sight() else {
        return skipped("sockets of the host", NO_DIRECTORY_IN_SIGHT);
    };
    let dir = dir.path().canonicalize().unwrap();
    let sandbox = opened(&fixture, &dir);
    let streams = [dir.join("stream"), fixture.dir.join("stream")].map(|path| {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        (path, listener)
    });
    let datagrams = UnixDatagram::bind(dir.join("datagrams")).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    symlink(&dir, fixture.dir.join("way")).unwrap();
    symlink(dir.join("stream"), fixture.dir.join("link")).unwrap();
    let outside = dir.join("stream").display().to_string();
    for at in [
        outside.as_str(),
        "stream",
        "./stream",
        "way/stream",
        "link",
        "hard",
        "moved",
        "/proc/self/cwd/stream",
        "/proc/self/fd/9/stream",
        "/dev/fd/9/stream",
        "/proc/self/root/../stream",
        "/proc/thread-self/cwd/stream",
    ] {
        let prepare = format!(
            "exec 9< {}; ln -f stream hard; ln -f stream moved-too; mv moved-too moved;",
            dir.display()
        );
        for kind in ["SOCK_STREAM", "SOCK_SEQPACKET", "SOCK_DGRAM"] {
            let found =
                text(&sandbox, &format!("{prepare} {}", perl(&format!("reach({kind}, \"{at}\")"))))
                    .await;
            assert!(!found.contains("reached"), "{at} {kind}: {found}");
        }
    }
    // A datagram needs no connection.
    let datagram = format!(
        "socketpair(my $a, my $b, AF_UNIX, SOCK_DGRAM, 0); socket($a, AF_UNIX, SOCK_DGRAM, 0); \
         send($a, \"x\", 0, pack_sockaddr_un(\"{0}\")); socket($a, AF_UNIX, 3, 0); \
         send($a, \"x\", 0, pack_sockaddr_un(\"{0}\")); \
         socketpair($a, $b, AF_UNIX, SOCK_SEQPACKET, 0); \
         send($a, \"x\", 0, pack_sockaddr_un(\"{0}\"))",
        dir.join("datagrams").display()
    );
    text(&sandbox, &perl(&datagram)).await;
    assert!(datagrams.recv(&mut [0; 9]).is_err());
    for (path, listener) in &streams {
        assert!(listener.accept().is_err(), "{}", path.display());
    }
}

#[tokio::test]
async fn a_race_between_a_socket_of_the_session_and_one_of_the_host_is_lost() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let Some(dir) = directory_in_sight() else {
        return skipped("a race for a socket of the host", NO_DIRECTORY_IN_SIGHT);
    };
    let dir = dir.path().canonicalize().unwrap();
    let sandbox = opened(&fixture, &dir);
    let listener = UnixListener::bind(dir.join("host")).unwrap();
    listener.set_nonblocking(true).unwrap();
    // The name changes between a socket of the session and the one of the host, and so does the
    // address in the memory of the caller, and the file of the session's socket.
    let script = format!(
        "use Fcntl; my $host = \"{}/host\"; my $here = \"{}/own\"; \
         socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($here)); \
         listen($s, 4096); symlink $here, \"a\"; symlink $host, \"b\"; \
         my $racer = fork; if (!$racer) {{ while (1) {{ \
           syscall({}, -100, my $a = \"a\", -100, my $b = \"b\", 2) }} }} \
         my $got = 0; for (1..{}) {{ socket(my $c, AF_UNIX, SOCK_STREAM, 0); \
           fcntl($c, F_SETFL, O_NONBLOCK); $got++ if connect($c, pack_sockaddr_un(\"a\")) }} \
         kill 9, $racer; print $got > 0 ? \"own\\n\" : \"none\\n\"",
        dir.display(),
        dir.display(),
        crate::calls::number("renameat2"),
        repetitions(3000)
    );
    let found = text(&sandbox, &perl(&script)).await;
    assert_eq!(found, "own\n");
    assert!(listener.accept().is_err(), "the command reached the host");
    fs::remove_file(dir.join("host")).unwrap();
}

/// Runs a script of programs that Debian packages. Skips it if `program` is absent.
async fn check_program(program: &str, package: &str, script: &str, expected: &str) {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    if fixture.run(&format!("command -v {program}")).await.status != CommandStatus::Exited(0) {
        return skipped(program, &format!("package {package}"));
    }
    let found = fixture.text(&format!("export HOME=$PWD TMPDIR=/tmp; {script}")).await;
    assert!(found.contains(expected), "{found}");
}

#[tokio::test]
async fn python_managers_and_fork_servers_work() {
    const SCRIPT: &str = "cat > m.py <<'END'
import multiprocessing as m
def double(x): return x * 2
if __name__ == '__main__':
    with m.Manager() as manager:
        shared = manager.dict(); shared['a'] = 1; print(dict(shared))
    with m.get_context('forkserver').Pool(2) as pool: print(pool.map(double, [1, 2]))
END
/usr/bin/python3 m.py";
    check_program("/usr/bin/python3", "python3", SCRIPT, "{'a': 1}\n[2, 4]").await;
}

#[tokio::test]
async fn gpg_creates_a_key_and_signs() {
    let script = "mkdir -m 700 .gnupg; gpg --batch --quiet --passphrase '' --quick-gen-key me 2>&1 \
                  && echo text | gpg --batch --clearsign | gpg --verify 2>&1";
    check_program("gpg", "gnupg", script, "Good signature").await;
}

#[tokio::test]
async fn clients_of_tmux_reach_its_server() {
    // A window needs a terminal, which only a session of root has.
    let script = "export LC_ALL=C.UTF-8 TERM=screen; \
                  tmux -f /dev/null start-server \\; set-option -g exit-empty off \\; \
                  set-option -g status-left kept && tmux show-options -gv status-left";
    check_program("tmux", "tmux", script, "kept").await;
}

#[tokio::test]
async fn ssh_agent_keeps_a_key() {
    let script = "eval $(ssh-agent) > /dev/null; ssh-keygen -q -t ed25519 -N '' -C mine -f key; \
                  ssh-add -q key; ssh-add -l; kill $SSH_AGENT_PID";
    check_program("ssh-agent", "openssh-client", script, "mine (ED25519)").await;
}

#[tokio::test]
async fn postgresql_answers_on_its_socket() {
    let script = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; initdb -D d -A trust > log 2>&1 \
                  && pg_ctl -D d -w -l log2 -o \"-k $PWD -c listen_addresses=\" start > /dev/null \
                  && psql -h $PWD -Atc 'select 40 + 2' postgres; cat log log2; \
                  pg_ctl -D d -m immediate stop > /dev/null";
    if rustix::process::geteuid().is_root() {
        // The server refuses root; the rerun as an ordinary user tests it.
        return;
    }
    let program = "/usr/lib/postgresql/*/bin/initdb";
    check_program(program, "postgresql", script, "42\n").await;
}
