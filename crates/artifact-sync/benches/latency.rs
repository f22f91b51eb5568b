//! Time of operations on a store that takes 20 ms per request, with their requests. Prints a
//! Markdown table.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{
    CloseMode, ConditionalDelete, ConditionalDeletion, Mirror, SessionKeys, StoreCapabilities,
    StoreProbe,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, UpdateVersion};
use testkit::LatencyStore;

const LATENCY: Duration = Duration::from_millis(20);

/// Conditional deletion of the slow store, as S3 and Azure have it.
#[derive(Debug)]
struct Deleter(Arc<LatencyStore>);

#[async_trait]
impl ConditionalDelete for Deleter {
    async fn delete_if(
        &self,
        key: &Key,
        version: &UpdateVersion,
    ) -> object_store::Result<ConditionalDeletion> {
        Ok(match self.0.delete_version(key, version.e_tag.as_deref()).await? {
            true => ConditionalDeletion::Deleted,
            false => ConditionalDeletion::OtherVersion,
        })
    }
}

/// Machines that share one slow store.
struct Bench {
    place: tempfile::TempDir,
    store: Arc<LatencyStore>,
    /// Properties of the store, which a home keeps.
    probe: StoreProbe,
}

/// Session directory of one machine, with its mirror.
struct Machine {
    dir: PathBuf,
    mirror: Mirror,
}

impl Bench {
    fn new() -> Self {
        let (place, store) = (tempfile::tempdir().unwrap(), LatencyStore::new(LATENCY));
        Self { place, store, probe: StoreProbe::default() }
    }

    /// Opens the mirror of a machine, whose directory and state survive.
    async fn machine(&self, name: &str) -> Machine {
        let dir = self.place.path().join(name);
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.store) as _;
        let mut capabilities = StoreCapabilities::default();
        capabilities.multipart = Some(Arc::clone(&self.store) as _);
        capabilities.conditional_delete = Some(Arc::new(Deleter(Arc::clone(&self.store))));
        let keys = SessionKeys::at(Key::from("user_1/sessions/s"), Key::from("logs/user_1/s"));
        let mirror = Mirror::builder(&dir, store, keys)
            .state_dir(self.place.path().join(format!("{name}-state")))
            .capabilities(capabilities)
            .probe(self.probe.clone())
            .deadline(Duration::from_secs(600))
            .open()
            .await
            .unwrap();
        Machine { dir, mirror }
    }

    async fn blobs(&self) -> Vec<Key> {
        let prefix = Key::from("logs/user_1/s/blobs");
        let listed: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.location).collect()
    }

    async fn fetch(&self, keys: Vec<Key>) {
        futures::stream::iter(keys)
            .for_each_concurrent(32, async |key| {
                self.store.get(&key).await.unwrap().bytes().await.unwrap();
            })
            .await;
    }

    /// Measures an operation and prints its row. `target` is the time that it should take at most.
    async fn row<T>(&self, what: &str, target: &str, operation: impl Future<Output = T>) -> T {
        self.store.take_requests();
        let started = Instant::now();
        let done = operation.await;
        let elapsed = started.elapsed();
        let requests = self.store.take_requests();
        let (sequential, total) = (requests.sequential, requests.total);
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        println!("| {what} | {sequential} | {total} | {milliseconds:.0} ms | {target} |");
        done
    }
}

async fn sync(machine: &Machine) {
    let report = machine.mirror.sync().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
}

async fn release(machine: &Machine) {
    while !machine.mirror.release_if_idle().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn write(dir: &Path, path: &str, bytes: usize) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, vec![b'x'; bytes]).unwrap();
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let files = if is_test { 20 } else { 1_000 };
    println!("| operation | sequential requests | requests | time | target |");
    println!("|---|---|---|---|---|");

    let bench = Bench::new();
    let here = bench.row("opening a new session", "–", bench.machine("here")).await;
    let dir = &here.dir;
    write(dir, "first", 1);
    bench.row("the first call, with the probe of the store", "–", sync(&here)).await;
    bench.row("a call that changes nothing", "0 requests", sync(&here)).await;
    write(dir, "small", 4 << 10);
    bench.row("a call that changes one small file", "≤ 30 ms", sync(&here)).await;
    write(dir, "larger", 1 << 20);
    bench.row("a call that changes one file of 1 MB", "≤ 50 ms", sync(&here)).await;
    std::fs::remove_file(dir.join("small")).unwrap();
    bench.row("a call that removes one file", "≤ 50 ms", sync(&here)).await;
    here.mirror.flush().await.unwrap();
    release(&here).await;
    write(dir, "small", 4 << 10);
    let what = "the first call after a release, which changes one small file";
    bench.row(what, "1 request more", sync(&here)).await;

    for number in 0..files {
        write(dir, &format!("d/{number}"), 4 << 10);
    }
    bench.row(&format!("a call that creates {files} files"), "–", sync(&here)).await;
    std::fs::rename(dir.join("d"), dir.join("e")).unwrap();
    let what = format!("a call that renames a directory of {files} files");
    bench.row(&what, "≤ 50 ms", sync(&here)).await;
    here.mirror.flush().await.unwrap();

    drop(here);
    let here = bench.row("a warm open, nothing new", "≤ 45 ms", bench.machine("here")).await;
    assert!(here.mirror.opened().restored.is_empty());
    let keys: Vec<Key> = bench.blobs().await;
    let what = format!("fetching {} objects, 32 at once", keys.len());
    bench.row(&what, "–", bench.fetch(keys)).await;
    release(&here).await;
    let what = format!("a cold restore of {} files", files + 3);
    let there = bench.row(&what, "≤ 1.1 × the fetches", bench.machine("there")).await;
    assert_eq!(there.mirror.opened().restored.len(), files + 3);
    bench
        .row(
            "closing, nothing pending",
            "≤ 60 ms and the removal",
            there.mirror.close(CloseMode::KeepPending),
        )
        .await
        .unwrap();
    let again = bench.row("a cold restore after a close", "–", bench.machine("again")).await;
    assert_eq!(again.mirror.opened().restored.len(), files + 3);
}
