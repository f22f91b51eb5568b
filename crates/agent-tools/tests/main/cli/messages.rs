//! Messages of the command from which a person must know the next step.

use super::Cli;
use super::signals::sharing;

#[test]
fn a_lost_store_is_reported_with_commands_that_can_be_copied() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > f; echo 2 > g"]).ok();
    std::fs::remove_dir_all(store.join("logs")).unwrap();
    // The commands name the store of this command line.
    let command =
        |words: &str| format!("`agent-tools --store file://{}/ session {words}`", store.display());
    let (refill, discard) = (command("sync default --refill"), command("close default --discard"));
    for args in
        [&["bash", "true"][..], &["session", "sync", "default"], &["session", "close", "default"]]
    {
        let refused = cli.run(args);
        assert!(refused.code != 0, "{args:?}");
        for expected in [&refill, &discard] {
            assert!(refused.stderr.contains(&**expected), "{args:?}: {}", refused.stderr);
        }
    }
    let again = || cli.run(&["session", "sync", "default", "--refill"]).ok().stdout;
    assert_eq!(again(), "stored again  2 files\n");
    assert_eq!(again(), "nothing to do\n", "nothing is lost any more");
    assert_eq!(cli.run(&["session", "sync", "default"]).ok().stdout, "nothing to do\n");
}

#[test]
fn a_mass_removal_is_reported_with_the_command_that_confirms_it() {
    let cli = Cli::new();
    cli.run(&["bash", "touch f{1..60}"]).ok();
    std::fs::remove_dir_all(cli.home().join("store/user_local/sessions/default")).unwrap();
    let synced = cli.run(&["session", "sync", "default"]).ok();
    let expected = "`agent-tools session sync default --confirm-removals`";
    assert!(synced.stdout.contains(expected), "{}", synced.stdout);
}

#[test]
fn a_directory_may_end_with_a_slash_and_an_unknown_path_is_reported() {
    let cli = Cli::new();
    cli.run(&["bash", "mkdir -p data/empty; echo 1 > data/a"]).ok();
    let history = cli.run(&["session", "history", "default", "data/"]).ok().stdout;
    assert!(history.contains("data/a") && history.contains("data/empty/\n"), "{history}");
    cli.run(&["bash", "rm -r data"]).ok();
    let brought = cli.run(&["session", "undelete", "default", "data/"]).ok().stdout;
    assert!(brought.contains("restored   data/a\n"), "{brought}");
    let none = cli.run(&["session", "history", "default", "nope"]).ok();
    assert_eq!(none.stdout, "");
    assert_eq!(none.stderr, "agent-tools: no retained entry changed nope\n");
}

#[test]
fn an_empty_list_says_so_and_is_an_empty_array_in_json() {
    let cli = Cli::new();
    let check = |command: &[&str], expected: &str| {
        let ran = cli.run(command).ok();
        assert_eq!((&*ran.stdout, ran.stderr), ("", format!("agent-tools: {expected}\n")));
        let ran = cli.run(&[&["--json"], command].concat()).ok();
        assert_eq!((&*ran.stdout, &*ran.stderr), ("[]\n", ""), "{command:?}");
    };
    check(&["session", "list"], "no session is on this machine");
    let zoe = ["session", "list", "--user", "zoe"];
    check(&zoe, "no session of user zoe is on this machine");
    check(&["skill", "list"], "the store has no skill");
    check(&["variable", "list"], "no variable is set");
    cli.run(&["bash", "true"]).ok();
    check(&["logs", "--failed"], "no call of session default that is recorded here failed");
    check(&["session", "history", "default"], "the log of session default has no entry");
    check(&["session", "history", "default", "f"], "no retained entry changed f");
}

#[test]
fn sessions_are_listed_with_their_states_and_the_fields_of_show() {
    let cli = Cli::new();
    cli.run(&["bash", "--session", "a", "--user", "ann", "true"]).ok();
    for name in ["b", "c~restoring", "d~closing"] {
        std::fs::create_dir(cli.home().join("sessions").join(name)).unwrap();
    }
    let listed = cli.run(&["session", "list"]).ok().stdout;
    assert_eq!(listed, "a\nb (no state)\nc (restore not finished)\nd (close not finished)\n");
    let listed = cli.run(&["--json", "session", "list"]).ok().json();
    let states = ["complete", "unclaimed", "restoring", "closing"];
    for (listed, state) in listed.as_array().unwrap().iter().zip(states) {
        assert_eq!(listed["state"], state);
        let shown = cli.run(&["--json", "session", "show", listed["id"].as_str().unwrap()]);
        let shown = shown.ok().json();
        let own = ["created", "lastUsed", "bytes", "files"];
        let listed = listed.as_object().unwrap().iter();
        for (name, value) in listed.filter(|(name, _)| !own.contains(&name.as_str())) {
            assert_eq!(shown[name], *value, "{name}");
        }
    }
    assert_eq!(listed[0]["user"], "ann");
    cli.run(&["session", "close", "d"]).ok();
    assert!(!cli.run(&["session", "list"]).ok().stdout.contains("d ("));
}

#[test]
fn a_session_that_is_not_here_can_be_fetched() {
    let cli = Cli::new();
    for args in [&["show"][..], &["history"], &["gc"], &["delete", "--yes"], &["sync"]] {
        let none = cli.run(&[&["session"], args, &["other"]].concat());
        let expected = "`agent-tools bash --session other --user USER true`";
        assert!(none.code == 1 && none.stderr.contains(expected), "{args:?}: {}", none.stderr);
    }
}

#[test]
fn closing_names_conflicts_and_older_versions_of_ignored_files() {
    let (cli, _store) = sharing();
    cli.run(&["bash", "echo 1 > f; echo 1 > a.log; echo 1 > b"]).ok();
    let other = cli.sharing_its_store();
    other.run(&["bash", "echo 2 > f"]).ok();
    for name in ["f", "a.log", "c.log"] {
        std::fs::write(cli.home().join("sessions/default").join(name), "by hand\n").unwrap();
    }
    let closed = cli.run(&["--ignore", "+*.log", "session", "close", "default"]).ok();
    let expected = [
        "changed on both sides: f; the second version is kept as f.conflict-",
        "removed, the store has a version of it: a.log (1 file, 8 bytes): a rule ignores it",
        "removed without a copy: c.log (1 file, 8 bytes): a rule ignores it",
    ];
    for expected in expected {
        assert!(closed.stderr.contains(expected), "{expected}: {}", closed.stderr);
    }
}

#[test]
fn a_store_that_cannot_be_written_fails_the_check_of_the_machine() {
    let cli = Cli::new();
    assert_eq!(cli.run(&["--json", "doctor"]).json()["store"]["ok"], true);
    let probes = cli.home().join("store/probes");
    let _ = std::fs::remove_dir_all(&probes);
    std::fs::write(&probes, "").unwrap();
    let report = cli.run(&["--json", "doctor"]).json();
    assert_eq!((&report["store"]["ok"], &report["usable"]), (&false.into(), &false.into()));
    let detail = report["store"]["detail"].as_str().unwrap();
    assert!(detail.contains("cannot be written: "), "{detail}");
}

#[test]
fn the_address_of_an_owner_must_be_a_url() {
    let ran = Cli::new().run(&["--owner-url", "10.0.0.7", "session", "list"]);
    assert!(ran.code == 2 && ran.stderr.contains("http://10.0.0.7:8080"), "{}", ran.stderr);
}

#[test]
fn a_store_in_memory_is_announced_as_one_that_ends() {
    let cli = Cli::with_store("memory:///", &[]);
    let warning = "warning: memory:/// is memory of this process, so nothing in it stays\n";
    for args in [&["bash", "true"][..], &["doctor"], &["skill", "list"]] {
        let ran = cli.run(args).ok();
        assert_eq!(ran.stderr.matches(warning).count(), 1, "{args:?}: {}", ran.stderr);
    }
    assert!(!Cli::new().run(&["bash", "true"]).ok().stderr.contains("warning"));
}

/// Returns the examples in the help of a subcommand, and those of its own subcommands.
fn examples(cli: &Cli, command: &[&str]) -> Vec<String> {
    let help = cli.run(&[command, &["--help"]].concat()).ok().stdout;
    let mut found: Vec<String> =
        help.lines().filter_map(|line| line.trim().strip_prefix("$ ")).map(str::to_owned).collect();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        let name = line.strip_prefix("  ").and_then(|line| line.split(' ').next());
        if let Some(name) = name.filter(|name| !name.is_empty() && *name != "help") {
            found.extend(examples(cli, &[command, &[name]].concat()));
        }
    }
    found
}

#[test]
fn the_examples_of_the_help_work() {
    let cli = Cli::new();
    let examples = examples(&cli, &[]);
    assert!(examples.len() > 8, "{examples:?}");
    cli.write(".claude/settings.json", "{\"sandbox\": {\"enabled\": true}}");
    cli.write("greet/SKILL.md", "---\nname: greet\ndescription: d\n---\n");
    cli.write("report.csv", "1,2\n");
    cli.write("data/a.txt", "a\n");
    cli.write(".codex/config.toml", "sandbox_mode = \"workspace-write\"\n");
    cli.run(&["bash", "--session", "of-ann", "--user", "ann", "true"]).ok();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_agent-tools")).parent().unwrap();
    // A shell needs a terminal.
    for example in examples.iter().filter(|example| !example.starts_with("agent-tools shell")) {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", example]).current_dir(cli.dir()).env_clear();
        bash.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
        let ran = bash.env("HOME", cli.dir()).env("AGENT_TOOLS_HOME", cli.home()).output().unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{example}: {stderr}");
    }
}

#[test]
fn owners_of_a_store_that_only_this_home_uses_are_not_announced() {
    let cli = Cli::new();
    let said = cli.run(&["owners"]).ok();
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("only this home uses the store"), "{}", said.stderr);
    let (cli, _store) = sharing();
    let said = cli.run(&["owners"]).ok().stderr;
    assert_eq!(said, "agent-tools: no machine has a session of this store open\n");
}

#[test]
fn files_that_are_stored_again_are_counted_as_they_are_now() {
    let (cli, store) = sharing();
    cli.run(&["bash", "echo 1 > a; echo 2 > b; echo 3 > c"]).ok();
    std::fs::remove_dir_all(store.join("logs")).unwrap();
    // Its object stays in the store until the refill removes it.
    std::fs::remove_file(cli.home().join("sessions/default/c")).unwrap();
    std::fs::remove_file(store.join("user_local/sessions/default/c")).unwrap();
    let stored = cli.run(&["session", "sync", "default", "--refill", "--wait", "30"]).ok().stdout;
    assert!(stored.ends_with("stored again  2 files\n"), "{stored}");
}

#[test]
fn a_store_that_is_no_directory_is_named_as_such() {
    let cli = Cli::new();
    let store = cli.write("store", "").canonicalize().unwrap();
    let url = format!("file://{}", store.display());
    let refused = cli.run(&["--store", &url, "bash", "true"]);
    assert!(refused.stderr.contains("store: Not a directory"), "{}", refused.stderr);
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");
}

#[test]
fn failures_and_results_are_objects_with_json() {
    let cli = Cli::new();
    let absent = cli.run(&["--json", "policy", "check", "absent.json"]);
    assert_eq!(absent.code, 1);
    let error = absent.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("absent.json") && absent.stderr.contains(&error), "{error}");
    assert_eq!(cli.run(&["policy", "check", "absent.json"]).stdout, "");
    // A result with findings is the only output.
    let wrong = cli.write("wrong.json", "{}");
    assert_eq!(
        cli.run(&["--json", "policy", "check", wrong.to_str().unwrap()]).json()["valid"],
        false
    );

    cli.write("greet/SKILL.md", "---\nname: greet\ndescription: d\n---\n");
    std::fs::write(cli.dir().join("greet/raw"), [0xff, 0]).unwrap();
    cli.run(&["skill", "publish", "greet"]).ok();
    let show = |path: &str| cli.run(&["--json", "skill", "show", "greet", path]);
    assert_eq!(
        show("SKILL.md").ok().json()["content"].as_str().unwrap().lines().next(),
        Some("---")
    );
    let raw = show("raw").ok().json();
    assert_eq!((&raw["content"], &raw["encoding"]), (&"/wA=".into(), &"base64".into()));
    assert!(show("absent").json()["error"].as_str().unwrap().contains("absent"));
}

#[test]
fn a_request_that_cannot_begin_leaves_no_session() {
    let cli = Cli::new();
    for (args, code, expected) in [
        (&["cp", "absent", ":a"][..], 1, "cannot read absent"),
        (&["cp", "a", "b"], 2, "neither path is one of the session"),
        (&["session", "close", "--user", "zoe"], 1, "no session of user zoe is on this"),
        (&["logs", "-n", "0"], 2, "'0' for '--last <COUNT>'"),
    ] {
        let ran = cli.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");

    cli.run(&["bash", "echo 1 > f"]).ok();
    for path in ["d/", "d/."] {
        let ran = cli.run(&["write-file", path, "--content", "x"]);
        assert_eq!(ran.code, 1, "{path}");
        assert!(ran.stderr.contains("is the path of a directory"), "{path}: {}", ran.stderr);
    }
    let ran = cli.run(&["ls", "f/"]);
    assert!(ran.code == 1 && ran.stderr.contains("f/ is not a directory"), "{}", ran.stderr);
    for content in ["a [redacted:TOKEN]", "\0 [redacted:TOKEN]"] {
        let ran = cli.run_with(&["write-file", "g"], content);
        assert!(ran.code == 1 && ran.stderr.contains("only stands for"), "{}", ran.stderr);
    }
    let input = cli.dir().join("input");
    std::fs::write(&input, b"\xff [redacted:TOKEN]").unwrap();
    let mut command = cli.command(&["write-file", "g"]);
    let ran = command.stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stderr).contains("only stands for"), "{ran:?}");
    assert_eq!(cli.run(&["ls"]).ok().stdout, "f\n");

    cli.run(&["session", "delete", "default", "--yes"]).ok();
    for args in [&["ls"][..], &["cat", "f"], &["read-file", "f"], &["cp", ":f", "copy"]] {
        let ran = cli.run(args);
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.stderr.contains("has no session default"), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");
}
