//! Indexes of git that a command has written in a repository of the user.
//!
//! A command needs to write the index to commit. Git believes every name in it, so the host reads
//! it after each command that has changed it; see [`policy::git_index`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::git_index::{self, IndexFile, IndexFlaw};
use policy::{MountPlan, ZoneKind};
use rustix::fs::{FileType, Mode, OFlags};

use super::changes::{FileId, changed, open_directory, stat};
use super::outstanding::LAG;
use super::quarantine::{Aside, clear, clear_to};
use super::refs::AcceptedRefs;
use super::tree::is_too_deep;
use super::zones::{UNSEARCHED, entries, open_readable};
use crate::sandbox::Quarantined;

/// Name of the index, and the beginning of the name of a shared one (`git-update-index(1)`).
const INDEX: &str = "index";
const SHARED: &[u8] = b"sharedindex.";
/// Maximum size of an index; one with a million files has about 100 MB.
const MAX_INDEX_BYTES: u64 = 256 * 1024 * 1024;
/// Maximum size of a configuration and of the path of one.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// An index that git must not read.
#[derive(Debug)]
pub(super) struct Flawed {
    pub(super) dir: OwnedFd,
    /// Path of the directory.
    pub(super) parent: PathBuf,
    pub(super) name: OsString,
    pub(super) reason: String,
    /// Place to which it is moved, unless it stays in its directory.
    pub(super) aside: Option<(OwnedFd, PathBuf, OsString)>,
}

impl Flawed {
    /// Moves the file aside.
    pub(super) fn clear(self) -> Option<Quarantined> {
        let Self { dir, parent, name, reason, aside } = self;
        let cleared = match &aside {
            Some((to, path, new_name)) => {
                let aside = Aside { dir: to, parent: path, name: new_name };
                clear_to(&dir, &parent, &name, &aside)
            }
            None => clear(&dir, &parent, &name),
        }?;
        Some(Quarantined { reason: Some(reason), ..cleared })
    }
}

/// Indexes and refs without a flaw, each with its state when it was read.
#[derive(Debug, Default)]
pub(super) struct AcceptedIndexes {
    indexes: HashMap<PathBuf, State>,
    refs: AcceptedRefs,
    /// Indexes that existed before the first command, which are those of the user.
    of_user: HashMap<PathBuf, State>,
}

/// Identity of a file, and the time of its last change.
type State = (FileId, SystemTime);

impl AcceptedIndexes {
    /// Records the indexes before the first command.
    pub(super) fn of(plan: &MountPlan) -> Self {
        let mut of_user = HashMap::new();
        for git_dir in plan.repositories.keys() {
            let Ok(dir) = open_readable(git_dir) else { continue };
            for (name, _) in entries(&dir).unwrap_or_default() {
                if file_of(&name).is_some()
                    && let Ok(stat) = stat(&dir, &name)
                {
                    of_user.insert(git_dir.join(name), (FileId::of(&stat), changed(&stat)));
                }
            }
        }
        Self { of_user, ..Self::default() }
    }

    /// Returns the indexes that were written since `since`, and that would lead git out of a work
    /// tree. Takes some microseconds for each repository, and 1 ms for 5,000 files in an index that
    /// has changed.
    ///
    /// The first call reads older ones too: a host that was killed could not read them. `searched`
    /// tells whether all directories were searched for repositories.
    pub(super) fn flawed(
        &mut self,
        plan: &MountPlan,
        since: SystemTime,
        searched: bool,
    ) -> Vec<Flawed> {
        let known = std::mem::take(&mut self.indexes);
        let known_refs = self.refs.take();
        let mut found = Vec::new();
        for git_dir in plan.repositories.keys() {
            let flawed = self.flawed_in(git_dir, plan, since, searched, &known);
            found.extend(flawed.unwrap_or_default());
            self.refs.find_flawed(git_dir, since, &known_refs, &mut found);
        }
        found
    }

    /// Returns whether the last check has read all refs.
    pub(super) fn is_complete(&self) -> bool {
        !self.refs.is_incomplete
    }

    /// Returns `None` if the git directory cannot be listed.
    fn flawed_in(
        &mut self,
        git_dir: &Path,
        plan: &MountPlan,
        since: SystemTime,
        searched: bool,
        known: &HashMap<PathBuf, State>,
    ) -> Option<Vec<Flawed>> {
        let work_trees = plan.repositories.get(git_dir)?;
        let began = SystemTime::now();
        let dir = open_readable(git_dir).ok()?;
        let files = entries(&dir).ok()?.into_iter();
        let files = files.filter(|(_, kind)| *kind == FileType::RegularFile);
        let mut id_length = None;
        let is_safe = |submodule: &Path| {
            work_trees.iter().all(|work_tree| {
                let path = work_tree.join(submodule);
                may_be_submodule(plan, &path) && (searched || is_known(plan, &path))
            })
        };
        let mut found: Vec<Flawed> = Vec::new();
        for (name, _) in files {
            let Some(file) = file_of(&name) else { continue };
            let Ok(stat) = stat(&dir, &name) else { continue };
            let (path, state) = (git_dir.join(&name), (FileId::of(&stat), changed(&stat)));
            if known.get(&path) == Some(&state) {
                self.indexes.insert(path, state);
                continue;
            }
            let is_new = state.1 >= since && self.of_user.get(&path) != Some(&state);
            let length = *id_length.get_or_insert_with(|| id_bytes(git_dir));
            let flaw = match read(&dir, &name, MAX_INDEX_BYTES) {
                Some(index) => {
                    git_index::flaw(&index, file, length, |path| !is_new || is_safe(path))
                }
                None => Some(IndexFlaw::Malformed),
            };
            // The user may have an index that this reader does not understand.
            let is_attack = |flaw: &IndexFlaw| is_new || matches!(flaw, IndexFlaw::Name(_));
            let flaw = flaw.filter(is_attack);
            match flaw {
                Some(flaw) => found.extend(at(git_dir, name, &flaw)),
                // Each later change gives the file another time.
                None if state.1 + LAG < began => {
                    self.indexes.insert(path, state);
                }
                None => {}
            }
        }
        // Without its shared index, git could not read the index either.
        if let Some(first) = found.first().filter(|_| found.iter().all(|it| it.name != INDEX)) {
            let reason = first.reason.clone();
            let dir = open_directory(git_dir).ok()?;
            found.push(Flawed {
                dir,
                parent: git_dir.to_owned(),
                name: INDEX.into(),
                reason,
                aside: None,
            });
        }
        Some(found)
    }
}

fn at(git_dir: &Path, name: OsString, flaw: &IndexFlaw) -> Option<Flawed> {
    let dir = open_directory(git_dir).ok()?;
    let reason = format!("{flaw}; git reset creates it again");
    Some(Flawed { dir, parent: git_dir.to_owned(), name, reason, aside: None })
}

fn file_of(name: &OsStr) -> Option<IndexFile> {
    match name.as_bytes() {
        name if name == INDEX.as_bytes() => Some(IndexFile::Own),
        // What was quarantined has a longer name.
        name => {
            let id = name.strip_prefix(SHARED)?;
            id.iter().all(u8::is_ascii_hexdigit).then_some(IndexFile::Shared)
        }
    }
}

/// Returns whether a path is the work tree of a repository that is protected.
fn is_known(plan: &MountPlan, path: &Path) -> bool {
    plan.repositories.values().any(|work_trees| work_trees.contains(path))
}

/// Returns whether a path lies where no command can create a repository.
fn may_be_submodule(plan: &MountPlan, path: &Path) -> bool {
    if path.iter().any(|name| name == UNSEARCHED) || is_too_deep(path) {
        return false;
    }
    let mut zones = plan.creation_rules.zones.iter();
    let around = zones.find(|zone| path.starts_with(&zone.dir));
    around.is_none_or(|zone| zone.kind == ZoneKind::NoNewRepositories)
}

/// Returns the length of object ids in a repository.
fn id_bytes(git_dir: &Path) -> usize {
    let read_in =
        |dir: &Path, name: &str| read(&open_readable(dir).ok()?, name.as_ref(), MAX_CONFIG_BYTES);
    // A worktree has the configuration of its repository.
    let common = read_in(git_dir, "commondir").map(|path| {
        let common = git_dir.join(OsStr::from_bytes(path.trim_ascii()));
        common.canonicalize().unwrap_or(common)
    });
    let config = read_in(common.as_deref().unwrap_or(git_dir), "config");
    git_index::object_id_bytes(&config.unwrap_or_default())
}

/// Returns the content of a regular file, or `None` if it cannot be read or is too large.
fn read(dir: &OwnedFd, name: &OsStr, max_bytes: u64) -> Option<Vec<u8>> {
    let content = read_start(dir, name, max_bytes.checked_add(1)?)?;
    (content.len() as u64 <= max_bytes).then_some(content)
}

/// Returns the beginning of a regular file, or `None` if it cannot be read.
pub(super) fn read_start(dir: &OwnedFd, name: &OsStr, max_bytes: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut content = Vec::with_capacity(usize::try_from(metadata.len().min(max_bytes)).ok()?);
    file.take(max_bytes).read_to_end(&mut content).ok()?;
    Some(content)
}
