//! Files in writable directories that the configuration of a repository names.
//!
//! Git runs programs and reads further files that `core.hooksPath`, `include.path`, filters,
//! aliases and other variables name. A session that can write such a file decides what the user's
//! git executes. So each of them is protected if it lies in a writable directory.

mod commands;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::canonical::without_empty_names;
use crate::git;
use crate::git_config::{self, Variable};
use crate::rules::resolve_lexically;
use crate::tree::{NodeKind, Tree};
use commands::{first_word, quoted_words, words};

/// Maximum number of nested files, as in git.
const MAX_INCLUDES: usize = 10;
/// Maximum number of paths that are looked up for one policy; they take about a second.
const MAX_LOOKUPS: usize = 50_000;
/// Maximum number of files that are found. Each of them can need a mount.
const MAX_LEADS: usize = 4_000;
/// The users of this machine (`passwd(5)`), for names such as `~ann/hooks`.
const USERS: &str = "/etc/passwd";
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
const COMMANDS: [&[u8]; 35] = [
    b"alternaterefscommand",
    b"askpass",
    b"authorsprog",
    b"browser",
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
    b"httpd",
    b"modulepath",
    b"packobjectshook",
    b"pager",
    // Of a browser, or of a tool for merges or manuals.
    b"path",
    b"process",
    b"program",
    b"receivepack",
    b"recentobjectshook",
    b"sendmailcmd",
    b"smtpserver",
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
    /// Configuration outside of repositories.
    outer: Vec<PathBuf>,
    /// Configuration files that were read, each for one directory of hooks.
    read: BTreeSet<(PathBuf, PathBuf)>,
    /// Git directories that were followed.
    git_dirs: BTreeSet<PathBuf>,
    /// Remote repositories of the present one.
    remotes: BTreeSet<Vec<u8>>,
    /// Beginnings of remote repositories, each with what it stands for (`url.<base>.insteadOf`).
    rewrites: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Number of paths that may still be looked up.
    left: usize,
    /// A path begins with a user who is unknown.
    has_unknown: bool,
    /// Paths that must not change, also if they do not exist.
    pub(crate) leads: BTreeSet<(PathBuf, Lead)>,
    /// Directories of repositories whose configuration names more than is followed.
    pub(crate) unfollowed: BTreeSet<PathBuf>,
}

impl<'s> LeadSearch<'s> {
    /// Creates a search. `configs` is configuration of the user that is not in its usual place.
    pub(crate) fn new(tree: &'s dyn Tree, home: &'s Path, configs: &[PathBuf]) -> Self {
        let usual = git::USER_CONFIGS.iter().map(|name| home.join(name));
        let outer = usual.chain(configs.iter().cloned()).chain([git::SYSTEM_CONFIG.into()]);
        Self {
            tree,
            home,
            outer: outer.map(|path| without_empty_names(&path)).collect(),
            read: BTreeSet::new(),
            git_dirs: BTreeSet::new(),
            remotes: BTreeSet::new(),
            rewrites: BTreeSet::new(),
            left: MAX_LOOKUPS,
            has_unknown: false,
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
        self.remotes.clear();
        self.rewrites.clear();
        for file in own.into_iter().chain(self.outer.clone()) {
            for dir in [dir, git_dir] {
                self.follow_file(&file, dir, 0);
            }
        }
        for dir in [dir, git_dir] {
            self.add_remotes(dir);
        }
        self.add_linked_hooks(&git_dir.join("hooks"));
        if self.is_exhausted() || self.has_unknown {
            self.unfollowed.insert(dir.to_owned());
        }
    }

    /// Follows the configuration that git uses in every repository, also in those that no session
    /// can write. Adds its files.
    pub(crate) fn follow_user(&mut self) {
        for file in self.outer.clone() {
            self.follow_file(&file, self.home, 0);
            self.leads.insert((file, Lead::File));
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
        let Ok(content) = self.tree.read_start(&canonical, git_config::MAX_BYTES) else { return };
        if content.len() == git_config::MAX_BYTES {
            self.left = 0;
        }
        for Variable { section, subsection, name, value } in git_config::read(&content) {
            if self.is_exhausted() {
                return;
            }
            match (&section[..], &name[..]) {
                (b"include" | b"includeif", b"path") => {
                    let base = canonical.parent().unwrap_or(dir).to_owned();
                    let Some(included) = self.named_path(&base, &value) else { continue };
                    self.leads.insert((included.clone(), Lead::File));
                    self.follow_file(&included, dir, depth + 1);
                }
                (b"core", b"hookspath") => {
                    let Some(hooks) = self.named_path(dir, &value) else { continue };
                    // The generated hooks in `.husky/_` run those in `.husky`.
                    if let Some(own) = hooks.parent().filter(|_| hooks.ends_with("_")) {
                        self.leads.insert((own.to_owned(), Lead::Hooks));
                    }
                    self.add_linked_hooks(&hooks);
                    self.leads.insert((hooks, Lead::Hooks));
                }
                // Git copies the hooks in it to new repositories.
                (b"init", b"templatedir") => {
                    let template = self.named_path(dir, &value);
                    self.leads.extend(template.map(|path| (path, Lead::Template)));
                }
                (b"remote", b"url" | b"pushurl" | b"pushdefault")
                | (b"branch", b"remote" | b"pushremote") => drop(self.remotes.insert(value)),
                (b"url", b"insteadof" | b"pushinsteadof") => {
                    self.rewrites.insert((value, subsection));
                }
                key if DATA.contains(&key) => {}
                (section, name) => {
                    // A program without a slash is searched in `PATH`, but an argument is a file.
                    let is_command = COMMAND_SECTIONS.contains(&section)
                        || COMMANDS.contains(&name)
                        || value.starts_with(b"!");
                    if is_command {
                        self.add_command(dir, &value);
                        continue;
                    }
                    let is_file = name.ends_with(b"file") || name.starts_with(b"ssl");
                    let program: &[u8] = if is_file { b"" } else { first_word(&value) };
                    self.add_files(dir, &value, |word| {
                        word.contains(&b'/') || (is_file && word != program)
                    });
                }
            }
        }
    }

    /// Adds the remote repositories that do not exist. A push runs the hooks of a repository on
    /// this machine. One that exists is found by its own files.
    fn add_remotes(&mut self, dir: &Path) {
        let mut remotes = self.remotes.clone();
        for (prefix, base) in &self.rewrites {
            let rests = self.remotes.iter().filter_map(|remote| remote.strip_prefix(&prefix[..]));
            remotes.extend(rests.map(|rest| [base, rest].concat()));
        }
        for remote in &remotes {
            match remote.strip_prefix(b"ext::") {
                Some(command) => self.add_command(dir, command),
                None => self.add_absent(dir, remote.strip_prefix(b"file://").unwrap_or(remote)),
            }
        }
    }

    /// Adds the targets of the symlinks in a directory of hooks.
    fn add_linked_hooks(&mut self, hooks: &Path) {
        let Ok(dir) = self.tree.canonicalize(hooks) else { return };
        for (name, kind) in self.tree.read_dir(&dir).unwrap_or_default() {
            if kind == NodeKind::Symlink && !self.is_exhausted() {
                self.left = self.left.saturating_sub(1);
                self.leads.insert((dir.join(name), Lead::File));
            }
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        let target = self.tree.canonicalize(path);
        target.is_ok_and(|it| matches!(self.tree.kind(&it), Ok(Some(NodeKind::Directory))))
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
        let quoted = quoted_words(value);
        let whole = value.strip_prefix(b"!").unwrap_or(value);
        let found = words(value).chain([whole]).chain(quoted.iter().map(Vec::as_slice));
        for word in found.filter(|word| can_name_file(word)) {
            self.add_file(dir, word);
        }
    }

    /// Adds a file that exists.
    fn add_file(&mut self, dir: &Path, word: &[u8]) {
        if self.is_exhausted() {
            return;
        }
        let Some(path) = self.path(dir, word) else { return };
        let Ok(target) = self.tree.canonicalize(&path) else { return };
        let is_file = matches!(self.tree.kind(&target), Ok(Some(NodeKind::File)));
        if is_file && !self.is_data(&target) {
            self.leads.insert((path, Lead::File));
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

    /// Like [`Self::path`]. Notes a path below the home directory of an unknown user.
    fn named_path(&mut self, dir: &Path, value: &[u8]) -> Option<PathBuf> {
        let path = self.path(dir, value);
        self.has_unknown |= path.is_none() && value.starts_with(b"~");
        path
    }

    /// Returns the path that a value names, and counts it.
    fn path(&mut self, dir: &Path, value: &[u8]) -> Option<PathBuf> {
        self.left = self.left.saturating_sub(1);
        if value.is_empty() || value.len() > 4096 || value.contains(&0) {
            return None;
        }
        // A path that need not exist (`git-config(1)`).
        let value = value.strip_prefix(b":(optional)").unwrap_or(value);
        let below_home = value.strip_prefix(b"~").and_then(|rest| {
            let at = rest.iter().position(|byte| *byte == b'/')?;
            Some((&rest[..at], &rest[at + 1..]))
        });
        let (base, value) = match below_home {
            Some((name, below)) => (self.home_of(name)?, below),
            None => (dir.to_owned(), value),
        };
        Some(resolve_lexically(&base, Path::new(OsStr::from_bytes(value))))
    }

    /// Returns the home directory of a user, or of the present one. One that only a directory
    /// service knows is not found.
    fn home_of(&self, name: &[u8]) -> Option<PathBuf> {
        if name.is_empty() {
            return Some(self.home.to_owned());
        }
        let users = self.tree.read_start(Path::new(USERS), git_config::MAX_BYTES).ok();
        let users = users.unwrap_or_default();
        let home = users.split(|byte| *byte == b'\n').find_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let is_user = fields.next() == Some(name);
            fields.nth(4).filter(|_| is_user)
        });
        home.map(|home| PathBuf::from(OsStr::from_bytes(home)))
    }
}
