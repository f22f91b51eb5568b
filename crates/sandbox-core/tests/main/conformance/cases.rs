//! The table of cases.

/// The outcome of a command: exit code 0, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Works,
    Fails,
}
use Outcome::{Fails, Works};

/// A row of the table.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Additions to the settings of every case. `W` is the session directory, `O` the directory
    /// beside it.
    pub(super) settings: &'static [(&'static str, &'static [&'static str])],
    /// The command. `W` and `O` are environment variables.
    pub(super) command: &'static str,
    pub(super) expected: Outcome,
    /// The outcome in srt if it differs, for these users, and the reason.
    srt: Option<(Users, Outcome, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    All,
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
        self.srt = Some((Users::All, outcome, reason));
        self
    }

    const fn but_srt_as_root(mut self, outcome: Outcome, reason: &'static str) -> Self {
        self.srt = Some((Users::Root, outcome, reason));
        self
    }

    pub(super) fn expected_of_srt(&self) -> (Outcome, &'static str) {
        match self.srt {
            Some((users, outcome, reason))
                if users == Users::All || rustix::process::geteuid().is_root() =>
            {
                (outcome, reason)
            }
            _ => (self.expected, "srt should do the same"),
        }
    }
}

const DROPPED_PATTERN: &str = "srt drops patterns in lists for writing on Linux";
const PROTECTED_IN_ONE_DIRECTORY: &str =
    "srt protects names only in the directory that it runs in, not in other writable ones";
const THREE_LEVELS: &str =
    "srt searches only three levels deep, and counts those of the repository";

/// The table: srt's own tests that work without a proxy, and cases from its issues.
pub(super) const CASES: &[Case] = &[
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
    case("create a FIFO", "mkfifo p", Works),
    case("create a device", "mknod device c 1 3", Fails),
    case("a second write root", "echo x > $O/plain/new", Works)
        .with(&[("allowWrite", &["O/plain"])]),
    case("a file as write root", "echo x > $O/file", Works).with(&[("allowWrite", &["O/file"])]),
    case("beside a file that is a write root", "echo x > $O/plain/f", Fails)
        .with(&[("allowWrite", &["O/file"])]),
    case("an absent write root is not created", "mkdir $O/absent", Fails)
        .with(&[("allowWrite", &["O/absent"])]),
    case("a write root that is a symlink", "echo x > $O/link/new", Works)
        .with(&[("allowWrite", &["O/link"])])
        .but_srt(Fails, "srt silently ignores a symlink in allowWrite"),
    // denyWrite.
    case("write to a denied file", "echo x > denied.txt", Fails),
    case("append to a denied file", "echo x >> denied.txt", Fails),
    case("read a write-protected file", "cat denied.txt", Works),
    case("remove a denied file", "rm -f denied.txt", Fails),
    case("rename a denied file", "mv denied.txt other", Fails),
    case("rename over a denied file", "echo x > n && mv -f n denied.txt", Fails),
    case("hard link to a denied file", "ln denied.txt hard", Fails),
    case("change the mode of a denied file", "chmod 777 denied.txt", Fails),
    case("create in a denied directory", "echo x > locked/new", Fails),
    case("write deep in a denied directory", "echo x > locked/inner/file", Fails),
    case("rename a denied directory", "mv locked other", Fails),
    case("remove a denied directory", "rm -rf locked; ! test -e locked", Fails),
    case("rename the parent of a denied path", "mv deep other", Fails)
        .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("rename the parent's parent", "mv deep/er other", Fails)
        .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("work beside a denied path", "echo x > deep/er/new && mv deep/er/new deep/new", Works)
        .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("denyWrite above allowWrite", "echo x > deep/er/new", Fails)
        .with(&[("denyWrite", &["W/deep"]), ("allowWrite", &["W/deep/er"])]),
    case(
        "a denied path by a symlink to its directory",
        "ln -s deep/er s && echo x > s/file",
        Fails,
    )
    .with(&[("denyWrite", &["W/deep/er/file"])]),
    case("a denied path that is a symlink", "echo x > deep/er/file", Fails)
        .with(&[("denyWrite", &["W/to-deep-file"])]),
    case("a pattern in denyWrite", "echo x > deep/er/file", Fails)
        .with(&[("denyWrite", &["W/**/file"])])
        .but_srt(Works, DROPPED_PATTERN),
    case("a pattern in allowWrite", "echo x > $O/plain/f", Works)
        .with(&[("allowWrite", &["O/pl*n"])])
        .but_srt(Fails, DROPPED_PATTERN),
    case("create an absent denied file", "echo x > ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("create a directory at an absent denied path", "mkdir ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("a symlink at an absent denied path", "ln -s denied.txt ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("a hard link at an absent denied path", "ln deep/er/file ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case("rename to an absent denied path", "echo x > n && mv n ghost", Fails)
        .with(&[("denyWrite", &["W/ghost"])]),
    case(
        "an absent denied path under another spelling",
        "cd deep/er && echo x > ../..//./ghost",
        Fails,
    )
    .with(&[("denyWrite", &["W/ghost"])]),
    case(
        "an absent denied path by a symlink to its directory",
        "ln -s . s && echo x > s/ghost",
        Fails,
    )
    .with(&[("denyWrite", &["W/ghost"])]),
    case(
        "an absent denied path through a descriptor",
        "exec 3<.; cd /; echo x > /proc/self/fd/3/ghost",
        Fails,
    )
    .with(&[("denyWrite", &["W/ghost"])]),
    case(
        "create an absent nested denied path",
        "mkdir -p ghost/in && echo x > ghost/in/file",
        Fails,
    )
    .with(&[("denyWrite", &["W/ghost/in"])]),
    case("rename a tree to an absent nested denied path", "mkdir -p n/in && mv n ghost", Fails)
        .with(&[("denyWrite", &["W/ghost/in"])]),
    case(
        "link the parent of an absent nested denied path",
        "mkdir -p n/in && ln -s n ghost",
        Fails,
    )
    .with(&[("denyWrite", &["W/ghost/in"])]),
    case("the target of a dangling denied symlink", "echo x > nowhere", Fails)
        .with(&[("denyWrite", &["W/dangling"])]),
    case("write through a dangling denied symlink", "echo x > dangling", Fails)
        .with(&[("denyWrite", &["W/dangling"])]),
    case(
        "a new file that matches a pattern in denyWrite",
        "mkdir new && echo x > new/secret.pem",
        Fails,
    )
    .with(&[("denyWrite", &["W/**/*.pem"])])
    .but_srt(Works, DROPPED_PATTERN),
    case(
        "work beside absent denied paths",
        "echo x > gho && mv gho ghost2 && mkdir -p in/ghost && rm -r in",
        Works,
    )
    .with(&[("denyWrite", &["W/ghost", "W/x/in"])]),
    case("an absent protected name", "echo x > $O/plain/.bashrc", Fails)
        .with(&[("allowWrite", &["O/plain"])])
        .but_srt(Works, PROTECTED_IN_ONE_DIRECTORY),
    case("an absent protected directory", "mkdir $O/plain/.vscode", Fails)
        .with(&[("allowWrite", &["O/plain"])])
        .but_srt(Works, PROTECTED_IN_ONE_DIRECTORY),
    case(
        "a new repository",
        "mkdir -p n/.git/hooks && echo x > n/.git/config && echo x > n/.bashrc",
        Fails,
    )
    .but_srt(Works, "git runs in every submodule, and the agent writes the list of submodules"),
    case("an absent denied path leaves no trace", "test ! -e ghost", Works)
        .with(&[("denyWrite", &["W/ghost"])])
        .but_srt(Fails, "srt creates a file on the host as a mount point"),
    // denyRead and allowRead.
    case("read a file that is not denied", "cat $O/file", Works),
    case("read in a hidden directory", "cat $O/hidden/file", Fails),
    case("list a hidden directory", "test -n \"$(ls $O/hidden)\"", Fails)
        .with(&[("allowRead", &[])]),
    case("write to a hidden directory", "echo x > $O/hidden/new", Fails)
        .but_srt(Works, "srt mounts an empty directory that accepts writes and loses them"),
    case("read a hidden file", "cat $O/hidden.txt", Fails).with(&[("denyRead", &["O/hidden.txt"])]),
    case("read a carve-out", "cat $O/hidden/shown/file", Works),
    case("write to a carve-out", "echo x > $O/hidden/shown/file", Fails),
    case("read beside a carve-out", "cat $O/hidden/other/file", Fails),
    case("a hidden file in a carve-out", "cat $O/hidden/shown/not/file", Fails)
        .with(&[("denyRead", &["O/hidden/shown/not"])]),
    case("a carve-out three levels deep", "cat $O/hidden/shown/not/but/file", Works)
        .with(&[("denyRead", &["O/hidden/shown/not"]), ("allowRead", &["O/hidden/shown/not/but"])]),
    case("the same path denied and allowed", "cat $O/plain/f", Works)
        .with(&[("denyRead", &["O/plain"]), ("allowRead", &["O/plain"])]),
    case("a write root in a hidden directory", "echo x > $O/hidden/shown/new", Works)
        .with(&[("allowWrite", &["O/hidden/shown"])]),
    case("a hidden file in a write root", "cat secret/file", Fails)
        .with(&[("denyRead", &["W/secret"])]),
    case("move the parent of a hidden directory", "mv deep other && cat other/er/file", Fails)
        .with(&[("denyRead", &["W/deep/er"])]),
    case("a pattern in denyRead", "cat $O/plain/key.pem", Fails)
        .with(&[("denyRead", &["O/**/*.pem"])]),
    case("a file that a pattern does not match", "cat $O/plain/f", Works)
        .with(&[("denyRead", &["O/**/*.pem"])]),
    case("a symlink planted at a carve-out", "cat $O/hidden/link/file", Fails)
        .with(&[("allowRead", &["O/hidden/link"])])
        .but_srt(Works, "srt shows the target of a symlink under the symlink's name"),
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
    case("read protected files", "cat .bashrc .git/config", Works),
    case("git hooks", "echo x > .git/hooks/pre-commit", Fails),
    case("a new git hook", "echo x > .git/hooks/new", Fails),
    case("git config", "echo x > .git/config", Fails),
    case(
        "git's own work",
        "echo x > .git/index && echo x > .git/refs/heads/b && echo x > .git/objects/o",
        Works,
    ),
    case("rename .git", "mv .git other", Fails),
    case("allowGitConfig allows the config", "echo x > .git/config", Works)
        .with(&[("allowGitConfig", &[])]),
    case("allowGitConfig does not allow hooks", "echo x > .git/hooks/pre-commit", Fails)
        .with(&[("allowGitConfig", &[])]),
    case(
        "protected names in subdirectories",
        "echo x > repo/.mcp.json || echo x > repo/.vscode/f",
        Fails,
    ),
    case("the settings of a nested repository", "echo x > repo/.git/config", Fails),
    case("the hooks of a nested repository", "echo x > repo/.git/hooks/pre-commit", Fails),
    case(
        "a nested repository, two levels deep",
        "echo x > nested/repo/.git/hooks/pre-commit",
        Fails,
    )
    .but_srt(Works, THREE_LEVELS),
    case("a nested repository that git ignores", "echo x > ignored/.git/hooks/pre-commit", Fails),
    case("a repository six levels deep", "echo x > a1/a2/a3/a4/a5/a6/.git/hooks/pre-commit", Fails)
        .but_srt(Works, THREE_LEVELS),
    case("a submodule", "echo x > .git/modules/sub/hooks/post-checkout", Fails)
        .but_srt(Works, "srt does not know submodules"),
    case("the pointer to a repository", "rm worktree/.git && mkdir worktree/.git", Fails)
        .but_srt(Works, "srt protects the pointer of the directory that it runs in only"),
    case("a name with the characters of a pattern", "echo x > 'odd[1]/f'", Fails)
        .with(&[("denyWrite", &["W/odd[1]"])]),
    case("a hidden name with the characters of a pattern", "cat $O/'odd[1]/f'", Fails)
        .with(&[("denyRead", &["O/odd[1]"])]),
    case("the pattern reading of a hidden name", "cat $O/odd1/f", Fails)
        .with(&[("denyRead", &["O/odd[1]"])]),
    case("a hidden literal path", "cat $O/'odd[1]/f'", Fails)
        .with(&[("denyRead literal", &["O/odd[1]"])]),
    case("a literal path is no pattern", "cat $O/odd1/f", Works)
        .with(&[("denyRead literal", &["O/odd[1]"])]),
    case("a repository whose .git is a file", "echo x > separate.git/hooks/pre-commit", Fails)
        .but_srt(Works, "srt does not follow the pointer"),
    case(
        "no protected name is created on the host",
        "test ! -e .gitconfig.ghost && ! ls -a | grep -q '^.rgignore$'",
        Works,
    ),
    // The file system as a whole.
    case("no rules for files", "echo x > $O/file", Works).with(&[("disabled", &[])]),
    case("everything hidden except a carve-out", "cat $O/plain/f", Works)
        .with(&[
            ("denyRead", &["/"]),
            ("allowRead", &["O/plain", "W", "/usr", "/bin", "/lib", "/lib64", "/etc"]),
        ])
        .but_srt(Fails, "srt hides its own helper and exits with 127"),
    case("everything hidden", "cat $O/file", Fails).with(&[
        ("denyRead", &["/"]),
        ("allowRead", &["W", "/usr", "/bin", "/lib", "/lib64", "/etc"]),
    ]),
    // Network and sockets.
    case("no network", "exec 3<>/dev/tcp/1.1.1.1/53", Fails),
    case(
        "internet sockets exist",
        "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_STREAM, 0) or die'",
        Works,
    ),
    case(
        "Unix sockets between processes of a session",
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die'",
        Works,
    )
    .but_srt(Fails, "srt denies Unix sockets altogether"),
    case(
        "datagram Unix sockets are denied",
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die'",
        Fails,
    ),
    case(
        "allowAllUnixSockets allows Unix sockets",
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
         socketpair(my $a, my $b, AF_UNIX, SOCK_DGRAM, 0) or die'",
        Works,
    )
    .with(&[("allowAllUnixSockets", &[])]),
    case(
        "allowAllUnixSockets allows nothing else",
        "perl -e '$p = \"\\0\" x 128; syscall(425, 8, $p) >= 0 or die'",
        Fails,
    )
    .with(&[("allowAllUnixSockets", &[])])
    .but_srt(Works, "srt disables its whole filter"),
    case("vsock", "perl -MSocket -e 'socket(my $s, 40, SOCK_STREAM, 0) or die'", Fails),
    case("io_uring", "perl -e '$p = \"\\0\" x 128; syscall(425, 8, $p) >= 0 or die'", Fails),
    // Processes and privileges.
    case("a new user namespace", "unshare --user true", Fails),
    case("processes of the host", "test $(ls /proc | grep -c '^[0-9]*$') -gt 30", Fails),
    case("no capability", "grep -q 'CapEff:[[:space:]]*0*$' /proc/self/status", Works)
        .but_srt_as_root(Fails, "srt leaves root the capability to set file capabilities"),
    case("unmount /proc", "umount /proc", Fails),
    case(
        "trace the first process",
        "test -r /proc/1/mem && head -c 1 /proc/1/environ | grep -q .",
        Fails,
    ),
    case(
        "write to /proc/sys",
        "f=/proc/sys/kernel/core_pattern; old=$(< $f); printf %s \"$old\" > $f",
        Fails,
    )
    .but_srt_as_root(Works, "srt lets root write kernel settings, and core_pattern is an escape"),
    // Exit codes.
    case("an exit code", "(exit 42)", Fails),
    case("an absent command", "nosuchcommand", Fails),
    case("pipes", "echo a | grep -q a", Works),
    case("a background process does not delay the exit", "sleep 1000 & true", Works),
];
