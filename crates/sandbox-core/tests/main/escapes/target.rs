//! The session that commands try to escape from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use policy::Policy;
use sandbox_core::{CommandOutput, NativeSandbox, Sandbox, SessionDir};

use crate::fixture::{open, spec, without_namespaces};

/// A session whose policy has rules of every kind, and files that no command may change.
pub(super) struct Target {
    _root: tempfile::TempDir,
    pub(super) root: PathBuf,
    pub(super) sandbox: NativeSandbox,
    policy: Policy,
    /// Protected files in the session directory; none on the Landlock tier.
    protected: &'static [&'static str],
}

/// Content of the protected files.
pub(super) const CONTENT: &str = "as it was";
/// Files in the session directory that the policy protects.
const PROTECTED: [&str; 6] = [
    "denied.txt",
    "locked/inner/file",
    "secret/file",
    "deep/repo/.git/hooks/pre-commit",
    "deep/repo/.git/config",
    ".bashrc",
];
/// Paths in the session directory that must stay absent.
const ABSENT: [&str; 4] = [".gitconfig", ".vscode", "ghost", "no/where"];
/// Files outside the session directory.
const OUTSIDE: [&str; 2] = ["outside/canary", "sessions/s2/file"];

pub(super) fn target() -> Target {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().canonicalize().unwrap();
    let dir = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
    let protected: &[&str] = if without_namespaces() { &[] } else { &PROTECTED };
    for path in
        protected.iter().map(|path| dir.join(path)).chain(OUTSIDE.map(|path| root.join(path)))
    {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, CONTENT).unwrap();
        // Only the sandbox protects the file, not its mode.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let mut policy = Policy::session(&dir).sessions_root(&root.join("sessions")).home(&root);
    policy =
        policy.protect_names().deny_write(&dir.join("ghost")).deny_write(&dir.join("no/where"));
    if !without_namespaces() {
        policy = policy
            .deny_write(&dir.join("denied.txt"))
            .deny_write(&dir.join("locked"))
            .deny_read(&dir.join("secret"));
    }
    let mut policy = policy.build().unwrap();
    if !without_namespaces() {
        let mut config = policy.absolute_config();
        config.filesystem.deny_read.push(format!("{}/**/x.pem", dir.display()).into());
        policy = Policy::from_config(config, &root).unwrap();
    }
    let sandbox = open(&policy, &dir);
    Target { _root: temporary, root, sandbox, policy, protected }
}

impl Target {
    pub(super) fn dir(&self) -> PathBuf {
        self.root.join("sessions/s1")
    }

    pub(super) async fn run(&self, command: &str) -> CommandOutput {
        self.sandbox.exec(spec(command)).await.unwrap()
    }

    /// Replaces a sandbox that has ended, for example because a command made more repositories than
    /// the kernel has mounts (`fs.mount-max`).
    pub(super) fn reopen(&mut self) {
        self.sandbox = open(&self.policy, &self.dir());
    }

    pub(super) async fn text(&self, command: &str) -> String {
        String::from_utf8(self.run(command).await.stdout.bytes).unwrap()
    }

    /// Asserts that every protected file has its name, its content, its mode, and no other name.
    #[track_caller]
    pub(super) fn is_untouched(&self, after: &str) {
        use std::os::unix::fs::MetadataExt;
        let dir = self.dir();
        let protected = self.protected.iter().map(|path| dir.join(path));
        for path in protected.chain(OUTSIDE.map(|path| self.root.join(path))) {
            let content = fs::read_to_string(&path).unwrap_or_else(|error| format!("{error}"));
            assert_eq!(content, CONTENT, "{} after {after}", path.display());
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(
                metadata.is_file() && metadata.nlink() == 1,
                "{} after {after}",
                path.display()
            );
            assert_eq!(metadata.mode() & 0o7777, 0o666, "{} after {after}", path.display());
        }
        for path in ABSENT {
            assert!(fs::symlink_metadata(dir.join(path)).is_err(), "{path} after {after}");
        }
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((names(&self.root), names(&self.root.join("outside"))), (2, 1), "after {after}");
        if self.protected.is_empty() {
            return;
        }
        assert_eq!(
            (names(&dir.join("locked")), names(&dir.join("locked/inner"))),
            (1, 1),
            "after {after}"
        );
        assert_eq!(names(&dir.join("deep/repo/.git/hooks")), 1, "after {after}");
    }
}
