//! What is never written to, because other programs would execute it: hooks, start-up files,
//! editors' settings.
//!
//! The list is that of srt 0.0.78. There it hangs on the directory that srt runs in, and is looked
//! for three levels deep and not where git ignores files; here it hangs on every path of
//! `allowWrite`, to the bottom. Neither looks into `node_modules`.

/// Files, wherever they are in a write root.
pub(crate) const FILES: [&str; 9] = [
    ".gitconfig",
    ".gitmodules",
    ".bashrc",
    ".bash_profile",
    ".zshrc",
    ".zprofile",
    ".profile",
    ".ripgreprc",
    ".mcp.json",
];

/// Directories, wherever they are in a write root.
pub(crate) const DIRECTORIES: [&str; 4] =
    [".vscode", ".idea", ".claude/commands", ".claude/agents"];

/// In the `.git` of every repository in a write root.
pub(crate) const GIT_HOOKS: &str = "hooks";
/// The same, unless `allowGitConfig` lifts it; the second is that of one worktree
/// (`git-worktree(1)`).
pub(crate) const GIT_CONFIGS: [&str; 2] = ["config", "config.worktree"];
/// Below `.git`, the repositories of submodules (`gitrepository-layout(5)`).
pub(crate) const GIT_MODULES: &str = "modules";
/// What is not looked into.
pub(crate) const LEFT_OUT: &str = "node_modules";
