//! Files and directories that a command closes, nests or links, so that the host cannot inspect or
//! move what the policy protects.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use policy::{Policy, Unenforced};
use sandbox_core::{CommandStatus, ExecErrorKind, QuarantineOutcome, Sandbox};
use testkit::rerun_as_ordinary_user;

use crate::creation::{is_quarantined, run, works};
use crate::fixture::{Fixture, fixture, open, spec, without_namespaces};

#[tokio::test]
async fn a_closed_directory_keeps_no_file_at_a_denied_path() {
    if rustix::process::geteuid().is_root() {
        // Root ignores modes, so an ordinary user runs the test too.
        let test = "obstacles::a_closed_directory_keeps_no_file_at_a_denied_path";
        rerun_as_ordinary_user(test, "closed directories");
    }
    // The Landlock tier denies `chmod`.
    if without_namespaces() {
        return;
    }
    for (command, path, moved_to) in [
        ("ln -s .mcp.json l; echo x > l; chmod 555 .", ".mcp.json", ".mcp.json.refused"),
        (
            "mkdir .claude; ln -s .claude/commands l; echo x > l; chmod 000 .claude",
            ".claude/commands",
            ".claude/commands.refused",
        ),
    ] {
        let Fixture { dir, sandbox, .. } = &fixture();
        let ran = run(sandbox, command).await;
        assert_eq!((ran.status, ran.exit_code()), (CommandStatus::Exited(0), 125), "{ran:?}");
        for closed in [".claude", "."] {
            let mode = fs::Permissions::from_mode(0o755);
            let _ = fs::set_permissions(dir.join(closed), mode);
        }
        is_quarantined(&ran, &dir.join(path), &dir.join(moved_to));
        assert_eq!(ran.sandbox_ended, None);
        assert!(works(sandbox, "true").await);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_moved_is_emptied_and_the_sandbox_ends() {
    let Fixture { dir, sandbox, .. } = &fixture();
    let chattr = |change: &str| {
        let ran = Command::new("chattr").arg(change).arg(dir).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success())
    };
    // New names can be added to such a directory, but not changed or removed.
    if !chattr("+a") {
        return println!("not checked: the file system or the user has no attributes");
    }
    let ran = run(sandbox, "ln -s .mcp.json l; echo x > l").await;
    let later = sandbox.exec(spec("true")).await;
    assert!(chattr("-a"));
    let [file] = &ran.quarantined[..] else { panic!("{ran:?}") };
    assert_eq!((&file.path, file.outcome), (&dir.join(".mcp.json"), QuarantineOutcome::Emptied));
    assert_eq!(fs::read(dir.join(".mcp.json")).unwrap(), b"");
    assert_eq!(ran.exit_code(), 125);
    let (reason, error) = (ran.sandbox_ended.unwrap(), later.unwrap_err());
    assert_eq!(error.kind(), ExecErrorKind::Ended);
    assert!(error.to_string().ends_with(reason), "{error}");
}

#[tokio::test]
async fn a_closed_directory_is_read_only_until_it_can_be_inspected() {
    if rustix::process::geteuid().is_root() {
        // Root ignores modes, so an ordinary user runs the test.
        let test = "obstacles::a_closed_directory_is_read_only_until_it_can_be_inspected";
        return rerun_as_ordinary_user(test, "closed directories");
    }
    if without_namespaces() {
        return;
    }
    let first = fixture();
    let make = "mkdir -p sub/repo/.git/hooks r/.git e; echo x > sub/f; chmod 000 sub r/.git e";
    assert!(works(&first.sandbox, make).await);
    for sandbox in [&first.sandbox, &first.again().sandbox] {
        for attempt in ["sub", "r/.git", "e"] {
            let opened = format!("chmod 755 {attempt}");
            assert!(!works(sandbox, &opened).await, "{attempt}");
        }
        assert!(works(sandbox, "echo x > other").await);
    }
}

#[tokio::test]
async fn a_command_that_closes_the_session_directory_stops_no_later_command() {
    if rustix::process::geteuid().is_root() {
        // Root ignores modes, so an ordinary user runs the test.
        let test = "obstacles::a_command_that_closes_the_session_directory_stops_no_later_command";
        return rerun_as_ordinary_user(test, "closed directories");
    }
    if without_namespaces() {
        return;
    }
    let Fixture { sandbox, .. } = &fixture();
    // A prestarted shell has entered the directory already, so the environment changes too.
    for (number, mode) in ["000", "400", "500"].into_iter().enumerate() {
        let mut closing = spec(&format!("chmod {mode} ."));
        closing.env.push(("NUMBER".into(), number.to_string().into()));
        assert_eq!(sandbox.exec(closing).await.unwrap().status, CommandStatus::Exited(0));
        assert!(works(sandbox, "echo x > f").await, "{mode}");
    }
}

#[tokio::test]
async fn cycles_of_symlinks_and_endless_names_prevent_no_session_and_no_protection() {
    if without_namespaces() {
        return;
    }
    let first = fixture();
    let make = "mkdir d; ln -s .zshrc d/.zshrc; ln -s b d/a; ln -s a d/b; \
                ln -s a/.bashrc d/.bashrc; \
                name=$(printf %300s | tr ' ' x); ln -s $name d/.profile; \
                ln -s .git d/.git; mkdir e; ln -s $name/$name e/.git";
    assert!(works(&first.sandbox, make).await);
    for sandbox in [&first.sandbox, &first.again().sandbox] {
        let repository = "mkdir -p n/.git/hooks && echo x > n/.git/config";
        assert!(works(sandbox, repository).await);
        assert!(!works(sandbox, "echo y > n/.git/config").await);
    }
}

#[tokio::test]
async fn a_repository_that_names_too_many_files_makes_the_directories_read_only() {
    if without_namespaces() {
        return;
    }
    for setting in ["[include]\npath = ../../f/$i", "[alias]\na$i = !../f/$i"] {
        let first = fixture();
        let make = format!(
            "mkdir -p f repo/.git/objects repo/.git/refs && echo x > repo/.git/HEAD && \
             for i in {{1..4100}}; do : > f/$i; echo \"{setting}\"; done > repo/.git/config"
        );
        assert!(works(&first.sandbox, &make).await);
        for sandbox in [&first.sandbox, &first.again().sandbox] {
            let gaps = sandbox.unenforced();
            let is_named = |gap: &Unenforced| gap.rule.ends_with("/repo");
            assert!(gaps.iter().any(is_named), "{gaps:?}");
            assert!(works(sandbox, "echo x > /tmp/f && cat repo/.git/config").await, "{setting}");
            assert!(!works(sandbox, "echo x >> f/4099").await, "{setting}");
        }
    }
}

#[tokio::test]
async fn directories_of_any_depth_prevent_no_session_and_no_protection() {
    if without_namespaces() {
        return;
    }
    let first = fixture();
    let nest = "perl -e 'for (1..1500) { mkdir q(dir); chdir q(dir) } open F, q(>.bashrc); \
                mkdir q(.git)'";
    assert!(works(&first.sandbox, nest).await);
    let again = first.again();
    assert!(works(&again.sandbox, "echo x > f").await);
    let evil = "perl -e 'for (1..1500) { chdir q(dir) } open F, q(>.bashrc) or exit 1'";
    assert!(!works(&again.sandbox, evil).await);
}

#[tokio::test]
async fn rules_in_a_closed_directory_of_another_user_prevent_no_session() {
    // Another user cannot give files away.
    if !rustix::process::geteuid().is_root() || without_namespaces() {
        return;
    }
    let Fixture { root, dir, .. } = &fixture();
    let of_other = root.join("other");
    let work = of_other.join("work");
    for dir in ["work/repo/.git/hooks", "keys", "data"] {
        fs::create_dir_all(of_other.join(dir)).unwrap();
    }
    for file in ["keys/key", "secret", "data/f", "work/.bashrc", "work/repo/.git/config"] {
        fs::write(of_other.join(file), "content").unwrap();
    }
    std::os::unix::fs::symlink("f", work.join(".profile")).unwrap();
    let set_modes = |mode: u32| {
        for path in [of_other.clone(), of_other.join("work"), of_other.join("keys")] {
            std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_modes(0o700);
    let session = Policy::session(dir).sessions_root(&root.join("sessions")).home(root);
    let read_only = session
        .clone()
        .allow_read(&of_other)
        .deny_read(&of_other.join("keys"))
        .deny_read(&of_other.join("secret"));
    // The user has made the directory with protected names in it writable.
    let writable = session.allow_write(root).deny_write(&of_other.join("data/f"));
    for policy in [read_only, writable.clone()] {
        set_modes(0o700);
        let policy = policy.build().unwrap();
        let sandbox = open(&policy, dir);
        assert!(works(&sandbox, "echo x > f").await);
        // Its owner opens the directory later.
        set_modes(0o777);
        for path in ["keys/key", "secret"] {
            let attempt = format!("cat {}", of_other.join(path).display());
            assert!(!works(&sandbox, &attempt).await, "{attempt}");
        }
        for path in ["work/.bashrc", "work/repo/.git/config", "work/repo/.git/hooks/x", "data/f"] {
            let attempt = format!("echo x > {}", of_other.join(path).display());
            assert!(!works(&sandbox, &attempt).await, "{attempt}");
        }
        assert!(works(&sandbox, "echo x > f").await);
        sandbox.close().await;
    }
    // The host creates a protected name, and the directory closes while the session is open.
    set_modes(0o755);
    let sandbox = open(&writable.build().unwrap(), dir);
    fs::create_dir(of_other.join("work/.vscode")).unwrap();
    set_modes(0o700);
    let ran = run(&sandbox, "mkdir -p d/.git/hooks").await;
    assert_eq!((ran.status, ran.sandbox_ended), (CommandStatus::Exited(0), None));
    set_modes(0o777);
    let later = of_other.join("work/.vscode/f");
    assert!(!works(&sandbox, &format!("echo x > {}", later.display())).await);
}
