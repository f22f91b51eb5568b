//! Opening and closing a session's network, and connections from the host into the session.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use sandbox_core::internal::BestCapture;
use sandbox_core::{Capture, NetworkError, NetworkErrorKind, Sandbox};

use super::{WithNetwork, answer_with_destination, reach, text, without_network};
use crate::fixture::{eventually, fixture, spec, without_namespaces};

#[tokio::test]
async fn a_network_opens_once() {
    if without_namespaces() {
        return;
    }
    let (_fixture, sandbox) = without_network(BestCapture::EveryPort);
    assert_eq!(text(&sandbox, &reach("93.184.216.34", 80)).await, "Network is unreachable");
    let listeners = sandbox.open_network(&[]).await.unwrap();
    let error = sandbox.open_network(&[]).await.unwrap_err();
    assert_eq!(error.kind(), NetworkErrorKind::AlreadyOpen);
    drop(listeners);
    let error = sandbox.open_network(&[]).await.unwrap_err();
    assert_eq!(error.kind(), NetworkErrorKind::AlreadyOpen);
    sandbox.close().await;
    let error = sandbox.open_network(&[]).await.unwrap_err();
    assert_eq!(error.kind(), NetworkErrorKind::Ended, "{error}");
    assert_eq!(sandbox.dial(80).await.unwrap_err().kind(), NetworkErrorKind::Ended);
}

#[tokio::test]
async fn a_session_without_namespaces_says_why_it_has_no_network() {
    if !without_namespaces() {
        return;
    }
    let fixture = fixture();
    let error = fixture.sandbox.open_network(&[]).await.unwrap_err();
    assert_eq!(error.kind(), NetworkErrorKind::Unsupported);
    assert!(error.to_string().contains("Tier::Namespaces"), "{error}");
    assert_eq!(fixture.sandbox.dial(80).await.unwrap_err().kind(), NetworkErrorKind::Unsupported);
    let report = fixture.sandbox.report().capture.to_string();
    assert!(report.contains("use the engine `native`"), "{report}");
}

#[tokio::test]
async fn a_network_opens_while_commands_run() {
    if without_namespaces() {
        return;
    }
    let (fixture, sandbox) = without_network(BestCapture::EveryPort);
    // The shell waits for a network that it did not have when it started.
    let retry = "until exec 3<>/dev/tcp/127.0.0.1/3128; do :; done 2>/dev/null; read -u 3 line; \
                 echo $line";
    let (output, ()) = tokio::join!(sandbox.exec(spec(&format!("touch up; {retry}"))), async {
        while !fixture.dir.join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answer_with_destination(&sandbox.open_network(&[]).await.unwrap().proxy);
    });
    assert_eq!(output.unwrap().stdout.bytes, b"127.0.0.1:3128\n");
}

#[tokio::test]
async fn two_sessions_have_their_own_listeners() {
    let (Some(first), Some(second)) =
        (WithNetwork::captured().await, WithNetwork::captured().await)
    else {
        return;
    };
    answer_with_destination(second.transparent());
    first.transparent().set_nonblocking(true).unwrap();
    assert_eq!(second.text(&reach("192.0.2.1", 80)).await, "192.0.2.1:80");
    assert!(first.transparent().accept().is_err());
}

/// Runs a server on an address of the session's loopback while the test dials it. The server says
/// where it was reached, and answers a line.
async fn check_dial(address: &str) {
    let (fixture, sandbox) = without_network(BestCapture::EveryPort);
    let (family, listen) = super::packed(address, 8123);
    let server = super::perl(&format!(
        "socket(my $l, {family}, SOCK_STREAM, 0); bind($l, {listen}) or die $!; listen($l, 5); \
         open(my $f, \">\", \"up\"); accept(my $s, $l); my $line = <$s>; \
         syswrite($s, \"got $line\"); sleep 60"
    ));
    let stop = async {
        let error = sandbox.dial(8124).await.unwrap_err();
        assert!(matches!(&error, NetworkError::Dial { port: 8124, source }
            if source.kind() == std::io::ErrorKind::ConnectionRefused));
        while !fixture.dir.join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut stream = sandbox.dial(8123).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip().to_string(), address);
        writeln!(stream, "hello").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"got hello\n");
    };
    let output = sandbox.exec_until(spec(&server), stop).await.unwrap();
    assert_eq!(output.stderr.bytes, b"");
}

#[tokio::test]
async fn the_host_connects_to_a_server_of_the_session() {
    if without_namespaces() {
        return;
    }
    check_dial("127.0.0.1").await;
    check_dial("::1").await;
}

/// Returns the sockets among the descriptors of a process, and its capabilities.
fn sockets_and_capabilities(pid: u32) -> (usize, u64) {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_socket = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    (links.filter(is_socket).count(), u64::from_str_radix(permitted, 16).unwrap())
}

#[tokio::test]
async fn init_keeps_neither_listeners_nor_what_opens_them() {
    // Init is not dumpable, so an ordinary user cannot see its descriptors.
    if without_namespaces() || !rustix::process::geteuid().is_root() {
        return;
    }
    let (_fixture, sandbox) = without_network(BestCapture::EveryPort);
    let (before, all) = sockets_and_capabilities(sandbox.init_pid());
    let listeners = sandbox.open_network(&[]).await.unwrap();
    // The socket to the packet filter is closed, which some kernels do not have.
    // CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST and CAP_NET_RAW are gone.
    let sockets = before - usize::from(listeners.capture == Capture::EveryPort);
    let expected = (sockets, all & !(1 << 10 | 1 << 11 | 1 << 13));
    let pid = sandbox.init_pid();
    eventually("init has less", || sockets_and_capabilities(pid) == expected).await;
    drop(listeners);
}
