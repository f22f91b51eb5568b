//! Random sequences of operations by an agent, a user and a machine, against a plain model of the
//! rules.

// Long because the model, the operations and the comparison only make sense together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use artifact_sync::{ChangeSource, Mirror};
use object_store::ObjectStoreExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testkit::{Conditions, FailingStore};

use crate::machine::{Machine, key};

/// Number of cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 2_000;
const PATHS: [&str; 7] = ["a", "b.txt", "d/a", "d/e/b", "é #%+.md", "p/a", "p/e/b"];
/// Two directories of the same shape. Each may replace the other.
const DIRECTORIES: [&str; 2] = ["d", "p"];
/// Directory below an ignored one.
const HIDDEN: &str = "node_modules/hidden";

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u8),
    Append(usize, u8),
    Truncate(usize),
    Rename(usize, usize),
    Delete(usize),
    DeleteDirectory(usize),
    /// Renames one of the two directories to the other's name, if that is free.
    RenameDirectory(usize),
    /// Moves a directory below an ignored one.
    Hide(usize),
    /// Moves it back, under its own name or the other's.
    Show(usize),
    /// Removes all permissions of a directory. Root can still enter it.
    CloseDirectory(usize),
    OpenDirectory(usize),
    /// Adds a name to a file and synchronises. A write through a name that exists only between two
    /// scans would be found only by the next walk.
    LinkAndSync(usize, usize),
    ToggleExecutable(usize),
    TouchOld(usize),
    MakeDirectory(usize),
    Symlink(usize),
    RemotePut(usize, u8),
    RemoteDelete(usize),
    Sync,
    PutFile(usize),
    Refresh,
    Crash,
    CloseAndReopen,
    OtherMachine,
}

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    let which = || 0..DIRECTORIES.len();
    // There are few contents, so that two sides sometimes write the same.
    let content = || 0u8..4;
    prop_oneof![
        4 => (path(), content()).prop_map(|(path, content)| Op::Write(path, content)),
        2 => (path(), content()).prop_map(|(path, content)| Op::Append(path, content)),
        1 => path().prop_map(Op::Truncate),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        3 => path().prop_map(Op::Delete),
        1 => which().prop_map(Op::DeleteDirectory),
        2 => which().prop_map(Op::RenameDirectory),
        1 => which().prop_map(Op::Hide),
        2 => which().prop_map(Op::Show),
        1 => which().prop_map(Op::CloseDirectory),
        1 => which().prop_map(Op::OpenDirectory),
        2 => (path(), path()).prop_map(|(from, to)| Op::LinkAndSync(from, to)),
        1 => path().prop_map(Op::ToggleExecutable),
        1 => path().prop_map(Op::TouchOld),
        1 => (0u8..3).prop_map(|n| Op::MakeDirectory(n.into())),
        1 => (0u8..3).prop_map(|n| Op::Symlink(n.into())),
        4 => (path(), content()).prop_map(|(path, content)| Op::RemotePut(path, content)),
        2 => path().prop_map(Op::RemoteDelete),
        6 => Just(Op::Sync),
        1 => path().prop_map(Op::PutFile),
        3 => Just(Op::Refresh),
        1 => Just(Op::Crash),
        1 => Just(Op::CloseAndReopen),
        1 => Just(Op::OtherMachine),
    ]
}

/// File of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    content: Vec<u8>,
    executable: bool,
}

/// Object of the model, with the number of the put that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    content: Vec<u8>,
    put: u64,
    /// Set if the object has a session's attributes.
    of_session: bool,
    executable: bool,
}

/// Index entry of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// The file when the store was last known to hold it, with the put that stored it.
    Stored {
        file: File,
        put: u64,
        /// Set if the session created the file.
        own: bool,
    },
    Removed {
        put: u64,
    },
    ExpectedRemote {
        put: u64,
        own: bool,
    },
}

#[derive(Clone, Debug, Default)]
struct Model {
    local: BTreeMap<String, File>,
    remote: BTreeMap<String, Object>,
    base: BTreeMap<String, Base>,
    /// Files that were written since the last scan, even with the same content. A restore keeps
    /// them until the next scan.
    touched: BTreeSet<String>,
    /// File that each path names. Several paths may name one file.
    inodes: BTreeMap<String, u64>,
    last_inode: u64,
    /// Files below the ignored directory, by relative path.
    hidden: BTreeMap<String, File>,
    puts: u64,
    /// Conflict copies: path and content. No later operation touches them.
    kept: Vec<(String, Vec<u8>)>,
}

impl Model {
    /// Returns all names of the file at a path.
    fn names(&self, path: &str) -> Vec<String> {
        let inode = self.inodes[path];
        self.inodes
            .iter()
            .filter(|(_, other)| **other == inode)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Adds a new file.
    fn create(&mut self, path: &str, file: File) {
        self.last_inode += 1;
        self.inodes.insert(path.to_owned(), self.last_inode);
        self.local.insert(path.to_owned(), file);
    }

    /// Changes the file at a path, under all its names.
    fn change(&mut self, path: &str, change: impl Fn(&mut File)) {
        for name in self.names(path) {
            change(self.local.get_mut(&name).unwrap());
            self.touched.insert(name);
        }
    }

    /// Removes a name. The file's other names notice the smaller link count.
    fn remove(&mut self, path: &str) -> Option<File> {
        let file = self.local.remove(path)?;
        let names = self.names(path);
        self.touched.extend(names.into_iter().filter(|name| name != path));
        self.inodes.remove(path);
        Some(file)
    }

    fn below(&self, directory: &str) -> Vec<String> {
        self.local
            .keys()
            .filter(|path| path.starts_with(&format!("{directory}/")))
            .cloned()
            .collect()
    }

    /// Returns whether a directory contains conflict copies, which no operation moves or removes.
    fn keeps_in(&self, directory: &str) -> bool {
        self.kept.iter().any(|(path, _)| path.starts_with(&format!("{directory}/")))
    }

    fn put(&mut self, path: &str, content: &[u8], of_session: bool, executable: bool) -> u64 {
        self.puts += 1;
        let object = Object { content: content.to_vec(), put: self.puts, of_session, executable };
        self.remote.insert(path.to_owned(), object);
        self.puts
    }

    fn sync(&mut self) {
        for path in PATHS {
            self.sync_one(path, true);
        }
    }

    fn sync_one(&mut self, path: &str, with_removal: bool) {
        self.touched.remove(path);
        let base = self.base.get(path).cloned();
        let Some(file) = self.local.get(path).cloned() else {
            if with_removal && let Some(Base::Stored { put, own, .. }) = base {
                self.removed(path, put, own);
            }
            return;
        };
        let (expected, own) = match &base {
            Some(Base::Stored { file: before, .. }) if *before == file => return,
            Some(Base::Stored { put, own, .. }) => (Some(*put), *own),
            Some(Base::Removed { put }) => (Some(*put), false),
            Some(Base::ExpectedRemote { own, .. }) => (None, *own),
            None => (None, true),
        };
        let there = self.remote.get(path).cloned();
        let put = match there {
            Some(object) if Some(object.put) != expected && object.content == file.content => {
                object.put
            }
            Some(object) if Some(object.put) != expected => {
                self.kept.push((path.to_owned(), object.content));
                self.put(path, &file.content, own, file.executable)
            }
            _ => self.put(path, &file.content, own, file.executable),
        };
        self.base.insert(path.to_owned(), Base::Stored { file, put, own });
    }

    fn removed(&mut self, path: &str, put: u64, own: bool) {
        if !own {
            self.base.insert(path.to_owned(), Base::Removed { put });
            return;
        }
        if self.remote.get(path).is_some_and(|object| object.put == put) {
            self.remote.remove(path);
        }
        self.base.remove(path);
    }

    fn refresh(&mut self) {
        let is_empty = self.remote.is_empty() && self.kept.is_empty();
        let remote = &self.remote;
        self.base.retain(|path, base| {
            remote.contains_key(path) || (matches!(base, Base::Stored { .. }) && !is_empty)
        });
        // All decisions precede the first fetch.
        let mut replaced = BTreeSet::new();
        let before = self.clone();
        for (path, object) in before.remote {
            let local = before.local.get(&path);
            let wanted = match (local, self.base.get(&path)) {
                (Some(now), Some(Base::Stored { file, put, .. })) => {
                    *put != object.put && now == file && !before.touched.contains(&path)
                }
                (Some(_), _) => false,
                (None, Some(Base::Stored { put, .. } | Base::Removed { put })) => {
                    *put != object.put
                }
                (None, Some(Base::ExpectedRemote { .. }) | None) => true,
            };
            if !wanted {
                continue;
            }
            let own = match self.base.get(&path) {
                Some(Base::Stored { put, own, .. } | Base::ExpectedRemote { put, own })
                    if *put == object.put =>
                {
                    *own
                }
                Some(Base::Removed { .. }) => false,
                _ => object.of_session,
            };
            // A replaced file keeps its mode, because a store may lose attributes.
            let executable = object.executable || local.is_some_and(|file| file.executable);
            let file = File { content: object.content, executable };
            replaced.extend(self.inodes.get(&path).copied());
            self.touched.remove(&path);
            self.create(&path, file.clone());
            self.base.insert(path, Base::Stored { file, put: object.put, own });
        }
        let others = self.inodes.iter().filter(|(_, inode)| replaced.contains(inode));
        self.touched.extend(others.map(|(path, _)| path.clone()));
    }

    fn lose_files(&mut self) {
        self.local.clear();
        self.touched.clear();
        self.inodes.clear();
        self.hidden.clear();
    }

    /// Recreates the directory.
    fn lose_directory(&mut self) {
        self.lose_files();
        for base in self.base.values_mut() {
            if let Base::Stored { put, own, .. } = *base {
                *base = Base::ExpectedRemote { put, own };
            }
        }
    }
}

struct World {
    machine: Machine,
    source: ChangeSource,
    mirror: Option<Mirror>,
    model: Model,
}

impl World {
    fn new(conditions: Conditions, source: ChangeSource) -> Self {
        let mut world = Self {
            machine: Machine::new(FailingStore::with_conditions(conditions)),
            source,
            mirror: None,
            model: Model::default(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.mirror = Some(self.machine.open_with(|mirror| mirror.change_source(self.source)));
    }

    fn mirror(&self) -> &Mirror {
        self.mirror.as_ref().unwrap()
    }

    fn path(&self, path: usize) -> PathBuf {
        self.machine.dir().join(PATHS[path])
    }

    fn write(&mut self, at: usize, content: &[u8]) {
        let path = self.path(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        if self.model.local.contains_key(PATHS[at]) {
            self.model.change(PATHS[at], |file| file.content = content.to_vec());
        } else {
            self.model.create(PATHS[at], File { content: content.to_vec(), executable: false });
            self.model.touched.insert(PATHS[at].to_owned());
        }
    }

    /// Moves a directory. Changes the change time of each file first, so that no file matches an
    /// old index entry.
    fn move_directory(&mut self, from: &str, to: &str) -> bool {
        let [from, to] = [from, to].map(|path| self.machine.dir().join(path));
        if !from.exists() || to.exists() {
            return false;
        }
        for path in ["a", "e/b"].map(|path| from.join(path)) {
            if let Ok(there) = fs::metadata(&path) {
                fs::set_permissions(&path, there.permissions()).unwrap();
            }
        }
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(from, to).unwrap();
        true
    }

    fn hide(&mut self, which: usize) {
        let directory = DIRECTORIES[which];
        let below = self.model.below(directory);
        let is_shared = |path: &String| self.model.names(path).len() > 1;
        if self.model.keeps_in(directory)
            || below.iter().any(is_shared)
            || !self.move_directory(directory, HIDDEN)
        {
            return;
        }
        for path in below {
            let file = self.model.remove(&path).unwrap();
            self.model.hidden.insert(path[directory.len() + 1..].to_owned(), file);
        }
    }

    fn show(&mut self, which: usize) {
        if !self.move_directory(HIDDEN, DIRECTORIES[which]) {
            return;
        }
        for (path, file) in std::mem::take(&mut self.model.hidden) {
            let path = format!("{}/{path}", DIRECTORIES[which]);
            self.model.create(&path, file);
            self.model.touched.insert(path);
        }
    }

    fn rename_directory(&mut self, which: usize) {
        let (from, to) = (DIRECTORIES[which], DIRECTORIES[1 - which]);
        if self.model.keeps_in(from) || !self.move_directory(from, to) {
            return;
        }
        for path in self.model.below(from) {
            self.model.change(&path, |_| {});
            let moved = format!("{to}{}", &path[from.len()..]);
            let (file, inode) =
                (self.model.local.remove(&path).unwrap(), self.model.inodes.remove(&path).unwrap());
            self.model.local.insert(moved.clone(), file);
            self.model.inodes.insert(moved.clone(), inode);
            self.model.touched.insert(moved);
        }
    }

    fn set_mode_of_directory(&self, which: usize, mode: u32) {
        let directory = self.machine.dir().join(DIRECTORIES[which]);
        if rustix::process::geteuid().is_root() && directory.exists() {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    async fn sync(&mut self) {
        let report = self.mirror().sync().await;
        assert!(report.pending.is_empty(), "{report:?}");
        self.model.sync();
    }

    async fn refresh(&mut self) {
        let report = self.mirror().restore().await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        self.model.refresh();
    }

    async fn run(&mut self, op: &Op) {
        match *op {
            Op::Write(at, content) => self.write(at, &[b'0' + content]),
            Op::Append(at, more) => {
                let mut content = self
                    .model
                    .local
                    .get(PATHS[at])
                    .map(|file| file.content.clone())
                    .unwrap_or_default();
                content.push(b'0' + more);
                self.write(at, &content);
            }
            Op::Truncate(at) => {
                if self.model.local.contains_key(PATHS[at]) {
                    self.write(at, b"");
                }
            }
            Op::Rename(from, to) => {
                let (old, new) = (PATHS[from], PATHS[to]);
                let inode = |path| self.model.inodes.get(path);
                // Renaming a file to another of its names keeps both names.
                if inode(old).is_none() || inode(old) == inode(new) {
                    return;
                }
                fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
                fs::rename(self.path(from), self.path(to)).unwrap();
                self.model.remove(new);
                self.model.change(old, |_| {});
                let inode = self.model.inodes[old];
                let file = self.model.local.remove(old).unwrap();
                self.model.inodes.remove(old);
                self.model.inodes.insert(new.to_owned(), inode);
                self.model.local.insert(new.to_owned(), file);
                self.model.touched.insert(new.to_owned());
            }
            Op::LinkAndSync(from, to) => {
                let (old, new) = (PATHS[from], PATHS[to]);
                if self.model.local.contains_key(new) {
                    return;
                }
                if let Some(file) = self.model.local.get(old).cloned() {
                    fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
                    fs::hard_link(self.path(from), self.path(to)).unwrap();
                    self.model.inodes.insert(new.to_owned(), self.model.inodes[old]);
                    self.model.local.insert(new.to_owned(), file);
                    self.model.change(old, |_| {});
                    self.sync().await;
                }
            }
            Op::Delete(at) => {
                if self.model.remove(PATHS[at]).is_some() {
                    fs::remove_file(self.path(at)).unwrap();
                }
            }
            Op::DeleteDirectory(which) => {
                // Conflict copies are not removed.
                for path in self.model.below(DIRECTORIES[which]) {
                    self.model.remove(&path);
                    fs::remove_file(self.machine.dir().join(path)).unwrap();
                }
                let directory = self.machine.dir().join(DIRECTORIES[which]);
                let _ = fs::remove_dir(directory.join("e"));
                let _ = fs::remove_dir(directory);
            }
            Op::RenameDirectory(which) => self.rename_directory(which),
            Op::Hide(which) => self.hide(which),
            Op::Show(which) => self.show(which),
            Op::CloseDirectory(which) => self.set_mode_of_directory(which, 0),
            Op::OpenDirectory(which) => self.set_mode_of_directory(which, 0o755),
            Op::ToggleExecutable(at) => {
                if let Some(file) = self.model.local.get(PATHS[at]) {
                    let mode = if file.executable { 0o644 } else { 0o755 };
                    fs::set_permissions(self.path(at), fs::Permissions::from_mode(mode)).unwrap();
                    self.model.change(PATHS[at], |file| file.executable = !file.executable);
                }
            }
            Op::TouchOld(at) => {
                if self.model.local.contains_key(PATHS[at]) {
                    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                    fs::File::options()
                        .write(true)
                        .open(self.path(at))
                        .unwrap()
                        .set_modified(old)
                        .unwrap();
                    self.model.change(PATHS[at], |_| {});
                }
            }
            Op::MakeDirectory(number) => {
                fs::create_dir_all(self.machine.dir().join(format!("empty/{number}"))).unwrap();
            }
            Op::Symlink(number) => {
                let _ = symlink("/etc/passwd", self.machine.dir().join(format!("link{number}")));
            }
            Op::RemotePut(at, content) => {
                self.machine.store.put(&key(PATHS[at]), vec![b'0' + content].into()).await.unwrap();
                self.model.put(PATHS[at], &[b'0' + content], false, false);
            }
            Op::RemoteDelete(at) => {
                self.machine.store.delete(&key(PATHS[at])).await.unwrap();
                self.model.remote.remove(PATHS[at]);
            }
            Op::Sync => self.sync().await,
            Op::PutFile(at) => {
                self.mirror()
                    .put_file(&sandbox_core::RelativePath::parse(PATHS[at]).unwrap())
                    .await;
                self.model.sync_one(PATHS[at], false);
            }
            Op::Refresh => self.refresh().await,
            Op::Crash => {
                self.mirror = None;
                self.open();
            }
            Op::CloseAndReopen => {
                self.sync().await;
                self.mirror = None;
                self.machine.remove_all();
                self.open();
                self.model.lose_directory();
                self.refresh().await;
            }
            Op::OtherMachine => {
                self.sync().await;
                self.mirror = None;
                self.machine = Machine::new(self.machine.store.clone());
                self.open();
                self.model.lose_files();
                self.model.base.clear();
                self.refresh().await;
            }
        }
    }

    /// Asserts that both sides equal the model, except for the names of conflict copies.
    async fn check(&self, what: &str) {
        let split = |files: BTreeMap<String, String>| {
            let (mut plain, mut kept) = (BTreeMap::new(), Vec::new());
            for (path, content) in files {
                match path.split_once(".conflict-") {
                    Some((before, tag)) => {
                        kept.push((format!("{before}{}", &tag[8..]), content.into_bytes()));
                    }
                    None => {
                        plain.insert(path, content.into_bytes());
                    }
                }
            }
            kept.sort();
            (plain, kept)
        };
        let mut expected_kept = self.model.kept.clone();
        expected_kept.sort();
        let (stored, kept) = split(self.machine.objects().await);
        let remote: BTreeMap<_, _> = self
            .model
            .remote
            .iter()
            .map(|(path, object)| (path.clone(), object.content.clone()))
            .collect();
        assert_eq!(stored, remote, "the store, {what}");
        assert_eq!(kept, expected_kept, "conflict copies in the store, {what}");
        let mut seen = self.machine.files();
        seen.retain(|path, _| !path.starts_with(HIDDEN));
        let (files, kept) = split(seen);
        let local: BTreeMap<_, _> = self
            .model
            .local
            .iter()
            .map(|(path, file)| (path.clone(), file.content.clone()))
            .collect();
        assert_eq!(files, local, "the directory, {what}");
        assert_eq!(kept, expected_kept, "conflict copies in the directory, {what}");
        for (at, file) in &self.model.local {
            let mode = fs::metadata(self.machine.dir().join(at)).unwrap().permissions().mode();
            assert_eq!(mode & 0o100 != 0, file.executable, "the executable bit of {at}, {what}");
        }
    }
}

#[test]
fn any_sequence_follows_the_rules() {
    run(ChangeSource::Events);
}

#[test]
fn any_sequence_follows_the_rules_without_events() {
    run(ChangeSource::Walks);
}

fn run(source: ChangeSource) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(op(), 1..24), |ops| {
        runtime.block_on(async {
            // The length of a sequence selects the store, so that a failing sequence is repeatable.
            let conditions =
                [Conditions::Honored, Conditions::Ignored, Conditions::CreateOnly][ops.len() % 3];
            let mut world = World::new(conditions, source);
            for (number, op) in ops.iter().enumerate() {
                world.run(op).await;
                if matches!(op, Op::Sync | Op::Refresh | Op::CloseAndReopen | Op::OtherMachine) {
                    world.check(&format!("after {number} {op:?}")).await;
                }
            }
            // No more changes: both sides must settle.
            world.sync().await;
            world.refresh().await;
            world.sync().await;
            world.check("in the end").await;
        });
        Ok(())
    });
    run.unwrap();
}
