//! Files in writable directories that the configuration of a repository names.
//!
//! Git runs programs and reads further files that `core.hooksPath`, `include.path`, filters,
//! aliases and other variables name. A session that can write such a file decides what the user's
//! git executes. So each of them is protected if it lies in a writable directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::git;
use crate::git_config::{self, Variable};
use crate::rules::resolve_lexically;
use crate::tree::{NodeKind, Tree};

/// Maximum size of a configuration file that is read.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of nested files, as in git.
const MAX_INCLUDES: usize = 10;
/// Maximum number of paths that are looked up for one policy; they take about a second.
const MAX_LOOKUPS: usize = 50_000;
/// Maximum number of files that are found. Each of them can need a mount.
const MAX_LEADS: usize = 4_000;
/// Variables that name a list of paths, commits or names, which executes nothing.
const DATA: [(&[u8], &[u8]); 5] = [
    (b"blame", b"ignorerevsfile"),
    (b"mailmap", b"file"),
    (b"core", b"excludesfile"),
    (b"core", b"attributesfile"),
    (b"commit", b"template"),
];

/// Sections whose variables are all commands.
const COMMAND_SECTIONS: [&[u8]; 2] = [b"alias", b"pager"];
/// Names of variables whose value is a command, in any section (`git-config(1)`).
const COMMANDS: [&[u8]; 28] = [
    b"alternaterefscommand",
    b"askpass",
    b"cccmd",
    b"clean",
    b"cmd",
    b"command",
    b"defaultkeycommand",
    b"difffilter",
    b"driver",
    b"editor",
    b"external",
    b"fsmonitor",
    b"gitproxy",
    b"headercmd",
    b"helper",
    b"packobjectshook",
    b"pager",
    b"process",
    b"program",
    b"receivepack",
    b"sendmailcmd",
    b"smudge",
    b"sshcommand",
    b"textconv",
    b"tocmd",
    b"tunnel",
    b"update",
    b"uploadpack",
];

/// Use that git makes of a path that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lead {
    /// A program, or a further configuration.
    File,
    /// A directory of hooks.
    Hooks,
    /// A directory whose content git copies to new repositories.
    Template,
}

/// A search for the files that configurations name.
pub(crate) struct LeadSearch<'s> {
    pub(crate) tree: &'s dyn Tree,
    pub(crate) home: &'s Path,
    /// Configuration files that were read, each for one directory of hooks.
    read: BTreeSet<(PathBuf, PathBuf)>,
    /// Git directories that were followed.
    git_dirs: BTreeSet<PathBuf>,
    /// Number of paths that may still be looked up.
    left: usize,
    /// Paths that must not change, also if they do not exist.
    pub(crate) leads: BTreeSet<(PathBuf, Lead)>,
    /// Directories of repositories whose configuration names more than is followed.
    pub(crate) unfollowed: BTreeSet<PathBuf>,
}

impl<'s> LeadSearch<'s> {
    pub(crate) fn new(tree: &'s dyn Tree, home: &'s Path) -> Self {
        Self {
            tree,
            home,
            read: BTreeSet::new(),
            git_dirs: BTreeSet::new(),
            left: MAX_LOOKUPS,
            leads: BTreeSet::new(),
            unfollowed: BTreeSet::new(),
        }
    }

    /// Follows the configuration that git uses in `git_dir`. Relative paths begin in `dir`, and in
    /// `git_dir` when another repository pushes to it.
    pub(crate) fn follow(&mut self, git_dir: &Path, dir: &Path) {
        self.git_dirs.insert(git_dir.to_owned());
        let own = git::PROTECTED.iter().filter(|name| name.role == git::Role::Config);
        let own: Vec<PathBuf> = own.map(|name| git_dir.join(name.path)).collect();
        let of_user = git::USER_CONFIGS.map(|name| self.home.join(name));
        for file in own.into_iter().chain(of_user).chain([PathBuf::from(git::SYSTEM_CONFIG)]) {
            for dir in [dir, git_dir] {
                self.follow_file(&file, dir, 0);
            }
        }
        if self.is_exhausted() {
            self.unfollowed.insert(dir.to_owned());
        }
    }

    fn is_exhausted(&self) -> bool {
        self.left == 0 || self.leads.len() > MAX_LEADS
    }

    fn follow_file(&mut self, file: &Path, dir: &Path, depth: usize) {
        if depth > MAX_INCLUDES || !self.read.insert((file.to_owned(), dir.to_owned())) {
            return;
        }
        // The file may be a symlink, which git follows.
        let Ok(canonical) = self.tree.canonicalize(file) else { return };
        let Ok(content) = self.tree.read_start(&canonical, MAX_CONFIG_BYTES) else { return };
        if content.len() == MAX_CONFIG_BYTES {
            self.left = 0;
        }
        for Variable { section, name, value } in git_config::read(&content) {
            if self.is_exhausted() {
                return;
            }
            match (&section[..], &name[..]) {
                (b"include" | b"includeif", b"path") => {
                    let base = canonical.parent().unwrap_or(dir).to_owned();
                    let Some(included) = self.path(&base, &value) else { continue };
                    self.leads.insert((included.clone(), Lead::File));
                    self.follow_file(&included, dir, depth + 1);
                }
                (b"core", b"hookspath") => {
                    let Some(hooks) = self.path(dir, &value) else { continue };
                    // The generated hooks in `.husky/_` run those in `.husky`.
                    if let Some(own) = hooks.parent().filter(|_| hooks.ends_with("_")) {
                        self.leads.insert((own.to_owned(), Lead::Hooks));
                    }
                    self.leads.insert((hooks, Lead::Hooks));
                }
                // Git copies the hooks in it to new repositories.
                (b"init", b"templatedir") => {
                    let template = self.path(dir, &value);
                    self.leads.extend(template.map(|path| (path, Lead::Template)));
                }
                // A push runs the hooks of a repository on this machine. One that exists is found
                // by its own files.
                (b"remote", b"url" | b"pushurl") => self.add_absent(dir, &value),
                key if DATA.contains(&key) => {}
                (section, name) => {
                    // A program without a slash is searched in `PATH`, but an argument is a file.
                    let is_command = COMMAND_SECTIONS.contains(&section)
                        || COMMANDS.contains(&name)
                        || value.starts_with(b"!");
                    if is_command {
                        self.add_absent(dir, first_word(&value));
                    }
                    let is_file = name.ends_with(b"file") || name.starts_with(b"ssl");
                    let program: &[u8] = if is_file { b"" } else { first_word(&value) };
                    self.add_files(dir, &value, |word| {
                        word.contains(&b'/') || ((is_command || is_file) && word != program)
                    });
                }
            }
        }
    }

    /// Adds a path with several components that does not exist, so that no command creates it.
    fn add_absent(&mut self, dir: &Path, value: &[u8]) {
        if !value.contains(&b'/') || value.contains(&b':') || value.starts_with(b"-") {
            return;
        }
        let path = self.path(dir, value);
        let absent = path.filter(|path| matches!(self.tree.kind(path), Ok(None)));
        self.leads.extend(absent.map(|path| (path, Lead::File)));
    }

    /// Adds the existing files among the words of a value that can name a file.
    fn add_files(&mut self, dir: &Path, value: &[u8], can_name_file: impl Fn(&[u8]) -> bool) {
        let is_quote = |byte: &u8| matches!(byte, b'\'' | b'"');
        let whole = value.strip_prefix(b"!").unwrap_or(value);
        let words = whole.split(|byte| {
            byte.is_ascii_whitespace() || is_quote(byte) || b";&|()<>$`=".contains(byte)
        });
        for word in words.chain([whole]).filter(|word| !word.is_empty() && can_name_file(word)) {
            if self.is_exhausted() {
                return;
            }
            let Some(path) = self.path(dir, word) else { continue };
            let Ok(target) = self.tree.canonicalize(&path) else { continue };
            let is_file = matches!(self.tree.kind(&target), Ok(Some(NodeKind::File)));
            if is_file && !self.is_data(&target) {
                self.leads.insert((path, Lead::File));
            }
        }
    }

    /// Returns whether git itself writes a file. Values such as `refs/heads/main` name it too.
    fn is_data(&self, path: &Path) -> bool {
        // The git directory of a submodule lies in that of its superproject.
        let mut inside = self.git_dirs.iter().filter_map(|dir| path.strip_prefix(dir).ok());
        inside.any(|inside| {
            inside.iter().next().is_some_and(|name| {
                let is_state = name.as_bytes().iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
                is_state || git::DATA.iter().any(|data| name == *data)
            })
        })
    }

    /// Returns the path that a value names, and counts it.
    fn path(&mut self, dir: &Path, value: &[u8]) -> Option<PathBuf> {
        self.left = self.left.saturating_sub(1);
        if value.is_empty() || value.len() > 4096 || value.contains(&0) {
            return None;
        }
        let (base, value) = match value.strip_prefix(b"~/") {
            Some(below) => (self.home, below),
            None => (dir, value),
        };
        Some(resolve_lexically(base, Path::new(OsStr::from_bytes(value))))
    }
}

/// Returns the first word of a command, which names its program.
fn first_word(command: &[u8]) -> &[u8] {
    let command = command.strip_prefix(b"!").unwrap_or(command).trim_ascii_start();
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"'\"$`;&|()<>".contains(byte);
    let end = command.iter().position(is_end).unwrap_or(command.len());
    &command[..end]
}
