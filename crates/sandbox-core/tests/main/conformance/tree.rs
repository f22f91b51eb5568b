//! The tree of files and the settings of the cases.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use policy::{PathEntry, SandboxRuntimeConfig};
use sandbox_core::{CommandSpec, CommandStatus, Sandbox};

use super::cases::Case;
use super::cases::Outcome::{self, Fails, Works};
use crate::fixture::directory_in_sight;

/// A tree with a session directory and one beside it.
pub(super) struct Fixture {
    _temporary: tempfile::TempDir,
    pub(super) dir: PathBuf,
    outside: PathBuf,
    pub(super) settings: PathBuf,
}

const CONTENT: &str = "as it was\n";
const IN_SESSION: &[&str] = &[
    "denied.txt",
    "locked/inner/file",
    "deep/er/file",
    "secret/file",
    ".bashrc",
    ".gitconfig",
    ".gitmodules",
    ".zshrc",
    ".bash_profile",
    ".zprofile",
    ".profile",
    ".ripgreprc",
    ".mcp.json",
    ".vscode/f",
    ".idea/f",
    ".claude/commands/f",
    ".claude/agents/f",
    ".claude/f",
    ".git/HEAD",
    ".git/config",
    ".git/hooks/pre-commit",
    ".git/objects/f",
    ".git/refs/heads/a",
    ".git/modules/sub/HEAD",
    ".git/modules/sub/config",
    ".git/modules/sub/hooks/post-checkout",
    "repo/.mcp.json",
    "repo/.vscode/f",
    "repo/.git/HEAD",
    "repo/.git/config",
    "repo/.git/hooks/pre-commit",
    "nested/repo/.git/HEAD",
    "nested/repo/.git/config",
    "nested/repo/.git/hooks/pre-commit",
    "ignored/.git/HEAD",
    "ignored/.git/config",
    "ignored/.git/hooks/pre-commit",
    "a1/a2/a3/a4/a5/a6/.git/HEAD",
    "a1/a2/a3/a4/a5/a6/.git/hooks/pre-commit",
    "odd[1]/f",
    "separate.git/HEAD",
    "separate.git/config",
    "separate.git/hooks/pre-commit",
];
const OUTSIDE: &[&str] = &[
    "file",
    "hidden.txt",
    "plain/f",
    "plain/key.pem",
    "odd[1]/f",
    "odd1/f",
    "hidden/file",
    "hidden/other/file",
    "hidden/shown/file",
    "hidden/shown/not/file",
    "hidden/shown/not/but/file",
];

impl Fixture {
    pub(super) fn new() -> Self {
        let temporary = directory_in_sight().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let (dir, outside) = (root.join("session"), root.join("outside"));
        let files = IN_SESSION
            .iter()
            .map(|path| dir.join(path))
            .chain(OUTSIDE.iter().map(|path| outside.join(path)));
        for path in files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, CONTENT).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        fs::write(dir.join(".gitignore"), "ignored\n").unwrap();
        fs::create_dir(dir.join("worktree")).unwrap();
        fs::write(
            dir.join("worktree/.git"),
            format!("gitdir: {}\n", dir.join("separate.git").display()),
        )
        .unwrap();
        let link = |to: &str, at: PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
        link("nowhere", dir.join("dangling"));
        link("deep/er/file", dir.join("to-deep-file"));
        link("plain", outside.join("link"));
        link("other", outside.join("hidden/link"));
        Self { dir, outside, settings: root.join("settings.json"), _temporary: temporary }
    }

    fn spec(&self, command: &str) -> CommandSpec {
        let mut spec = CommandSpec::new(command);
        spec.env = vec![
            ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("W".into(), self.dir.clone().into()),
            ("O".into(), self.outside.clone().into()),
        ];
        spec.timeout = Duration::from_secs(20);
        spec
    }

    /// Runs a command. Returns its outcome and error output.
    pub(super) async fn outcome(&self, sandbox: &dyn Sandbox, command: &str) -> (Outcome, String) {
        let ran = sandbox.exec(self.spec(command)).await.unwrap();
        let outcome = if ran.status == CommandStatus::Exited(0) { Works } else { Fails };
        (outcome, format!("{:?} {}", ran.status, String::from_utf8_lossy(&ran.stderr.bytes)))
    }
}

/// Returns the settings of a case, which extend the settings of every case.
pub(super) fn settings(case: &Case, fixture: &Fixture) -> SandboxRuntimeConfig {
    let path = |rule: &str| match rule.strip_prefix('W') {
        Some(rest) => format!("{}{rest}", fixture.dir.display()),
        None => match rule.strip_prefix('O') {
            Some(rest) => format!("{}{rest}", fixture.outside.display()),
            None => rule.to_owned(),
        },
    };
    let paths =
        |rules: &[&str]| rules.iter().map(|rule| path(rule).into()).collect::<Vec<PathEntry>>();
    let mut config = SandboxRuntimeConfig::default();
    let files = &mut config.filesystem;
    files.allow_write = paths(&["W"]);
    files.deny_write = paths(&["W/denied.txt", "W/locked"]);
    files.deny_read = paths(&["O/hidden"]);
    files.allow_read = Some(paths(&["O/hidden/shown"]));
    for (name, rules) in case.settings {
        match *name {
            "allowWrite" => files.allow_write.extend(paths(rules)),
            "denyWrite" => files.deny_write.extend(paths(rules)),
            "denyRead" => files.deny_read.extend(paths(rules)),
            "denyRead literal" => {
                files
                    .deny_read
                    .extend(rules.iter().map(|rule| PathBuf::from(path(rule)).as_path().into()));
            }
            "allowRead" if rules.is_empty() => files.allow_read = None,
            "allowRead" => files.allow_read.get_or_insert_default().extend(paths(rules)),
            "allowGitConfig" => files.allow_git_config = Some(true),
            "disabled" => files.disabled = Some(true),
            "allowAllUnixSockets" => config.network.allow_all_unix_sockets = Some(true),
            other => panic!("{other}"),
        }
    }
    config
}
