//! Names in a git directory that lead a later git command to a program, to configuration, or out
//! of the repository.
//!
//! A session may commit to a repository that it was given, so most of its git directory stays
//! writable. The names of [`PROTECTED`] do not. They come from a review of
//! `gitrepository-layout(5)`, `git-config(1)`, `gitmodules(5)` and `gitattributes(5)`; the rest of
//! this documentation states why the other names stay writable.
//!
//! Rules beyond single names:
//! 1. The entry `.git` itself is read-only: a directory cannot be moved, and a pointer file or a
//!    symlink cannot be replaced.
//! 2. No symlink can be created in a git directory. Git follows links when it writes `index`,
//!    `COMMIT_EDITMSG`, `FETCH_HEAD` and `logs`, so a link would let it write anywhere.
//! 3. No repository can be created in a work tree, in `modules` or in `worktrees`. The agent writes
//!    the index, and git runs in every submodule that the index names. So `.git` and `HEAD` cannot
//!    be created there ([`REPOSITORY_NAMES`]). The same holds for the directories above a work
//!    tree, because git searches them if a repository is damaged.
//! 4. Files that a configuration names are read-only if a session could write them, and cannot be
//!    created: `include.path`, `core.hooksPath`, the targets of linked hooks, `init.templateDir`,
//!    each program that lies in a work tree, absent repositories that a push could reach, and the
//!    configuration of the user; see `git_leads`. Of a command, this holds for its words in any
//!    quotes, relative to each directory that it enters, and for the script, the module or the
//!    directory that an interpreter runs. If such a directory contains a work tree or a
//!    writable directory, it stays writable except for the names that git runs or copies there.
//! 5. A pointer, a symlink `.git` or `commondir` leads to a repository only if git would accept
//!    it. Otherwise the names that it lacks cannot be created. What a pointer leads to is protected
//!    all the same, unless it has no part of a repository and contains a work tree or a whole
//!    writable path. So is each directory in `worktrees`, and one in `modules` with a part of a
//!    repository. A command could move the rest away, and the user would bring it back.
//! 6. In a bare repository, the directories `objects` and `refs` cannot be moved. While they are
//!    there, a later session finds the repository, although its `HEAD` is gone.
//!
//! Names that stay writable:
//! - `HEAD`, `refs`, `packed-refs`, `reftable`, `logs`, `ORIG_HEAD`, `FETCH_HEAD`, `MERGE_HEAD`,
//!   `shallow`, `info/grafts`: they select commits, and a commit runs nothing. Git writes where a
//!   symbolic ref leads, so the engine refuses one that leads out of `refs` after each command. It
//!   reads each ref that it does not know, because a moved directory brings refs with an old time.
//! - `index` and `sharedindex.*`: git needs them to commit, and believes the names in them. The
//!   engine reads them after each command and refuses the names that git would not add; see
//!   `git_index`. Rule 3 covers the submodules.
//! - `objects`, `info/commit-graph`: they hold content, and git checks the names in it.
//! - `info/attributes` and `.gitattributes`: they select a filter, a merge driver or a diff driver
//!   by name. The program of that name is in a configuration, which is protected.
//! - `info/exclude`, `info/sparse-checkout`, `.gitignore`, `.mailmap`: lists of paths and names.
//! - `COMMIT_EDITMSG`, `MERGE_MSG`, `SQUASH_MSG`, `description`, `gc.log`, `BISECT_*`: texts, names
//!   and commits.
//! - `worktrees/<name>/locked`, `git-daemon-export-ok`: marks.
//! - `.gitmodules` in the index: git accepts no command from it. The file is protected as well.

/// A protected name in a git directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GitName {
    /// Path below the git directory.
    pub(crate) path: &'static str,
    pub(crate) role: Role,
}

/// Use that git makes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Configuration. `allowGitConfig` lifts the protection.
    Config,
    /// Programs, or a way to other programs or configuration.
    Lead,
}

const fn lead(path: &'static str) -> GitName {
    GitName { path, role: Role::Lead }
}

const fn config(path: &'static str) -> GitName {
    GitName { path, role: Role::Config }
}

/// The protected names, in the git directory of every repository, submodule and worktree.
pub(crate) const PROTECTED: [GitName; 15] = [
    // Aliases, filters, `core.fsmonitor`, `core.sshCommand`, `core.hooksPath` and many more.
    config("config"),
    // The same for one worktree (`extensions.worktreeConfig`).
    config("config.worktree"),
    // Programs that most git commands run (`githooks(5)`).
    lead("hooks"),
    // Replaces the directory of the configuration, the hooks and the objects.
    lead("commondir"),
    // Path of a worktree, which `git worktree remove` deletes.
    lead("gitdir"),
    // Other object directories. `git fetch` runs git in the repositories around them.
    lead("objects/info/alternates"),
    // The same for clients that read the repository over HTTP.
    lead("objects/info/http-alternates"),
    // Remote repositories in the old form. A URL can select a program (`gitremote-helpers(7)`).
    lead("remotes"),
    lead("branches"),
    // A list of steps with `exec` lines, which `git rebase --continue` runs.
    lead("rebase-merge"),
    // Options of `git am --continue`, some of which name files to write.
    lead("rebase-apply"),
    // Options of `git cherry-pick --continue`, which name the program of a strategy.
    lead("sequencer"),
    // Contents that the next commit writes to any path in `MERGE_RR`, whose names git does not
    // check. If the directory exists, `rerere` is on.
    lead("rr-cache"),
    lead("MERGE_RR"),
    // Daemon of `core.fsmonitor`, to which git connects.
    lead("fsmonitor--daemon.ipc"),
];

/// Names that git runs in a directory of hooks (`githooks(5)`). They are protected one by one if
/// the directory itself must stay writable, such as a whole work tree.
pub(crate) const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "p4-prepare-changelist",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// Directories in a git directory that contain further git directories.
pub(crate) const CONTAINERS: [&str; 2] = ["modules", WORKTREES];
/// Directory with a git directory for each worktree.
pub(crate) const WORKTREES: &str = "worktrees";
/// Name of the configuration in a git directory.
pub(crate) const CONFIG: &str = "config";

/// Names in a git directory that git replaces as it works, besides those in capitals.
pub(crate) const DATA: [&str; 6] = ["index", "info", LOGS, "objects", "packed-refs", "refs"];
/// Directory with a log for each ref.
pub(crate) const LOGS: &str = "logs";

/// Names that make a directory a repository: the entry of a work tree, and the file without which
/// git takes no directory for a git directory.
pub(crate) const REPOSITORY_NAMES: [&str; 2] = [GIT, HEAD];
/// Name of the git directory, or of a pointer to it, in a work tree.
pub(crate) const GIT: &str = ".git";
/// Name of the file that every git directory has.
pub(crate) const HEAD: &str = "HEAD";
/// Name of the file by which a worktree refers to its repository.
pub(crate) const COMMON_DIR: &str = "commondir";
/// Configuration of the user and of the machine. The first two are below the home directory.
pub(crate) const USER_CONFIGS: [&str; 2] = [".gitconfig", ".config/git/config"];
/// Configuration of the machine.
pub(crate) const SYSTEM_CONFIG: &str = "/etc/gitconfig";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_protected_name_makes_a_repository_unusable_for_commits() {
        for used in ["HEAD", "index", "logs", "objects", "refs", "COMMIT_EDITMSG", "info"] {
            assert!(PROTECTED.iter().all(|name| name.path != used), "{used}");
        }
    }
}
