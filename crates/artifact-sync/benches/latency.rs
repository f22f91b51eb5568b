//! Time of operations on a store that takes 20 ms per request, with their requests. Prints a
//! Markdown table.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{Mirror, StoreCapabilities};
use object_store::ObjectStore;
use object_store::path::Path as Key;
use sandbox_core::SessionDir;
use testkit::LatencyStore;

const LATENCY: Duration = Duration::from_millis(20);

/// Machines that share one slow store.
struct Bench {
    place: tempfile::TempDir,
    store: Arc<LatencyStore>,
}

/// Session directory of one machine, with its mirror.
struct Machine {
    dir: Arc<SessionDir>,
    mirror: Mirror,
}

impl Bench {
    fn new() -> Self {
        let (place, store) = (tempfile::tempdir().unwrap(), LatencyStore::new(LATENCY));
        Self { place, store }
    }

    /// Opens the mirror of a machine, whose directory and state survive.
    fn machine(&self, name: &str) -> Machine {
        let dir = Arc::new(SessionDir::create(&self.place.path().join(name)).unwrap());
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.store) as _;
        let mut capabilities = StoreCapabilities::default();
        capabilities.multipart = Some(Arc::clone(&self.store) as _);
        let mirror = Mirror::builder(Arc::clone(&dir), store, Key::from("user_1/sessions/s"))
            .state_dir(self.place.path().join(format!("{name}-state")))
            .capabilities(capabilities)
            .deadline(Duration::from_secs(600))
            .open()
            .unwrap();
        Machine { dir, mirror }
    }

    /// Measures an operation and prints its row.
    async fn row<T>(&self, what: &str, operation: impl Future<Output = T>) -> T {
        self.store.take_requests();
        let started = Instant::now();
        let done = operation.await;
        let elapsed = started.elapsed();
        let requests = self.store.take_requests();
        let (sequential, total) = (requests.sequential, requests.total);
        println!("| {what} | {sequential} | {total} | {:.0} ms |", elapsed.as_secs_f64() * 1e3);
        done
    }
}

async fn sync(machine: &Machine) {
    let report = machine.mirror.sync().await;
    assert!(report.pending.is_empty(), "{report:?}");
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
    println!("| operation | sequential requests | requests | time |\n|---|---|---|---|");

    let bench = Bench::new();
    let here = bench.machine("here");
    let dir = here.dir.path();
    write(dir, "first", 1);
    bench.row("the first call, with one small file", sync(&here)).await;
    bench.row("a call that changes nothing", sync(&here)).await;
    write(dir, "small", 4 << 10);
    bench.row("a call that changes one small file", sync(&here)).await;
    write(dir, "larger", 1 << 20);
    bench.row("a call that changes one file of 1 MB", sync(&here)).await;
    std::fs::remove_file(dir.join("small")).unwrap();
    bench.row("a call that removes one file", sync(&here)).await;

    for number in 0..files {
        write(dir, &format!("d/{number}"), 4 << 10);
    }
    bench.row(&format!("a call that creates {files} files"), sync(&here)).await;
    std::fs::rename(dir.join("d"), dir.join("e")).unwrap();
    bench.row(&format!("a call that renames a directory of {files} files"), sync(&here)).await;

    drop(here);
    let here = bench.machine("here");
    let restored = bench.row("a warm open, nothing new", here.mirror.restore()).await.unwrap();
    assert!(restored.restored.is_empty(), "{restored:?}");
    let there = bench.machine("there");
    let what = format!("a cold restore of {} files", files + 2);
    let restored = bench.row(&what, there.mirror.restore()).await.unwrap();
    assert_eq!(restored.restored.len(), files + 2);
}
