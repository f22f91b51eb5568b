//! The subcommands that call one tool, and their exit codes.

use super::{Cli, open_link};

#[test]
fn the_first_command_of_the_readme_works() {
    let cli = Cli::new();
    let command = "echo \"hello from $PWD\" > hello.txt && cat hello.txt";
    let ran = cli.run(&["bash", command]).ok();
    assert_eq!(
        ran.stdout,
        format!("hello from {}\n", cli.home().join("sessions/default").display())
    );
    let link = ran.stderr.lines().find_map(|line| line.trim().strip_prefix("hello.txt: ")).unwrap();
    assert_eq!(open_link(link), ran.stdout);

    let again = cli.run(&["--json", "bash", "cat hello.txt; touch é.txt"]).ok().json();
    assert_eq!(again["artifacts"][0]["relativePath"], "é.txt");
    assert_eq!(again["exitCode"], 0);
    assert!(
        again["stdout"].as_str().unwrap().starts_with(&ran.stdout),
        "the second sees the first one's files"
    );
}

#[test]
fn the_exit_code_is_that_of_the_command_or_names_the_failure() {
    let cli = Cli::new();
    let code = |args: &[&str]| cli.run(args).code;
    assert_eq!(code(&["bash", "exit 42"]), 42);
    assert_eq!(code(&["bash", "kill -9 $$"]), 137);
    assert_eq!(code(&["bash", "--timeout", "0.3", "sleep 60"]), 124);
    assert_eq!(code(&["--store", "ftp://x", "bash", "true"]), 125);
    assert_eq!(code(&["bash", "--policy", "/no/such/file", "true"]), 125);
    assert_eq!(code(&["bash", "--session", "../x", "true"]), 2);
    assert_eq!(code(&["bash", "--skill", "a/b", "true"]), 2);
    assert_eq!(code(&["bash"]), 2);
    assert_eq!(code(&["no-such-command"]), 2);
    assert_eq!(code(&["read-file", "missing"]), 1);
}

#[test]
fn the_limit_that_a_command_reached_is_printed() {
    let cli = Cli::new();
    let ran = cli.run(&["bash", "exec truncate -s 17G f"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("limit reached: file size\n"), "{}", ran.stderr);
}

#[test]
fn processes_outlive_the_shell_for_as_long_as_the_option_says() {
    let cli = Cli::new();
    let late = "(sleep 0.6; echo late) & echo early";
    let killed = cli.run(&["bash", "--linger", "0", late]).ok();
    assert_eq!(killed.stdout, "early\n");
    assert!(killed.stderr.contains("killed after the command: bash"), "{}", killed.stderr);
    assert_eq!(cli.run(&["bash", "--linger", "100", late]).ok().stdout, "early\nlate\n");
}

#[test]
fn files_are_written_and_read_by_every_shape_of_a_path() {
    let cli = Cli::new();
    let written = cli.run_with(&["--json", "write-file", "/a/b.txt"], "content\n").ok().json();
    assert_eq!(written["success"], true);
    assert_eq!(written["path"], cli.home().join("sessions/default/a/b.txt").to_str().unwrap());
    assert_eq!(open_link(written["url"].as_str().unwrap()), "content\n");
    assert_eq!(cli.run(&["read-file", "a/b.txt"]).ok().stdout, "content\n");
    assert_eq!(
        cli.run(&["--json", "read-file", "./a//b.txt"]).ok().stdout,
        "{\"content\":\"content\\n\"}\n"
    );
    cli.run(&["write-file", "c", "--content", "-x"]).ok();
    assert_eq!(cli.run(&["bash", "cat c"]).ok().stdout, "-x");

    let escaping = cli.run(&["read-file", "../x"]);
    assert!(
        escaping.code == 1 && escaping.stderr.contains("leads out of the session directory"),
        "{}",
        escaping.stderr
    );
    let missing = cli.run(&["read-file", "nope"]);
    assert!(missing.stderr.contains("No such file or directory"), "{}", missing.stderr);
}

#[test]
fn ignore_patterns_exclude_files_from_mirroring() {
    let cli = Cli::new();
    let args = [
        "--json",
        "--ignore",
        "*.log",
        "--ignore",
        "/build/",
        "bash",
        "mkdir -p build node_modules; touch a.log build/x node_modules/y b",
    ];
    let stored = |args: &[&str]| -> Vec<String> {
        let ran = cli.run(args).ok().json();
        let artifacts = ran["artifacts"].as_array().unwrap().iter();
        let paths = artifacts.map(|artifact| artifact["relativePath"].as_str().unwrap());
        paths.map(str::to_owned).collect()
    };
    assert_eq!(stored(&args), ["b", "node_modules/y"]);
    let added = ["--json", "--ignore", "+*.log", "bash", "touch c c.log node_modules/z"];
    assert_eq!(stored(&added), ["build/x", "c"]);
    assert_eq!(cli.run(&["--ignore", "+ ", "bash", "true"]).code, 2);
    let mixed = cli.run(&["--ignore", "+*.log", "--ignore", "d", "bash", "true"]);
    assert!(mixed.code == 2 && mixed.stderr.contains("with and without `+`"), "{}", mixed.stderr);
    let nothing = ["--json", "--ignore", "", "bash", "touch d"];
    assert_eq!(stored(&nothing), ["a.log", "c.log", "d", "node_modules/z"]);
    let wrong = cli.run(&["--ignore", "a{b", "bash", "true"]);
    assert!(wrong.code == 125 && wrong.stderr.contains("a{b"), "{}", wrong.stderr);
}

#[test]
fn spaces_around_patterns_and_empty_variables_count_for_nothing() {
    let mut cli = Cli::with_environment(&[("AGENT_TOOLS_IGNORE", " +*.tmp, +*.bak ,")]);
    let script = "mkdir -p node_modules; touch node_modules/x a.tmp a.bak a";
    let stored = cli.run(&["--json", "bash", script]).ok().json();
    assert_eq!(stored["artifacts"].as_array().unwrap().len(), 1, "{stored}");
    let unset = [
        "IGNORE",
        "STORE",
        "VARIABLES",
        "SECRET",
        "SECRET_FILE",
        "PYTHON_VENV",
        "ENGINE",
        "ACCEPT",
        "RETENTION",
        "TAKEOVER",
        "OWNER_URL",
        "DURABILITY",
        "NO_PROJECTION",
        "JSON",
        "SESSION",
        "USER",
        "SKILL",
        "POLICY",
        "ALLOW_READ",
        "ALLOW_WRITE",
        "TIMEOUT",
    ];
    let unset = unset.map(|name| (format!("AGENT_TOOLS_{name}"), String::new()));
    cli.environment = unset.into();
    cli.run(&["bash", "touch node_modules/y b"]).ok();
    assert!(cli.home().join("store/user_local/sessions/default/b").exists());
    assert!(!cli.home().join("store/user_local/sessions/default/node_modules").exists());
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default\n");
}

#[test]
fn options_may_come_from_the_environment() {
    let mut cli = Cli::new();
    cli.environment.extend([
        ("AGENT_TOOLS_SESSION".into(), "from-env".into()),
        ("AGENT_TOOLS_TIMEOUT".into(), "0.3".into()),
    ]);
    assert_eq!(cli.run(&["bash", "sleep 60"]).code, 124);
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "from-env\n");
}

#[test]
fn a_limit_that_was_reached_is_told() {
    let cli = Cli::new();
    let ran = cli.run(&["bash", "exec truncate -s 17G f"]);
    assert_eq!(ran.code, 153, "{}", ran.stderr);
    assert!(ran.stderr.contains("limit reached: file size\n"), "{}", ran.stderr);
}

#[test]
fn a_file_of_any_size_is_printed_whole_and_byte_for_byte() {
    let cli = Cli::new();
    // The parts in which the file is read end inside of characters and of invalid ones.
    let script = "for i in $(seq 16); do printf '\\303\\251%.0s' {1..40000}; printf '\\377'; \
                  done > 1; \
                  for i in $(seq 30); do cat 1; done > f; printf '\\251' >> f; sha256sum < f";
    let expected = cli.run(&["bash", script]).ok().stdout;
    let file = cli.home().join("sessions/default/f");
    assert!(std::fs::metadata(&file).unwrap().len() > 33 << 20);
    let output = cli.command(&["read-file", "f"]).output().unwrap();
    assert_eq!(output.stdout, std::fs::read(&file).unwrap(), "{expected}");
}
