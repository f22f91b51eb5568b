//! Garbage collection: nothing live or retained is lost, and the rest is deleted.

// Long because the random sessions and the single cases share one fixture.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{CloseMode, GarbageOptions, LogView, Mirror, SyncError, Takeover, Undelete};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use sandbox_core::RelativePath;
use testkit::{Calls, ClockStore, FailingStore, Failure};

use crate::machine::{LOG, Machine, expected, keys};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

type Files = BTreeMap<String, String>;

fn clock() -> (Arc<ClockStore>, Machine) {
    let clock = ClockStore::new(Arc::new(InMemory::new()));
    let machine = Machine::new(clock.clone());
    (clock, machine)
}

fn large(seed: u64) -> String {
    format!("{seed:08}").repeat(4_000)
}

async fn objects(machine: &Machine) -> Vec<ObjectMeta> {
    machine.store.list(Some(&Key::parse(LOG).unwrap())).try_collect().await.unwrap()
}

/// Reads all files as of an entry. Returns `None` if the log does not retain it.
async fn read(machine: &Machine, at: Option<u64>) -> Option<Files> {
    let view = match LogView::open(Arc::clone(&machine.store), keys(), at).await {
        Ok(view) => view,
        Err(SyncError::NotRetained { .. }) => return None,
        Err(error) => panic!("{error:?}"),
    };
    let mut files = Files::new();
    for file in view.files() {
        let path = RelativePath::parse(&file.path).unwrap();
        let content = view.read(&path).await.unwrap_or_else(|error| panic!("{at:?}: {error:?}"));
        files.insert(file.path, String::from_utf8(content.to_vec()).unwrap());
    }
    Some(files)
}

async fn sync(mirror: &Mirror) -> u64 {
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
    report.entry
}

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Session with the states that its history must have.
struct Run {
    clock: Arc<ClockStore>,
    machine: Machine,
    mirror: Option<Mirror>,
    numbers: Numbers,
    now: Duration,
    /// Files as of each entry at the end of a step.
    states: BTreeMap<u64, Files>,
    /// Time of each entry, from the first one on.
    times: Vec<Duration>,
    content: u64,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let (clock, machine) = clock();
        let mirror = Some(machine.open().await);
        let numbers = Numbers(seed);
        let states = BTreeMap::new();
        let times = Vec::new();
        Self { clock, machine, mirror, numbers, now: Duration::ZERO, states, times, content: 0 }
    }

    fn mirror(&self) -> &Mirror {
        self.mirror.as_ref().unwrap()
    }

    fn advance(&mut self, time: Duration) {
        self.clock.advance(time);
        self.now += time;
    }

    /// Records the state that the log has now.
    fn record(&mut self) {
        let (number, files) = (self.mirror().entry(), self.machine.files());
        self.times.resize(number as usize, self.now);
        // A session without an entry has no state.
        if number > 0 {
            self.states.entry(number).or_insert(files);
        }
    }

    async fn sync(&mut self) {
        sync(self.mirror()).await;
        self.record();
    }

    async fn step(&mut self) {
        let path = ["a", "b", "d/a", "d/b", "e/x/y"][self.numbers.below(5) as usize];
        match self.numbers.below(16) {
            0..4 => {
                self.content += 1;
                let content = match self.numbers.below(2) {
                    0 => self.content.to_string(),
                    _ => large(self.content),
                };
                self.machine.write(path, &content);
                self.sync().await;
            }
            4..6 if self.machine.dir().join(path).exists() => {
                self.machine.remove(path);
                self.sync().await;
            }
            6 if self.machine.dir().join(path).exists() => {
                let to = ["r1", "d/r2"][self.numbers.below(2) as usize];
                self.machine.rename(path, to);
                self.sync().await;
            }
            7 => {
                let known: Vec<u64> = self.states.keys().copied().collect();
                if let Some(at) = known.get(self.numbers.below(known.len().max(1) as u64) as usize)
                {
                    let path = RelativePath::parse(path).unwrap();
                    let restored = self.mirror().restore_version(&path, *at).await;
                    match restored {
                        Ok(_)
                        | Err(SyncError::NotRetained { .. } | SyncError::NoVersion { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    self.sync().await;
                }
            }
            8 => {
                let report = self.mirror().undelete(Undelete::LastRemoval).await.unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
                self.sync().await;
            }
            9 => {
                self.mirror = None;
                self.mirror = Some(self.machine.open().await);
                self.record();
            }
            10 => {
                self.mirror().close(CloseMode::KeepPending).await.unwrap();
                self.mirror = None;
                self.check().await;
                self.mirror = Some(self.machine.open().await);
                assert!(self.mirror().opened().failed.is_empty());
                self.record();
            }
            11..13 => {
                let hours = self.numbers.below(20) as u32;
                self.advance(HOUR * hours);
            }
            13..16 => {
                let report = self.mirror().collect_garbage(GarbageOptions::default()).await;
                report.unwrap();
                self.record();
                self.check().await;
            }
            _ => {}
        }
    }

    /// Checks the live state, and each state that was current within the retention time.
    async fn check(&self) {
        if let Some((number, files)) = self.states.last_key_value() {
            assert_eq!(read(&self.machine, None).await.as_ref(), Some(files), "live, {number}");
        }
        for (number, files) in &self.states {
            // The next entry has the index `number`.
            let end = self.times.get(*number as usize).copied().unwrap_or(self.now);
            let found = read(&self.machine, Some(*number)).await;
            if end + DAY > self.now {
                assert!(found.is_some(), "entry {number} was current {:?} ago", self.now - end);
            }
            if let Some(found) = found {
                assert_eq!(found, *files, "entry {number}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_live_or_retained_is_lost_whenever_garbage_is_collected() {
    for seed in 0..60 {
        let mut run = Run::new(seed).await;
        for _ in 0..60 {
            run.step().await;
        }
        run.check().await;
        let files = run.machine.files();
        drop(run.mirror.take());
        let cold = Machine::new(run.machine.store.clone());
        cold.open().await;
        assert_eq!(cold.files(), files, "seed {seed}");
    }
}

#[tokio::test]
async fn old_versions_are_deleted_and_little_more_than_the_live_files_stays() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    for round in 0..30 {
        for file in 0..5 {
            machine.write(&format!("f{file}"), &large(round * 10 + file));
        }
        machine.write("small", &round.to_string());
        sync(&mirror).await;
    }
    let live: u64 = machine.files().values().map(|content| content.len() as u64).sum();
    let stored = |objects: Vec<ObjectMeta>| objects.iter().map(|meta| meta.size).sum::<u64>();
    let before = stored(objects(&machine).await);
    assert!(before > 25 * live, "{before} of {live}");
    let young = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert_eq!((young.entries, young.blobs), (0, 0));
    clock.advance(2 * DAY);
    machine.write("small", "newer");
    sync(&mirror).await;
    let dry = mirror.collect_garbage(GarbageOptions::default().dry_run()).await.unwrap();
    let untouched = stored(objects(&machine).await);
    let report = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert!(report.blobs >= 145 && report.entries >= 29, "{report:?}");
    assert_eq!((dry.snapshot, dry.blobs), (None, report.blobs));
    let after = stored(objects(&machine).await);
    let snapshot = format!("{LOG}/{:020}", report.snapshot.unwrap());
    let snapshot = machine.store.head(&Key::parse(snapshot).unwrap()).await.unwrap().size;
    assert_eq!((report.bytes, report.kept_bytes), (untouched + snapshot - after, after));
    assert_eq!((dry.bytes, dry.kept_bytes), (report.bytes, untouched - report.bytes));
    assert!(untouched > after && after < live * 11 / 10, "{after} bytes for {live}");
    assert_eq!(report.kept_blobs, 5);
    assert_eq!(read(&machine, None).await.unwrap(), machine.files());
}

#[tokio::test]
async fn an_entry_stays_while_a_retained_state_needs_its_inline_content() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    machine.write("small", "inline");
    let number = sync(&mirror).await;
    for round in 0..3 {
        machine.write("other", &large(round));
        sync(&mirror).await;
        clock.advance(2 * DAY);
        mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
        assert_eq!(read(&machine, None).await.unwrap(), machine.files());
    }
    let entry = format!("{LOG}/{number:020}");
    let has_entry =
        |objects: Vec<ObjectMeta>| objects.iter().any(|meta| meta.location.as_ref() == entry);
    assert!(has_entry(objects(&machine).await));
    machine.remove("small");
    sync(&mirror).await;
    for _ in 0..2 {
        clock.advance(2 * DAY);
        mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    }
    clock.advance(2 * DAY);
    mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert!(!has_entry(objects(&machine).await));
}

#[tokio::test]
async fn a_late_upload_is_deleted_once_it_is_old() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    machine.write("a", &large(1));
    sync(&mirror).await;
    // The request of a killed process arrives after everything else.
    let late = Key::parse(LOG).unwrap().join("blobs").join("0f".repeat(16));
    clock.advance(2 * DAY);
    machine.store.put(&late, "late".into()).await.unwrap();
    let young = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert_eq!((young.blobs, young.kept_blobs), (0, 2));
    clock.advance(2 * DAY);
    let old = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert_eq!((old.blobs, old.bytes, old.kept_blobs), (1, 4, 1));
    assert!(machine.store.head(&late).await.is_err());
}

#[tokio::test]
async fn the_retention_time_has_a_lower_limit() {
    let (clock, machine) = clock();
    let mirror = machine.open_with(|mirror| mirror.retention(Duration::ZERO)).await;
    machine.write("a", &large(1));
    sync(&mirror).await;
    machine.write("a", &large(2));
    sync(&mirror).await;
    let collect = async || mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    collect().await;
    clock.advance(Duration::from_secs(14 * 60));
    assert_eq!(collect().await.blobs, 0);
    clock.advance(Duration::from_secs(2 * 60));
    // The age of an entry counts up to the newest one, which the first call writes.
    assert_eq!(collect().await.blobs + collect().await.blobs, 1);
}

/// Makes garbage of several ages. Returns the files of the session.
async fn prepare(clock: &ClockStore, machine: &Machine, mirror: &Mirror) -> (u64, Files) {
    for round in 0..6 {
        machine.write("a", &large(round));
        machine.write(&format!("s{round}"), "small");
        sync(mirror).await;
        if round == 2 {
            mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
            clock.advance(2 * DAY);
        }
    }
    machine.remove("s0");
    (sync(mirror).await, machine.files())
}

#[tokio::test]
async fn a_collection_that_fails_at_any_call_loses_nothing_and_the_next_one_completes() {
    let session = async |fail: Option<(Failure, usize, usize)>| {
        let store = FailingStore::new();
        let clock = ClockStore::new(store.clone());
        let machine = Machine::new(clock.clone());
        let mirror = machine.open().await;
        let (number, files) = prepare(&clock, &machine, &mirror).await;
        clock.advance(HOUR);
        store.fail(Calls::All, usize::MAX, 0);
        if let Some((failure, first, count)) = fail {
            store.set_failure(failure);
            store.fail(Calls::All, first, count);
        }
        let collected = mirror.collect_garbage(GarbageOptions::default()).await;
        let count = store.count(Calls::All);
        store.recover();
        let context = format!("{fail:?}: {collected:?}");
        assert_eq!(collected.is_err(), fail.is_some(), "{context}");
        // The process ends here, and another one continues.
        drop(mirror);
        assert_eq!(read(&machine, None).await.as_ref(), Some(&files), "{context}");
        assert_eq!(read(&machine, Some(number)).await.as_ref(), Some(&files), "{context}");
        let mirror = machine.open().await;
        assert!(mirror.opened().problems().is_empty(), "{context}: {:?}", mirror.opened());
        for entry in mirror.history(None).await.unwrap() {
            assert!(read(&machine, Some(entry.number)).await.is_some(), "{context}");
        }
        clock.advance(2 * DAY);
        mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
        clock.advance(2 * DAY);
        mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
        assert_eq!(read(&machine, None).await.as_ref(), Some(&files), "{context}");
        assert_eq!(machine.blobs().await.len(), 1, "{context}");
        assert_eq!(machine.files(), files, "{context}");
        count
    };
    let count = session(None).await;
    assert!(count >= 8, "{count}");
    for failure in [Failure::Rejected, Failure::ResponseLost] {
        for first in 0..count {
            session(Some((failure, first, usize::MAX))).await;
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_written_in_the_background_after_many_entries() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    for round in 0..80 {
        machine.write("a", &round.to_string());
        sync(&mirror).await;
    }
    mirror.flush().await.unwrap();
    let history = mirror.history(None).await.unwrap();
    let snapshots = history.iter().filter(|entry| entry.is_snapshot).count();
    assert!((1..=2).contains(&snapshots), "{snapshots}");
    machine.write("a", "last");
    sync(&mirror).await;
    drop(mirror);
    let cold = Machine::new(machine.store.clone());
    cold.open().await;
    assert_eq!(cold.files(), expected(&[("a", "last")]));
}

#[tokio::test]
async fn closing_collects_old_garbage() {
    let (clock, machine) = clock();
    for round in 0..3 {
        let mirror = machine.open().await;
        machine.write("a", &large(round));
        sync(&mirror).await;
        clock.advance(2 * DAY);
        mirror.close(CloseMode::KeepPending).await.unwrap();
    }
    // The last version and the one that it replaced within the retention time.
    assert_eq!(machine.blobs().await.len(), 2);
    machine.open().await;
    assert_eq!(machine.files(), expected(&[("a", &large(2))]));
}

#[tokio::test]
async fn garbage_of_a_fenced_owner_stays() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    machine.write("a", &large(1));
    sync(&mirror).await;
    machine.write("a", &large(2));
    sync(&mirror).await;
    mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    clock.advance(2 * DAY);
    let other = Machine::new(machine.store.clone());
    let owner = other.open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    let refused = mirror.collect_garbage(GarbageOptions::default()).await;
    assert!(matches!(refused, Err(SyncError::LeaseLost)), "{refused:?}");
    assert_eq!(machine.blobs().await.len(), 2);
    owner.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert_eq!(machine.blobs().await.len(), 1);
}

#[tokio::test]
async fn records_of_removed_paths_end_with_the_retention_time() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    let snapshot_bytes = async || {
        mirror.refresh().await.unwrap();
        let number = mirror.collect_garbage(GarbageOptions::default()).await.unwrap().snapshot;
        let entry = Key::parse(format!("{LOG}/{:020}", number.unwrap())).unwrap();
        let entry = machine.store.get(&entry).await.unwrap().bytes().await.unwrap();
        String::from_utf8(entry.to_vec()).unwrap()
    };
    machine.write("gone", "1");
    machine.write("a", "1");
    sync(&mirror).await;
    machine.remove("gone");
    sync(&mirror).await;
    assert!(snapshot_bytes().await.contains("\"gone\""));
    clock.advance(2 * DAY);
    machine.write("a", "2");
    sync(&mirror).await;
    let snapshot = snapshot_bytes().await;
    assert!(!snapshot.contains("\"gone\"") && snapshot.contains("\"a\""), "{snapshot}");
    assert_eq!(machine.objects().await, expected(&[("a", "2")]));
}

#[tokio::test]
async fn a_hundred_thousand_blobs_are_collected() {
    let (clock, machine) = clock();
    let mirror = machine.open().await;
    machine.write("a", &large(1));
    sync(&mirror).await;
    let blobs = Key::parse(LOG).unwrap().join("blobs");
    for number in 0..100_000_u32 {
        let blob = blobs.clone().join(format!("{number:032x}"));
        machine.store.put(&blob, "x".into()).await.unwrap();
    }
    clock.advance(2 * DAY);
    let report = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
    assert_eq!((report.blobs, report.kept_blobs), (100_000, 1));
    assert_eq!(machine.blobs().await.len(), 1);
}
