//! Files that appear in an open session. Forbidden ones are denied or quarantined; others are
//! covered before the next command.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use policy::{PathEntry, Policy, SandboxRuntimeConfig};
use sandbox_core::{CommandOutput, CommandStatus, NativeSandbox, Sandbox, Weakness};

use crate::calls;
use crate::fixture::{
    Fixture, NO_DIRECTORY_IN_SIGHT, directory_in_sight, fixture, open, open_accepting, pause,
    repetitions, spec, without_namespaces,
};
use testkit::skipped;

pub(crate) async fn run(sandbox: &NativeSandbox, command: &str) -> CommandOutput {
    sandbox.exec(spec(command)).await.unwrap()
}

pub(crate) async fn works(sandbox: &NativeSandbox, command: &str) -> bool {
    run(sandbox, command).await.status == CommandStatus::Exited(0)
}

/// Asserts that a file at a denied path was renamed.
#[track_caller]
pub(crate) fn is_quarantined(ran: &CommandOutput, path: &Path, moved_to: &Path) {
    let found: Vec<_> = ran
        .quarantined
        .iter()
        .map(|file| (file.path.as_path(), file.moved_to.as_deref()))
        .collect();
    assert_eq!(found, [(path, Some(moved_to))]);
    assert!(!path.exists() && moved_to.exists());
}

#[tokio::test]
async fn creating_a_protected_name_is_denied_and_leaves_no_trace() {
    let Fixture { dir, sandbox, .. } = &fixture();
    for attempt in [
        "echo x > .bashrc",
        "mkdir .vscode",
        "ln -s /etc/passwd .gitconfig",
        "echo x > f && mv f .profile",
        "echo x > f && ln f .zshrc",
        "mkfifo .mcp.json",
        "mkdir .claude; mkdir .claude/commands",
        "mkdir -p d/commands && mv -T d .claude",
        "cd /; exec 3< $OLDPWD; echo x > $OLDPWD/.bashrc",
        "perl -e 'open(F, \">\", \".bashrc\") or exit 1'",
        &format!(
            "perl -e 'exit(syscall({creat}, my $path = \".bashrc\", 0644) == -1)'",
            creat = calls::find("creat").unwrap_or(u32::MAX),
        ),
    ] {
        let ran = run(sandbox, attempt).await;
        assert_ne!(ran.status, CommandStatus::Exited(0), "{attempt}");
        assert!(ran.quarantined.is_empty(), "{attempt}");
    }
    let ran = run(sandbox, "echo x > .bashrc").await;
    assert!(
        String::from_utf8_lossy(&ran.stderr.bytes).contains("Read-only file system"),
        "{ran:?}"
    );
    assert!(
        works(
            sandbox,
            "echo x > .bashrc2 && mkdir -p .claude/other vscode && mv .bashrc2 n && ls .bash* \
             || rm n"
        )
        .await
    );
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".claude", "d", "f", "vscode"]);
}

#[tokio::test]
async fn a_file_that_evades_the_denial_is_quarantined_after_the_command() {
    let Fixture { dir, sandbox, .. } = &fixture();
    let ran = run(sandbox, "ln -s .bashrc link && echo content > link && cat .bashrc").await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), "content\n");
    is_quarantined(&ran, &dir.join(".bashrc"), &dir.join(".bashrc.refused"));
    assert_eq!(fs::read_to_string(dir.join(".bashrc.refused")).unwrap(), "content\n");
    assert!(run(sandbox, "cat link").await.quarantined.is_empty());
}

#[tokio::test]
async fn a_race_against_the_denial_is_lost() {
    let Fixture { dir, sandbox, .. } = &fixture();
    if !works(sandbox, "command -v python3").await {
        return skipped("a race for a protected name", "package python3");
    }
    // One thread changes the name in memory while another one creates the file.
    const RACE: &str = "
import ctypes, threading
libc = ctypes.CDLL(None)
name = ctypes.create_string_buffer(b'.abcdef')
bad, good = b'.bashrc', b'.abcdef'
stop = False
def flip():
    while not stop:
        ctypes.memmove(name, bad, 7); ctypes.memmove(name, good, 7)
thread = threading.Thread(target=flip); thread.start()
for _ in range(3000):
    fd = libc.open(name, 0o101, 0o644)
    if fd >= 0: libc.close(fd)
stop = True; thread.join()
";
    fs::write(dir.join("race.py"), RACE).unwrap();
    let ran = run(sandbox, "python3 race.py; ls -a").await;
    assert!(!dir.join(".bashrc").exists(), "{ran:?}");
    let created = String::from_utf8_lossy(&ran.stdout.bytes).lines().any(|name| name == ".bashrc");
    assert_eq!(ran.quarantined.len(), usize::from(created), "{ran:?}");
}

#[tokio::test]
async fn files_of_a_cancelled_command_are_quarantined_after_the_next_one() {
    let Fixture { dir, sandbox, .. } = &fixture();
    let path = dir.join(".profile");
    let cancelled = sandbox.exec(spec("ln -s .profile l; echo x > l; sleep 1000"));
    let appears = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ran = cancelled => panic!("{ran:?}"),
        () = appears => {}
    }
    is_quarantined(&run(sandbox, "true").await, &path, &dir.join(".profile.refused"));
}

/// Runs a command until it has created `path` and `meanwhile` has returned.
async fn run_during<F: Future<Output = ()>>(
    Fixture { dir, sandbox, .. }: &Fixture,
    command: &str,
    path: &Path,
    meanwhile: impl FnOnce() -> F,
) -> CommandOutput {
    let waits = format!("{command}; until [ -e go ]; do read -rt 0.01 <> <(:) || :; done");
    let during = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        meanwhile().await;
        fs::write(dir.join("go"), "").unwrap();
    };
    let (ran, ()) = tokio::join!(sandbox.exec(spec(&waits)), during);
    fs::remove_file(dir.join("go")).unwrap();
    ran.unwrap()
}

#[tokio::test]
async fn a_policy_that_is_compiled_meanwhile_accepts_no_file_of_a_running_command() {
    let fixture = &fixture();
    let Fixture { dir, sandbox, .. } = fixture;
    let path = dir.join(".bashrc");
    let ran = run_during(fixture, "ln -s .bashrc l; echo evil > l", &path, async || {
        sandbox.refresh().unwrap();
    });
    is_quarantined(&ran.await, &path, &dir.join(".bashrc.refused"));
    assert!(!works(sandbox, "echo x > .bashrc").await);
}

#[tokio::test]
async fn a_repository_of_a_running_command_is_refused_although_it_was_protected_meanwhile() {
    let fixture = &fixture();
    let Fixture { dir, sandbox, .. } = fixture;
    repository_of_the_user(dir);
    sandbox.refresh().unwrap();
    let head = dir.join("repo/x/n/HEAD");
    let create = "mkdir -p repo/x/n/objects repo/x/n/refs; ln -s HEAD repo/x/n/l; \
                  echo ref: x > repo/x/n/l";
    let ran = run_during(fixture, create, &head, async || sandbox.refresh().unwrap());
    is_quarantined(&ran.await, &head, &head.with_file_name("HEAD.refused"));
}

#[tokio::test]
async fn an_overlapping_call_reports_the_file_of_a_running_command() {
    let fixture = &fixture();
    let Fixture { dir, sandbox, .. } = fixture;
    let path = dir.join(".bashrc");
    let ran = run_during(fixture, "ln -s .bashrc l; echo evil > l", &path, async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // This call extends the policy too.
        let other = run(sandbox, "mkdir -p p/.vscode").await;
        is_quarantined(&other, &path, &dir.join(".bashrc.refused"));
    });
    assert!(ran.await.quarantined.is_empty());
}

/// Creates the files without which git takes no directory for a repository.
fn repository_of_the_user(dir: &Path) {
    for directory in ["objects", "refs", "logs"] {
        fs::create_dir_all(dir.join("repo/.git").join(directory)).unwrap();
    }
    fs::write(dir.join("repo/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
}

#[tokio::test]
async fn an_older_file_that_a_moved_directory_brings_to_a_denied_place_is_quarantined() {
    let fixture = fixture();
    let dir = &fixture.dir;
    repository_of_the_user(dir);
    // Otherwise, no command on Landlock can create a file of this name.
    let sandbox = &open_accepting(&fixture.policy(), dir, Weakness::InnerRules);
    assert!(works(sandbox, "mkdir -p d/e && ln -s /etc/passwd d/e/HEAD").await);
    // File times are coarse.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let moved = run(sandbox, "mv repo/.git/logs old; mv d repo/.git/logs").await;
    let link = dir.join("repo/.git/logs/e/HEAD");
    assert!(fs::symlink_metadata(&link).is_err(), "{moved:?}");
    // A mount separates the git directory on the other tier, so the link would have to be copied.
    assert_eq!(moved.quarantined.len(), usize::from(without_namespaces()), "{moved:?}");
    let later = run(sandbox, "ls repo/.git/logs/e").await;
    assert!(later.quarantined.is_empty(), "{later:?}");
}

#[tokio::test]
async fn files_that_the_host_creates_stay() {
    let Fixture { dir, sandbox, .. } = &fixture();
    assert!(works(sandbox, "true").await);
    fs::write(dir.join(".bashrc"), "of the user").unwrap();
    // File times are coarse.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(run(sandbox, "cat .bashrc").await.quarantined.is_empty());
    assert_eq!(fs::read_to_string(dir.join(".bashrc")).unwrap(), "of the user");
}

#[tokio::test]
async fn a_new_repository_is_protected_before_the_next_command() {
    if without_namespaces() {
        return;
    }
    let Fixture { dir, sandbox, .. } = &fixture();
    let create = "mkdir -p a/b/.git/hooks && echo old > a/b/.git/config && \
                  echo old > a/b/.git/hooks/x && echo x > a/b/.git/config";
    assert!(works(sandbox, create).await, "the command that creates it can fill it");
    for attempt in [
        "echo x > a/b/.git/config",
        "echo x > a/b/.git/hooks/x",
        "echo x > a/b/.git/hooks/new",
        "mv a/b/.git a/b/git",
        "mv a c",
        "rm -rf a/b/.git/hooks",
        "echo x > a/b/.git/config.worktree",
    ] {
        assert!(!works(sandbox, attempt).await, "{attempt}");
    }
    assert!(
        works(
            sandbox,
            "echo x > a/b/.git/index && mkdir a/b/src && echo x > a/b/src/f && mv a/b/src/f a/b/g"
        )
        .await
    );
    assert_eq!(fs::read_to_string(dir.join("a/b/.git/config")).unwrap(), "x\n");
    // The next shell was started before the repository existed.
    assert!(works(sandbox, "mkdir -p e/.git && echo x > e/.git/config").await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(works(sandbox, "mkdir -p g/.git && echo x > g/.git/config").await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        !works(sandbox, "echo y > e/.git/config").await
            && !works(sandbox, "echo y > g/.git/config").await
    );
}

#[tokio::test]
async fn a_new_protected_name_is_protected_before_the_next_command() {
    if without_namespaces() {
        return;
    }
    let Fixture { sandbox, .. } = &fixture();
    assert!(
        works(sandbox, "mkdir -p p/.vscode q && echo x > p/.vscode/s && echo x > q/.mcp.json")
            .await
    );
    assert!(
        !works(sandbox, "echo y > p/.vscode/s").await
            && !works(sandbox, "echo y > q/.mcp.json").await
    );
    assert!(works(sandbox, "cat p/.vscode/s q/.mcp.json && echo x > q/new").await);
}

/// Opens a session whose policy hides and protects absent files.
fn with_patterns() -> Option<(tempfile::TempDir, std::path::PathBuf, NativeSandbox)> {
    let root = directory_in_sight()?;
    let dir = root.path().canonicalize().unwrap();
    // Only settings contain patterns.
    let mut config = SandboxRuntimeConfig::default();
    let pattern = |name: &str| PathEntry::from(dir.join(name).to_str().unwrap());
    config.filesystem.deny_read = vec![pattern("**/*.key"), pattern("later")];
    config.filesystem.deny_write = vec![pattern("**/*.lock")];
    let policy = Policy::custom(&dir, config).protect_names().build().unwrap();
    let sandbox = open(&policy, &dir);
    Some((root, dir, sandbox))
}

#[tokio::test]
async fn a_new_file_that_matches_a_pattern_is_covered_before_the_next_command() {
    if without_namespaces() {
        return;
    }
    let Some((_root, dir, sandbox)) = &with_patterns() else {
        return skipped("patterns of a policy", NO_DIRECTORY_IN_SIGHT);
    };
    assert!(
        works(sandbox, "mkdir d && echo secret > d/a.key && mkdir later && echo secret > later/f")
            .await
    );
    assert!(!works(sandbox, "cat d/a.key").await && !works(sandbox, "cat later/f").await);
    assert!(!works(sandbox, "echo x > d/a.key").await && !works(sandbox, "rm d/a.key").await);
    assert!(
        !works(sandbox, "echo x > d/b.lock").await && works(sandbox, "echo x > d/b.locked").await
    );
    // The host still sees the files.
    assert_eq!(fs::read_to_string(dir.join("d/a.key")).unwrap(), "secret\n");
    assert_eq!(fs::read_to_string(dir.join("later/f")).unwrap(), "secret\n");
}

#[tokio::test]
async fn files_that_the_host_adds_are_covered_after_a_refresh() {
    if without_namespaces() {
        return;
    }
    let Some((_root, dir, sandbox)) = &with_patterns() else {
        return skipped("patterns of a policy", NO_DIRECTORY_IN_SIGHT);
    };
    assert!(works(sandbox, "true").await);
    fs::write(dir.join("of-the-user.key"), "secret").unwrap();
    fs::write(dir.join("of-the-user.lock"), "locked").unwrap();
    fs::create_dir_all(dir.join("repo/.git/hooks")).unwrap();
    fs::write(dir.join("repo/.git/config"), "").unwrap();
    sandbox.refresh().unwrap();
    for attempt in [
        "cat of-the-user.key",
        "echo x > of-the-user.lock",
        "rm of-the-user.lock",
        "echo x > repo/.git/hooks/new",
        "echo x > repo/.git/config",
    ] {
        assert!(!works(sandbox, attempt).await, "{attempt}");
    }
    assert!(works(sandbox, "cat of-the-user.lock && echo x > repo/file").await);
    sandbox.refresh().unwrap();
}

#[tokio::test]
async fn a_running_command_is_subject_to_new_rules() {
    if without_namespaces() {
        return;
    }
    let Some((_root, dir, sandbox)) = &with_patterns() else {
        return skipped("patterns of a policy", NO_DIRECTORY_IN_SIGHT);
    };
    let waits =
        "until [ -e go ]; do read -rt 0.01 <> <(:) || :; done; cat d/a.key && exit 1; exit 0";
    let running = sandbox.exec(spec(waits));
    let others = async {
        assert!(works(sandbox, "mkdir d && echo secret > d/a.key").await);
        fs::write(dir.join("go"), "").unwrap();
    };
    let (ran, ()) = tokio::join!(running, others);
    assert_eq!(ran.unwrap().status, CommandStatus::Exited(0));
}

#[test]
fn a_sandbox_opens_while_the_host_removes_files_that_the_policy_protects() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let other = fixture.root.join("other");
    let policy = Policy::session(&fixture.dir).allow_write(&fixture.root).build().unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                testkit::write_file(&other, "a/.git/hooks/pre-commit", "");
                testkit::write_file(&other, "a/.git/HEAD", "");
                std::thread::sleep(pause(Duration::from_millis(20)));
                // Some kernels refuse to remove a directory while a mount covers it elsewhere.
                let _ = fs::remove_dir_all(&other);
                std::thread::sleep(pause(Duration::from_millis(20)));
            }
        });
        let opened: Vec<_> = (0..repetitions(200))
            .map(|_| NativeSandbox::builder(&policy, &fixture.dir).open().map(drop))
            .collect();
        is_done.store(true, Ordering::Relaxed);
        for sandbox in opened {
            sandbox.unwrap();
        }
    });
}
