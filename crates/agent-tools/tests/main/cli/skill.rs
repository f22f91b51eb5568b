//! The subcommand `skill`, and skills in sessions.

use std::path::Path;
use std::process::Stdio;

use super::Cli;
use crate::mcp::Server;

const SKILL_FILE: &str =
    "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\nRun hello.sh\n";

/// Publishes SKILL.md with a file `f` of this content. Returns the directory.
fn publish(cli: &Cli, content: &str) -> String {
    let skill_file = cli.write("src/SKILL.md", SKILL_FILE);
    cli.write("src/f", content);
    let dir = skill_file.parent().unwrap().to_str().unwrap().to_owned();
    cli.run(&["skill", "publish", &dir]).ok();
    dir
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
    let ran = cli.run(&["--json", "bash", "--skill", "greet@2", "touch skills/mine"]).ok().json();
    assert_eq!(ran["artifacts"].as_array().unwrap().len(), 0);
    let target = cli.dir().join("target");
    cli.run(&["skill", "install", "greet@1", target.to_str().unwrap()]).ok();
    assert!(target.join("skills/greet/hello.sh").is_file());
    let missing = cli.run(&["bash", "--session", "fresh", "--skill", "nope@3", "true"]);
    let warned = missing.code == 125 || missing.stderr.contains("nope");
    assert!(warned, "{}", missing.stderr);
    assert_eq!(cli.run(&["skill", "versions", "nope"]).code, 1);
}

const FILES: usize = 40;

/// Returns a home with two versions whose files all have the number of the version.
fn two_versions() -> Cli {
    let cli = Cli::new();
    for content in ["1", "2"] {
        for number in 0..FILES {
            cli.write(&format!("src/d{}/f{number}", number % 7), content);
        }
        publish(&cli, content);
    }
    cli
}

/// Asserts that one version is installed whole.
#[track_caller]
fn assert_whole(target: &Path, round: u64) {
    let mut files = testkit::read_files(&target.join("skills/greet"));
    files.remove("SKILL.md").unwrap();
    let contents: std::collections::BTreeSet<_> = files.values().collect();
    assert_eq!((files.len(), contents.len()), (FILES + 1, 1), "round {round}");
}

#[test]
fn processes_that_install_two_versions_at_once_leave_one_of_them_whole() {
    let cli = two_versions();
    let target = cli.dir().join("target");
    for round in 0..200 {
        let children = ["greet@1", "greet@2"].map(|skill| {
            let mut command = cli.command(&["skill", "install", skill, target.to_str().unwrap()]);
            command.stdout(Stdio::null()).spawn().unwrap()
        });
        for mut child in children {
            assert!(child.wait().unwrap().success(), "round {round}");
        }
        assert_whole(&target, round);
        assert_eq!(std::fs::read_dir(target.join("skills")).unwrap().count(), 1, "round {round}");
    }
}

/// Returns the number of directories of a skill that is being assembled.
fn assembled(target: &Path) -> usize {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut staged = entries(&target.join("skills"))
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".installing~"));
    staged.next().map_or(0, |staged| 1 + entries(&staged.path()).count())
}

#[test]
fn a_killed_installation_leaves_a_whole_version_and_no_lock() {
    let cli = two_versions();
    let target = cli.dir().join("target");
    let target_text = target.to_str().unwrap();
    cli.run(&["skill", "install", "greet@1", target_text]).ok();
    for round in 0..40 {
        let skill = if round % 2 == 0 { "greet@2" } else { "greet@1" };
        let mut command = cli.command(&["skill", "install", skill, target_text]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // Each round kills it at another moment of the assembly.
        while child.try_wait().unwrap().is_none() && assembled(&target) < round as usize / 4 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole(&target, round);
    }
    cli.run(&["skill", "install", "greet@2", target_text]).ok();
    assert_whole(&target, 40);
    assert_eq!(std::fs::read_dir(target.join("skills")).unwrap().count(), 1);
}

#[test]
fn versions_are_shown_compared_rolled_back_tagged_and_deleted() {
    let cli = Cli::new();
    publish(&cli, "1");
    publish(&cli, "2");
    assert_eq!(cli.run(&["skill", "show", "greet@1", "f"]).ok().stdout, "1");
    assert_eq!(cli.run(&["skill", "show", "greet@latest", "f"]).ok().stdout, "2");
    let shown = cli.run(&["--json", "skill", "show", "greet@2"]).ok().json();
    assert_eq!((shown["version"].as_u64(), shown["files"][1]["size"].as_u64()), (Some(2), Some(1)));
    assert_eq!(cli.run(&["skill", "diff", "greet", "1", "2"]).ok().stdout, "content f\n");
    assert_eq!(cli.run(&["skill", "tag", "greet", "stable", "1"]).ok().code, 0);
    assert_eq!(cli.run(&["skill", "tag", "greet"]).ok().stdout, "stable 1\n");
    assert_eq!(cli.run(&["skill", "tag", "greet", "beta"]).code, 2);
    assert_eq!(cli.run(&["skill", "show", "greet@stable", "f"]).ok().stdout, "1");
    let rolled = cli.run(&["skill", "rollback", "greet", "stable"]).ok();
    assert_eq!(rolled.stdout, "published greet@3 (2 files)\n");
    assert_eq!(cli.run(&["skill", "delete", "greet", "2"]).ok().stdout, "deleted greet@2\n");
    assert_eq!(cli.run(&["skill", "versions", "greet"]).ok().stdout, "1\n3\n");
    let again = cli.run(&["skill", "delete", "greet", "2"]);
    assert!(again.code == 1 && again.stderr.contains("was deleted"), "{}", again.stderr);
    for (id, version) in [("greet", "7"), ("nope", "1")] {
        let absent = cli.run(&["skill", "delete", id, version]);
        assert!(absent.code == 1 && absent.stderr.contains("the store has "), "{}", absent.stderr);
    }
    assert_eq!(cli.run(&["skill", "tag", "nope"]).code, 1);
    cli.run(&["skill", "tag", "greet", "stable", "--remove"]).ok();
    for (id, tag) in [("greet", "stable"), ("greet", "beta"), ("nope", "stable")] {
        let absent = cli.run(&["skill", "tag", id, tag, "--remove"]);
        assert_eq!((absent.code, absent.stdout.as_str()), (1, ""));
        assert!(absent.stderr.contains(&format!("{id} has no tag {tag}")), "{}", absent.stderr);
    }
    let gone = cli.run(&["skill", "show", "greet@stable"]);
    assert!(gone.code == 1 && gone.stderr.contains("no tag stable"), "{}", gone.stderr);
    assert_eq!(cli.run(&["skill", "delete", "greet", "latest"]).code, 2);
}

#[test]
fn a_lockfile_installs_the_same_content_or_nothing() {
    let cli = Cli::new();
    publish(&cli, "1");
    publish(&cli, "2");
    cli.run(&["skill", "lock", "greet@latest", "greet@1=old"]).ok();
    assert!(cli.dir().join("skills.lock").is_file());
    let installed = cli.run(&["skill", "install", "--locked", "./target"]).ok();
    assert_eq!(installed.stdout, "./target/skills/greet\n./target/skills/old\n");
    for dir in [".", "target"] {
        cli.run(&["skill", "install", "--locked", dir]).ok();
    }
    let unknown = cli.run(&["skill", "install", "a/b", "target"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("ID[@VERSION]"), "{}", unknown.stderr);
    let tag = cli.run(&["skill", "tag", "greet", "latest", "1"]);
    assert!(tag.code == 2 && tag.stderr.contains("neither `latest`"), "{}", tag.stderr);
    let read = |path: &str| std::fs::read_to_string(cli.dir().join("target").join(path)).unwrap();
    assert_eq!((read("skills/greet/f"), read("skills/old/f")), ("2".into(), "1".into()));
    let text = std::fs::read_to_string(cli.dir().join("skills.lock")).unwrap();
    let digest = text.split("sha256\": \"").nth(1).unwrap().split('"').next().unwrap();
    cli.write("other.lock", &text.replace(digest, &"0".repeat(64)));
    let refused = cli.run(&["skill", "install", "--locked=other.lock", "target"]);
    assert!(refused.code == 1 && refused.stderr.contains("the lockfile has"), "{}", refused.stderr);
}

#[test]
fn the_skills_of_a_session_can_be_read_only() {
    let cli = Cli::new();
    publish(&cli, "1");
    let write = "echo 2 > skills/greet/f; cat skills/greet/f; echo 3 > own";
    let ran = cli.run(&["bash", "--skill", "greet@1", "--read-only-skills", write]);
    assert_eq!(ran.stdout, "1", "{}", ran.stderr);
    assert!(ran.stderr.contains("skills/greet/f"), "{}", ran.stderr);
    assert_eq!(cli.run(&["bash", "--read-only-skills", "cat own"]).ok().stdout, "3\n");
}

#[test]
fn deviations_are_errors_or_warnings_with_their_place() {
    let cli = Cli::new();
    let text = "---\nname: greet\ndescription: Says hello.\nmodel: x\nallowed-tools: [Bash]\n---\n";
    let dir = cli.write("src/SKILL.md", text).parent().unwrap().to_str().unwrap().to_owned();
    let strict = cli.run(&["skill", "publish", &dir]);
    assert!(
        strict.code == 1 && strict.stderr.contains("4:1: model is no field"),
        "{}",
        strict.stderr
    );
    assert!(strict.stderr.contains("publish it with --lenient, which"), "{}", strict.stderr);
    let lenient = cli.run(&["--json", "skill", "publish", "--lenient", &dir]).ok();
    assert!(lenient.stderr.contains("SKILL.md:5:16: allowed-tools"), "{}", lenient.stderr);
    assert_eq!(lenient.json()["deviations"][0]["line"].as_u64(), Some(4));

    cli.write("src/SKILL.md", "---\nname: My skill\ndescription: Says hello.\n---\n");
    let strict = cli.run(&["skill", "publish", &dir]);
    assert!(strict.stderr.contains("with --lenient --id ID"), "{}", strict.stderr);
    let strict = cli.run(&["skill", "publish", &dir, "--id", "mine"]);
    assert!(strict.stderr.contains("with --lenient, which"), "{}", strict.stderr);
    cli.run(&["skill", "publish", &dir, "--id", "mine", "--lenient"]).ok();
    for text in ["---\nname: greet\nmodel: x\n---\n", "no front matter", "---\n[\n---\n"] {
        cli.write("src/SKILL.md", text);
        let strict = cli.run(&["skill", "publish", &dir]);
        assert!(strict.code == 1 && !strict.stderr.contains("--lenient"), "{}", strict.stderr);
        assert_eq!(cli.run(&["skill", "publish", &dir, "--lenient"]).code, 1);
    }
}

#[test]
fn left_out_files_and_likely_secrets_are_warnings() {
    let cli = Cli::new();
    for (path, content) in [("f~", "x"), (".git/HEAD", "x"), (".env", "A=1")] {
        cli.write(&format!("src/{path}"), content);
    }
    let dir = cli.write("src/SKILL.md", SKILL_FILE).parent().unwrap().to_str().unwrap().to_owned();
    let published = cli.run(&["--json", "skill", "publish", &dir]).ok();
    assert!(published.stderr.contains("not published: .git, f~"), "{}", published.stderr);
    let remedy = "likely secret: .env; if so, remove it from the directory, and run \
                  `agent-tools skill delete greet 1`";
    assert!(published.stderr.contains(remedy), "{}", published.stderr);
    let result = published.json();
    assert_eq!(result["leftOut"], serde_json::json!([".git", "f~"]));
    assert_eq!(result["likelySecrets"], serde_json::json!([".env"]));
    let refused = cli.run(&["skill", "publish", &dir, "--id", ".git"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("begins with a dot"),
        "{}",
        refused.stderr
    );
    let renamed = cli.run(&["skill", "install", "greet@1=.git", "target"]);
    assert!(
        renamed.code == 1 && renamed.stderr.contains("begins with a dot"),
        "{}",
        renamed.stderr
    );
}

#[test]
fn a_killed_installation_of_a_lockfile_leaves_every_skill_whole() {
    let cli = two_versions();
    let target = cli.dir().join("target");
    let names = ["one", "two", "three"];
    for version in ["1", "2"] {
        let lock = format!("lock{version}");
        for name in names {
            let skill = format!("greet@{version}={name}");
            cli.run(&["skill", "lock", &skill, "--file", &lock]).ok();
        }
    }
    let content = |name: &str| {
        let mut files = testkit::read_files(&target.join("skills").join(name));
        files.remove("SKILL.md").unwrap();
        let contents: std::collections::BTreeSet<_> = files.values().cloned().collect();
        assert_eq!((files.len(), contents.len()), (FILES + 1, 1), "{name}");
        contents.into_iter().next().unwrap()
    };
    cli.run(&["skill", "install", "--locked=lock1", "target"]).ok();
    let mut kept = 0;
    for round in 0..20 {
        let mut command = cli.command(&["skill", "install", "--locked=lock2", "target"]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // Each round kills it at another moment of the assembly of the first skills.
        while child.try_wait().unwrap().is_none() && assembled(&target) < round * 2 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let contents = names.map(content);
        kept += usize::from(contents == ["1", "1", "1"]);
        cli.run(&["skill", "install", "--locked=lock1", "target"]).ok();
        assert_eq!(names.map(content), ["1", "1", "1"]);
        assert_eq!(std::fs::read_dir(target.join("skills")).unwrap().count(), names.len());
    }
    assert!(kept > 0, "no process was killed before the exchange");
}

#[test]
fn only_signed_skills_are_installed_with_a_key() {
    let cli = Cli::new();
    publish(&cli, "1");
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    cli.write("key.pub", &format!("untrusted comment: minisign public key\n{key}\n"));
    let refused = cli.run(&["--skill-key", "key.pub", "skill", "install", "greet@1", "target"]);
    assert!(refused.code == 1 && refused.stderr.contains("is not signed"), "{}", refused.stderr);
    let opened = cli.run(&["--skill-key", "key.pub", "bash", "--skill", "greet@1", "true"]);
    assert!(opened.code == 125 && opened.stderr.contains("is not signed"), "{}", opened.stderr);
    cli.write("bad.pub", "no key");
    let bad = cli.run(&["--skill-key", "bad.pub", "skill", "install", "greet@1", "target"]);
    assert!(bad.code == 1 && bad.stderr.contains("no public key"), "{}", bad.stderr);
    let locked = cli.run(&["--skill-key", "key.pub", "skill", "lock", "greet@1"]);
    assert!(locked.code == 1 && locked.stderr.contains("is not signed"), "{}", locked.stderr);
    assert!(!cli.dir().join("skills.lock").exists());
    // The publisher needs the manifest before the version is signed.
    let manifest = ["--skill-key", "key.pub", "skill", "show", "greet@1", "--manifest"];
    cli.run(&manifest).ok();
    cli.run(&["--skill-key", "key.pub", "skill", "diff", "greet", "1", "1"]).ok();
    let signed = cli.run(&["skill", "sign", "greet", "1", "bad.pub"]);
    assert!(signed.code == 1 && signed.stderr.contains("no signature"), "{}", signed.stderr);
}

#[test]
fn a_server_without_the_key_of_a_client_installs_nothing_for_it() {
    let cli = Cli::new();
    publish(&cli, "1");
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    cli.write("key.pub", key);
    let mut server = Server::start_with(&cli, &["mcp", "--session", "m"]);
    let listed = server.call("bash", serde_json::json!({ "command": "ls skills" }));
    let args = ["--skill-key", "key.pub", "bash", "--session", "m", "--skill", "greet@1", "true"];
    let ran = cli.run(&args);
    assert!(ran.code == 125 && ran.stderr.contains("keys of skills"), "{}", ran.stderr);
    let listed_again = server.call("bash", serde_json::json!({ "command": "ls skills" }));
    assert_eq!(listed, listed_again);
}

#[test]
fn without_a_version_every_command_uses_the_latest_one() {
    let cli = two_versions();
    for args in [&["skill", "show", "greet"][..], &["skill", "lock", "greet"]] {
        let ran = cli.run(args).ok();
        assert!(ran.stdout.starts_with("greet@2 "), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
    }
    cli.run(&["skill", "tag", "greet", "stable", "1"]).ok();
    cli.run(&["skill", "delete", "greet", "1"]).ok();
    let tags = cli.run(&["skill", "tag", "greet"]).ok();
    assert_eq!(tags.stdout, "stable 1 (deleted)\n");
    let shown = cli.run(&["skill", "show", "greet@1"]);
    let expected = "version 1 of the skill greet was deleted; the store has 2";
    assert!(shown.code == 1 && shown.stderr.contains(expected), "{}", shown.stderr);
}

#[test]
fn two_skills_of_one_request_have_different_directories() {
    let cli = two_versions();
    let ran = cli.run(&["bash", "--skill", "greet@1", "--skill", "greet@2", "true"]);
    let expected = "the skills greet@1 and greet@2 have the same directory skills/greet";
    assert!(ran.code == 125 && ran.stderr.contains(expected), "{}", ran.stderr);
    let twice = ["bash", "--skill", "greet@2", "--skill", "greet@2", "--skill", "greet@1=first"];
    let ran = cli.run(&[&twice[..], &["ls skills"]].concat()).ok();
    assert_eq!(ran.stdout, "first\ngreet\n");
    let locked = cli.run(&["skill", "lock", "greet@1", "greet@2"]);
    assert!(locked.code == 2 && !cli.dir().join("skills.lock").exists(), "{}", locked.stderr);
}

#[test]
fn reading_skills_creates_no_store() {
    let cli = Cli::new();
    let absent = cli.dir().join("absent");
    let url = format!("file://{}", absent.display());
    for args in [&["list"][..], &["versions", "a"], &["show", "a"], &["install", "a", "d"]] {
        let ran = cli.run(&[&["--store", &url, "skill"], args].concat());
        assert!(ran.code == 1 && ran.stderr.contains("there is no store at"), "{}", ran.stderr);
        cli.run(&[&["skill"], args].concat());
        assert!(!absent.exists() && !cli.home().join("store").exists(), "{args:?}");
    }
    assert_eq!(cli.run(&["--json", "skill", "list"]).ok().stdout, "[]\n");
}
