//! What is never written to, because other programs would execute it: hooks, start-up files, editors' settings.
//!
//! The list is that of srt 0.0.78. There it hangs on the directory that srt runs in; here on every path of `allowWrite`.

/// Files at the top of a write root.
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

/// Directories at the top of a write root.
pub(crate) const DIRECTORIES: [&str; 4] = [".vscode", ".idea", ".claude/commands", ".claude/agents"];

/// In the `.git` of every repository in a write root.
pub(crate) const GIT_HOOKS: &str = "hooks";
/// The same, unless `allowGitConfig` lifts it.
pub(crate) const GIT_CONFIG: &str = "config";

/// How deep repositories are looked for, unless `mandatoryDenySearchDepth` says otherwise.
pub(crate) const SEARCH_DEPTH: u8 = 3;
