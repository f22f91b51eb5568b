//! The subcommand `policy`, and the options that select a policy.

// Long because its tests share one set of helpers.

use super::Cli;

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
fn explain_names_the_rule_that_decides() {
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
    let text = explain("/root/.ssh/id_rsa");
    assert!(text.contains("read: denied: denyRead has /root"), "{text}");
    let text = explain("/tmp/x");
    let own = "allowed: each session has its own /tmp instead of the host's";
    assert!(text.contains(&format!("read: {own}")), "{text}");
    assert!(text.contains(&format!("write: {own}")), "{text}");
    let text = cli.run(&["--engine", "landlock", "policy", "explain", "/tmp/x"]).ok().stdout;
    assert!(text.contains("read: denied: denyRead has /tmp"), "{text}");
    assert!(explain("example.com:443").contains("connect: denied: the session has no network\n"));
    assert!(explain("localhost:80").contains("connect: allowed: each session has a loopback"));
    let json = cli.run(&["--json", "policy", "explain", "/etc/shadow"]).ok().json();
    assert_eq!(
        (&json["verdicts"][1]["access"], &json["verdicts"][1]["allowed"]),
        (&"write".into(), &false.into())
    );
    for own in ["::1", "[::1]:80", "0.0.0.0", "0.0.0.0:80", "::"] {
        let text = explain(own);
        assert!(text.starts_with(&format!("{own} (a host)\n  connect: allowed")), "{text}");
    }
    assert!(explain("README.md").starts_with("README.md (a host; write ./README.md for a path)"));
    cli.write("README.md", "");
    let text = explain("README.md");
    assert!(text.starts_with('/') && text.contains("README.md\n  read: "), "{text}");
    assert!(explain("docs/x").contains("/docs/x\n  read: "));
    let advice = |args: &[&str], target: &str| {
        cli.run(&[&["policy", "explain"], args, &[target]].concat()).ok().stdout
    };
    for (target, remedy) in [
        ("relfile", "use --expose NAME=HOST:PORT for a host whose name has no dot\n"),
        ("db.host.internal:81", "use --expose db=HOST:81\n"),
        ("2001:db8::1", "use --allow-host '[2001:db8::1]' (network"),
        ("/srv/no/such", "create /srv/no/such and use --allow-read /srv/no/such (filesystem"),
    ] {
        let text = advice(&[], target);
        assert!(text.contains(&format!("to allow it, {remedy}")), "{text}");
    }
    let exposed = advice(&["--expose", "db=127.0.0.1:81"], "db.host.internal:81");
    assert!(exposed.contains("connect: allowed"), "{exposed}");
    let host = ["policy", "explain", "--allow-host", "db.host.internal:81", "a.com"];
    let refused = cli.run(&host);
    assert!(refused.code == 2 && refused.stderr.contains("--expose"), "{}", refused.stderr);
    let url = cli.run(&["policy", "explain", "http://x"]).stderr;
    assert!(url.contains("leave out the scheme"), "{url}");
    for bad in ["http://x", "x:y", "a b"] {
        assert_eq!(cli.run(&["policy", "explain", bad]).code, 2, "{bad}");
    }
}

/// Settings with these lists of `filesystem`, and these keys of `network`.
fn settings(filesystem: &str, network: &str) -> String {
    format!(r#"{{"network":{{"deniedDomains":[],{network}}},"filesystem":{{{filesystem}}}}}"#)
}

const CLOSED: &str = r#""allowedDomains":[]"#;
const OTHER_PROXY: &str = r#""allowedDomains":["example.com"],"httpProxyPort":8080"#;
const LISTS: &str = r#""denyRead":[],"allowWrite":["."],"denyWrite":[]"#;

#[test]
fn check_refuses_what_a_sandbox_refuses_with_the_same_reason() {
    let cli = Cli::new();
    let native = [
        (settings(LISTS, CLOSED), true),
        (settings(&LISTS.replace("[]", "[\"/etc/a[b\"]"), CLOSED), true),
        (settings(&LISTS.replace("[]", "[\"/a[b\"]"), CLOSED), false),
        (settings(&LISTS.replace("[]", "[\"/**/*.pem\"]"), CLOSED), false),
        (settings(LISTS, r#""allowedDomains":["example.com"]"#), true),
        (settings(LISTS, OTHER_PROXY), false),
        (settings(&LISTS.replace("[]", "[\"~ann/x\", \"rel/*\"]"), CLOSED), true),
        (settings(&LISTS.replace("[]", "[\"a\\u0000\"]"), CLOSED), false),
        (settings(LISTS, CLOSED).replace("}}", "},\"credentials\":{}}"), false),
        (settings(LISTS, r#""allowedDomains":[],"allowAllUnixSockets":true"#), true),
    ];
    for (text, is_valid) in native {
        check_agrees(&cli, "native", &text, is_valid);
    }
    let landlock = [
        (settings(LISTS, CLOSED), true),
        (settings(LISTS, r#""allowedDomains":[],"allowAllUnixSockets":true"#), false),
        (settings(LISTS, r#""allowedDomains":["example.com"]"#), false),
        (settings(r#""denyRead":["f"],"allowWrite":["."],"denyWrite":[]"#, CLOSED), false),
    ];
    cli.write("f", "");
    for (text, is_valid) in landlock {
        check_agrees(&cli, "landlock", &text, is_valid);
    }
}

#[test]
fn check_names_the_entries_that_do_not_exist() {
    let cli = Cli::new();
    let text = settings(
        r#""denyRead":["~ann/keys"],"allowWrite":[".","$OUT/x","/absent"],"denyWrite":["later"]"#,
        CLOSED,
    );
    let file = cli.write("settings.json", &text);
    let checked = cli.run(&["policy", "check", file.to_str().unwrap()]).ok().stdout;
    let notes: Vec<&str> = checked.lines().filter(|line| line.starts_with("note[")).collect();
    for (list, path, end) in [
        ("denyRead", "/~ann/keys", "name a home directory"),
        ("allowWrite", "/$OUT/x", "does not exist; variables are not expanded"),
        ("allowWrite", "/absent", "does not exist"),
    ] {
        let is_there =
            |note: &&str| note.contains(list) && note.contains(path) && note.ends_with(end);
        assert!(notes.iter().any(is_there), "{path}: {checked}");
    }
    assert_eq!(notes.len(), 3, "{checked}");
}

#[test]
fn settings_that_hide_the_working_directory_are_named() {
    let cli = Cli::new();
    let text = settings(r#""denyRead":["."],"allowWrite":[],"denyWrite":[]"#, CLOSED);
    let file = cli.write("settings.json", &text);
    let file = file.to_str().unwrap();
    let reason = "the settings hide the working directory";
    let checked = cli.run(&["policy", "check", file]).ok().stdout;
    assert!(checked.contains(reason), "{checked}");
    let ran = cli.run(&["sandbox", "-s", file, "--", "true"]);
    assert!(ran.code == 125 && ran.stderr.contains(reason), "{}", ran.stderr);
    let text = settings(r#""denyRead":[""],"allowWrite":[],"denyWrite":[]"#, CLOSED);
    check_agrees(&cli, "native", &text, false);
}

#[test]
fn a_relative_pattern_hides_names_in_a_directory_with_pattern_characters() {
    let cli = Cli::new();
    let dir = cli.dir().join("b[1]");
    cli.write("b[1]/p[1]/s", "secret");
    let lists = r#""denyRead":["p[1]"],"allowWrite":["."],"denyWrite":["p[1]/t"]"#;
    let file = cli.write("settings.json", &settings(lists, CLOSED));
    let script = "cat p*/s; echo x > p*/t; echo y > f";
    let mut command = cli.command(&["sandbox", "-s", file.to_str().unwrap(), "-c", script]);
    let ran = command.current_dir(&dir).output().unwrap();
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("secret"), "{ran:?}");
    assert!(dir.join("f").exists(), "{ran:?}");
    assert!(!dir.join("p[1]/t").exists());
}

#[test]
fn the_configuration_of_the_users_git_is_protected_wherever_it_lies() {
    let cli = Cli::new();
    cli.write(".gitconfig", "[include]\n\tpath = dotfiles/shared\n");
    let lists = r#""denyRead":[],"allowWrite":["./dotfiles","./xdg","./other"],"denyWrite":[]"#;
    let settings = cli.write("settings.json", &settings(lists, CLOSED));
    for file in ["dotfiles/shared", "xdg/git/config", "other/config", "other/file"] {
        let path = cli.write(file, "[user]\n\tname = Ann\n");
        let script = format!("echo x >> {}", path.display());
        let mut run = cli.command(&["sandbox", "-s", settings.to_str().unwrap(), "-c", &script]);
        run.env("XDG_CONFIG_HOME", cli.dir().join("xdg"));
        run.env("GIT_CONFIG_GLOBAL", cli.dir().join("other/config"));
        let ran = run.output().unwrap();
        assert_eq!(ran.status.success(), file == "other/file", "{file}: {ran:?}");
    }
}

#[track_caller]
fn check_agrees(cli: &Cli, engine: &str, text: &str, is_valid: bool) {
    // In a writable directory, the weaker engine could not protect the file itself and the home.
    let place = tempfile::tempdir().unwrap();
    let file = testkit::write_file(place.path(), "settings.json", text);
    let file = file.to_str().unwrap();
    let home = place.path().join("home");
    let options = ["--home", home.to_str().unwrap(), "--engine", engine];
    let checked = cli.run(&[&options[..], &["policy", "check", file]].concat());
    let ran = cli.run(&[&options[..], &["sandbox", "-s", file, "--", "true"]].concat());
    let expected = if is_valid { (0, 0) } else { (1, 125) };
    assert_eq!((checked.code, ran.code), expected, "{text}: {}{}", checked.stderr, ran.stderr);
    if !is_valid {
        assert_eq!(checked.stderr, ran.stderr, "{text}");
    }
}

#[test]
fn findings_have_a_place_and_a_remedy() {
    let cli = Cli::new();
    let text = settings(
        r#""denyRead":[],"allowWrite":[],"denyWrite":[]"#,
        "\"allowedDomains\":[],\n  \"strictAllowlist\":true",
    );
    let file = cli.write("settings.json", &text);
    let file = file.to_str().unwrap();
    let checked = cli.run(&["policy", "check", file]).ok().stdout;
    let expected = format!(
        "warning[no-effect]: network.strictAllowlist: has no effect: no host is allowed\n  \
         --> {file}:2:3\n"
    );
    assert!(checked.starts_with(&expected), "{checked}");
    assert!(checked.contains("   ^^^^^^^^^^^^^^^^^\n   = help: leave the key out\n"), "{checked}");
    let found = cli.run(&["--json", "policy", "check", file]).ok().json();
    assert_eq!(found["valid"], true);
    let finding = &found["findings"][0];
    assert_eq!(finding["pointer"], "/network/strictAllowlist");
    assert_eq!((&finding["line"], &finding["column"]), (&2.into(), &3.into()));

    let refused = text
        .replace("\"allowedDomains\":[]", "\"allowedDomains\":[\"a.com\"],\"httpProxyPort\":8080");
    let file = cli.write("refused.json", &refused);
    let checked = cli.run(&["--json", "policy", "check", file.to_str().unwrap()]);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains(r#""severity":"error""#), "{}", checked.stdout);
    for (setting, key, remedy) in [
        (r#""parentProxy":{"https":"https://p.x"}"#, "parentProxy.https", "cannot be TLS"),
        (r#""tlsTerminate":{"extraCaCertPaths":[]}"#, "tlsTerminate.extraCaCertPaths", "SSL_CERT"),
    ] {
        let refused = text
            .replace("\"allowedDomains\":[]", &format!("\"allowedDomains\":[\"a.com\"],{setting}"));
        let file = cli.write("refused.json", &refused);
        let checked = cli.run(&["policy", "check", file.to_str().unwrap()]);
        assert_eq!(checked.code, 1, "{}", checked.stdout);
        assert!(checked.stdout.contains(&format!("network.{key}: ")), "{}", checked.stdout);
        assert!(checked.stdout.contains(remedy), "{}", checked.stdout);
    }
}

#[test]
fn check_shows_every_invalid_value_with_its_place() {
    let cli = Cli::new();
    let text = settings(LISTS, "\"allowedDomains\":[\n\"*.com\",\n\"a.com\",\n\"b/c\"]").replacen(
        '{',
        "{\"bwrapPath\":\"x\",",
        1,
    );
    let file = cli.write("settings.json", &text);
    let checked = cli.run(&["--json", "policy", "check", file.to_str().unwrap()]);
    assert_eq!(checked.code, 1);
    let found = checked.json()["findings"].clone();
    let found = found.as_array().unwrap().iter();
    let places: Vec<_> =
        found.map(|found| (found["line"].clone(), found["code"].clone())).collect();
    let expected = [1, 2, 4].map(|line| (line.into(), "invalid-value".into()));
    assert_eq!(places, expected);
}

#[test]
fn an_unreadable_key_hides_no_other_finding() {
    let cli = Cli::new();
    let network = r#""allowedDomains":["*.com"],"bogus":1,"strictAllowlist":true"#;
    let file = cli.write("settings.json", &settings(LISTS, network));
    let checked = cli.run(&["--json", "policy", "check", file.to_str().unwrap()]);
    let found = checked.json()["findings"].clone();
    let codes: Vec<_> = found.as_array().unwrap().iter().map(|found| &found["code"]).collect();
    assert_eq!(codes, ["invalid-value", "unreadable", "no-effect"], "{found}");
    assert_eq!(checked.code, 1);
}

#[test]
fn settings_that_open_no_sandbox_are_explained_as_such() {
    let cli = Cli::new();
    let dir = cli.write("work/inner/file", "");
    let inner = dir.parent().unwrap();
    let filesystem = format!(
        r#""denyRead":[{inner:?}],"allowWrite":[{:?}],"denyWrite":[]"#,
        inner.parent().unwrap()
    );
    let file = cli.write("settings.json", &settings(&filesystem, r#""allowedDomains":[]"#));
    let file = file.to_str().unwrap();
    let checked = cli.run(&["--json", "--engine", "landlock", "policy", "check", file]);
    let finding = &checked.json()["findings"][0];
    assert_eq!(finding["code"], "does-not-open");
    assert_eq!(finding["path"], "filesystem.denyRead[0]");
    assert!(finding["problem"].as_str().unwrap().contains("--accept inner-rules"), "{finding}");
    for target in ["/etc", "a.com"] {
        let explained =
            cli.run(&["--engine", "landlock", "policy", "explain", "--settings", file, target]);
        assert_eq!(explained.code, 1);
        assert!(explained.stderr.contains("no sandbox opens"), "{}", explained.stderr);
    }
}

#[test]
fn settings_of_other_sandboxes_are_imported_and_losses_are_named() {
    let cli = Cli::new();
    let codex = "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\n\
                 network_access = true\nwritable_roots = [\"/r\"]\n";
    let codex = cli.write("config.toml", codex);
    let import = ["policy", "import", "--project", "/p", "--from"];
    let imported = cli.run(&[&import[..], &["codex", codex.to_str().unwrap()]].concat()).ok();
    assert_eq!(imported.json()["filesystem"]["allowWrite"][2], "/r");
    let lost = "lost: sandbox_workspace_write.network_access: ";
    assert!(imported.stderr.contains(lost), "{}", imported.stderr);

    let claude = cli.write("claude.json", r#"{"sandbox":{"filesystem":{"denyRead":["x"]}}}"#);
    let claude = claude.to_str().unwrap();
    let imported = cli.run(&[&["--json"], &import[..], &["claude-code", claude]].concat());
    assert_eq!(imported.ok().json()["settings"]["filesystem"]["denyRead"][0], "/p/x");
    let wrong = cli.run(&[&import[..], &["codex", claude]].concat());
    assert!(wrong.code == 1 && wrong.stderr.contains("claude.json"), "{}", wrong.stderr);

    let schema = cli.run(&["policy", "schema"]).ok().json();
    assert!(schema["properties"]["filesystem"].is_object());
}

#[test]
fn relative_paths_of_settings_begin_in_the_working_directory_everywhere() {
    let cli = Cli::new();
    let text =
        settings(r#""denyRead":["/home"],"allowWrite":["out"],"denyWrite":["out/k*"]"#, CLOSED);
    let file = cli.write("settings.json", &text);
    let file = file.to_str().unwrap();
    std::fs::create_dir(cli.dir().join("out")).unwrap();
    cli.run(&["policy", "check", file]).ok();
    let dir = cli.dir().canonicalize().unwrap();
    let shown = cli.run(&["policy", "show", "--policy", file]).ok().json();
    let writable = &shown["filesystem"]["allowWrite"];
    assert!(writable.as_array().unwrap().contains(&dir.join("out").to_str().unwrap().into()));
    let explained = cli.run(&["policy", "explain", "--policy", file, "./out/x"]).ok().stdout;
    assert!(explained.contains("write: allowed"), "{explained}");
    let explained = cli.run(&["policy", "explain", "--policy", file, "./out/k1"]).ok().stdout;
    assert!(explained.contains("write: denied: denyWrite has"), "{explained}");
    let script = format!("echo x > {0}/out/x && ! echo x > {0}/out/k1", dir.display());
    cli.run(&["bash", "--policy", file, &script]).ok();
}

#[test]
fn explain_agrees_with_a_session_about_its_devices() {
    let cli = Cli::new();
    let own = ["/proc/self/comm", "/proc/self/fd/1", "/proc/1/environ"];
    let devices = ["/dev/null", "/dev/shm/f", "/dev/q", "/dev/mem", "/dev/pts", "/dev/fd"];
    for device in devices.into_iter().chain(own) {
        let explained = cli.run(&["--json", "policy", "explain", device]).ok().json();
        let command = format!("echo x > {device}");
        let is_writable = cli.run(&["bash", &command]).code == 0;
        assert_eq!(explained["verdicts"][1]["allowed"], is_writable, "{explained}");
    }
    let explained = cli.run(&["--json", "policy", "explain", "/proc/1/environ"]).ok().json();
    assert_eq!(explained["verdicts"][0]["allowed"], false, "{explained}");
    let refused = cli.run(&["bash", "cat /proc/1/environ"]);
    assert!(refused.code != 0 && !refused.stderr.contains("--allow"), "{}", refused.stderr);
    let refused = cli.run(&["bash", "touch /dev/q"]);
    assert!(!refused.stderr.contains("--allow-write"), "{}", refused.stderr);
}

#[test]
fn explain_follows_symlinks_and_the_configuration_of_a_repository() {
    let cli = Cli::new();
    let user = cli.dir().canonicalize().unwrap().join("user");
    for dir in ["repo/.git/objects", "repo/.git/refs", "repo/.husky", "dotfiles"] {
        std::fs::create_dir_all(user.join(dir)).unwrap();
    }
    std::fs::write(user.join("repo/.git/HEAD"), "").unwrap();
    std::fs::write(user.join("repo/.git/config"), "[core]\n\thooksPath = .husky\n").unwrap();
    std::fs::write(user.join("dotfiles/bashrc"), "").unwrap();
    std::os::unix::fs::symlink("dotfiles/bashrc", user.join(".bashrc")).unwrap();
    let opened = user.to_str().unwrap();
    let explain = |path: &str| {
        let path = user.join(path);
        let args = ["policy", "explain", "--allow-write", opened, path.to_str().unwrap()];
        cli.run(&args).ok().stdout
    };
    let leads = "write: denied: .bashrc is always protected from writing, and";
    assert!(explain("dotfiles/bashrc").contains(leads), "{}", explain("dotfiles/bashrc"));
    let hook = explain("repo/.husky/pre-commit");
    assert!(hook.contains("write: denied: the configuration of a git repository"), "{hook}");
    assert!(explain("dotfiles/other").contains("write: allowed"));
    let config = explain("repo/.git/config");
    assert!(config.contains("set filesystem.allowGitConfig to true"), "{config}");
}
