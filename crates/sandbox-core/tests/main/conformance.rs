//! One table of cases, each run by the native engine and by the real srt: the same settings must
//! mean the same, but for the differences that are named with their reasons.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use policy::{Policy, SandboxRuntimeConfig};
use sandbox_core::{CommandSpec, CommandStatus, NativeSandbox, Sandbox, SrtSandbox};

use crate::fixture::{BASE, NO_DIRECTORY_IN_SIGHT, directory_in_sight};
use testkit::{copy_of_this_program, skipped};

/// What a command comes to: it ends with 0, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Works,
    Fails,
}
use Outcome::{Fails, Works};

struct Case {
    name: &'static str,
    /// Beside the settings of [`settings`]; `W` stands for the session directory, `O` for the
    /// directory beside it.
    settings: &'static [(&'static str, &'static [&'static str])],
    /// `W` and `O` are variables here.
    command: &'static str,
    expected: Outcome,
    /// Where and what srt does instead, and why that is not what we want.
    srt: Option<(For, Outcome, &'static str)>,
}

/// Who calls srt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Everyone,
    Root,
}

const fn case(name: &'static str, command: &'static str, expected: Outcome) -> Case {
    Case { name, settings: &[], command, expected, srt: None }
}

impl Case {
    const fn with(mut self, settings: &'static [(&'static str, &'static [&'static str])]) -> Self {
        self.settings = settings;
        self
    }

    const fn but_srt(mut self, outcome: Outcome, reason: &'static str) -> Self {
        self.srt = Some((For::Everyone, outcome, reason));
        self
    }

    const fn but_srt_as_root(mut self, outcome: Outcome, reason: &'static str) -> Self {
        self.srt = Some((For::Root, outcome, reason));
        self
    }

    fn expected_of_srt(&self) -> (Outcome, &'static str) {
        match self.srt {
            Some((whom, outcome, reason))
                if whom == For::Everyone || rustix::process::geteuid().is_root() =>
            {
                (outcome, reason)
            }
            _ => (self.expected, "the same is expected"),
        }
    }
}

const NO_OPEN_TREE: &str = "srt makes no new mounts impossible: a deny that is only a mount is void in a namespace of one's own";

/// The rows of srt's own tests that apply without a proxy, and those that its issues ask for.
const CASES: &[Case] = &[
    // Writing.
    case("write in the session directory", "echo x > new && cat new", Works),
    case("write in a directory of it", "mkdir -p a/b && echo x > a/b/c", Works),
    case("write outside", "echo x > $O/new", Fails),
    case("write over a file outside", "echo x > $O/file", Fails),
    case("remove a file outside", "rm -f $O/file && ! test -e $O/file", Fails),
    case("write to the system", "echo x > /etc/agent-tools-test", Fails),
    case("write through a symlink that leads out", "ln -s $O/file l && echo x > l", Fails),
    case("write through a symlinked directory", "ln -s $O d && echo x > d/new", Fails),
    case("write by /proc/self/cwd", "echo x > /proc/self/cwd/new", Works),
    case("write outside by /proc/self/root", "echo x > /proc/self/root$O/file", Fails),
    case("reopen for writing by descriptor", "exec 3< $O/file; echo x > /proc/self/fd/3", Fails),
    case("hard link to a file outside", "ln $O/file hard", Fails),
    case("make a FIFO", "mkfifo p", Works),
    case("make a device", "mknod device c 1 3", Fails),
    case("a second write root", "echo x > $O/plain/new", Works).with(&[("allowWrite", &["O/plain"])]),
    case("a file as write root", "echo x > $O/file", Works).with(&[("allowWrite", &["O/file"])]),
    case("beside a file that is a write root", "echo x > $O/plain/f", Fails).with(&[("allowWrite", &["O/file"])]),
    case("an absent write root is not made", "mkdir $O/absent", Fails).with(&[("allowWrite", &["O/absent"])]),
    case("a write root that is a symlink", "echo x > $O/link/new", Works)
        .with(&[("allowWrite", &["O/link"])])
        .but_srt(Fails, "srt leaves a symlinked allowWrite out without a word"),
    // denyWrite.
    case("write to a denied file", "echo x > denied.txt", Fails),
    case("append to a denied file", "echo x >> denied.txt", Fails),
    case("read a file that may not be written", "cat denied.txt", Works),
    case("remove a denied file", "rm -f denied.txt", Fails),
    case("rename a denied file", "mv denied.txt other", Fails),
    case("rename over a denied file", "echo x > n && mv -f n denied.txt", Fails),
    case("hard link to a denied file", "ln denied.txt hard", Fails),
    case("change the mode of a denied file", "chmod 777 denied.txt", Fails),
    case("create in a denied directory", "echo x > locked/new", Fails),
    case("write deep in a denied directory", "echo x > locked/inner/file", Fails),
    case("rename a denied directory", "mv locked other", Fails),
    case("remove a denied directory", "rm -rf locked; ! test -e locked", Fails),
    case("rename the parent of a denied path", "mv deep other", Fails).with(&[("denyWrite", &["W/deep/er/file"])]),
    case("rename the parent's parent", "mv deep/er other", Fails).with(&[("denyWrite", &["W/deep/er/file"])]),
    case("work beside a denied path", "echo x > deep/er/new && mv deep/er/new deep/new", Works)
        .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("denyWrite above allowWrite", "echo x > deep/er/new", Fails)
        .with(&[("denyWrite", &["W/deep"]), ("allowWrite", &["W/deep/er"])]),
    case("a denied path by a symlink to its directory", "ln -s deep/er s && echo x > s/file", Fails)
        .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("a denied path that is itself a symlink", "echo x > deep/er/file", Fails)
        .with(&[("denyWrite", &["W/to-deep-file"])]),
    case("a pattern in denyWrite", "echo x > deep/er/file", Fails)
        .with(&[("denyWrite", &["W/**/file"])])
        .but_srt(Works, "srt drops patterns in lists for writing on Linux"),
    case("a pattern in allowWrite", "echo x > $O/plain/f", Works)
        .with(&[("allowWrite", &["O/pl*n"])])
        .but_srt(Fails, "srt drops patterns in lists for writing on Linux"),
    case("make an absent denied file", "echo x > ghost", Fails).with(&[("denyWrite", &["W/ghost"])]),
    case("make a directory at an absent denied path", "mkdir ghost", Fails).with(&[("denyWrite", &["W/ghost"])]),
    case("a symlink at an absent denied path", "ln -s denied.txt ghost", Fails).with(&[("denyWrite", &["W/ghost"])]),
    case("a hard link at an absent denied path", "ln deep/er/file ghost", Fails).with(&[("denyWrite", &["W/ghost"])]),
    case("rename to an absent denied path", "echo x > n && mv n ghost", Fails).with(&[("denyWrite", &["W/ghost"])]),
    case("an absent denied path by another way of naming it", "cd deep/er && echo x > ../..//./ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("an absent denied path by a symlink to its directory", "ln -s . s && echo x > s/ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("an absent denied path through a descriptor", "exec 3<.; cd /; echo x > /proc/self/fd/3/ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("make an absent nested denied path", "mkdir -p ghost/in && echo x > ghost/in/file", Fails)
        .with(&[("denyWrite", &["W/ghost/in"])]),
    case("bring an absent nested denied path along", "mkdir -p n/in && mv n ghost", Fails)
        .with(&[("denyWrite", &["W/ghost/in"])]),
    case("link the way to an absent nested denied path", "mkdir -p n/in && ln -s n ghost", Fails)
        .with(&[("denyWrite", &["W/ghost/in"])]),
    case("the target of a dangling denied symlink", "echo x > nowhere", Fails)
        .with(&[("denyWrite", &["W/dangling"])]),
    case("write through a dangling denied symlink", "echo x > dangling", Fails).with(&[("denyWrite", &["W/dangling"])]),
    case("what a pattern in denyWrite will match", "mkdir new && echo x > new/secret.pem", Fails)
        .with(&[("denyWrite", &["W/**/*.pem"])])
        .but_srt(Works, "srt drops patterns in lists for writing on Linux"),
    case("work beside absent denied paths", "echo x > gho && mv gho ghost2 && mkdir -p in/ghost && rm -r in", Works)
        .with(&[("denyWrite", &["W/ghost", "W/x/in"])]),
    case("an absent protected name", "echo x > $O/plain/.bashrc", Fails)
        .with(&[("allowWrite", &["O/plain"])])
        .but_srt(Works, "srt protects names in the directory that it runs in, and in no other that may be written to"),
    case("an absent protected directory", "mkdir $O/plain/.vscode", Fails)
        .with(&[("allowWrite", &["O/plain"])])
        .but_srt(Works, "srt protects names in the directory that it runs in, and in no other that may be written to"),
    case("a new repository", "mkdir -p n/.git/hooks && echo x > n/.git/config && echo x > n/.bashrc", Works),
    case("an absent denied path leaves no trace", "test ! -e ghost", Works)
        .with(&[("denyWrite", &["W/ghost"])])
        .but_srt(Fails, "srt makes a file on the host to mount over"),
    // denyRead and allowRead.
    case("read what is not denied", "cat $O/file", Works),
    case("read in a hidden directory", "cat $O/hidden/file", Fails),
    case("list a hidden directory", "test -n \"$(ls $O/hidden)\"", Fails).with(&[("allowRead", &[])]),
    case("write to a hidden directory", "echo x > $O/hidden/new", Fails)
        .but_srt(Works, "srt puts an empty directory there that takes writes and loses them"),
    case("read a hidden file", "cat $O/hidden.txt", Fails).with(&[("denyRead", &["O/hidden.txt"])]),
    case("read a carve-out", "cat $O/hidden/shown/file", Works),
    case("write to a carve-out", "echo x > $O/hidden/shown/file", Fails),
    case("read beside a carve-out", "cat $O/hidden/other/file", Fails),
    case("hidden again in a carve-out", "cat $O/hidden/shown/not/file", Fails)
        .with(&[("denyRead", &["O/hidden/shown/not"])]),
    case("shown again, three deep", "cat $O/hidden/shown/not/but/file", Works)
        .with(&[("denyRead", &["O/hidden/shown/not"]), ("allowRead", &["O/hidden/shown/not/but"])]),
    case("the same path denied and allowed", "cat $O/plain/f", Works)
        .with(&[("denyRead", &["O/plain"]), ("allowRead", &["O/plain"])]),
    case("a write root in a hidden directory", "echo x > $O/hidden/shown/new", Works)
        .with(&[("allowWrite", &["O/hidden/shown"])]),
    case("hidden in a write root", "cat secret/file", Fails).with(&[("denyRead", &["W/secret"])]),
    case("move the parent of what is hidden", "mv deep other && cat other/er/file", Fails)
        .with(&[("denyRead", &["W/deep/er"])]),
    case("a pattern in denyRead", "cat $O/plain/key.pem", Fails).with(&[("denyRead", &["O/**/*.pem"])]),
    case("what a pattern does not match", "cat $O/plain/f", Works).with(&[("denyRead", &["O/**/*.pem"])]),
    case("a symlink planted at a carve-out", "cat $O/hidden/link/file", Fails)
        .with(&[("allowRead", &["O/hidden/link"])])
        .but_srt(Works, "srt shows what a link leads to at the link's own name; we show it at its own"),
    case("an absent path in denyRead", "cat $O/file", Works).with(&[("denyRead", &["O/absent"])]),
    // Protected names.
    case("protected .bashrc", "echo x > .bashrc", Fails),
    case("protected .gitconfig", "echo x > .gitconfig", Fails),
    case("protected .gitmodules", "echo x > .gitmodules", Fails),
    case("protected .zshrc", "echo x > .zshrc", Fails),
    case("protected .bash_profile", "echo x > .bash_profile", Fails),
    case("protected .zprofile", "echo x > .zprofile", Fails),
    case("protected .profile", "echo x > .profile", Fails),
    case("protected .ripgreprc", "echo x > .ripgreprc", Fails),
    case("protected .mcp.json", "echo x > .mcp.json", Fails),
    case("protected .vscode", "echo x > .vscode/new", Fails),
    case("protected .idea", "echo x > .idea/new", Fails),
    case("protected .claude/commands", "echo x > .claude/commands/new", Fails),
    case("protected .claude/agents", "echo x > .claude/agents/new", Fails),
    case("other files of .claude", "echo x > .claude/new", Works),
    case("reading what is protected", "cat .bashrc .git/config", Works),
    case("git hooks", "echo x > .git/hooks/pre-commit", Fails),
    case("a new git hook", "echo x > .git/hooks/new", Fails),
    case("git config", "echo x > .git/config", Fails),
    case("git's own work", "echo x > .git/index && echo x > .git/refs/heads/b && echo x > .git/objects/o", Works),
    case("rename .git", "mv .git other", Fails),
    case("allowGitConfig opens the config", "echo x > .git/config", Works).with(&[("allowGitConfig", &[])]),
    case("allowGitConfig opens no hook", "echo x > .git/hooks/pre-commit", Fails).with(&[("allowGitConfig", &[])]),
    case("protected names further down", "echo x > repo/.mcp.json || echo x > repo/.vscode/f", Fails),
    case("the settings of a nested repository", "echo x > repo/.git/config", Fails),
    case("the hooks of a nested repository", "echo x > repo/.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt looks three levels deep, and hooks lie four deep"),
    case("a nested repository, two deep", "echo x > nested/repo/.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt looks three levels deep, and counts those of the repository"),
    case("a nested repository that git ignores", "echo x > ignored/.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt looks for repositories with a search that leaves out what git ignores"),
    case("a repository six deep", "echo x > a1/a2/a3/a4/a5/a6/.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt looks three levels deep, and counts those of the repository"),
    case("a submodule", "echo x > .git/modules/sub/hooks/post-checkout", Fails)
        .but_srt(Works, "srt does not know submodules"),
    case("a repository whose .git is a file", "echo x > separate.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt does not follow the pointer"),
    case(
        "no protected name is made on the host",
        "test ! -e .gitconfig.ghost && ! ls -a | grep -q '^.rgignore$'",
        Works,
    ),
    // The file system as a whole.
    case("no rules for files", "echo x > $O/file", Works).with(&[("disabled", &[])]),
    case("everything hidden but a carve-out", "cat $O/plain/f", Works)
        .with(&[("denyRead", &["/"]), ("allowRead", &["O/plain", "W", "/usr", "/bin", "/lib", "/lib64", "/etc"])])
        .but_srt(Fails, "srt hides its own helper and ends with 127"),
    case("everything hidden", "cat $O/file", Fails)
        .with(&[("denyRead", &["/"]), ("allowRead", &["W", "/usr", "/bin", "/lib", "/lib64", "/etc"])]),
    // Network and sockets.
    case("no network", "exec 3<>/dev/tcp/1.1.1.1/53", Fails),
    case("sockets of the internet exist", "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_STREAM, 0) or die'", Works),
    case("Unix sockets do not", "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die'", Fails),
    case("datagram Unix sockets do not", "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die'", Fails),
    case(
        "allowAllUnixSockets opens Unix sockets",
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; socketpair(my $a, my $b, AF_UNIX, SOCK_DGRAM, 0) or die'",
        Works,
    )
    .with(&[("allowAllUnixSockets", &[])]),
    case("allowAllUnixSockets opens nothing else", "perl -e '$p = \"\\0\" x 128; syscall(425, 8, $p) >= 0 or die'", Fails)
        .with(&[("allowAllUnixSockets", &[])])
        .but_srt(Works, "srt turns its whole filter off"),
    case("vsock", "perl -MSocket -e 'socket(my $s, 40, SOCK_STREAM, 0) or die'", Fails).but_srt(Works, "srt refuses Unix sockets only"),
    case("io_uring", "perl -e '$p = \"\\0\" x 128; syscall(425, 8, $p) >= 0 or die'", Fails),
    // Processes and privileges.
    case("a new user namespace", "unshare --user true", Fails).but_srt(Works, NO_OPEN_TREE),
    case("processes of the host", "test $(ls /proc | grep -c '^[0-9]*$') -gt 30", Fails),
    case("no capability", "grep -q 'CapEff:[[:space:]]*0*$' /proc/self/status", Works)
        .but_srt_as_root(Fails, "srt leaves root the capability to give files capabilities"),
    case("unmount /proc", "umount /proc", Fails),
    case("trace the first process", "test -r /proc/1/mem && head -c 1 /proc/1/environ | grep -q .", Fails),
    case("write to /proc/sys", "f=/proc/sys/kernel/core_pattern; old=$(< $f); printf %s \"$old\" > $f", Fails)
        .but_srt_as_root(Works, "srt leaves the machine's settings writable for root: a core_pattern is a way out"),
    // Exit codes.
    case("an exit code", "(exit 42)", Fails),
    case("a command that is not there", "nosuchcommand", Fails),
    case("pipes", "echo a | grep -q a", Works),
    case("a background process does not hold the command", "sleep 1000 & true", Works),
];

/// What every case starts with, before its own settings.
fn settings(case: &Case, fixture: &Fixture) -> SandboxRuntimeConfig {
    let path = |rule: &str| match rule.strip_prefix('W') {
        Some(rest) => format!("{}{rest}", fixture.dir.display()),
        None => match rule.strip_prefix('O') {
            Some(rest) => format!("{}{rest}", fixture.outside.display()),
            None => rule.to_owned(),
        },
    };
    let paths = |rules: &[&str]| rules.iter().map(|rule| path(rule)).collect::<Vec<_>>();
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

/// A tree with a session directory and one beside it.
struct Fixture {
    _temporary: tempfile::TempDir,
    dir: PathBuf,
    outside: PathBuf,
    settings: PathBuf,
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
    "separate.git/HEAD",
    "separate.git/config",
    "separate.git/hooks/pre-commit",
];
const OUTSIDE: &[&str] = &[
    "file",
    "hidden.txt",
    "plain/f",
    "plain/key.pem",
    "hidden/file",
    "hidden/other/file",
    "hidden/shown/file",
    "hidden/shown/not/file",
    "hidden/shown/not/but/file",
];

impl Fixture {
    fn new() -> Self {
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

    /// What the command comes to, and what it said.
    async fn outcome(&self, sandbox: &dyn Sandbox, command: &str) -> (Outcome, String) {
        let ran = sandbox.exec(self.spec(command)).await.unwrap();
        let outcome = if ran.status == CommandStatus::Exited(0) { Works } else { Fails };
        (outcome, format!("{:?} {}", ran.status, String::from_utf8_lossy(&ran.stderr.bytes)))
    }
}

async fn native(case: &Case) -> (Outcome, String) {
    let fixture = Fixture::new();
    let policy = Policy::from_config(settings(case, &fixture), Path::new("/nonexistent")).unwrap();
    let sandbox = NativeSandbox::builder(&policy, &fixture.dir).open().unwrap();
    let outcome = fixture.outcome(&sandbox, case.command).await;
    sandbox.close().await;
    outcome
}

async fn srt(case: &Case, program: &[OsString]) -> (Outcome, String) {
    let fixture = Fixture::new();
    let policy = Policy::from_config(settings(case, &fixture), Path::new("/nonexistent")).unwrap();
    match SrtSandbox::open(&policy, &fixture.dir, program.to_vec(), &fixture.settings).await {
        Ok(sandbox) => fixture.outcome(&sandbox, case.command).await,
        Err(error) => (Fails, error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_native_engine_matches_the_table() {
    if directory_in_sight().is_none() {
        return skipped("the table of cases", NO_DIRECTORY_IN_SIGHT);
    }
    let mut wrong = Vec::new();
    for case in CASES {
        let (outcome, why) = native(case).await;
        if outcome != case.expected {
            wrong.push(format!("{}: {outcome:?} instead of {:?}: {why}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srt_matches_the_table_except_for_the_named_differences() {
    let Some(package) = std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from) else {
        return skipped("the same settings run by the real srt", "`cargo xtask peers` installs it");
    };
    if !["bwrap", "socat", "rg"].iter().all(|tool| Path::new("/usr/bin").join(tool).exists()) {
        return skipped(
            "the same settings run by the real srt",
            "packages bubblewrap, socat and ripgrep",
        );
    }
    if directory_in_sight().is_none() {
        return skipped("the table of cases, run by the real srt", NO_DIRECTORY_IN_SIGHT);
    }
    let program = [OsString::from("node"), package.join("dist/cli.js").into()];
    // srt waits more than it works.
    let lane = async |first: usize| {
        let mut wrong = Vec::new();
        for case in CASES.iter().skip(first).step_by(3) {
            let (outcome, why) = srt(case, &program).await;
            let (expected, reason) = case.expected_of_srt();
            if outcome != expected {
                wrong.push(format!(
                    "{}: {outcome:?} instead of {expected:?} ({reason}): {why}",
                    case.name
                ));
            }
        }
        wrong
    };
    let (a, b, c) = tokio::join!(lane(0), lane(1), lane(2));
    let wrong = [a, b, c].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A place that everybody can reach, in mounts of its own.
    let (dir, program) = copy_of_this_program();
    let packages = dir.path().join("node_modules");
    fs::create_dir(&packages).unwrap();
    let package = std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from);
    let source = package
        .as_deref()
        .and_then(|package| package.ancestors().find(|above| above.ends_with("node_modules")));
    let script = "set -e; mount -t tmpfs -o mode=1777 none /mnt; if [ -n \"$1\" ]; then mount --bind \"$1\" \"$2\"; fi; \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$0\" conformance:: agreement:: creation::";
    let mut run = Command::new("unshare");
    run.args(["--mount", "bash", "-c", script])
        .arg(&program)
        .arg(source.unwrap_or(Path::new("")))
        .arg(&packages);
    run.env(BASE, "/mnt").env("HOME", "/nonexistent").env_remove("TMPDIR");
    if let (Some(source), Some(package)) = (source, &package) {
        run.env("SRT_PACKAGE_DIR", packages.join(package.strip_prefix(source).unwrap()));
    }
    let Ok(run) = run.output() else {
        return skipped("conformance as an ordinary user", "package util-linux");
    };
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("the_native_engine_matches_the_table ... ok"), "{text}");
}
