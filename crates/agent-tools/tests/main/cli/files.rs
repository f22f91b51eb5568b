//! The subcommands for files, logs and the upkeep of sessions.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use super::Cli;
use crate::mcp::Server;

#[test]
fn files_are_listed_printed_and_copied_in_and_out() {
    let cli = Cli::new();
    cli.write("data/a.txt", "a\n");
    cli.write("data/d/run.sh", "echo ran\n");
    let script = cli.dir().join("data/d/run.sh");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../a.txt", cli.dir().join("data/d/link")).unwrap();

    let copied = cli.run(&["--json", "cp", "data", ":"]).ok().json();
    assert_eq!((copied["target"].as_str(), copied["entries"].as_u64()), (Some("data"), Some(4)));
    cli.run(&["cp", "data/a.txt", ":new/name.txt"]).ok();
    let ran = cli.run(&["bash", "data/d/run.sh; cat data/d/link new/name.txt"]).ok();
    assert!(ran.stdout.starts_with("ran\na\na\n"), "{}", ran.stdout);
    assert_eq!(cli.run(&["ls"]).ok().stdout, "data/\nnew/\n");
    let long = cli.run(&["ls", "--long", "data/d"]).ok().stdout;
    assert!(long.starts_with("l ") && long.contains("Z  run.sh\n"), "{long}");
    let json = cli.run(&["ls", "--json", "data"]).ok().json();
    assert_eq!((json[0]["name"].as_str(), json[0]["size"].as_u64()), (Some("a.txt"), Some(2)));
    assert_eq!(cli.run(&["cat", "data/a.txt", "new/name.txt"]).ok().stdout, "a\na\n");

    // The agent chooses the links of what is copied out.
    cli.run(&["bash", "ln -s /etc/passwd data/out; ln -s ../../.. data/d/up"]).ok();
    let out = cli.run(&["cp", ":data", "."]);
    assert!(out.stderr.contains("out: it is a symlink that leads out"), "{}", out.stderr);
    let out = cli.run(&["--json", "cp", ":data", "copy"]).ok().json();
    assert_eq!(out["omitted"].as_array().unwrap().len(), 2, "{out}");
    let at = |name: &str| cli.dir().join("copy").join(name);
    assert_eq!(std::fs::read_to_string(at("d/link")).unwrap(), "a\n");
    assert_eq!(at("d/run.sh").metadata().unwrap().permissions().mode() & 0o111, 0o111);
    assert!(at("out").symlink_metadata().is_err() && at("d/up").symlink_metadata().is_err());
    cli.run(&["cp", ":new/name.txt", "one.txt"]).ok();
    assert_eq!(std::fs::read_to_string(cli.dir().join("one.txt")).unwrap(), "a\n");

    symlink("/etc", cli.dir().join("data/etc")).unwrap();
    for (args, message) in [
        (&["cp", "data", ":"][..], "etc: it is a symlink that leads out"),
        (&["cp", "a", "b"], "such a path begins with a colon"),
        (&["cp", ":a", ":b"], "use `agent-tools bash"),
        (&["cp", "none", ":"], "cannot read none"),
        (&["cp", ":none", "."], "none"),
        (&["ls", "none"], "none"),
        (&["cat", "none"], "none"),
    ] {
        let ran = cli.run(args);
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn every_file_is_printed_although_one_before_it_cannot_be_read() {
    let cli = Cli::new();
    cli.run(&["bash", "echo a > a; echo b > b; mkdir d"]).ok();
    let ran = cli.run(&["cat", "none", "a", "d", "b"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "a\nb\n"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("agent-tools: ").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("none") && ran.stderr.contains("directory"), "{}", ran.stderr);

    let ran = cli.run(&["--json", "cat", "none", "a"]);
    let outputs = ran.json();
    assert!(outputs[0]["error"].as_str().unwrap().contains("none"), "{outputs}");
    assert_eq!((ran.code, &outputs[1]["content"]), (1, &"a\n".into()), "{outputs}");
    assert!(cli.run(&["--json", "cat", "none"]).json()["error"].is_string());
}

#[test]
fn a_copy_replaces_regular_files_only_and_keeps_their_mode_and_owner() {
    let cli = Cli::new();
    cli.run(&["write-file", "a.txt", "--content", "new"]).ok();
    let at = |name: &str| cli.dir().join(name);
    cli.write("old.txt", "old");
    std::fs::set_permissions(at("old.txt"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let can_give = std::os::unix::fs::chown(at("old.txt"), Some(12), Some(34)).is_ok();
    cli.run(&["cp", ":a.txt", "old.txt"]).ok();
    let kept = at("old.txt").metadata().unwrap();
    assert_eq!(std::fs::read_to_string(at("old.txt")).unwrap(), "new");
    assert_eq!(kept.mode() & 0o7777, 0o640);
    assert!(!can_give || (kept.uid(), kept.gid()) == (12, 34), "{kept:?}");

    let fifo = at("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    symlink("old.txt", at("link")).unwrap();
    for (target, found) in [
        ("fifo", "fifo is a FIFO, not a regular file"),
        ("link", "link is a symlink, not a regular file; name the file"),
        ("/dev/full", "/dev/full is a device, not a regular file"),
        ("none/", "cannot write none/: "),
    ] {
        let refused = cli.run(&["cp", ":a.txt", target]);
        assert!(refused.code == 1 && refused.stderr.contains(found), "{}", refused.stderr);
    }
    assert!(fifo.metadata().unwrap().file_type().is_fifo() && at("link").is_symlink());
    let left = std::fs::read_dir(cli.dir()).unwrap();
    assert!(!left.into_iter().any(|name| name.unwrap().path().extension() == Some("new".as_ref())));
}

#[test]
fn a_copy_that_would_be_lost_or_copies_nothing_fails_and_every_copy_is_recorded() {
    let cli = Cli::new();
    cli.write("a.txt", "a");
    let lost = "/tmp ends with this process; use the session directory";
    for args in
        [&["cp", "a.txt", ":/tmp/x"][..], &["cp", "a.txt", ":/tmp"], &["write-file", "/tmp/x"]]
    {
        let refused = cli.run(args);
        assert!(refused.code == 1 && refused.stderr.contains(lost), "{}", refused.stderr);
    }
    let none = cli.run(&["cp", "/dev/null", ":q"]);
    assert!(none.code == 1 && none.stderr.contains("/dev/null is a FIFO"), "{}", none.stderr);
    assert_eq!(none.stdout, "");
    cli.run(&["cp", "a.txt", ":"]).ok();
    cli.run(&["bash", "mkdir d"]).ok();
    cli.run(&["cp", ":a.txt", "b.txt"]).ok();
    let onto_file = cli.run(&["cp", ":d", "b.txt"]).stderr;
    assert!(onto_file.contains("the target b.txt is a symlink or a file"), "{onto_file}");
    let logs = cli.run(&["logs"]).ok().stdout;
    assert!(logs.contains("importTar: .\n") && logs.contains("exportTar: a.txt\n"), "{logs}");

    let mut server = Server::start_with(&cli, &["mcp"]);
    server.call("bash", serde_json::json!({ "command": "true" }));
    cli.run(&["cp", "a.txt", ":/tmp/x"]).ok();
    assert_eq!(cli.run(&["cat", "/tmp/x"]).ok().stdout, "a");
}

#[test]
fn no_copy_has_a_link_that_leads_out_or_is_written_through_a_link() {
    let cli = Cli::new();
    cli.write("hostd/secret.txt", "secret");
    let script = "mkdir -p ex/1/2/3 ex/d; cd ex; ln -s ../../.. 1/2/3/s; ln -s lib.1 lib; \
                  echo 1 > lib.1; ln -s 1/2/3/s/../../hostd/secret.txt report.txt; \
                  ln -s 1/2/3/s/hostd/secret.txt through; ln -s ../hostd out; echo f > d/f";
    cli.run(&["bash", script]).ok();
    let copied = cli.run(&["--json", "cp", ":ex", "copy"]).ok().json();
    let omitted = copied["omitted"].to_string();
    for note in ["report.txt", "with `..` after a name", "through another", "that leads out"] {
        assert!(omitted.contains(note), "{note}: {omitted}");
    }
    let at = |name: &str| cli.dir().join("copy").join(name);
    for link in ["report.txt", "through", "out"] {
        assert!(!at(link).is_symlink(), "{link}");
    }
    assert_eq!(std::fs::read_to_string(at("lib")).unwrap(), "1\n");
    assert!(at("1/2/3/s").is_symlink());

    // The target may have links of its own.
    std::fs::create_dir(at("ex")).unwrap();
    symlink("../../hostd", at("ex/d")).unwrap();
    let refused = cli.run(&["cp", ":ex", "copy"]);
    let problem = "d is a symlink in the place of a directory";
    assert!(refused.code == 1 && refused.stderr.contains(problem), "{}", refused.stderr);
    assert!(!cli.dir().join("hostd/f").exists());

    cli.write("in/d/f", "f");
    symlink("d/../d/f", cli.dir().join("in/back")).unwrap();
    symlink("d", cli.dir().join("in/e")).unwrap();
    symlink("e/f", cli.dir().join("in/through")).unwrap();
    let refused = cli.run(&["cp", "in", ":"]);
    for note in ["back: it is a symlink with `..`", "through: it is a symlink that passes through"]
    {
        assert!(refused.code == 1 && refused.stderr.contains(note), "{}", refused.stderr);
    }
}

#[test]
fn calls_are_logged_with_their_codes_and_denials_and_without_secrets() {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "TOKEN"], "a-secret-of-some-length").ok();
    assert_eq!(cli.run(&["variable", "get", "TOKEN"]).ok().stdout, "a-secret-of-some-length\n");
    let missing = cli.run(&["variable", "get", "NONE"]);
    assert!(missing.code == 1 && missing.stderr.contains("no variable NONE"));

    cli.run(&["bash", "echo a-secret-of-some-length; cat /etc/shadow; exit 3"]);
    cli.run(&["--no-redact", "write-file", "f", "--content", "x"]).ok();
    cli.run(&["cat", "none"]);
    let calls = cli.run(&["logs", "--json"]).ok().json();
    assert_eq!(calls[0]["subject"], "echo [redacted:TOKEN]; cat /etc/shadow; exit 3");
    assert_eq!((calls[0]["call"].as_str(), calls[0]["exitCode"].as_i64()), (Some("bash"), Some(3)));
    assert!(calls[0]["hint"].as_str().unwrap().starts_with("read /etc/shadow: "));
    assert_eq!((calls[1]["call"].as_str(), calls[1].get("error")), (Some("writeFile"), None));
    assert!(calls[2]["error"].as_str().unwrap().contains("none"));
    let failed = cli.run(&["logs", "--failed"]).ok().stdout;
    assert!(failed.contains("exit 3    bash: echo [redacted:TOKEN]"), "{failed}");
    assert!(failed.contains("hint: read /etc/shadow") && !failed.contains("writeFile"));
    let last = cli.run(&["logs", "default", "-n", "1"]).ok().stdout;
    assert!(last.contains("readFile: none") && !last.contains("bash"), "{last}");

    let required = cli.run(&["bash", "--require-variable", "TOKEN,OTHER", "touch ran"]);
    assert_eq!(required.code, 125);
    assert!(required.stderr.contains("no value: OTHER (not set)"), "{}", required.stderr);
    assert_eq!(cli.run(&["ls"]).ok().stdout, "f\n");
}

#[test]
fn sessions_are_listed_closed_by_user_and_pruned() {
    let cli = Cli::new();
    for (session, user) in [("a", "ann"), ("b", "ann"), ("c", "bob")] {
        cli.run(&["bash", "--session", session, "--user", user, "echo 1 > f"]).ok();
    }
    let listed = cli.run(&["session", "list", "--json", "--user", "bob"]).ok().json();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["files"].as_u64()), (1, Some(1)));
    assert!(listed[0]["lastUsed"].as_str() >= listed[0]["created"].as_str());
    assert!(listed[0]["pending"].as_array().unwrap().is_empty(), "{listed}");
    let table = cli.run(&["session", "list", "--long"]).ok().stdout;
    assert!(table.starts_with("SESSION ") && table.contains("s ago"), "{table}");

    let other = cli.run(&["session", "close", "c", "--user", "ann"]);
    assert!(other.code == 1 && other.stderr.contains("does not belong to user ann"));
    assert_eq!(cli.run(&["session", "close"]).code, 2);
    assert_eq!(cli.run(&["session", "close", "--user", "ann"]).ok().stdout, "closed a\nclosed b\n");

    assert!(cli.run(&["prune", "--unused-for", "1h"]).ok().stderr.contains("nothing to remove"));
    let dry = cli.run(&["prune", "--unused-for", "0s", "--dry-run"]).ok().stdout;
    assert_eq!(dry, "would be closed: c\n");
    std::fs::create_dir(cli.home().join("sessions/d~closing")).unwrap();
    let pruned = cli.run(&["prune", "--unused-for", "0s", "--json"]).ok().json();
    assert_eq!(pruned["closed"][0]["closed"], "c");
    assert_eq!(pruned["finished"], serde_json::json!(["d"]));
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");
}
