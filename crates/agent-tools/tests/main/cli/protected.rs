//! The files that decide about access, in directories that a caller opens for commands.

use super::Cli;

const OPEN: &str = r#"{"network":{"allowedDomains":[],"deniedDomains":[]},
    "filesystem":{"denyRead":[],"allowWrite":["."],"denyWrite":[]}}"#;
const DISABLED: &str = r#"{"network":{"allowedDomains":[],"deniedDomains":[]},
    "filesystem":{"disabled":true,"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#;
/// A public key of minisign.
const KEY: &str =
    "untrusted comment: a key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
const WEAKER: [&str; 4] = ["--engine", "landlock", "--accept", "inner-rules,attributes,signals"];

/// Attacks each file, and prints what worked. The directory is the argument.
const ATTACKS: &str = r#"
exec 2> /dev/null
for name in settings.json key.pub .agent-tools.toml; do
    echo x >> "$D/$name" && echo "appended $name"
    mv "$D/$name" "$D/moved" && echo "moved $name"
    ln "$D/$name" "$D/linked" && echo x >> "$D/linked" && echo "linked $name"
    mv "$D/other" "$D/$name" && echo "replaced $name"
    rm -f "$D/$name" && echo "removed $name"
done
for name in secret vars.db "agent home" "agent home/agent-tools.db" "agent home/state"; do
    cat "$D/$name" && echo "read $name"
    ls "$D/$name"/agent-tools.db && echo "listed $name"
    echo x > "$D/$name" && echo "wrote $name"
    echo x > "$D/$name/new" && echo "wrote in $name"
    mv "$D/$name" "$D/moved" && echo "moved $name"
    rm -r "$D/$name" && echo "removed $name"
done
for name in vars.db-journal vars.db-wal .srt-settings.json "agent home/agent-tools.toml"; do
    echo x > "$D/$name" && echo "created $name"
    ln -s other "$D/$name" && echo "linked $name"
    mv "$D/other" "$D/$name" && echo "moved to $name"
done
echo kept > "$D/own"
echo tried"#;

/// A home, a project with settings and secrets, and the options that name them.
struct Fixture {
    cli: Cli,
    options: Vec<String>,
}

impl Fixture {
    fn new(settings: &str) -> Self {
        let cli = Cli::new();
        let dir = cli.dir().canonicalize().unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        cli.write("settings.json", settings);
        cli.write("key.pub", KEY);
        cli.write("secret", "passphrase-of-the-operator\n");
        cli.write("other", "x");
        cli.write(".agent-tools.toml", "deny-read = [\"absent\"]\n");
        let database = format!("sqlite:{}", at("vars.db"));
        let set = ["--variables", &database, "variable", "set", "PLAIN_OF_OPERATOR", "--plain"];
        cli.run_with(&set, "value-of-the-operator").ok();
        testkit::write_file(&cli.home(), "agent-tools.db", "");
        let (secret, key) = (at("secret"), at("key.pub"));
        let options = ["--variables", &database, "--secret-file", &secret, "--skill-key", &key];
        let options = options.map(str::to_owned).to_vec();
        Self { cli, options }
    }

    fn run(&self, args: &[&str]) -> super::Ran {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.cli.run(&[&options[..], args].concat())
    }

    fn script(&self) -> String {
        format!("D='{}'\n{ATTACKS}", self.cli.dir().canonicalize().unwrap().display())
    }

    /// Returns the files of the operator with their content, and which may not exist.
    fn state(&self) -> Vec<Option<Vec<u8>>> {
        let names = ["settings.json", "key.pub", ".agent-tools.toml", "secret", "vars.db"];
        let absent = ["vars.db-journal", "vars.db-wal", ".srt-settings.json"];
        let home = ["agent home/agent-tools.toml", "agent home/agent-tools.db"];
        let all = names.into_iter().chain(absent).chain(home);
        all.map(|name| std::fs::read(self.cli.dir().join(name)).ok()).collect()
    }
}

#[track_caller]
fn check_unchanged(fixture: &Fixture, args: &[&str]) {
    let before = fixture.state();
    let ran = fixture.run(args);
    assert_eq!(ran.stdout, "tried\n", "{args:?}: {}", ran.stderr);
    assert!(before == fixture.state(), "{args:?}: {}", ran.stderr);
    assert!(fixture.cli.dir().join("own").exists(), "{args:?}: {}", ran.stderr);
}

#[test]
fn commands_of_a_session_change_no_file_that_decides_about_access() {
    for settings in [OPEN, DISABLED] {
        let fixture = Fixture::new(settings);
        let dir = fixture.cli.dir().canonicalize().unwrap();
        let file = dir.join("settings.json");
        let open = ["--policy", file.to_str().unwrap(), "--allow-write", dir.to_str().unwrap()];
        check_unchanged(&fixture, &[&["bash"], &open[..], &[&fixture.script()]].concat());
        // Nor does an entry for the very file open it.
        let entries: Vec<String> = ["settings.json", "secret", "agent home"]
            .iter()
            .map(|name| dir.join(name).to_str().unwrap().to_owned())
            .collect();
        let named = entries.iter().flat_map(|entry| ["--allow-write", entry]).collect::<Vec<_>>();
        check_unchanged(&fixture, &[&["bash"], &open[..], &named, &[&fixture.script()]].concat());
    }
}

#[test]
fn a_command_without_a_session_changes_no_file_that_decides_about_access() {
    for settings in [OPEN, DISABLED] {
        let fixture = Fixture::new(settings);
        let args = ["sandbox", "--settings", "settings.json", "-c", &fixture.script()];
        check_unchanged(&fixture, &args);
        // The default file is read-only too, however it is reached.
        let link = fixture.cli.dir().join("link.json");
        std::os::unix::fs::symlink("settings.json", &link).unwrap();
        let script = "rm link.json || mv other link.json || echo x > link.json || echo denied";
        let ran = fixture.run(&["sandbox", "--settings", "link.json", "-c", script]);
        assert_eq!(ran.stdout, "denied\n", "{}", ran.stderr);
    }
    let fixture = Fixture::new(OPEN);
    fixture.cli.write(".srt-settings.json", OPEN);
    let script = "f=.srt-settings.json; echo x >> $f || rm $f || mv other $f || echo denied";
    assert_eq!(fixture.run(&["sandbox", "-c", script]).stdout, "denied\n");
}

#[test]
fn an_absent_home_is_hidden_where_a_command_could_create_it() {
    let cli = Cli::new();
    cli.write("settings.json", OPEN);
    assert!(!cli.home().exists());
    let script = "mkdir -p 'agent home/state'; echo x > 'agent home/agent-tools.toml'; ls -A";
    let ran = cli.run(&["sandbox", "-s", "settings.json", "-c", script]);
    assert!(!cli.home().join("agent-tools.toml").exists(), "{}{}", ran.stdout, ran.stderr);
    assert!(!cli.home().join("state").exists(), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_command_does_not_begin_in_the_home_but_in_a_directory_of_a_session() {
    let fixture = Fixture::new(OPEN);
    fixture.cli.run(&["bash", "echo mine > f"]).ok();
    let settings = fixture.cli.dir().join("settings.json");
    for (place, code) in [("", 125), ("state", 125), ("sessions", 125), ("sessions/default", 0)] {
        let script = "cat f; ls ../../state; ls -d ../../agent-tools.db; true";
        let args = ["sandbox", "-s", settings.to_str().unwrap(), "-c", script];
        let mut command = fixture.cli.command(&args);
        let ran = command.current_dir(fixture.cli.home().join(place)).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.status.code(), Some(code), "{place}: {stderr}");
        let expected = if place == "sessions/default" { "mine\n" } else { "" };
        assert_eq!(stdout, expected, "{place}: {stderr}");
        assert!(code == 0 || stderr.contains("belongs to agent-tools"), "{place}: {stderr}");
    }
}

#[test]
fn the_weaker_engine_refuses_what_it_cannot_protect() {
    let fixture = Fixture::new(OPEN);
    let elsewhere = Cli::new();
    let home = elsewhere.home();
    let home = home.to_str().unwrap();
    let here = |args: &[&str]| fixture.cli.run(&[&["--home", home], args].concat());
    let sandbox = ["sandbox", "-s", "settings.json", "-c", "echo ran"];
    let strict = [&["--engine", "landlock", "--accept", "signals"][..], &sandbox].concat();
    let refused = here(&strict);
    if refused.stderr.contains("is unavailable") {
        return testkit::skipped("the engine landlock", "a kernel with Landlock");
    }
    let problem = "lies in a writable directory, and would not be protected";
    assert!(refused.code == 125 && refused.stderr.contains(problem), "{}", refused.stderr);
    // By name, a caller accepts that settings can be changed, and never that secrets are seen.
    assert_eq!(here(&[&WEAKER[..], &sandbox].concat()).ok().stdout, "ran\n");
    let secret = fixture.cli.dir().join("secret");
    let database = format!("sqlite:{}", fixture.cli.dir().join("vars.db").display());
    for option in [["--secret-file", secret.to_str().unwrap()], ["--variables", &database]] {
        let refused = here(&[&WEAKER[..], &option, &sandbox].concat());
        assert!(refused.code == 125, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("must stay hidden"), "{}", refused.stderr);
    }
    let refused = fixture.cli.run(&[&WEAKER[..], &sandbox].concat());
    assert!(refused.code == 125, "the home is in the directory: {}", refused.stdout);
    assert!(refused.stderr.contains("must stay hidden"), "{}", refused.stderr);
    // What is absent is not created.
    let settings = elsewhere.write("settings.json", OPEN);
    std::fs::remove_file(fixture.cli.dir().join(".agent-tools.toml")).unwrap();
    let script = "echo x > own; echo x > .srt-settings.json; echo x > .agent-tools.toml; ls -A";
    let sandbox = ["sandbox", "-s", settings.to_str().unwrap(), "-c", script];
    let accepted = ["--engine", "landlock", "--accept", "signals"];
    std::fs::remove_dir_all(fixture.cli.home()).unwrap();
    let ran = here(&[&accepted[..], &sandbox].concat());
    assert!(ran.stdout.contains("own\n"), "{}{}", ran.stdout, ran.stderr);
    for name in [".srt-settings.json", ".agent-tools.toml"] {
        assert!(!fixture.cli.dir().join(name).exists(), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn explain_and_show_name_the_files_that_stay_as_they_are() {
    let fixture = Fixture::new(OPEN);
    let dir = fixture.cli.dir().canonicalize().unwrap();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let open = ["--policy", &at("settings.json"), "--allow-write", dir.to_str().unwrap()];
    let of_sandbox = ["--settings", "settings.json"];
    for options in [&open[..], &of_sandbox] {
        for (name, access, part) in [
            ("settings.json", "write", "settings.json is never writable\n"),
            (".srt-settings.json", "write", ".srt-settings.json is never writable\n"),
            ("secret", "read", "secret is never accessible\n"),
            ("vars.db-wal", "write", "vars.db-wal is never accessible\n"),
            ("agent home/agent-tools.toml", "write", "agent home is never accessible\n"),
        ] {
            let path = at(name);
            let args = [&["policy", "explain"], options, &[&path]].concat();
            let explained = fixture.run(&args).ok().stdout;
            let expected = format!("{access}: denied: {}", dir.display());
            assert!(explained.contains(&expected) && explained.contains(part), "{explained}");
            assert!(!explained.contains("to allow it"), "{explained}");
        }
    }
    let shown = fixture.run(&[&["policy", "show"], &open[..]].concat()).ok().json();
    assert!(shown["filesystem"]["allowWrite"].is_array(), "{shown}");
    let home = fixture.cli.home();
    let opened = fixture.run(&["bash", "--allow-read", home.to_str().unwrap(), "true"]).ok();
    assert!(opened.stderr.contains("opens nothing, because the path is never accessible"));
}
