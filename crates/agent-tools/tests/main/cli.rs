//! The contract of the command that scripts rely on.

use std::process::Stdio;

use crate::command::Cli;

/// The file behind a `file://` link.
fn opened(link: &str) -> String {
    let path = url::Url::parse(link).unwrap().to_file_path().unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_first_command_of_the_readme_does_the_main_job() {
    let cli = Cli::new();
    let command = "echo \"hello from $PWD\" > hello.txt && cat hello.txt";
    let ran = cli.run(&["bash", command]).ok();
    assert_eq!(
        ran.stdout,
        format!("hello from {}\n", cli.home().join("sessions/default").display())
    );
    let link = ran.stderr.lines().find_map(|line| line.trim().strip_prefix("hello.txt: ")).unwrap();
    assert_eq!(opened(link), ran.stdout);

    let again = cli.run(&["--json", "bash", "cat hello.txt; touch é.txt"]).ok().json();
    assert_eq!(again["artifacts"][0]["relativePath"], "é.txt");
    assert_eq!(again["exitCode"], 0);
    assert!(
        again["stdout"].as_str().unwrap().starts_with(&ran.stdout),
        "the second sees the first one's files"
    );
}

#[test]
fn the_weaker_engine_is_chosen_by_name_and_says_what_it_does_not_hold() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_ENGINE", "landlock")]);
    let doctor = cli.run(&["doctor"]);
    if doctor.code != 0 {
        println!("{}", doctor.stdout);
        return testkit::skipped("the engine without namespaces", "Linux 6.12 with Landlock");
    }
    assert!(doctor.stdout.contains("weaker: names, sizes and times"), "{}", doctor.stdout);
    let command = "echo kept > \"$TMPDIR/f\" && cat \"$HOME/f\" && echo x > f; ls /; cat ../../store/x; echo x > /tmp/x";
    let ran = cli.run(&["--json", "bash", command]).json();
    assert_eq!(ran["exitCode"], 1);
    assert!(ran["stdout"].as_str().unwrap().starts_with("kept\n"), "{ran}");
    assert_eq!(ran["artifacts"][0]["relativePath"], "f");
    assert_eq!(cli.run(&["read-file", "f"]).ok().stdout, "x\n");

    // What the next session could not protect is asked for.
    cli.run(&["bash", "mkdir -p repo/.git/hooks"]).ok();
    let refused = cli.run(&["bash", "true"]);
    assert_eq!(refused.code, 125);
    assert!(
        refused.stderr.contains("repo/.git/hooks") && refused.stderr.contains("`inner-rules`"),
        "{}",
        refused.stderr
    );
    cli.run(&["--accept", "inner-rules", "bash", "true"]).ok();
    assert_eq!(cli.run(&["--accept", "nonsense", "bash", "true"]).code, 2);
    assert_eq!(cli.run(&["sandbox", "-c", "exit 7"]).code, 7);
}

#[test]
fn the_exit_code_is_the_commands_own_or_says_what_went_wrong() {
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
fn files_are_written_and_read_by_every_shape_of_a_path() {
    let cli = Cli::new();
    let written = cli.run_with(&["--json", "write-file", "/a/b.txt"], "content\n").ok().json();
    assert_eq!(written["success"], true);
    assert_eq!(written["path"], cli.home().join("sessions/default/a/b.txt").to_str().unwrap());
    assert_eq!(opened(written["url"].as_str().unwrap()), "content\n");
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
fn patterns_say_what_is_not_mirrored() {
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
    let ran = cli.run(&args).ok().json();
    let stored: Vec<_> = ran["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["relativePath"].as_str().unwrap())
        .collect();
    assert_eq!(stored, ["b", "node_modules/y"]);
    let wrong = cli.run(&["--ignore", "a{b", "bash", "true"]);
    assert!(wrong.code == 125 && wrong.stderr.contains("a{b"), "{}", wrong.stderr);
}

#[test]
fn many_removals_wait_until_they_are_confirmed_and_what_is_new_in_the_store_is_fetched() {
    let cli = Cli::new();
    cli.run(&["bash", "touch f{1..80}"]).ok();
    let removed = cli.run(&["--json", "bash", "rm f*; echo 1 > kept"]).ok().json();
    assert_eq!(
        (&removed["removalsHeldBack"], &removed["artifacts"][0]["relativePath"]),
        (&80.into(), &"kept".into())
    );
    let store = cli.home().join("store/user_local/sessions/default");
    assert!(store.join("f1").exists());
    std::fs::write(store.join("upload"), "the user's").unwrap();
    let synced = cli.run(&["--json", "session", "sync", "default"]).ok().json();
    assert_eq!(
        (&synced["restored"][0], &synced["removalsHeldBack"]),
        (&"upload".into(), &80.into())
    );
    let synced =
        cli.run(&["--json", "session", "sync", "default", "--confirm-removals"]).ok().json();
    assert_eq!(
        (synced["removed"].as_array().unwrap().len(), &synced["removalsHeldBack"]),
        (80, &0.into())
    );
    assert!(!store.join("f1").exists() && store.join("kept").exists());
    assert!(cli.run(&["session", "sync", "default"]).ok().stdout.is_empty());
}

#[test]
fn a_closed_session_is_restored_from_the_store() {
    let cli = Cli::new();
    cli.run(&["bash", "mkdir -p d; echo 1 > d/one; printf '#!/bin/sh\\necho ran' > run.sh; head -c 100000 /dev/urandom > big; md5sum big > sum"]).ok();
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "default\n");
    let shown = cli.run(&["--json", "session", "show", "default"]).ok().json();
    assert_eq!(
        (shown["user"].as_str(), shown["pending"].as_array().map(Vec::len)),
        (Some("local"), Some(0))
    );
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "");
    assert!(!cli.home().join("sessions/default").exists());
    assert_eq!(
        cli.run(&["bash", "cat d/one && md5sum -c sum && sh run.sh"]).ok().stdout,
        "1\nbig: OK\nran\n"
    );
    let none = cli.run(&["session", "close", "other"]);
    assert!(none.code == 1 && none.stderr.contains("there is no session other"), "{}", none.stderr);
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let cli = Cli::new();
    cli.run(&["bash", "echo a > a; echo b > b"]).ok();
    cli.run(&["bash", "rm a; mv b c"]).ok();
    cli.run(&["bash", "mkfifo p"]).ok();
    let closed = cli.run(&["session", "close", "default"]).ok();
    assert!(closed.stderr.contains("removed without a copy: p: "), "{}", closed.stderr);
    assert_eq!(cli.run(&["bash", "ls"]).ok().stdout, "c\n");
}

#[test]
fn a_pulled_key_is_one_of_this_session() {
    let cli = Cli::new();
    cli.run(&["bash", "true"]).ok();
    let uploaded = cli.home().join("store/user_local/sessions/default/in/put.txt");
    std::fs::create_dir_all(uploaded.parent().unwrap()).unwrap();
    std::fs::write(&uploaded, "from the user").unwrap();
    cli.run(&["session", "pull", "default", "user_local/sessions/default/in/put.txt"]).ok();
    assert_eq!(cli.run(&["read-file", "in/put.txt"]).ok().stdout, "from the user");
    for key in [
        "user_other/sessions/default/x",
        "user_local/sessions/default/../x",
        "user_local/sessions/defaultx/y",
    ] {
        assert_eq!(cli.run(&["session", "pull", "default", key]).code, 1, "{key}");
    }
    // What is the user's, the agent cannot delete for good from the store.
    cli.run(&["bash", "rm in/put.txt"]).ok();
    assert!(uploaded.exists());
}

#[test]
fn a_session_belongs_to_one_user() {
    let cli = Cli::new();
    cli.run(&["bash", "--user", "ann", "echo private > f"]).ok();
    let other = cli.run(&["bash", "--user", "bob", "cat f"]);
    assert!(
        other.code == 125 && other.stderr.contains("belongs to another user"),
        "{}",
        other.stderr
    );
}

#[test]
fn variables_reach_the_command_and_are_never_printed() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_SECRET", "a passphrase")]);
    cli.run_with(&["variable", "set", "API_KEY", "--encrypted"], "hidden value\n").ok();
    cli.run_with(&["variable", "set", "PLAIN"], "shown").ok();
    let list = cli.run(&["variable", "list"]).ok();
    assert_eq!(list.stdout, "API_KEY (encrypted)\nPLAIN\n");
    assert_eq!(
        cli.run(&["bash", "echo \"$API_KEY|$PLAIN|$AGENT_TOOLS_SECRET\""]).ok().stdout,
        "hidden value|shown|\n"
    );
    let database = std::fs::read(cli.home().join("agent-tools.db")).unwrap();
    assert!(!database.windows(12).any(|bytes| bytes == b"hidden value"));
    cli.run(&["variable", "remove", "PLAIN"]).ok();
    assert_eq!(cli.run(&["bash", "echo \"[$PLAIN]\""]).ok().stdout, "[]\n");
    assert_eq!(cli.run(&["variable", "remove", "PLAIN"]).code, 1);
    assert_ne!(cli.run_with(&["variable", "set", "LD_PRELOAD"], "x").code, 0);
}

#[test]
fn encrypted_variables_without_a_passphrase_are_skipped_and_said_so() {
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
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_that_is_down_costs_only_the_variables() {
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
fn a_database_that_is_damaged_costs_only_the_variables() {
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
fn skills_are_published_and_used() {
    let cli = Cli::new();
    let skill = cli.write(
        "src/SKILL.md",
        "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\nRun hello.sh\n",
    );
    cli.write("src/hello.sh", "echo hello from v1");
    let dir = skill.parent().unwrap().to_str().unwrap().to_owned();
    let published = cli.run(&["--json", "skill", "publish", &dir]).ok().json();
    assert_eq!((published["id"].as_str(), published["version"].as_u64()), (Some("greet"), Some(1)));
    assert!(cli.home().join("store/skills/greet/v1/SKILL.md").is_file());
    assert_eq!(
        cli.run(&["bash", "--skill", "greet@1", "sh skills/greet/hello.sh"]).ok().stdout,
        "hello from v1\n"
    );
    cli.write("src/hello.sh", "echo hello from v2");
    cli.run(&["skill", "publish", &dir, "--id", "greet"]).ok();
    assert_eq!(cli.run(&["skill", "versions", "greet"]).ok().stdout, "1\n2\n");
    assert_eq!(cli.run(&["skill", "list"]).ok().stdout, "greet@2\n");
    assert_eq!(
        cli.run(&["bash", "--skill", "greet@2=hi", "sh skills/hi/hello.sh"]).ok().stdout,
        "hello from v2\n"
    );
    assert_eq!(
        cli.run(&["--json", "bash", "--skill", "greet@2", "touch skills/mine"]).ok().json()["artifacts"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    let target = cli.dir().join("target");
    cli.run(&["skill", "install", "greet@1", target.to_str().unwrap()]).ok();
    assert!(target.join("skills/greet/hello.sh").is_file());
    let missing = cli.run(&["bash", "--session", "fresh", "--skill", "nope@3", "true"]);
    let warned = missing.code == 125 || missing.stderr.contains("nope");
    assert!(warned, "{}", missing.stderr);
    assert_eq!(cli.run(&["skill", "versions", "nope"]).code, 1);
}

#[test]
fn policies_are_shown_checked_and_used() {
    let cli = Cli::new();
    let shown = cli.run(&["policy", "show"]).ok();
    let file = cli.write("policy.json", &shown.stdout);
    cli.run(&["policy", "check", file.to_str().unwrap()]).ok();
    cli.run(&["bash", "--policy", file.to_str().unwrap(), "echo x > f; cat f"]).ok();
    let typo = cli.write("typo.json", &shown.stdout.replace("denyRead", "denyReed"));
    let checked = cli.run(&["policy", "check", typo.to_str().unwrap()]);
    assert!(
        checked.code == 1
            && checked.stderr.contains("denyReed")
            && checked.stderr.contains("denyRead"),
        "{}",
        checked.stderr
    );
    let secret = cli.write("secret", "top secret");
    let path = secret.to_str().unwrap();
    assert_ne!(cli.run(&["bash", &format!("cat {path}")]).code, 0);
    assert_eq!(
        cli.run(&["bash", "--allow-read", path, &format!("cat {path}")]).ok().stdout,
        "top secret"
    );
    assert_eq!(cli.run(&["bash", "--allow-read", "/no/such/path", "true"]).code, 125);
}

#[test]
fn a_policy_explains_paths_and_hosts_by_the_rule_that_decides() {
    let cli = Cli::new();
    let explain = |target: &str| cli.run(&["policy", "explain", target]).ok().stdout;
    let session = cli.home().join("sessions/default/f");
    let text = explain(session.to_str().unwrap());
    assert!(
        text.contains("read: allowed") && text.contains("write: allowed: allowWrite has"),
        "{text}"
    );
    let text = explain("/usr/bin/env");
    assert!(text.contains("read: allowed: no entry of denyRead covers it"), "{text}");
    assert!(
        text.contains("read: allowed") && text.contains("write: denied: no entry of allowWrite"),
        "{text}"
    );
    let text = explain("~/.ssh/id_rsa");
    assert!(text.contains("read: denied: denyRead has"), "{text}");
    assert!(explain("example.com:443").contains("connect: denied: no entry of allowedDomains"));
    let json = cli.run(&["--json", "policy", "explain", "/etc/shadow"]).ok().json();
    assert_eq!(
        (&json["verdicts"][1]["access"], &json["verdicts"][1]["allowed"]),
        (&"write".into(), &false.into())
    );
    for bad in ["http://x", "x:y", "a b"] {
        assert_eq!(cli.run(&["policy", "explain", bad]).code, 2, "{bad}");
    }
}

#[test]
fn doctor_names_every_layer_and_what_is_out_of_reach() {
    let mut cli = Cli::new();
    let program = cli.write(".tool/bin/uv", "#!/bin/sh\n");
    cli.environment
        .push(("PATH".into(), format!("{}:/usr/bin:/bin", program.parent().unwrap().display())));
    let ran = cli.run(&["doctor"]).ok();
    for word in
        ["filesystem", "network", "processes", "system calls", "resources", "store", "variables"]
    {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    let open =
        format!("--allow-read {}", cli.dir().canonicalize().unwrap().join(".tool").display());
    assert!(ran.stdout.contains(&open), "{open}: {}", ran.stdout);
}

#[test]
fn doctor_lists_the_url_schemes_and_how_to_get_the_missing_ones() {
    let ran = Cli::new().run(&["--json", "doctor"]).ok().json();
    let schemes = ran["schemes"].as_array().unwrap();
    let find = |name: &str| schemes.iter().find(|scheme| scheme["scheme"] == name).unwrap();
    assert_eq!(find("file://")["builtIn"], true);
    let cloud = find("gs://");
    assert_eq!(cloud["builtIn"], cfg!(feature = "gcs"));
    if !cfg!(feature = "gcs") {
        let remedy = "needs the feature `gcs`; install with `--features full`";
        assert_eq!(cloud["remedy"], remedy);
        let ran = Cli::with_store("gs://bucket", &[]).run(&["bash", "true"]);
        assert_eq!(ran.code, 125);
        assert!(ran.stderr.contains(remedy), "{}", ran.stderr);
    }
}

#[cfg(feature = "s3")]
#[test]
fn a_store_that_is_not_reachable_stops_a_new_session_and_leaves_nothing() {
    let credentials = [
        ("AWS_ACCESS_KEY_ID", "k".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
        ("AWS_ENDPOINT", "http://127.0.0.1:1".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let cli = Cli::with_store("s3://bucket/prefix", &credentials);
    let ran = cli.run(&["bash", "echo x > f"]);
    assert!(
        ran.code == 125 && ran.stderr.contains("could not be restored from the store"),
        "{}",
        ran.stderr
    );
    assert!(!cli.home().join("sessions/default").exists());
}

#[test]
fn an_interrupt_ends_the_command_and_keeps_what_it_wrote() {
    let cli = Cli::new();
    cli.run(&["bash", "true"]).ok();
    let mut child = cli
        .command(&["bash", "echo early > early.txt; sleep 1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let file = cli.home().join("sessions/default/early.txt");
    for _ in 0..1000 {
        if file.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let next = cli.run(&["--json", "bash", "true"]).ok().json();
    assert_eq!(next["artifacts"][0]["relativePath"], "early.txt");
}

#[test]
fn settings_may_come_from_the_environment() {
    let mut cli = Cli::new();
    cli.environment.extend([
        ("AGENT_TOOLS_SESSION".into(), "from-env".into()),
        ("AGENT_TOOLS_TIMEOUT".into(), "0.3".into()),
    ]);
    assert_eq!(cli.run(&["bash", "sleep 60"]).code, 124);
    assert_eq!(cli.run(&["session", "list"]).ok().stdout, "from-env\n");
}
