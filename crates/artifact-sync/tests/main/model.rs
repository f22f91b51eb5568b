//! Random sequences of operations by agents on two machines, by another program that writes the
//! objects, and by crashes: nothing is lost, nothing removed returns, and all copies converge.
//!
//! No two writes have equal contents, so each content tells where it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_sync::{ChangeSource, CloseMode, Mirror};
use object_store::ObjectStoreExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use testkit::FailingStore;

use crate::machine::{Machine, key};
use crate::places::{disk_and_tmpfs, whole_seconds};

/// Environment variable with the number of sequences of each test.
const SEQUENCES: &str = "ARTIFACT_SYNC_SEQUENCES";
const DEFAULT_SEQUENCES: u32 = 200;
/// Share of the sequences on a file system whose times have whole seconds.
const SHARE_WITH_WHOLE_SECONDS: u32 = 10;
/// Sequences that run at the same time, because each often waits for the clock that stamps files.
const WORKERS: u32 = 4;
const PATHS: [&str; 6] = ["a", "b.txt", "d/a", "d/e/b", "é #%+.md", "d.x"];
const MODES: [u32; 4] = [0o644, 0o755, 0o600, 0o444];

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    /// Writes a file too large for an entry.
    WriteLarge(usize),
    Remove(usize),
    Rename(usize, usize),
    SetMode(usize, usize),
    ExternalPut(usize),
    ExternalDelete(usize),
    Sync,
    Refresh,
    /// Drops the mirror without a sync and opens it again.
    Crash,
    CloseAndReopen,
    /// Drops the mirror without a sync and opens the session on the other machine.
    Switch,
}

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    prop_oneof![
        5 => path().prop_map(Op::Write),
        1 => path().prop_map(Op::WriteLarge),
        3 => path().prop_map(Op::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (path(), 0..MODES.len()).prop_map(|(path, mode)| Op::SetMode(path, mode)),
        2 => path().prop_map(Op::ExternalPut),
        1 => path().prop_map(Op::ExternalDelete),
        6 => Just(Op::Sync),
        2 => Just(Op::Refresh),
        1 => Just(Op::Crash),
        1 => Just(Op::CloseAndReopen),
        2 => Just(Op::Switch),
    ]
}

/// One machine, its agent, and what the agent did since the last complete sync.
struct Side {
    machine: Machine,
    /// Contents that the agent removed or replaced, which no acknowledged entry covers yet.
    dropped: BTreeSet<String>,
}

struct World {
    place: PathBuf,
    sides: [Side; 2],
    active: usize,
    mirror: Option<Mirror>,
    source: ChangeSource,
    writes: usize,
    /// Contents that must exist, as a file or as an object.
    alive: BTreeSet<String>,
    /// Contents whose removal was acknowledged.
    dead: BTreeSet<String>,
    /// Contents that have had several paths. The removal of one path does not end them.
    moved: BTreeSet<String>,
}

impl World {
    async fn new(place: &Path, source: ChangeSource) -> Self {
        let store = FailingStore::new();
        let machine = || Machine::at(place, store.clone());
        let side = || Side { machine: machine(), dropped: BTreeSet::new() };
        let mut world = Self {
            place: place.to_owned(),
            sides: [side(), side()],
            active: 0,
            mirror: None,
            source,
            writes: 0,
            alive: BTreeSet::new(),
            dead: BTreeSet::new(),
            moved: BTreeSet::new(),
        };
        world.open().await;
        world
    }

    fn machine(&self) -> &Machine {
        &self.sides[self.active].machine
    }

    fn mirror(&self) -> &Mirror {
        self.mirror.as_ref().unwrap()
    }

    async fn open(&mut self) {
        let source = self.source;
        let mirror = self.machine().open_with(|mirror| mirror.change_source(source)).await;
        assert!(mirror.opened().failed.is_empty(), "{:?}", mirror.opened());
        self.mirror = Some(mirror);
    }

    fn path(&self, at: usize) -> PathBuf {
        self.machine().dir().join(PATHS[at])
    }

    fn content(&self, at: usize) -> Option<String> {
        fs::read_to_string(self.path(at)).ok()
    }

    /// Returns a content that was never written before.
    fn fresh(&mut self, size: usize) -> String {
        self.writes += 1;
        format!("{:<size$}", format!("#{}", self.writes))
    }

    /// The agent removes or replaces a file.
    fn drop_content(&mut self, at: usize) {
        if let Some(content) = self.content(at) {
            self.alive.remove(&content);
            self.sides[self.active].dropped.insert(content);
        }
    }

    fn write(&mut self, at: usize, size: usize) {
        let (path, content) = (self.path(at), self.fresh(size));
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.is_dir() {
            return;
        }
        self.drop_content(at);
        let _ = fs::remove_file(&path);
        fs::write(&path, &content).unwrap();
        self.alive.insert(content);
    }

    async fn sync(&mut self) {
        let report = self.mirror().sync().await.unwrap();
        assert!(report.is_complete(), "{report:?}");
        let dropped = std::mem::take(&mut self.sides[self.active].dropped);
        self.dead.extend(dropped);
    }

    async fn run(&mut self, op: &Op) {
        match *op {
            Op::Write(at) => self.write(at, 1),
            Op::WriteLarge(at) => self.write(at, 20_000),
            Op::Remove(at) => {
                self.drop_content(at);
                let _ = fs::remove_file(self.path(at));
            }
            Op::Rename(from, to) => {
                let (source, target) = (self.path(from), self.path(to));
                let can_move = source.is_file() && from != to && !target.is_dir();
                if can_move && fs::create_dir_all(target.parent().unwrap()).is_ok() {
                    self.drop_content(to);
                    self.moved.extend(self.content(from));
                    fs::rename(source, target).unwrap();
                }
            }
            Op::SetMode(at, mode) => {
                if self.path(at).is_file() {
                    let mode = fs::Permissions::from_mode(MODES[mode]);
                    fs::set_permissions(self.path(at), mode).unwrap();
                }
            }
            Op::ExternalPut(at) => {
                let content = self.fresh(1);
                self.forget_object(at).await;
                let store = Arc::clone(&self.machine().store);
                store.put(&key(PATHS[at]), content.clone().into()).await.unwrap();
                self.alive.insert(content);
            }
            Op::ExternalDelete(at) => {
                self.forget_object(at).await;
                self.machine().store.delete(&key(PATHS[at])).await.unwrap();
            }
            Op::Sync => self.sync().await,
            Op::Refresh => {
                let report = self.mirror().refresh().await.unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
            }
            Op::Crash => {
                self.mirror = None;
                self.open().await;
            }
            Op::CloseAndReopen => {
                self.sync().await;
                self.mirror().close(CloseMode::KeepPending).await.unwrap();
                assert!(!self.machine().dir().exists());
                self.mirror = None;
                self.open().await;
            }
            Op::Switch => {
                // The other machine may change a path before its removal is stored.
                self.sides[self.active].dropped.clear();
                self.mirror = None;
                self.active = 1 - self.active;
                self.open().await;
            }
        }
    }

    /// The other program replaces or removes an object knowingly, so its content may vanish.
    async fn forget_object(&mut self, at: usize) {
        if let Some(content) = self.machine().objects().await.remove(PATHS[at]) {
            self.alive.remove(&content);
        }
    }

    /// Lets both machines settle, and checks the result.
    async fn settle(&mut self) {
        for _ in 0..3 {
            self.sync().await;
            self.mirror().refresh().await.unwrap();
            self.mirror().flush().await.unwrap();
            self.sides[self.active].dropped.clear();
            self.mirror = None;
            self.active = 1 - self.active;
            self.open().await;
        }
        let files = self.machine().files();
        assert_eq!(self.sides[1 - self.active].machine.files(), files, "both directories");
        assert_eq!(self.machine().objects().await, files, "the projection");
        let contents: BTreeSet<&String> = files.values().collect();
        let lost: Vec<_> =
            self.alive.iter().filter(|content| !contents.contains(content)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}, files {files:?}");
        let dead = self.dead.difference(&self.moved);
        let undead: Vec<_> = dead.filter(|content| contents.contains(content)).collect();
        assert!(undead.is_empty(), "undead: {undead:?}, files {files:?}");
        self.check_restore(&files).await;
    }

    /// Checks that a new machine gets equal files, modes and times.
    async fn check_restore(&mut self, files: &BTreeMap<String, String>) {
        let here = self.machine().dir();
        self.mirror = None;
        let third = Machine::at(&self.place, Arc::clone(&self.machine().store));
        third.open().await;
        assert_eq!(third.files(), *files, "a new machine");
        for path in files.keys() {
            let [here, there] =
                [&here, &third.dir()].map(|dir| fs::metadata(dir.join(path)).unwrap());
            assert_eq!(here.permissions().mode(), there.permissions().mode(), "{path}");
            assert_eq!(here.modified().unwrap(), there.modified().unwrap(), "{path}");
        }
    }
}

#[test]
fn any_sequence_loses_nothing_and_converges() {
    run(&disk_and_tmpfs(), sequences(), ChangeSource::Events);
}

#[test]
fn any_sequence_loses_nothing_and_converges_without_events() {
    run(&disk_and_tmpfs(), sequences(), ChangeSource::Walks);
}

#[test]
fn any_sequence_loses_nothing_and_converges_if_times_have_whole_seconds() {
    let test = "model::any_sequence_loses_nothing_and_converges_if_times_have_whole_seconds";
    let Some(place) = whole_seconds(test) else { return };
    for source in [ChangeSource::Events, ChangeSource::Walks] {
        run(&[&place], sequences().div_ceil(SHARE_WITH_WHOLE_SECONDS), source);
    }
}

fn sequences() -> u32 {
    let count = std::env::var(SEQUENCES).ok().and_then(|count| count.parse().ok());
    count.unwrap_or(DEFAULT_SEQUENCES)
}

/// Runs sequences in several threads, which take the places in turns.
fn run(places: &[impl AsRef<Path>], sequences: u32, source: ChangeSource) {
    std::thread::scope(|scope| {
        let places = places.iter().map(AsRef::as_ref).cycle();
        let workers: Vec<_> = places
            .zip(0..WORKERS)
            .map(|(place, worker)| {
                scope.spawn(move || work(place, worker, sequences.div_ceil(WORKERS), source))
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn work(place: &Path, worker: u32, sequences: u32, source: ChangeSource) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = Config { cases: sequences, failure_persistence: None, ..Config::default() };
    if let RngSeed::Fixed(seed) = &mut config.rng_seed {
        // Each worker has sequences of its own.
        *seed += u64::from(worker);
    }
    let run = TestRunner::new(config).run(&prop::collection::vec(op(), 1..24), |ops| {
        runtime.block_on(async {
            let mut world = World::new(place, source).await;
            for op in &ops {
                world.run(op).await;
            }
            world.settle().await;
        });
        Ok(())
    });
    run.unwrap();
}
