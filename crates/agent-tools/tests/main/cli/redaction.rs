//! Redaction of the values of variables, through the command and MCP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Cli;
use crate::mcp::Server;

const VALUE: &str = "hunter2\"/secret";

fn cli() -> Cli {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "TOKEN"], VALUE).ok();
    cli.run_with(&["variable", "set", "SHORT"], "12345").ok();
    cli
}

#[test]
fn no_stream_of_a_command_shows_a_value() {
    let cli = cli();
    let script = "echo \"$TOKEN\"; printf %s \"$TOKEN\" | base64; echo \"$SHORT\"; \
                  echo \"cannot use $TOKEN\" >&2";
    let ran = cli.run(&["bash", script]).ok();
    assert_eq!(ran.stdout, "[redacted:TOKEN]\n[redacted:TOKEN]\n12345\n");
    assert!(ran.stderr.contains("cannot use [redacted:TOKEN]\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("variable SHORT: too short to be redacted"), "{}", ran.stderr);

    let result = cli.run(&["--json", "bash", script]).ok().json();
    assert_eq!(result["redacted"], json!(["TOKEN"]));
    let plain = cli.run(&["--json", "bash", "echo x"]).ok().json();
    assert_eq!(plain.get("redacted"), None);

    let shown = cli.run(&["--no-redact", "bash", script]).ok();
    assert_eq!(shown.stdout, format!("{VALUE}\n{}\n12345\n", STANDARD.encode(VALUE)));
    assert!(shown.stderr.contains(&format!("cannot use {VALUE}\n")), "{}", shown.stderr);
}

#[test]
fn a_value_at_the_end_of_what_is_shown_is_not_shown_in_part() {
    let cli = cli();
    let script = "head -c 14990 /dev/zero | tr '\\0' x; printf '%s' \"$TOKEN\"; \
                  head -c 100000 /dev/zero | tr '\\0' y";
    let result = cli.run(&["--json", "bash", script]).ok().json();
    let stdout = result["stdout"].as_str().unwrap();
    assert!(!stdout.contains("hunter"), "{}", &stdout[14_980..15_200]);
    // Of the placeholder, which begins 10 characters before the cut, no part is shown.
    let removed = 14_990 + "[redacted:TOKEN]".len() + 100_000 - 30_000 + 10;
    let note = format!("\n\n[stdout truncated: {removed} characters removed; ");
    assert!(stdout.contains(&note) && stdout.ends_with("yyy"), "{}", &stdout[14_980..15_200]);
}

#[test]
fn no_file_that_is_read_shows_a_value() {
    let cli = cli();
    let write = "printf 'key: %s\\nend\\n' \"$TOKEN\" > f; printf '\\377%s' \"$TOKEN\" > binary";
    cli.run(&["bash", write]).ok();
    assert_eq!(cli.run(&["read-file", "f"]).ok().stdout, "key: [redacted:TOKEN]\nend\n");
    let binary = cli.run(&["--json", "read-file", "binary"]).ok().json();
    let content = STANDARD.decode(binary["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, b"\xff[redacted:TOKEN]");
    for verb in ["read-file", "cat"] {
        let stderr = cli.run(&[verb, "binary"]).ok().stderr;
        assert!(stderr.contains("replaces the values of TOKEN in it"), "{stderr}");
        assert_eq!(cli.run(&[verb, "f"]).ok().stderr, "");
        assert_eq!(cli.run(&["--no-redact", verb, "binary"]).ok().stderr, "");
    }
    let shown = cli.run(&["--no-redact", "read-file", "f"]).ok();
    assert_eq!(shown.stdout, format!("key: {VALUE}\nend\n"));
    // The file itself has the value.
    let dir = cli.home().join("sessions/default");
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), format!("key: {VALUE}\nend\n"));
}

#[test]
fn no_error_and_no_denial_shows_a_value() {
    let cli = cli();
    cli.run(&["bash", "true"]).ok();
    let path = "absent/hunter2\"/secret";
    let failed = cli.run(&["read-file", path]);
    assert!(failed.code != 0 && failed.stderr.contains("[redacted:TOKEN]"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("hunter2"), "{}", failed.stderr);

    cli.run_with(&["variable", "set", "PLACE"], "/etc/hunter3").ok();
    let denied = cli.run(&["--json", "bash", "echo x > \"$PLACE\""]).json();
    assert!(!denied.to_string().contains("hunter3"), "{denied}");
    assert!(denied["stderr"].as_str().unwrap().contains("[redacted:PLACE]"), "{denied}");
}

#[test]
fn the_tools_of_an_mcp_server_show_no_value() {
    let cli = cli();
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let script = "echo \"$TOKEN\" | tee f; echo \"$TOKEN\" >&2";
    let ran = server.call("bash", json!({ "command": script }));
    let read = server.call("readFile", json!({ "path": "f" }));
    assert_eq!(read["structuredContent"]["content"], "[redacted:TOKEN]\n");
    assert_eq!(read["structuredContent"]["redacted"], json!(["TOKEN"]));
    let failed = server.call("readFile", json!({ "path": "x/hunter2\"/secret" }));
    assert_eq!(failed["isError"], true, "{failed}");
    for result in [ran, read, failed] {
        assert!(!result.to_string().contains("hunter2"), "{result}");
    }
    // A client decides for its own results.
    let client = |args: &[&str]| cli.run(&[args, &["bash", "--session", "m", "cat f"]].concat());
    assert_eq!(client(&[]).ok().stdout, "[redacted:TOKEN]\n");
    assert_eq!(client(&["--no-redact"]).ok().stdout, format!("{VALUE}\n"));
}

#[test]
fn commands_get_the_selected_variables_only() {
    let cli = cli();
    let env = "echo ${TOKEN+token} ${SHORT+short}";
    let ran = cli.run(&["bash", "--variable", "SHORT", "--variable", "NONE", env]).ok();
    assert_eq!(ran.stdout, "short\n");
    assert!(
        ran.stderr.contains("variable NONE: selected, but not in the source"),
        "{}",
        ran.stderr
    );
    let skill = cli.dir().join("my-skill");
    std::fs::create_dir(&skill).unwrap();
    let front_matter = "---\nname: my-skill\ndescription: Needs a token.\n\
                        metadata:\n  variables: TOKEN, OTHER\n---\n";
    std::fs::write(skill.join("SKILL.md"), front_matter).unwrap();
    cli.run(&["skill", "publish", skill.to_str().unwrap()]).ok();
    let ran = cli.run(&["bash", "--skill", "my-skill", "--skill-variables", env]).ok();
    assert_eq!(ran.stdout, "token\n", "{}", ran.stderr);
    assert_eq!(cli.run(&["bash", "--skill-variables", env]).ok().stdout, "\n");
}

#[test]
fn ten_thousand_variables_work_up_to_the_limit_of_an_environment() {
    let cli = Cli::new();
    cli.run_with(&["variable", "set", "A"], "first value").ok();
    let database = cli.home().join("agent-tools.db");
    let insert = "import sqlite3, sys\nfile = sqlite3.connect(sys.argv[1])\n\
                  file.executemany('INSERT INTO variables VALUES (?, ?, 0, NULL)', \
                  ((f'N{n:05}', f'value {n} ' + 'x' * 200) for n in range(10000)))\n\
                  file.commit()";
    let python = std::process::Command::new("python3").args(["-c", insert]).arg(&database).status();
    if !python.is_ok_and(|status| status.success()) {
        return testkit::skipped("10,000 variables", "apt-get install python3");
    }
    let ran = cli.run(&["bash", "echo $A; env | grep -c ^N0; ls / | wc -l"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "[redacted:A]");
    let count: usize = lines[1].parse().unwrap();
    assert!((3000..10_000).contains(&count), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("more: omitted, because a command's environment"),
        "{}",
        ran.stderr
    );
    let ran = cli.run(&["bash", "--variable", "N09999", "echo ${N09999:6:5}; env | grep -c ^N0"]);
    assert_eq!(ran.ok().stdout, "9999\n1\n");
}
