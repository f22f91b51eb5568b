//! The subcommands that other programs and shells work with: tools, wrap, completions and man.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use super::Cli;

#[test]
fn the_tools_of_a_session_are_printed_as_json() {
    let cli = Cli::new();
    let tools = cli.run(&["tools", "--tools", "grep,editFile"]).ok().json();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["bash", "readFile", "writeFile", "grep", "editFile"]);
    assert_eq!(tools[3]["inputSchema"]["required"][0], "pattern");
    assert_eq!(tools[3]["annotations"]["readOnlyHint"], true);
    let anthropic = cli.run(&["--json", "tools", "--toolset", "anthropic"]).ok().json();
    assert_eq!(anthropic[5]["name"], "grep");
    let unknown = cli.run(&["tools", "--tools", "grpe"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("a similar value exists: 'grep'"), "{}", unknown.stderr);
}

#[test]
fn a_wrapped_command_has_the_standard_streams_of_the_caller() {
    let cli = Cli::new();
    let ran = cli.run_with(&["wrap", "cat;", "echo e >&2; echo x > made; exit 7"], "from stdin");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, "from stdin", "e\n"));
    assert_eq!(cli.run(&["read-file", "made"]).ok().stdout, "x\n");
    let stored = cli.home().join("store/user_local/sessions/default/made");
    assert!(stored.exists(), "the file was mirrored");
    let late = cli.run(&["wrap", "--timeout", "0.2", "sleep", "60"]);
    assert_eq!(
        (late.code, late.stderr.lines().last()),
        (124, Some("timed out after 0.2 s: the command and its children were killed"))
    );
    let large = cli.run(&["wrap", "ulimit -f 1; head -c 9999 /dev/zero > large"]);
    assert!(large.stderr.ends_with("sandbox: limit reached: file size\n"), "{}", large.stderr);
    let logged = cli.run(&["logs"]).ok().stdout;
    for line in
        ["exit 7    wrap: cat; echo e", "timeout   wrap: sleep 60", "exit 153  wrap: ulimit"]
    {
        assert!(logged.contains(line), "{line}: {logged}");
    }
    assert!(logged.ends_with("\n    limit reached: file size\n"), "{logged}");
    let calls = cli.run(&["logs", "--json"]).ok().json();
    let of = |text: &str| {
        let mut calls = calls.as_array().unwrap().iter();
        calls.find(|call| call["subject"].as_str().unwrap().starts_with(text)).unwrap().clone()
    };
    assert!(of("sleep 60")["tookMs"].as_u64().unwrap() >= 200, "{calls}");
    assert_eq!(of("ulimit")["limitReached"], "fileSize");
    let alone = cli.run(&["wrap", "--print", "true"]);
    assert_eq!(alone.code, 125);
    assert!(alone.stderr.contains("no other process has the session open"), "{}", alone.stderr);

    let mut server = crate::mcp::Server::start_with(&cli, &["mcp"]);
    let printed = cli.run(&["--json", "wrap", "--print", "echo in $PWD"]).ok().json();
    let argv: Vec<&str> =
        printed["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let output = std::process::Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("in ") && stdout.contains("sessions/default"), "{stdout}");
    drop(server.child.stdin.take());
}

/// Returns what bash makes of the last of these words.
fn completed(script: &Path, words: &str) -> String {
    let last = words.rsplit(' ').next().unwrap();
    let line = format!(
        ". {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _agent__tools agent-tools '{last}'; echo \"${{COMPREPLY[*]}}\"",
        script.display()
    );
    let output = std::process::Command::new("bash").arg("-c").arg(line).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn completions_and_manual_pages_name_every_subcommand() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = cli.run(&["completions", shell]).ok().stdout;
        assert!(script.contains("read-file") && script.contains("toolset"), "{shell}");
    }
    let script = cli.run(&["completions", "bash"]).ok().stdout;
    let mut bash =
        std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    let file = cli.write("completions.bash", &script);
    for (words, expected) in [
        ("agent-tools ses", "session"),
        ("agent-tools session clo", "close"),
        ("agent-tools bash --ses", "--session"),
        ("agent-tools write-file --ses", "--session"),
    ] {
        assert_eq!(completed(&file, words), expected, "{words}");
    }
    cli.run(&["man", "pages/man1"]).ok();
    let page = std::fs::read_to_string(cli.dir().join("pages/man1/agent-tools-bash.1")).unwrap();
    assert!(page.contains(r"\-\-timeout") && page.contains("Examples:"), "{page}");
}
