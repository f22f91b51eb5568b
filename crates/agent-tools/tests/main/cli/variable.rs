//! The subcommand `variable`, and variables in sessions.

use super::Cli;
use crate::mcp::Server;
use crate::terminal::{PROMPT, Setting, Terminal};

#[test]
fn variables_reach_the_command_and_are_never_printed() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "a passphrase")]);
    cli.run_with(&["variable", "set", "API_KEY", "--encrypted"], "hidden value\n").ok();
    cli.run_with(&["variable", "set", "PLAIN"], "shown").ok();
    let list = cli.run(&["variable", "list"]).ok();
    assert_eq!(list.stdout, "API_KEY (encrypted)\nPLAIN\n");
    assert_eq!(
        cli.run(&["--no-redact", "bash", "echo \"$API_KEY|$PLAIN|$AGENT_TOOLS_SECRET\""])
            .ok()
            .stdout,
        "hidden value|shown|\n"
    );
    let database = std::fs::read(cli.home().join("agent-tools.db")).unwrap();
    assert!(!database.windows(12).any(|bytes| bytes == b"hidden value"));
    cli.run(&["variable", "remove", "PLAIN"]).ok();
    assert_eq!(cli.run(&["bash", "echo \"[$PLAIN]\""]).ok().stdout, "[]\n");
    assert_eq!(cli.run(&["variable", "remove", "PLAIN"]).code, 1);
    for name in ["1A", "A B", "A-B", "", "É"] {
        let set = cli.run_with(&["variable", "set", name], "x");
        let reason = "is no name of a variable for shells";
        assert!(set.code == 2 && set.stderr.contains(reason), "{name}: {}", set.stderr);
    }
    for name in ["LD_PRELOAD", "PATH", "EDITOR", "npm_config_node_options"] {
        let set = cli.run_with(&["variable", "set", name], "x");
        assert!(set.code == 1 && set.stderr.contains("could hijack"), "{name}: {}", set.stderr);
    }
}

#[test]
fn hosts_of_a_variable_are_checked_listed_and_kept() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "a passphrase")]);
    let set = |options: &[&str], value: &str| {
        cli.run_with(&[&["variable", "set", "KEY", "--encrypted"], options].concat(), value)
    };
    for (options, value, problem) in [
        (&["--host", "a b"][..], "long enough", "a b"),
        (&["--host", "https://a.test"], "long enough", "write a.test:443"),
        (&["--host", "*.203.0.113.7"], "long enough", "write 203.0.113.7"),
        (&["--host", "*.github.io"], "long enough", "different owners"),
        (&["--host", "localhost:80"], "long enough", "each session has a loopback of its own"),
        (&["--host", "host.internal"], "long enough", "servers of the host are NAME.host.internal"),
        (&["--host", "198.18.1.0:443"], "long enough", "an address that stands for a name"),
        (&["--host", "a.test"], "short", "fewer than 6 bytes"),
        (&["--in", "body"], "long enough", "--host"),
        (&["--host", "a.test", "--in", "path"], "long enough", "path"),
    ] {
        let refused = set(options, value);
        assert_eq!(refused.code, 2, "{options:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
    set(&["--host", "a.test", "--host", "*.github.io", "--allow-shared-domains"], "first value")
        .ok();
    // A placeholder is no URL, so a program could not use it as one.
    let warned = |value: &str| set(&[], value).ok().stderr.contains("is a URL, and commands get");
    assert!(warned("https://ann:first@a.test/simple"));
    // A new value stays masked.
    assert!(!warned("second value"));
    let list = || cli.run(&["--json", "variable", "list"]).ok().json()[0].clone();
    assert_eq!(list()["hosts"], serde_json::json!(["a.test", "*.github.io"]));
    assert_eq!(list()["masked"], true);
    let shown = |command: &str| cli.run(&["--no-redact", "bash", command]).ok();
    let masked = shown("echo ${#KEY} $KEY");
    assert!(
        masked.stdout.starts_with("24 ") && !masked.stdout.contains("value"),
        "{}",
        masked.stdout
    );
    assert!(masked.stderr.contains("KEY: masked, and the session has no network"));
    set(&["--unmasked", "--host", "a.test"], "third value").ok();
    assert_eq!(list()["masked"], false);
    assert_eq!(shown("echo $KEY").stdout, "third value\n");
    set(&["--unmasked"], "fourth value").ok();
    assert_eq!(list().get("hosts"), None);
}

#[test]
fn a_new_value_stays_encrypted_and_masked() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "a passphrase")]);
    cli.run_with(&["variable", "set", "KEY", "--encrypted", "--host", "a.test"], "first value")
        .ok();
    assert_eq!(
        cli.run_with(&["variable", "set", "KEY"], "other value").ok().stdout,
        "set KEY (encrypted)\n"
    );
    let short = cli.run_with(&["variable", "set", "KEY"], "short");
    assert!(short.code == 2 && short.stderr.contains("fewer than 6 bytes"), "{}", short.stderr);
    assert_eq!(cli.run(&["variable", "get", "KEY"]).ok().stdout, "other value\n");
    let plain = [
        "variable",
        "set",
        "KEY",
        "--plain",
        "--host",
        "b.test",
        "--in",
        "body",
        "--allow-plaintext",
    ];
    cli.run_with(&plain, "third value").ok();
    let listed = cli.run(&["variable", "list"]).ok().stdout;
    assert_eq!(listed, "KEY (masked for b.test; in body; also without TLS)\n");
}

#[test]
fn a_value_is_printed_as_it_was_set() {
    let cli = Cli::new();
    for (given, stored) in
        [("x", "x"), ("x\n", "x"), ("x\n\n", "x\n"), ("x\r\n", "x"), ("x\r", "x\r")]
    {
        cli.run_with(&["variable", "set", "KEY"], given).ok();
        assert_eq!(cli.run(&["variable", "get", "KEY"]).ok().stdout, format!("{stored}\n"));
    }
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_shown() {
    let cli = Cli::new();
    for words in [&["KEY", "hunter2hunter2"][..], &["KEY=hunter2hunter2"]] {
        let refused = cli.run(&[&["variable", "set"], words].concat());
        assert_eq!(refused.code, 2);
        assert!(refused.stderr.contains("printf %s VALUE | agent-tools"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    }
    let own = cli.run_with(&["variable", "set", "TMPDIR"], "x");
    assert!(own.code == 2 && own.stderr.contains("sets TMPDIR itself"), "{}", own.stderr);
}

#[test]
fn a_passphrase_is_not_empty() {
    let cli = Cli::new();
    for text in ["", "\n", " \r\n"] {
        let file = cli.write("passphrase", text);
        let set =
            ["--secret-file", file.to_str().unwrap(), "variable", "set", "--encrypted", "KEY"];
        let refused = cli.run_with(&set, "value");
        assert!(
            refused.code == 1 && refused.stderr.contains("no passphrase"),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn advice_repeats_the_places_of_the_command_line() {
    let cli = Cli::new();
    let absent = format!("sqlite:{}", cli.home().join("a b.db").display());
    let listed = cli.run(&["--variables", &absent, "variable", "list"]);
    let advice = format!("`agent-tools --variables '{absent}' variable set NAME`");
    assert!(listed.code == 1 && listed.stderr.contains(&advice), "{}", listed.stderr);
}

#[test]
fn encrypted_variables_without_a_passphrase_are_skipped_with_a_warning() {
    let mut cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "right")]);
    cli.run_with(&["variable", "set", "API_KEY", "--encrypted"], "hidden").ok();
    cli.environment.clear();
    assert_eq!(cli.run_with(&["variable", "set", "OTHER", "--encrypted"], "x").code, 2);
    let ran = cli.run(&["bash", "echo [$API_KEY]"]).ok();
    assert!(ran.stdout == "[]\n" && ran.stderr.contains("API_KEY"), "{}", ran.stderr);
    cli.environment = vec![("AGENT_TOOLS_SECRET".into(), "wrong".into())];
    let ran = cli.run(&["bash", "echo [$API_KEY]"]).ok();
    assert!(
        ran.stdout == "[]\n" && ran.stderr.contains("API_KEY") && !ran.stderr.contains("hidden"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches("API_KEY").count(), 1, "{}", ran.stderr);
    let required = cli.run(&["bash", "--require-variable", "API_KEY", "touch ran; true"]);
    assert_eq!(required.code, 125);
    let reason = "no value: API_KEY (the passphrase is wrong or the encrypted value is damaged)";
    assert!(required.stderr.contains(reason), "{}", required.stderr);
    // Each result of a server says what its command lacks.
    let mut server = crate::mcp::Server::start_with(&cli, &["mcp"]);
    for _ in 0..2 {
        let ran = server.call("bash", serde_json::json!({ "command": "ls ran" }));
        let warnings = ran["structuredContent"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{ran}");
        assert!(warnings[0].as_str().unwrap().starts_with("variable API_KEY: "), "{ran}");
        assert_eq!(ran["structuredContent"]["exitCode"], 2);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_that_is_down_affects_only_the_variables() {
    let cli = Cli::new();
    let down = cli
        .run(&[
            "--variables",
            "postgres://u:topsecret@127.0.0.1:1/db",
            "--json",
            "bash",
            "echo works",
        ])
        .ok();
    assert!(down.json()["warnings"][0].as_str().unwrap().contains("variables"), "{}", down.stdout);
    assert!(!down.stderr.contains("topsecret") && !down.stdout.contains("topsecret"));
}

#[test]
fn a_default_database_that_vanishes_takes_no_variables_from_an_open_session() {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "TOKEN"], "hunter2hunter2").ok();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let count = serde_json::json!({ "command": "echo ${#TOKEN}" });
    let first = server.call("bash", count.clone()).to_string();
    assert!(first.contains("14"), "{first}");
    std::fs::rename(cli.home().join("agent-tools.db"), cli.home().join("moved.db")).unwrap();
    let next = server.call("bash", count).to_string();
    assert!(next.contains("14") && next.contains("agent-tools.db"), "{next}");
}

#[test]
fn a_damaged_database_affects_only_the_variables() {
    let cli = Cli::new();
    let file = cli.write("damaged.db", &"this is no database ".repeat(100));
    let url = format!("sqlite:{}", file.display());
    let odd = cli.run(&["--variables", "mysql://u:topsecret@127.0.0.1/db", "bash", "echo works"]);
    assert_eq!((odd.code, odd.stdout.as_str()), (125, ""), "{}", odd.stderr);
    assert!(
        odd.stderr.contains("`postgres://` or `sqlite:`") && !odd.stderr.contains("topsecret"),
        "{}",
        odd.stderr
    );

    let damaged = cli.run(&["--variables", &url, "bash", "echo works"]).ok();
    assert!(
        damaged.stdout == "works\n" && damaged.stderr.contains("damaged.db"),
        "{}",
        damaged.stderr
    );
    let listed = cli.run(&["--variables", &url, "variable", "list"]);
    assert!(listed.code == 1 && listed.stderr.contains("damaged.db"), "{}", listed.stderr);
}

#[test]
fn a_changed_variable_holds_for_the_next_command_of_an_open_session() {
    let cli = Cli::new();
    let server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let shown = || cli.run(&["bash", "--session", "m", "echo ${KEY:-none}"]).ok().stdout;
    assert_eq!(shown(), "none\n");
    cli.run_with(&["variable", "set", "KEY"], "value").ok();
    assert_eq!(shown(), "value\n");
    cli.run_with(&["variable", "set", "KEY"], "other").ok();
    assert_eq!(shown(), "other\n");
    let database = cli.home().join("agent-tools.db");
    std::fs::write(&database, "this is no database ".repeat(100)).unwrap();
    let ran = cli.run(&["bash", "--session", "m", "echo $KEY"]).ok();
    assert_eq!(ran.stdout, "other\n");
    let warning = "the variables could not be loaded again, so commands have those of before";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    std::fs::remove_file(&database).unwrap();
    assert_eq!(shown(), "other\n");
    drop(server);
}

#[test]
fn a_mistyped_path_is_an_error_and_creates_nothing() {
    let cli = Cli::new();
    let url = format!("sqlite:{}/agnets.db", cli.dir().display());
    for args in [&["bash", "true"][..], &["variable", "list"], &["variable", "remove", "A"]] {
        let ran = cli.run(&[&["--variables", &url], args].concat());
        assert!(ran.code != 0 && ran.stderr.contains("agnets.db"), "{}", ran.stderr);
        assert!(!cli.dir().join("agnets.db").exists(), "{args:?}");
    }
    let set = cli.run_with(&["--variables", &url, "variable", "set", "A"], "x").ok();
    assert!(set.stderr.contains("created ") && set.stderr.contains("agnets.db"), "{}", set.stderr);
    cli.run(&["--variables", &url, "bash", "true"]).ok();
}

#[test]
fn listing_and_removing_create_no_database() {
    let cli = Cli::new();
    cli.run(&["variable", "list"]).ok();
    assert_eq!(cli.run(&["variable", "remove", "A"]).code, 1);
    cli.run(&["doctor"]);
    assert!(!cli.home().join("agent-tools.db").exists());
}

#[test]
fn a_database_without_the_table_is_an_error_that_names_it() {
    let cli = Cli::new();
    // An empty file is an SQLite database without tables.
    for name in ["other.db", "agent home/agent-tools.db"] {
        std::fs::create_dir_all(cli.home()).unwrap();
        cli.write(name, "");
    }
    let url = format!("sqlite:{}/other.db", cli.dir().display());
    let ran = cli.run(&["--variables", &url, "bash", "echo x"]);
    let expected = "other.db has no table `variables` with the columns";
    assert!(ran.code == 125 && ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(ran.stdout.is_empty() && !cli.home().join("sessions/default").exists());
    // A dropped call of `variable set` has left the default file.
    let ran = cli.run(&["bash", "echo x"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("x\n", ""));
}

#[test]
fn a_dotenv_file_is_no_database() {
    let cli = Cli::new();
    let file = cli.write(".env", "A=1\n");
    for url in [file.display().to_string(), format!("sqlite:{}", file.display())] {
        for args in [&["bash", "true"][..], &["variable", "list"]] {
            let ran = cli.run(&[&["--variables", &url], args].concat());
            assert!(ran.code != 0 && ran.stderr.contains("no option reads the `.env` file"));
        }
    }
}

#[test]
fn a_skipped_variable_is_reported_once_for_a_session() {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "SHORT"], "x").ok();
    let first = cli.run(&["bash", "true"]).ok();
    assert!(first.stderr.contains("SHORT: too short to be redacted"), "{}", first.stderr);
    assert_eq!(cli.run(&["bash", "true"]).ok().stderr, "");
    // An empty value shows nothing.
    cli.run_with(&["variable", "set", "EMPTY"], "").ok();
    assert_eq!(cli.run(&["bash", "true"]).ok().stderr, "");
    let required = cli.run(&["bash", "--require-variable", "EMPTY", "true"]);
    assert!(required.stderr.contains("no value: EMPTY (empty)"), "{}", required.stderr);
    cli.run_with(&["variable", "set", "OTHER"], "x").ok();
    let next = cli.run(&["--json", "bash", "true"]).ok();
    assert!(next.json()["warnings"][0].as_str().unwrap().contains("OTHER"), "{}", next.stdout);
    let session = cli.run(&["bash", "--session", "new", "true"]).ok();
    assert!(session.stderr.contains("SHORT"), "{}", session.stderr);
}

#[test]
fn a_terminal_does_not_show_the_value_of_a_variable() {
    let setting = Setting { engine: "native", is_ordinary: false };
    let Some(mut terminal) = Terminal::new(&setting) else { return };
    let command = terminal.sandbox.split(' ').next().unwrap().to_owned() + " variable set KEY";
    terminal.enter(&command);
    terminal.expect("which is not shown");
    assert!(!terminal.has_usual_modes());
    terminal.press("hunter2\n\u{4}");
    let shown = terminal.expect("set KEY");
    assert!(!shown.contains("hunter2"), "{shown}");
    terminal.expect(PROMPT);
    assert!(terminal.has_usual_modes());
    terminal.enter(&format!("{command} || stty -a"));
    terminal.expect("which is not shown");
    terminal.press("hunter2\u{3}");
    let shown = terminal.expect(PROMPT);
    assert!(shown.contains(" echo ") && !shown.contains("hunter2"), "{shown}");
}
