//! The places and parts of files that the file tools reach.

use std::sync::Arc;

use agent_tools::{
    ByteRange, ErrorKind, FindOptions, GrepOptions, LineRange, Tier, ToolError, Weakness,
};
use serde_json::json;

use crate::fixture::{Fixture, Token, spec};

#[tokio::test]
async fn tmp_is_one_place_for_commands_and_tools() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let written = session.write_file("/tmp/d/s.sh", b"echo from the tool").await.unwrap();
    assert_eq!((written.path.as_str(), written.note.as_deref()), ("/tmp/d/s.sh", None));
    assert!(written.key.is_none() && written.pending.is_none(), "it is no artifact");
    let ran = session.bash("bash /tmp/d/s.sh && echo made > /tmp/made").await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.artifacts.len()), ("from the tool\n", 0), "{ran:?}");
    for path in ["/tmp/made", "//tmp/./d/../made"] {
        assert_eq!(session.read_file(path).await.unwrap().content, "made\n", "{path}");
    }
    // The session directory has a `tmp` of its own.
    session.write_file("tmp/made", b"of the session").await.unwrap();
    assert_eq!(session.read_file("/tmp/made").await.unwrap().content, "made\n");
    let inside = session.dir().join("tmp/made");
    let read = session.read_file(inside.to_str().unwrap()).await.unwrap();
    assert_eq!(read.content, "of the session", "{inside:?} is of the session, although in /tmp");
    let other = fixture.open("s2").await;
    let missing = other.read_file("/tmp/made").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().starts_with("cannot open /tmp/made: "), "{}", missing.message());
}

#[tokio::test]
async fn a_file_that_is_written_through_a_symlink_is_stored_under_its_own_name() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("mkdir -p real; ln -s real dir; ln -s real/g link").await.unwrap();
    for (path, name) in [("dir/f", "/real/f"), ("link", "/real/g")] {
        let written = session.write_file(path, b"x").await.unwrap();
        let key = written.key.unwrap();
        assert!(key.ends_with(name) && written.entry.is_some(), "{path}: {key}");
    }
    let home = session.write_file("~/x", b"").await.unwrap();
    assert!(home.note.unwrap().ends_with("/~/x for this tool: only a shell replaces ~"));
}

#[tokio::test]
async fn nothing_else_is_reached_through_tmp() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session
        .bash("cd /tmp; mkfifo fifo; ln -s /etc/passwd out; ln -s / root; ln -s . here")
        .await
        .unwrap();
    for path in ["/tmp/out", "/tmp/root/etc/passwd"] {
        let error = session.read_file(path).await.unwrap_err();
        assert!(matches!(error, ToolError::LeavesTmp { .. }), "{error}");
        let error = session.write_file(path, b"x").await.unwrap_err();
        assert!(error.message().starts_with(path), "{}", error.message());
    }
    let error = session.read_file("/tmp/fifo").await.unwrap_err().message();
    assert_eq!(error, "/tmp/fifo is a FIFO, not a regular file");
    for path in ["/tmp", "/tmp/", "/tmp/x/.."] {
        let error = session.read_file(path).await.unwrap_err().message();
        assert!(error.contains("is a directory, not a file"), "{error}");
    }
    session.write_file("/tmp/here/f", b"1").await.unwrap();
    assert_eq!(session.bash("cat /tmp/f").await.unwrap().stdout, "1");
    let full = session.write_file("/tmp/large", &vec![0; 600 << 20]).await.unwrap_err();
    assert!(full.message().starts_with("cannot write /tmp/large: "), "{}", full.message());
}

#[tokio::test]
async fn the_landlock_tier_refuses_tmp_and_names_its_directory() {
    let accepted = vec![Weakness::Signals];
    let fixture = Fixture::with(|builder| builder.tier(Tier::Landlock { accepted }));
    let session = match fixture.sessions.open(spec("s1")).await {
        Ok(session) => session,
        Err(_) => return testkit::skipped("files of the Landlock tier", "Linux 6.2 with Landlock"),
    };
    let read = session.read_file("/tmp/f").await.unwrap_err().message();
    let written = session.write_file("/tmp/f", b"x").await.unwrap_err().message();
    for message in [read, written] {
        assert!(message.contains("/tmp/f cannot be reached: "), "{message}");
        assert!(message.contains("the files of $TMPDIR, which commands have"), "{message}");
    }
    session.bash("seq 1 20000").await.unwrap();
    let kept = session.bash("wc -l < $TMPDIR/.agent-tools/output/1.txt").await.unwrap();
    assert_eq!(kept.command_stdout(), "20000\n", "{}", kept.stderr);
}

#[tokio::test]
async fn another_leading_slash_is_the_session_directory_and_the_texts_say_so() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let dir = session.dir().display();
    let missing = session.read_file("/etc/os-release").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let message = missing.message();
    let names_both = format!("/etc/os-release is {dir}/etc/os-release for this tool, ");
    assert!(message.starts_with(&names_both), "{message}");
    assert!(message.contains("`cat /etc/os-release` reads the one of the system"), "{message}");
    assert_eq!(session.bash("cat /etc/os-release").await.unwrap().exit_code, 0);
    for path in ["/etc/nothing", "/etc/shadow", "/notes.txt"] {
        let message = session.read_file(path).await.unwrap_err().message();
        assert!(message.contains("for this tool") && !message.contains("cat "), "{message}");
    }
    let (mut searched, mut listed) = (GrepOptions::new("x"), FindOptions::default());
    searched.path = Some("/etc/os-release".to_owned());
    listed.path = Some("/usr/lib".to_owned());
    for (error, command) in [
        (session.search_files(&searched).await.unwrap_err(), "cat /etc/os-release"),
        (session.find_files(&listed).await.unwrap_err(), "ls /usr/lib"),
        (session.stat("/usr/lib").await.unwrap_err(), "ls /usr/lib"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = error.message();
        let text = format!("`{command}` reads the one of the system");
        assert!(message.contains(" for this tool, ") && message.contains(&text), "{message}");
    }
    let written = session.write_file("/etc/x", b"1").await.unwrap();
    assert_eq!(written.path, format!("{dir}/etc/x"));
    let note = format!("/etc/x is {dir}/etc/x for this tool: it cannot reach files of the system");
    assert_eq!(written.note.as_ref(), Some(&note));
    assert!(written.notes().contains(&note) && written.text().contains(&note));
    let inside = session.dir().join("etc/x");
    let again = session.write_file(inside.to_str().unwrap(), b"2").await.unwrap();
    assert_eq!(again.note, None);
    assert_eq!(session.read_file("/etc/x").await.unwrap().content, "2");
}

#[tokio::test]
async fn errors_show_the_path_as_it_was_written() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("mkdir d; ln -s loop loop; ln -s /etc/passwd out").await.unwrap();
    for (path, message) in [
        ("./d/../nothing", "cannot open ./d/../nothing: "),
        ("./d", "./d is a directory, not a regular file"),
        ("./out", "./out leads out of the session directory through a symlink"),
        ("./loop", "./loop leads into a loop of symlinks"),
        ("./loop/f", "./loop/f leads into a loop of symlinks"),
    ] {
        let error = session.read_file(path).await.unwrap_err();
        assert!(error.message().starts_with(message), "{error}");
    }
    let error = session.write_file("./loop", b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.message(), "./loop leads into a loop of symlinks");
    let error = session.write_file("./d", b"x").await.unwrap_err().message();
    assert_eq!(error, "./d is a directory, not a regular file");
}

#[tokio::test]
async fn a_file_that_was_written_can_be_read_by_ranges() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let mut content = b"first line\n".repeat(4 << 20);
    content.extend(b"last line");
    session.write_file("large", &content).await.unwrap();
    let whole = session.read_file("large").await.unwrap_err().message();
    assert!(whole.contains("large has 46137353 bytes; at most 33554432 are read"), "{whole}");
    let lines = LineRange { first: (4 << 20) + 1, last: None };
    let last = session.read_file_lines("large", Some(lines)).await.unwrap();
    assert_eq!((last.content.as_str(), last.total_lines), ("last line", Some(lines.first)));
    let start = content.len() as u64 - 4;
    let end = session.read_file_bytes("large", ByteRange { start, end: None }).await.unwrap();
    assert_eq!((end.content.as_str(), end.next_byte), ("line", None));
    let shown = session.call("readFile", json!({ "path": "large" })).await.unwrap();
    assert_eq!((&shown["nextLine"], &shown["totalLines"]), (&json!(2728), &json!(lines.first)));
    for (input, problem) in [
        (json!({ "path": "./large", "startLine": 0 }), "startLine must be at least 1; "),
        (json!({ "path": "./large", "startLine": 9_000_000 }), "startLine 9000000 is past the end"),
    ] {
        let error = session.call("readFile", input).await.unwrap_err().message();
        assert!(error.starts_with(&format!("readFile: ./large: {problem}")), "{error}");
        assert!(error.ends_with("the file has 4194305 lines"), "{error}");
    }
}

#[tokio::test]
async fn long_output_is_kept_whole_without_values_and_both_tools_read_it() {
    let fixture = Fixture::with(|builder| builder.variables(Arc::new(Token)).max_output(1_000));
    let session = fixture.open("s1").await;
    let ran = session.bash("seq 1 20000; echo $TOKEN; seq 1 1000; seq 5 9 >&2").await.unwrap();
    assert_eq!((ran.stdout_file.as_deref(), ran.stderr_file), {
        (Some("/tmp/.agent-tools/output/1.txt"), None)
    });
    assert!(ran.stdout.starts_with("1\n2\n") && ran.stdout.ends_with("\n999\n1000\n"));
    let note = "characters removed; all of it is in /tmp/.agent-tools/output/1.txt while the \
                session is open]";
    assert!(ran.stdout.contains(note), "{}", ran.stdout);
    assert!(ran.stdout.encode_utf16().count() < 1_200 && ran.artifacts.is_empty());
    assert_eq!(ran.redacted, ["TOKEN"]);
    let file = ran.stdout_file.unwrap();
    let counts = "f=/tmp/.agent-tools/output/1.txt; wc -l < $f; grep -c hunter $f; grep -n red $f";
    let seen = session.bash(counts).await.unwrap();
    assert_eq!(seen.stdout, "21001\n0\n20001:[redacted:TOKEN]\n");
    let lines = LineRange { first: 20_000, last: Some(20_001) };
    let read = session.read_file_lines(&file, Some(lines)).await.unwrap();
    assert_eq!((read.content.as_str(), read.total_lines), {
        ("20000\n[redacted:TOKEN]\n", Some(21_001))
    });
    let both = session.bash("seq 1 20000; seq 1 30000 >&2").await.unwrap();
    assert_eq!(both.stderr_file.as_deref(), Some("/tmp/.agent-tools/output/3.txt"));
}
