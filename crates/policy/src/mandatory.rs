//! Names that stay read-only because other programs would execute their content: hooks, start-up
//! files and editor settings.
//!
//! The list is that of srt 0.0.78. srt searches the directory that it runs in, three levels deep,
//! and skips files that git ignores. This crate searches every path of `allowWrite` completely.
//! Neither searches `node_modules`.

/// Protected files, at any depth of a writable directory.
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

/// Protected directories, at any depth of a writable directory.
pub(crate) const DIRECTORIES: [&str; 4] =
    [".vscode", ".idea", ".claude/commands", ".claude/agents"];

/// Protected name in the git directory of every repository in a writable directory.
pub(crate) const GIT_HOOKS: &str = "hooks";
/// Names with the same protection, unless `allowGitConfig` lifts it. The second one belongs to one
/// worktree (`git-worktree(1)`).
pub(crate) const GIT_CONFIGS: [&str; 2] = ["config", "config.worktree"];
/// Name of the directory below `.git` with the repositories of submodules
/// (`gitrepository-layout(5)`).
pub(crate) const GIT_MODULES: &str = "modules";
/// Name of directories that are not searched.
pub(crate) const UNSEARCHED: &str = "node_modules";
