//! Sessions through the library: sharing, results, policies and restarts.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    BashOptions, ErrorKind, Home, SessionId, SessionSpec, Sessions, Storage, ToolError, UserId,
};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use testkit::{Calls, FailingStore};

pub(crate) use crate::fixture::{Fixture, spec};

#[tokio::test]
async fn keys_are_those_of_the_reference_under_the_general_prefix() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let result = session.bash("mkdir d && echo x > 'd/a b.txt'").await.unwrap();
    assert_eq!(
        result.artifacts[0].key.as_deref(),
        Some("bucket/general/user_7/sessions/s1/d/a b.txt")
    );
    let key = Key::parse("general/user_7/sessions/s1/d/a b.txt").unwrap();
    assert_eq!(fixture.store.get(&key).await.unwrap().bytes().await.unwrap(), "x\n");
}

#[tokio::test]
async fn concurrent_opens_of_one_session_share_one() {
    let fixture = Fixture::new();
    let (a, b) = tokio::join!(fixture.open("s1"), fixture.open("s1"));
    assert!(Arc::ptr_eq(&a, &b));
    let other = SessionSpec::new(SessionId::parse("s1").unwrap()).user(UserId::parse("8").unwrap());
    let error = fixture.sessions.open(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_wrapped_command_runs_in_the_session_and_the_next_call_mirrors_its_changes() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let wrapped = session
        .wrap_command("echo \"it's here\" > 'a b' && cat 'a b' && echo $HOME")
        .await
        .unwrap();
    let output = std::process::Command::new("sh").args(["-c", &wrapped]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "it's here\n/tmp\n");
    let next = session.bash("true").await.unwrap();
    assert_eq!(next.artifacts[0].relative_path, "a b");
    fixture.sessions.close(session.id()).await.unwrap();
    assert!(
        !std::process::Command::new("sh").args(["-c", &wrapped]).output().unwrap().status.success()
    );
}

#[tokio::test]
async fn names_in_a_session_directory_are_free_unless_the_host_protects_them() {
    let fixture = Fixture::new();
    let write = "mkdir -p .git/hooks && echo x > .git/hooks/pre-commit && echo x > .bashrc";
    let ran = fixture.open("s1").await.bash(write).await.unwrap();
    assert_eq!(ran.exit_code, 0, "{}", ran.stderr);
    let fixture = Fixture::with_protected_names();
    let ran = fixture.open("s1").await.bash("echo x > .bashrc").await.unwrap();
    assert_ne!(ran.exit_code, 0);
    assert!(ran.hint.unwrap().contains(".bashrc: .bashrc is always protected from writing"));
}

#[tokio::test]
async fn a_hint_explains_denials_with_rule_and_remedy() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.write_file("mine", b"").await.unwrap();
    let command = "cat /root/secret; echo x > /usr/x; cat missing /tmp/missing; chmod 000 mine; \
                   cat /mnt/x; echo 'curl: (6) Could not resolve host: example.com' >&2";
    let ran = session.bash(command).await.unwrap();
    // Messages of programs are no reports of the engine.
    assert_eq!(ran.denied, []);
    let hint = ran.hint.unwrap();
    let expected = [
        ("read /root/secret: ", "--allow-read /root/secret"),
        ("write /usr/x: ", "--allow-write /usr"),
        ("read /mnt/x: ", "--allow-read /mnt/x"),
        ("connect example.com: ", "--allow-host example.com"),
    ];
    assert_eq!(hint.lines().count(), expected.len(), "{hint}");
    for (line, (denied, option)) in hint.lines().zip(expected) {
        assert!(line.starts_with(denied) && line.contains(option), "{line}");
    }
    assert_eq!(session.bash("cat missing /tmp/missing").await.unwrap().hint, None);
    // Standard output has the messages if there is no other stream, and only of a failure.
    let hint = session.bash("cat /root/secret 2>&1").await.unwrap().hint.unwrap();
    assert!(hint.starts_with("read /root/secret: "), "{hint}");
    for other in ["cat /root/secret 2>&1; true", "cat /root/secret 2>&1; echo x >&2; false"] {
        assert_eq!(session.bash(other).await.unwrap().hint, None, "{other}");
    }
}

#[tokio::test]
async fn forbidden_files_are_denied_or_quarantined_and_reported() {
    let fixture = Fixture::with_protected_names();
    let session = fixture.open("s1").await;
    let ran = session.bash("echo x > .bashrc; ln -s .profile l; echo y > l").await.unwrap();
    let path = |name: &str| session.dir().join(name).to_string_lossy().into_owned();
    let rule = "is always protected from writing";
    assert_eq!(ran.denied.len(), 1);
    assert_eq!(ran.denied[0].target, path(".profile"));
    assert_eq!(ran.denied[0].moved_to, Some(path(".profile.refused")));
    assert!(ran.denied[0].rule.ends_with(rule));
    // The write that failed at once is known by its message only.
    let hint = format!("write {}: .bashrc {rule}", path(".bashrc"));
    assert!(ran.hint.as_deref().is_some_and(|it| it.starts_with(&hint)), "{:?}", ran.hint);
    let names: Vec<_> =
        ran.artifacts.iter().map(|artifact| artifact.relative_path.as_str()).collect();
    assert_eq!(names, [".profile.refused"], "quarantined files are stored under their new names");

    // A repository that writeFile creates is protected like one that a command creates.
    session.write_file("repo/.git/HEAD", b"ref: refs/heads/main").await.unwrap();
    assert_ne!(session.bash("echo x > repo/.git/config").await.unwrap().exit_code, 0);
    assert_eq!(session.bash("echo x > repo/.git/COMMIT_EDITMSG").await.unwrap().exit_code, 0);
}

#[tokio::test]
async fn one_session_sees_nothing_of_another() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.open("a").await, fixture.open("b").await);
    a.write_file("secret.txt", b"of a").await.unwrap();
    let spied = b
        .bash(&format!(
            "cat {}/secret.txt; ls -A {}/..; ls -A /tmp",
            a.dir().display(),
            b.dir().display()
        ))
        .await
        .unwrap();
    // Test directories have random names, so only whole lines are compared.
    assert!(
        !spied.stdout.contains("of a") && !spied.stdout.lines().any(|name| name == "a"),
        "{}",
        spied.stdout
    );
    let error = b.read_file(&format!("{}/secret.txt", a.dir().display())).await.unwrap_err();
    assert!(
        error.message().contains("No such file"),
        "another session's path is a path inside this one: {error}"
    );
}

#[tokio::test]
async fn settings_of_the_caller_hide_the_home_too() {
    // Sessions have a /tmp and a /var/tmp of their own, which would hide the home in any case.
    let Some(dir) = testkit::directory_in_sight(env!("CARGO_TARGET_TMPDIR")) else {
        return testkit::skipped(
            "a home under settings of the caller",
            testkit::NO_DIRECTORY_IN_SIGHT,
        );
    };
    let dir = dir.path().canonicalize().unwrap();
    let visible = testkit::write_file(&dir, "visible", "of the host");
    let home = Home::new(dir.join("home"));
    let application = testkit::write_file(&dir, "app/key", "of the host");
    let sessions = Sessions::builder(home.clone()).application_dir(dir.join("app")).build();
    let settings = r#"{
        "network": { "allowedDomains": [], "deniedDomains": [] },
        "filesystem": {
            "denyRead": [],
            "allowRead": [],
            "allowWrite": [],
            "denyWrite": []
        }
    }"#;
    let database = testkit::write_file(home.path(), "agent-tools.db", "of the host");
    let mut spec = spec("b");
    spec.policy = Some(policy::SandboxRuntimeConfig::from_json(settings).unwrap());
    let other = testkit::write_file(&home.sessions_root().join("a"), "secret.txt", "of a");
    let session = sessions.open(spec).await.unwrap();
    let ran = session.bash(&format!("cat '{}'", visible.display())).await.unwrap();
    assert_eq!(ran.command_stdout(), "of the host", "the settings hide nothing: {}", ran.stderr);
    for hidden in [&application, &database, &other] {
        let ran = session.bash(&format!("cat '{}'", hidden.display())).await.unwrap();
        assert_ne!(ran.exit_code, 0, "{} is readable", hidden.display());
        assert_eq!(ran.command_stdout(), "");
    }
    let ran = session.bash("echo own > f && cat f").await.unwrap();
    assert_eq!(ran.command_stdout(), "own\n", "{}", ran.stderr);
    session.write_file("g", b"own").await.unwrap();
}

#[tokio::test]
async fn a_result_names_removed_files_and_its_entry() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let made = session.bash("echo 1 > a; echo 2 > b; touch f{1..60}").await.unwrap();
    assert!(made.entry > 0);
    let removed = session.bash("rm a f*; mv b c").await.unwrap();
    assert_eq!((removed.removed.len(), removed.removed_omitted), (50, 12), "{removed:?}");
    assert_eq!(removed.removed[..2], ["a", "b"]);
    assert_eq!(removed.artifacts[0].relative_path, "c");
    assert!(removed.entry > made.entry);
    assert_eq!(session.bash("true").await.unwrap().entry, removed.entry);
    let written = session.write_file("d", b"3").await.unwrap();
    assert_eq!(written.entry, Some(removed.entry + 1));
}

#[tokio::test]
async fn a_restarted_process_uploads_local_changes() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.write_file("f", b"1").await.unwrap();
    // The mirror does not see these writes, like those of a process that was killed.
    std::fs::write(session.dir().join("g"), "2").unwrap();
    std::fs::write(session.dir().join("f"), "local").unwrap();
    let home = fixture.sessions.home().clone();
    let Fixture { dir: _dir, store, sessions, .. } = fixture;
    drop((session, sessions));
    let storage = Storage::new(store.clone(), "bucket").with_prefix(Key::from("general"));
    let sessions = Sessions::builder(home).storage(storage).build();
    let session = sessions.open(spec("s1")).await.unwrap();
    assert_eq!(session.read_file("f").await.unwrap().content, "local");
    session.bash("true").await.unwrap();
    for (name, content) in [("f", "local"), ("g", "2")] {
        let key = Key::parse(format!("general/user_7/sessions/s1/{name}")).unwrap();
        assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), content);
    }
}

#[tokio::test]
async fn the_file_tools_obey_the_policy_and_never_follow_a_link_out() {
    let fixture = Fixture::with_protected_names();
    let session = fixture.open("s1").await;
    symlink("/etc/passwd", session.dir().join("out")).unwrap();
    assert!(session.read_file("out").await.is_err());
    assert!(session.write_file("out", b"x").await.is_err());
    session
        .bash("mkdir -p .git/hooks && touch .git/HEAD && ln -s .git/hooks innocent")
        .await
        .unwrap();
    for path in [".git/hooks/pre-commit", "innocent/pre-commit", ".bashrc"] {
        let error = session.write_file(path, b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{path}: {error}");
        assert!(!error.is_retryable());
    }
    session.write_file(".git/description", b"fine").await.unwrap();
}

#[tokio::test]
async fn long_results_are_cut_with_a_note() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let result = session
        .bash("head -c 40000 /dev/zero | tr '\\0' x; for i in $(seq 60); do echo $i > f$i; done")
        .await
        .unwrap();
    assert!(result.stdout.contains("[stdout truncated: 10000 characters removed; all"));
    assert_eq!((result.artifacts.len(), result.artifacts_omitted), (50, 10));
}

#[tokio::test]
async fn a_timeout_is_a_result() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let mut options = BashOptions::default();
    options.timeout = Some(Duration::from_millis(200));
    let result = session.bash_with("echo begun > f; sleep 100", options).await.unwrap();
    assert!(result.timed_out && result.exit_code == 124);
    assert_eq!(result.artifacts[0].relative_path, "f");
}

#[tokio::test]
async fn without_a_user_nothing_is_mirrored() {
    let fixture = Fixture::new();
    let session =
        fixture.sessions.open(SessionSpec::new(SessionId::parse("local").unwrap())).await.unwrap();
    let result = session.bash("echo x > f").await.unwrap();
    assert_eq!(result.artifacts, []);
    assert_eq!(session.read_file("f").await.unwrap().content, "x\n");
}

#[tokio::test]
async fn tools_are_called_by_name_with_json() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let call = async |name: &str, input: serde_json::Value| session.call(name, input).await;
    let written = call("writeFile", serde_json::json!({ "path": "a/b", "content": "1\n2\n3\n" }))
        .await
        .unwrap();
    assert_eq!(written["success"], true);
    let read = call("readFile", serde_json::json!({ "path": "a/b", "startLine": 2, "endLine": 2 }))
        .await
        .unwrap();
    assert_eq!(read["content"], "2\n");
    let ran = call("bash", serde_json::json!({ "command": "wc -l < a/b; exit 3" })).await.unwrap();
    assert_eq!((ran["stdout"].as_str(), ran["exitCode"].as_i64()), (Some("3\n"), Some(3)));
    assert!(matches!(
        call("bash", serde_json::json!({ "cmd": "x" })).await,
        Err(ToolError::Input { .. })
    ));
    assert!(matches!(call("rm", serde_json::json!({})).await, Err(ToolError::UnknownTool { .. })));
    assert!(session.tools()[0].description.contains("a/\n"));
}

#[tokio::test]
async fn calls_of_one_session_overlap() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    // Each command waits for the other's file, so running one after the other would never end.
    let (a, b) = tokio::join!(
        session.bash("touch a; until [ -e b ]; do sleep 0.01; done; echo a"),
        session.bash("touch b; until [ -e a ]; do sleep 0.01; done; echo b"),
    );
    assert_eq!((a.unwrap().exit_code, b.unwrap().exit_code), (0, 0));
}

#[tokio::test]
async fn the_file_tools_obey_rules_derived_from_files() {
    let fixture = Fixture::with_protected_names();
    let session = fixture.open("s1").await;
    let command = "mkdir -p store.git/hooks tree && echo ref > store.git/HEAD && \
                   echo as it was > store.git/hooks/pre-commit && \
                   echo gitdir: ../store.git > tree/.git";
    assert_eq!(session.bash(command).await.unwrap().exit_code, 0);
    let home = fixture.sessions.home().clone();
    let Fixture { dir: _dir, store, sessions, .. } = fixture;
    drop((session, sessions));
    // Protected files are searched when a session opens.
    let storage = Storage::new(store, "bucket").with_prefix(Key::from("general"));
    let sessions = Sessions::builder(home).storage(storage).protect_names().build();
    let session = sessions.open(spec("s1")).await.unwrap();
    for path in ["store.git/hooks/pre-commit", "store.git/hooks/new"] {
        let error = session.write_file(path, b"changed").await.unwrap_err().to_string();
        assert!(error.contains("protected"), "{path}: {error}");
    }
    assert_eq!(
        session.read_file("store.git/hooks/pre-commit").await.unwrap().content,
        "as it was\n"
    );
    session.write_file("store.git/index", b"git's own").await.unwrap();
}

#[tokio::test]
async fn pending_changes_are_told_once_and_grouped_by_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = FailingStore::new();
    let sessions = Sessions::builder(Home::new(dir.path().canonicalize().unwrap()))
        .storage(Storage::new(store.clone(), "bucket"))
        .build();
    let session = sessions.open(spec("s1")).await.unwrap();
    session.bash("true").await.unwrap();
    store.fail(Calls::All, 0, usize::MAX);
    let failed = session.bash("touch f{1..80}").await.unwrap();
    assert_eq!(failed.pending.len(), 1, "{:?}", failed.pending);
    assert_eq!((failed.pending[0].count, failed.pending[0].files.len()), (80, 5));
    let next = session.bash("true").await.unwrap();
    assert_eq!((next.pending.len(), next.still_pending), (0, 80), "{:?}", next.pending);
    let note = "still pending: 80 changes of earlier calls; `agent-tools session show ID` lists \
                them\n";
    assert_eq!(next.notes(), note);
    store.recover();
    let recovered = session.bash("true").await.unwrap();
    assert_eq!((recovered.pending.len(), recovered.still_pending), (0, 0));
    assert_eq!(recovered.artifacts.len() + recovered.artifacts_omitted, 80);
}
