//! Files that the host replaces or creates while a session is open.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use policy::{PathEntry, Policy, SandboxRuntimeConfig};
use sandbox_core::NativeSandbox;
use testkit::skipped;

use crate::creation::works;
use crate::fixture::{NO_DIRECTORY_IN_SIGHT, directory_in_sight, open, without_namespaces};

/// A repository of the user with hidden and protected files, and a session in it.
struct Work {
    _root: tempfile::TempDir,
    dir: std::path::PathBuf,
    sandbox: NativeSandbox,
}

fn work() -> Option<Work> {
    let root = directory_in_sight()?;
    let dir = root.path().canonicalize().unwrap();
    fs::create_dir_all(dir.join(".git/hooks")).unwrap();
    fs::create_dir_all(dir.join(".git/objects")).unwrap();
    fs::create_dir_all(dir.join(".git/refs")).unwrap();
    fs::create_dir(dir.join("secrets")).unwrap();
    for (file, content) in [
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[core]\n"),
        (".env", "secret"),
        ("lock.txt", "locked"),
        (".bashrc", "true"),
        ("secrets/key", "secret"),
    ] {
        fs::write(dir.join(file), content).unwrap();
    }
    symlink("lock.txt", dir.join(".profile")).unwrap();
    let entries = |names: &[&str]| -> Vec<PathEntry> {
        names.iter().map(|name| dir.join(name).to_str().unwrap().into()).collect()
    };
    let mut config = SandboxRuntimeConfig::default();
    config.filesystem.deny_read = entries(&[".env", "late-secret", "secrets"]);
    config.filesystem.deny_write = entries(&["lock.txt", "late-lock"]);
    config.filesystem.allow_write = vec![dir.to_str().unwrap().into()];
    let policy = Policy::from_config(config, &dir).unwrap();
    let sandbox = open(&policy, &dir);
    Some(Work { _root: root, dir, sandbox })
}

/// Replaces a file like an editor, with an atomic rename.
fn replace(path: &Path, content: &str) {
    let beside = path.with_file_name("beside");
    fs::write(&beside, content).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o666)).unwrap();
    fs::rename(beside, path).unwrap();
}

const ATTEMPTS: [&str; 9] = [
    "cat .env",
    "cat secrets/key",
    "echo x > lock.txt",
    "rm lock.txt",
    "echo x >> .bashrc",
    "echo x > .git/config",
    "echo x > .git/hooks/pre-commit",
    "mv .git/config .git/c",
    "mv .git/hooks .git/h",
];

#[tokio::test]
async fn what_the_host_replaces_stays_hidden_and_protected() {
    if without_namespaces() {
        return;
    }
    let Some(Work { dir, sandbox, .. }) = &work() else {
        return skipped("files that the host replaces", NO_DIRECTORY_IN_SIGHT);
    };
    for attempt in ATTEMPTS {
        assert!(!works(sandbox, attempt).await, "{attempt}");
    }
    for round in 0..3 {
        for file in [".env", "lock.txt", ".bashrc", ".git/config"] {
            replace(&dir.join(file), &format!("round {round}"));
        }
        fs::rename(dir.join(".git/hooks"), dir.join(format!(".git/hooks-{round}"))).unwrap();
        fs::create_dir(dir.join(".git/hooks")).unwrap();
        fs::rename(dir.join("secrets"), dir.join(format!("old-{round}"))).unwrap();
        fs::create_dir(dir.join("secrets")).unwrap();
        fs::write(dir.join("secrets/key"), "secret").unwrap();
        for attempt in ATTEMPTS {
            assert!(!works(sandbox, attempt).await, "{attempt}, round {round}");
        }
        assert!(works(sandbox, "echo x > file && cat lock.txt .bashrc .git/config").await);
    }
    let content = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    assert_eq!(content("lock.txt") + &content(".git/config"), "round 2round 2");
}

#[tokio::test]
async fn what_the_host_creates_at_a_denied_path_is_covered_before_the_next_command() {
    if without_namespaces() {
        return;
    }
    let Some(Work { dir, sandbox, .. }) = &work() else {
        return skipped("files that the host creates", NO_DIRECTORY_IN_SIGHT);
    };
    assert!(works(sandbox, "true").await);
    fs::write(dir.join("late-secret"), "secret").unwrap();
    fs::write(dir.join("late-lock"), "locked").unwrap();
    fs::write(dir.join(".zshrc"), "true").unwrap();
    for attempt in ["cat late-secret", "echo x > late-lock", "echo x > .zshrc", "rm .zshrc"] {
        assert!(!works(sandbox, attempt).await, "{attempt}");
    }
    for file in ["late-secret", "late-lock", ".zshrc"] {
        assert!(dir.join(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn a_repository_that_the_host_creates_again_is_protected() {
    if without_namespaces() {
        return;
    }
    let Some(Work { dir, sandbox, .. }) = &work() else {
        return skipped("repositories that the host creates again", NO_DIRECTORY_IN_SIGHT);
    };
    assert!(works(sandbox, "true").await);
    fs::rename(dir.join(".git"), dir.join("old")).unwrap();
    fs::create_dir_all(dir.join(".git/hooks")).unwrap();
    fs::create_dir_all(dir.join(".git/objects")).unwrap();
    fs::create_dir_all(dir.join(".git/refs")).unwrap();
    fs::write(dir.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(dir.join(".git/config"), "[core]\n").unwrap();
    for attempt in ["echo x > .git/config", "echo x > .git/hooks/h", "mv .git g", "rm -r .git"] {
        assert!(!works(sandbox, attempt).await, "{attempt}");
    }
    assert!(works(sandbox, "echo x > .git/index.lock && mv .git/index.lock .git/n").await);
}
