//! The places from which options have their values, and errors about them.

use super::Cli;

#[test]
fn options_come_before_variables_and_those_before_the_file_of_the_home() {
    let mut cli = Cli::new();
    let config = |cli: &Cli, text: &str| testkit::write_file(&cli.home(), "agent-tools.toml", text);
    config(&cli, "session = \"of-file\"\njson = true\n[bash]\ntimeout = 0.3\n");
    let dir = |cli: &Cli, args: &[&str]| {
        let ran = cli.run(&[&["bash"], args, &["echo $PWD; sleep 1"]].concat());
        (ran.json()["timeLimitMs"].clone(), ran.json()["stdout"].as_str().unwrap().to_owned())
    };
    let (limit, stdout) = dir(&cli, &[]);
    assert_eq!(limit, 300);
    assert!(stdout.ends_with("/of-file\n"), "{stdout}");
    cli.environment.push(("AGENT_TOOLS_SESSION".to_owned(), "of-variable".to_owned()));
    assert!(dir(&cli, &[]).1.ends_with("/of-variable\n"));
    assert!(dir(&cli, &["--session", "of-option"]).1.ends_with("/of-option\n"));
    cli.environment.push(("AGENT_TOOLS_JSON".to_owned(), "0".to_owned()));
    assert!(cli.run(&["bash", "pwd"]).ok().stdout.starts_with('/'));
    config(&cli, "\nstroe = \"file:///x\"\n");
    let refused = cli.run(&["session", "list"]);
    assert_eq!(refused.code, 125);
    let problem = "agent-tools.toml:2: there is no option `stroe` here; there is `store`";
    assert!(refused.stderr.contains(problem), "{}", refused.stderr);
}

#[test]
fn what_does_not_need_the_file_of_the_home_runs_although_it_is_invalid() {
    let cli = Cli::new();
    let file = testkit::write_file(&cli.home(), "agent-tools.toml", "nope = 1\n");
    let check = |problem: &str| {
        cli.run(&["completions", "bash"]).ok();
        let examined = cli.run(&["--json", "doctor"]);
        assert_eq!(examined.code, 1);
        let report = examined.json();
        let settings = &report["settings"];
        let detail = settings["detail"].as_str().unwrap();
        assert!(settings["ok"] == false && detail.contains(problem), "{settings}");
        assert_eq!(report["store"]["ok"], true, "the other checks run");
        let refused = cli.run(&["session", "list"]);
        assert!(refused.code == 125 && refused.stderr.contains(problem), "{}", refused.stderr);
    };
    check("agent-tools.toml:1: there is no option `nope` here");
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    check("it is no regular file");
}

#[test]
fn an_error_about_a_value_names_the_variable_or_the_file_that_has_it() {
    let refused = |name: &str, value: &str, args: &[&str], code: i32, expected: &str| {
        let ran = Cli::with_environment(&[(name, value)]).run(args);
        assert_eq!(ran.code, code, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{name}: {}", ran.stderr);
    };
    let bash = ["bash", "true"];
    for (name, value, part) in [
        ("AGENT_TOOLS_JSON", "maybe", "'maybe' for 'AGENT_TOOLS_JSON'"),
        ("AGENT_TOOLS_ENGINE", "x", "'x' for 'AGENT_TOOLS_ENGINE'"),
        ("AGENT_TOOLS_TIMEOUT", "x", "'x' for 'AGENT_TOOLS_TIMEOUT': expected a number"),
    ] {
        refused(name, value, &bash, 2, part);
    }
    let both = ["bash", "--variable", "A", "true"];
    refused("AGENT_TOOLS_SKILL_VARIABLES", "1", &both, 2, "with 'AGENT_TOOLS_SKILL_VARIABLES'");
    let option = ["--engine", "y", "bash", "true"];
    refused("AGENT_TOOLS_ENGINE", "x", &option, 2, "'x' for 'AGENT_TOOLS_ENGINE'");
    refused("AGENT_TOOLS_ENGINE", "native", &option, 2, "'y' for '--engine <ENGINE>'");
    let named = "AGENT_TOOLS_POLICY has this value";
    refused("AGENT_TOOLS_POLICY", "/absent.json", &bash, 125, named);
    refused("AGENT_TOOLS_STORE", "foo://x", &bash, 125, "AGENT_TOOLS_STORE has this value");
    let cli = Cli::with_environment(&[("AGENT_TOOLS_ACCEPT", "signals")]);
    let warned = cli.run(&["session", "list"]).ok().stderr;
    assert!(warned.contains("warning: AGENT_TOOLS_ACCEPT has no effect"), "{warned}");

    let cli = Cli::new();
    let file = testkit::write_file(&cli.home(), "agent-tools.toml", "policy = \"/absent.json\"\n");
    let ran = cli.run(&bash);
    let named = format!("`policy` in {} has this value", file.display());
    assert!(ran.code == 125 && ran.stderr.contains(&named), "{}", ran.stderr);
    let ran = cli.run(&["bash", "--policy", "/other.json", "true"]);
    assert!(!ran.stderr.contains("has this value"), "{}", ran.stderr);
}

#[test]
fn a_project_restricts_its_sessions_and_the_agent_cannot_change_that() {
    let cli = Cli::new();
    cli.write("data/secret/f", "hidden");
    cli.write("data/f", "seen");
    cli.write(".agent-tools.toml", "deny-read = [\"data/secret\"]\ndeny-write = [\"data\"]\n");
    let data = cli.dir().canonicalize().unwrap().join("data");
    let data = data.to_str().unwrap();
    let command = format!("cat {data}/f; cat {data}/secret/f; echo x > {data}/new");
    let ran = cli.run(&["bash", "--allow-write", data, &command]);
    assert_eq!(ran.stdout, "seen");
    assert!(!cli.dir().join("data/new").exists(), "{}", ran.stderr);
    let inside = cli.run(&["sandbox", "-c", &format!("cat {data}/secret/f")]);
    assert_ne!((inside.code, inside.stdout.as_str()), (0, "hidden"));
    let here = cli.dir().canonicalize().unwrap();
    let change = format!("echo > {}/.agent-tools.toml", here.display());
    assert_ne!(cli.run(&["bash", "--allow-write", here.to_str().unwrap(), &change]).code, 0);
    let file = here.join(".agent-tools.toml");
    let file = file.display();
    let restrictions = "no-network = true\nread-only-skills = true\ndeny-write = [\"data\"]\n";
    cli.write(".agent-tools.toml", restrictions);
    let command = format!("curl -s https://a.test || echo x > {data}/f; mkdir skills/x");
    let options = ["--allow-write", data, "--allow-host", "a.test"];
    let ran = cli.run(&[&["bash"], &options[..], &[&command]].concat());
    for (target, change) in
        [(data, "/data from deny-write in"), ("skills", "read-only-skills from")]
    {
        let remedy = format!("{change} {file}");
        assert!(ran.stderr.contains(&remedy), "{target}: {}", ran.stderr);
    }
    assert!(ran.stderr.contains(&format!("warning: no-network in {file}")), "{}", ran.stderr);
    for (target, change) in [("a.test", "no-network from"), (data, "/data from deny-write in")] {
        let explained = cli.run(&[&["policy", "explain"], &options[..], &[target]].concat()).ok();
        let remedy = format!("{change} {file}");
        assert!(explained.stdout.contains(&remedy), "{}", explained.stdout);
    }
    cli.write(".agent-tools.toml", "\nallow-read = [\"/\"]\n");
    let refused = cli.run(&["bash", "true"]);
    assert!(refused.stderr.contains(".agent-tools.toml:2: a project can only restrict"));
    assert_eq!(refused.code, 125);
}

#[test]
fn an_invalid_command_line_is_an_object_with_json_and_names_what_is_similar() {
    let cli = Cli::new();
    let ran = cli.run(&["--json", "sandbox", "--setings", "f", "true"]);
    assert_eq!(ran.code, 2);
    let error = ran.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("'--setings'") && error.contains("'--settings'"), "{error}");
    let above = cli.run(&["mcp", "--timeout", "3", "--max-timeout", "1"]);
    assert_eq!(above.code, 2);
    assert!(above.stderr.contains("--timeout 3 is above --max-timeout 1"), "{}", above.stderr);
    for (args, problem, tip) in [
        (&["bash", "--sesion", "foo", "x"][..], "'--sesion'", "'--session'"),
        (&["bash", "-c", "ls"], "'-c'", "give the script without '-c'"),
        (&["shell", "-it", "ls"], "'-i'", ""),
        (&["ls", "-a"], "'-a'", ""),
    ] {
        let ran = cli.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(problem) && ran.stderr.contains(tip), "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("tip:"), !tip.is_empty(), "{}", ran.stderr);
    }
    assert_eq!(cli.run(&["bash", "echo", "-c", "--sesion"]).ok().stdout, "-c --sesion\n");
    let debugged = cli.run(&["sandbox", "--debug", "true"]).ok();
    assert!(debugged.stderr.contains("opening a sandbox"), "{}", debugged.stderr);
    let set = Cli::with_environment(&[("AGENT_TOOLS_JSON", "1")]).run(&["session", "close"]);
    assert!(set.json()["error"].as_str().unwrap().contains("<ID>"), "{}", set.stdout);
    assert_eq!(cli.run(&["sandbox", "--setings", "f"]).stdout, "");
    // The home is set by a variable here.
    for args in [&["bash", "--help"][..], &["session", "close"]] {
        let ran = cli.run(args);
        let usage = format!("{}{}", ran.stdout, ran.stderr);
        let usage = usage.lines().find(|line| line.starts_with("Usage: ")).unwrap().to_owned();
        assert!(usage.contains("[OPTIONS]") && !usage.contains("--home"), "{usage}");
    }
}

#[test]
fn what_went_wrong_is_named() {
    let cli = Cli::new();
    let skill = cli.run(&["bash", "--skill", "nope", "true"]);
    let absent = "the store has no version of the skill nope";
    assert!(skill.stderr.contains(absent), "{}", skill.stderr);
    let mut gone = std::process::Command::new("bash");
    let program = env!("CARGO_BIN_EXE_agent-tools");
    gone.args(["-c", "mkdir gone; cd gone; rmdir ../gone; exec \"$0\" --home rel bash true"]);
    let ran = gone.arg(program).current_dir(cli.dir()).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(stderr.contains("cannot use the working directory: it was removed"), "{stderr}");
}

#[test]
fn the_file_of_the_home_counts_for_an_invalid_command_line_and_not_for_help() {
    let cli = Cli::new();
    let file = "json = true\nquiet = true\n[session.restore]\nat = \"3\"\n";
    testkit::write_file(&cli.home(), "agent-tools.toml", file);
    for args in [&["session", "close", "--user"][..], &["bash", "--sesion", "foo", "x"]] {
        let ran = cli.run(args);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.json()["error"].is_string(), "{}", ran.stdout);
    }
    // The file has the value of a required option.
    let restored = cli.run(&["session", "restore", "nope", "f"]);
    assert_eq!(
        (restored.code, restored.stderr.contains("--at")),
        (1, false),
        "{}",
        restored.stderr
    );
    testkit::write_file(&cli.home(), "agent-tools.toml", "jsn = true\n");
    assert!(cli.run(&["bash", "--help"]).ok().stdout.contains("Usage: "));
    let refused = cli.run(&["session", "list"]);
    assert!(refused.stderr.contains("there is `json`"), "{}", refused.stderr);
}

#[test]
fn the_remedy_for_a_hidden_shell_works_at_once() {
    let cli = Cli::new();
    cli.write(".agent-tools.toml", "deny-read = [\"/usr\"]\n");
    let refused = cli.run(&["bash", "echo hi"]);
    assert_eq!(refused.code, 125);
    let (_, remedy) = refused.stderr.split_once("; use --allow-read ").unwrap_or_else(|| {
        panic!("{}", refused.stderr);
    });
    let (dirs, _) = remedy.split_once(" (filesystem.allowRead in settings)").unwrap();
    let options: Vec<&str> =
        dirs.split(" --allow-read ").flat_map(|dir| ["--allow-read", dir]).collect();
    let ran = cli.run(&[&["bash"], &options[..], &["--", "echo hi"]].concat()).ok();
    assert_eq!(ran.stdout, "hi\n");
}
