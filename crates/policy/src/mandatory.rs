//! Names that stay read-only because other programs would execute their content: start-up files
//! and editor settings. `git` lists those of repositories.
//!
//! The list is that of srt 0.0.83, the second place of a user's git configuration (`.config/git`),
//! and the restrictions of a project for agent-tools. srt searches the directory that it runs in,
//! three levels deep, and skips files that git ignores. This crate searches every path of
//! `allowWrite` completely, except a session's own directory. Neither searches `node_modules`.

use std::path::Path;

/// Protected files, at any depth of a writable directory.
pub(crate) const FILES: [&str; 10] = [
    ".gitconfig",
    ".gitmodules",
    ".bashrc",
    ".bash_profile",
    ".zshrc",
    ".zprofile",
    ".profile",
    ".ripgreprc",
    ".mcp.json",
    ".agent-tools.toml",
];

/// Protected directories, at any depth of a writable directory.
pub(crate) const DIRECTORIES: [&str; 5] =
    [".vscode", ".idea", ".claude/commands", ".claude/agents", ".config/git"];

/// Name of directories that are not searched.
pub(crate) const UNSEARCHED: &str = "node_modules";

/// Returns all protected names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    FILES.into_iter().chain(DIRECTORIES)
}

/// Returns the rests of the protected names that begin with the name of `dir`.
pub(crate) fn continued(dir: &Path) -> impl Iterator<Item = &'static str> {
    names()
        .filter_map(|name| name.split_once('/'))
        .filter_map(|(first, rest)| dir.ends_with(first).then_some(rest))
}
