//! Random sequences of what an agent, a user and a machine do, against a plain model of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use artifact_sync::Mirror;
use object_store::ObjectStoreExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::faulty::{Conditions, Faulty};
use crate::place::{Machine, key};

/// More by the variable of the same name as proptest's.
const CASES: u32 = 2_000;
const PATHS: [&str; 5] = ["a", "b.txt", "d/a", "d/e/b", "é #%+.md"];

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u8),
    Append(usize, u8),
    Truncate(usize),
    Rename(usize, usize),
    Delete(usize),
    DeleteDirectory,
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
    // Few contents, so that two sides write the same at times.
    let content = || 0u8..4;
    prop_oneof![
        4 => (path(), content()).prop_map(|(path, content)| Op::Write(path, content)),
        2 => (path(), content()).prop_map(|(path, content)| Op::Append(path, content)),
        1 => path().prop_map(Op::Truncate),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        3 => path().prop_map(Op::Delete),
        1 => Just(Op::DeleteDirectory),
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

/// A file as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    content: Vec<u8>,
    executable: bool,
}

/// An object: its content, which put made it, and whether a session's attributes are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    content: Vec<u8>,
    put: u64,
    of_session: bool,
    executable: bool,
}

/// What the record says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// The file as it was when the store was known to hold it under this put; and whether it is the session's own.
    Stored {
        file: File,
        put: u64,
        own: bool,
    },
    Removed {
        put: u64,
    },
    Awaited {
        put: u64,
        own: bool,
    },
}

#[derive(Clone, Debug, Default)]
struct Model {
    local: BTreeMap<String, File>,
    remote: BTreeMap<String, Object>,
    base: BTreeMap<String, Base>,
    /// Files that were written to since they were last looked at, be it with the same content: they stand until they are looked at.
    touched: BTreeSet<String>,
    puts: u64,
    /// Versions of the other side that were kept: the path, and the content. They are never touched again.
    kept: Vec<(String, Vec<u8>)>,
}

impl Model {
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
            Some(Base::Awaited { own, .. }) => (None, *own),
            None => (None, true),
        };
        let there = self.remote.get(path).cloned();
        let put = match there {
            Some(object) if Some(object.put) != expected && object.content == file.content => object.put,
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
        self.base.retain(|path, base| remote.contains_key(path) || (matches!(base, Base::Stored { .. }) && !is_empty));
        for (path, object) in self.remote.clone() {
            let local = self.local.get(&path);
            let wanted = match (local, self.base.get(&path)) {
                (Some(now), Some(Base::Stored { file, put, .. })) => {
                    *put != object.put && now == file && !self.touched.contains(&path)
                }
                (Some(_), _) => false,
                (None, Some(Base::Stored { put, .. } | Base::Removed { put })) => *put != object.put,
                (None, Some(Base::Awaited { .. }) | None) => true,
            };
            if !wanted {
                continue;
            }
            let own = match self.base.get(&path) {
                Some(Base::Stored { put, own, .. } | Base::Awaited { put, own }) if *put == object.put => *own,
                Some(Base::Removed { .. }) => false,
                _ => object.of_session,
            };
            // What takes a file's place keeps its mode: a store may keep no attributes.
            let executable = object.executable || local.is_some_and(|file| file.executable);
            let file = File { content: object.content, executable };
            self.touched.remove(&path);
            self.local.insert(path.clone(), file.clone());
            self.base.insert(path, Base::Stored { file, put: object.put, own });
        }
    }

    /// The directory is made anew.
    fn lose_directory(&mut self) {
        self.local.clear();
        self.touched.clear();
        for base in self.base.values_mut() {
            if let Base::Stored { put, own, .. } = *base {
                *base = Base::Awaited { put, own };
            }
        }
    }
}

struct World {
    machine: Machine,
    mirror: Option<Mirror>,
    model: Model,
}

impl World {
    fn new(conditions: Conditions) -> Self {
        let machine = Machine::new(Faulty::with(conditions));
        let mirror = machine.open();
        Self { machine, mirror: Some(mirror), model: Model::default() }
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
        self.model.touched.insert(PATHS[at].to_owned());
        let executable = self.model.local.get(PATHS[at]).is_some_and(|file| file.executable);
        self.model.local.insert(PATHS[at].to_owned(), File { content: content.to_vec(), executable });
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
                let mut content = self.model.local.get(PATHS[at]).map(|file| file.content.clone()).unwrap_or_default();
                content.push(b'0' + more);
                self.write(at, &content);
            }
            Op::Truncate(at) => {
                if self.model.local.contains_key(PATHS[at]) {
                    self.write(at, b"");
                }
            }
            Op::Rename(from, to) if from == to => {}
            Op::Rename(from, to) => {
                if let Some(file) = self.model.local.remove(PATHS[from]) {
                    fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
                    fs::rename(self.path(from), self.path(to)).unwrap();
                    self.model.local.insert(PATHS[to].to_owned(), file);
                    self.model.touched.insert(PATHS[to].to_owned());
                }
            }
            Op::Delete(at) => {
                if self.model.local.remove(PATHS[at]).is_some() {
                    fs::remove_file(self.path(at)).unwrap();
                }
            }
            Op::DeleteDirectory => {
                // Versions that were kept are nobody's to remove here.
                for at in [2, 3] {
                    if self.model.local.remove(PATHS[at]).is_some() {
                        fs::remove_file(self.path(at)).unwrap();
                    }
                }
                let _ = fs::remove_dir(self.machine.dir().join("d/e"));
                let _ = fs::remove_dir(self.machine.dir().join("d"));
            }
            Op::ToggleExecutable(at) => {
                let path = self.path(at);
                if let Some(file) = self.model.local.get_mut(PATHS[at]) {
                    file.executable = !file.executable;
                    self.model.touched.insert(PATHS[at].to_owned());
                    let mode = if file.executable { 0o755 } else { 0o644 };
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Op::TouchOld(at) => {
                if self.model.local.contains_key(PATHS[at]) {
                    self.model.touched.insert(PATHS[at].to_owned());
                    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                    fs::File::options().write(true).open(self.path(at)).unwrap().set_modified(old).unwrap();
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
                self.mirror().put_file(&sandbox_core::RelativePath::parse(PATHS[at]).unwrap()).await;
                self.model.sync_one(PATHS[at], false);
            }
            Op::Refresh => self.refresh().await,
            Op::Crash => {
                self.mirror = None;
                self.mirror = Some(self.machine.open());
            }
            Op::CloseAndReopen => {
                self.sync().await;
                self.mirror = None;
                self.machine.remove_all();
                self.mirror = Some(self.machine.open());
                self.model.lose_directory();
                self.refresh().await;
            }
            Op::OtherMachine => {
                self.sync().await;
                self.mirror = None;
                self.machine = Machine::new(self.machine.store.clone());
                self.mirror = Some(self.machine.open());
                self.model.local.clear();
                self.model.touched.clear();
                self.model.base.clear();
                self.refresh().await;
            }
        }
    }

    /// Both sides are what the model says, but for the names of versions that were kept.
    async fn check(&self, what: &str) {
        let split = |files: BTreeMap<String, String>| {
            let (mut plain, mut kept) = (BTreeMap::new(), Vec::new());
            for (path, content) in files {
                match path.split_once(".conflict-") {
                    Some((before, tag)) => kept.push((format!("{before}{}", &tag[8..]), content.into_bytes())),
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
        let remote: BTreeMap<_, _> =
            self.model.remote.iter().map(|(path, object)| (path.clone(), object.content.clone())).collect();
        assert_eq!(stored, remote, "the store, {what}");
        assert_eq!(kept, expected_kept, "versions kept in the store, {what}");
        let (files, kept) = split(self.machine.files());
        let local: BTreeMap<_, _> =
            self.model.local.iter().map(|(path, file)| (path.clone(), file.content.clone())).collect();
        assert_eq!(files, local, "the directory, {what}");
        assert_eq!(kept, expected_kept, "versions kept in the directory, {what}");
        for (at, file) in &self.model.local {
            let mode = fs::metadata(self.machine.dir().join(at)).unwrap().permissions().mode();
            assert_eq!(mode & 0o100 != 0, file.executable, "whether {at} is executable, {what}");
        }
    }
}

#[test]
fn any_sequence_leaves_both_sides_as_the_rules_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(op(), 1..24), |ops| {
        runtime.block_on(async {
            // A sequence tells by itself on which kind of store it runs, so that it can be run again.
            let conditions = [Conditions::Kept, Conditions::Ignored, Conditions::OnlyCreate][ops.len() % 3];
            let mut world = World::new(conditions);
            for (number, op) in ops.iter().enumerate() {
                world.run(op).await;
                if matches!(op, Op::Sync | Op::Refresh | Op::CloseAndReopen | Op::OtherMachine) {
                    world.check(&format!("after {number} {op:?}")).await;
                }
            }
            // Quiet: nobody changes anything any more.
            world.sync().await;
            world.refresh().await;
            world.sync().await;
            world.check("in the end").await;
        });
        Ok(())
    });
    run.unwrap();
}
