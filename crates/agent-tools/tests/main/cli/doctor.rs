//! The subcommand `doctor`, and the choice of the engine.

use serde_json::json;

use super::Cli;

#[test]
fn the_weaker_engine_must_be_named_and_reports_its_weaknesses() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_ENGINE", "landlock")]);
    let doctor = cli.run(&["doctor"]);
    if doctor.code != 0 {
        println!("{}", doctor.stdout);
        return testkit::skipped("the engine without namespaces", "Linux 6.12 with Landlock");
    }
    assert!(doctor.stdout.contains("weaker: names, sizes and times"), "{}", doctor.stdout);
    assert!(doctor.stdout.starts_with("engine landlock\n"), "{}", doctor.stdout);
    for line in [
        "/tmp          not limited; $TMPDIR is a directory of the host",
        "/dev/shm      none; it is closed",
        "shared memory none; System V memory is denied",
        "inotify       those of the user, together with its other programs",
    ] {
        assert!(doctor.stdout.contains(line), "{line}: {}", doctor.stdout);
    }
    let command = "echo kept > \"$TMPDIR/f\" && cat \"$HOME/f\" && echo x > f; \
                   ls /; cat ../../store/x; echo x > /tmp/x";
    let ran = cli.run(&["--json", "bash", command]).json();
    assert_eq!(ran["exitCode"], 1);
    assert!(ran["stdout"].as_str().unwrap().starts_with("kept\n"), "{ran}");
    assert_eq!(ran["artifacts"][0]["relativePath"], "f");
    assert_eq!(cli.run(&["read-file", "f"]).ok().stdout, "x\n");

    // A session names the directory of the user that this engine cannot protect.
    let hook = cli.write("user/repo/.git/hooks/x", "");
    let user = hook.ancestors().nth(4).unwrap().to_str().unwrap();
    let denied = cli.run(&["bash", "--allow-write", user, "true"]);
    assert_eq!(denied.code, 125);
    assert!(
        denied.stderr.contains("repo/.git/hooks")
            && denied.stderr.contains("--accept inner-rules`"),
        "{}",
        denied.stderr
    );
    cli.run(&["--accept", "inner-rules", "bash", "--allow-write", user, "true"]).ok();
    assert_eq!(cli.run(&["--accept", "nonsense", "bash", "true"]).code, 2);
    assert_eq!(cli.run(&["sandbox", "-c", "exit 7"]).code, 7);
}

#[test]
fn doctor_names_every_layer_and_unreachable_runtimes() {
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
    let limits = ["session       10 GiB and 1000000 files", "inotify       32 instances"];
    let others = [
        "upload queue  10 GiB of files",
        "linger        250 ms",
        "semaphores    128 sets",
        "messages      32 System V and 32 POSIX queues",
        "refused       leases of files, io_setup",
    ];
    for limit in limits.into_iter().chain(others) {
        assert!(ran.stdout.contains(limit), "{limit}: {}", ran.stdout);
    }
    let store = format!("store           {}", cli.home().join("store").display());
    assert!(ran.stdout.contains(&store), "{store}: {}", ran.stdout);
    let open =
        format!("--allow-read {}", cli.dir().canonicalize().unwrap().join(".tool").display());
    assert!(ran.stdout.contains(&open), "{open}: {}", ran.stdout);
}

#[test]
fn doctor_lists_url_schemes_and_how_to_get_missing_ones() {
    let ran = Cli::new().run(&["--json", "doctor"]).ok().json();
    let schemes = ran["schemes"].as_array().unwrap();
    let find = |name: &str| schemes.iter().find(|scheme| scheme["scheme"] == name).unwrap();
    assert_eq!(
        (&find("memory://")["builtIn"], &find("file://")["builtIn"]),
        (&true.into(), &true.into())
    );
    let cloud = find("gs://");
    assert_eq!(cloud["builtIn"], cfg!(feature = "gcs"));
    if !cfg!(feature = "gcs") {
        let remedy = "is not in this build; one with the feature `gcs` has it";
        assert_eq!(cloud["remedy"], remedy);
        let ran = Cli::with_store("gs://bucket", &[]).run(&["bash", "true"]);
        assert_eq!(ran.code, 125);
        assert!(ran.stderr.contains(remedy), "{}", ran.stderr);
    }
}

#[test]
fn doctor_reports_everything_although_checks_fail() {
    let cli = Cli::new();
    let not_a_store = cli.write("store", "");
    let url = format!("file://{}", not_a_store.canonicalize().unwrap().display());
    let ran = cli.run(&["--store", &url, "--json", "doctor", "--policy", "absent.json"]);
    assert_eq!(ran.code, 1);
    let report = ran.json();
    for (check, problem) in [("store", "Not a directory"), ("settings", "absent.json")] {
        assert_eq!(report[check]["ok"], false, "{check}");
        assert!(report[check]["detail"].as_str().unwrap().contains(problem), "{report}");
    }
    assert_eq!((&report["variables"]["ok"], &report["home"]["ok"]), (&json!(true), &json!(true)));
    assert_eq!(report["layers"].as_array().unwrap().len(), 5);
    let shown = cli.run(&["--store", &url, "policy", "show"]).ok().json();
    assert!(shown["filesystem"]["denyRead"].is_array(), "a policy needs no store");
}

#[test]
fn doctor_checks_that_the_home_can_be_written_if_the_store_is_elsewhere() {
    let cli = Cli::new();
    let store = tempfile::tempdir().unwrap();
    let url = format!("file://{}", store.path().display());
    // A file in the place of a directory cannot be written by root either.
    let file = cli.write("file", "");
    for home in [file.clone(), file.join("home")] {
        let ran = cli.run(&["--home", home.to_str().unwrap(), "--store", &url, "--json", "doctor"]);
        let report = ran.json();
        assert_eq!((ran.code, &report["home"]["ok"]), (1, &json!(false)), "{report}");
        assert!(report["home"]["detail"].as_str().unwrap().contains("Not a directory"), "{report}");
    }
    let home = cli.home().join("a/b");
    let ran = cli.run(&["--home", home.to_str().unwrap(), "--store", &url, "--json", "doctor"]);
    assert_eq!((&ran.ok().json()["home"]["ok"], home.exists()), (&json!(true), false));
}

#[test]
fn doctor_names_variables_that_no_command_gets() {
    let cli = Cli::new();
    let secret = cli.write("passphrase", "a passphrase");
    let set = ["--secret-file", secret.to_str().unwrap(), "variable", "set", "--encrypted", "KEY"];
    cli.run_with(&set, "a value of KEY").ok();
    let report = cli.run(&["--json", "doctor"]).ok().json();
    let detail = report["variables"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("1 stored; KEY is left out: ") && detail.contains("passphrase"));
}
