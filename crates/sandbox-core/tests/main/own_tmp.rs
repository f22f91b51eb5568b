//! The session's own `/tmp`, which the host reaches too.

use std::sync::Mutex;

use sandbox_core::{FileErrorKind, RelativePath, Sandbox};

use crate::fixture::{fixture, spec, without_namespaces};

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

#[tokio::test]
async fn the_host_and_commands_share_the_files_of_tmp() {
    let fixture = fixture();
    let Some(tmp) = fixture.sandbox.own_tmp() else { return assert!(without_namespaces()) };
    tmp.write(&path("a/s.sh"), b"echo from the host").unwrap();
    assert_eq!(fixture.text("bash /tmp/a/s.sh; echo made > /tmp/made").await, "from the host\n");
    assert_eq!(tmp.read(&path("made"), 100).unwrap(), b"made\n");
    tmp.write(&path("made"), b"twice").unwrap();
    assert_eq!(fixture.text("cat /tmp/made; ls /tmp/.agent* 2>/dev/null").await, "twice");
    assert_eq!(fixture.again().text("ls /tmp/made /tmp/a 2>&1 | wc -l").await, "2\n");
    let on_host = std::path::Path::new("/tmp/made");
    assert!(!on_host.exists(), "the host's /tmp has no such file");
}

#[tokio::test]
async fn nothing_but_regular_files_of_the_mount_is_reached() {
    let fixture = fixture();
    let Some(tmp) = fixture.sandbox.own_tmp() else { return };
    // The session directory lies in /tmp of the host, so it is mounted there.
    let inside = fixture.dir.strip_prefix("/tmp").map(|dir| dir.join("f"));
    std::fs::write(fixture.dir.join("f"), "of the session").unwrap();
    fixture
        .text(
            "cd /tmp; mkfifo fifo; mkdir d; ln -s /etc/passwd out; ln -s ../etc/passwd up; \
             ln -s /proc/self/root magic; ln -s d/real in; echo real > d/real; ln -s / root",
        )
        .await;
    for name in ["out", "up", "magic/etc/passwd", "root/etc/passwd"] {
        let kind = tmp.read(&path(name), 100).unwrap_err().kind();
        assert_eq!(kind, FileErrorKind::Escapes, "{name}");
        let kind = tmp.write(&path(name), b"x").unwrap_err().kind();
        assert_eq!(kind, FileErrorKind::Escapes, "{name}");
    }
    for name in ["fifo", "d"] {
        assert_eq!(tmp.read(&path(name), 100).unwrap_err().kind(), FileErrorKind::NotAFile);
        assert_eq!(tmp.write(&path(name), b"x").unwrap_err().kind(), FileErrorKind::NotAFile);
    }
    if let Ok(inside) = inside {
        let inside = path(inside.to_str().unwrap());
        let kind = tmp.read(&inside, 100).unwrap_err().kind();
        assert_eq!(kind, FileErrorKind::Escapes, "a mount below /tmp");
    }
    assert_eq!(tmp.read(&path("in"), 100).unwrap(), b"real\n");
}

#[tokio::test]
async fn pieces_of_the_output_arrive_before_the_command_exits() {
    let fixture = fixture();
    let (seen, ended) = (Mutex::new(Vec::new()), tokio::sync::Notify::new());
    let stop = ended.notified();
    let watch = |piece: &[u8]| {
        seen.lock().unwrap().extend_from_slice(piece);
        // Ends the command, which would sleep for much longer than the test may take.
        ended.notify_one();
    };
    let ran = fixture.sandbox.exec_watched(spec("echo early; sleep 50"), stop, &watch).await;
    assert_eq!(ran.unwrap().stdout.bytes, b"early\n");
    assert_eq!(*seen.lock().unwrap(), b"early\n");
    fixture.sandbox.close().await;
}
