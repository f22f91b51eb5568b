//! Cost of transfers compared with plain ways to do the same, on a store that takes 20 ms per
//! request and on one in memory. Prints a Markdown table.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{Mirror, SessionKeys};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};

const LATENCY: Duration = Duration::from_millis(20);

fn slow() -> Arc<dyn ObjectStore> {
    let wait = ThrottleConfig {
        wait_put_per_call: LATENCY,
        wait_get_per_call: LATENCY,
        wait_list_per_call: LATENCY,
        wait_delete_per_call: LATENCY,
        ..ThrottleConfig::default()
    };
    Arc::new(ThrottledStore::new(InMemory::new(), wait))
}

async fn mirror(place: &Path, name: &str, store: &Arc<dyn ObjectStore>) -> (PathBuf, Mirror) {
    let dir = place.join(name);
    let keys = SessionKeys::at(Key::from("prefix"), Key::from("log"));
    let mirror = Mirror::builder(&dir, Arc::clone(store), keys)
        .state_dir(place.join(format!("{name}-state")))
        .deadline(Duration::from_secs(600))
        .open()
        .await
        .unwrap();
    (dir, mirror)
}

fn fill(dir: &Path, files: usize, bytes: usize) {
    for number in 0..files {
        let parent = dir.join(format!("d{}", number / 100));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(number.to_string()), vec![(number % 251) as u8; bytes]).unwrap();
    }
}

fn row(what: &str, ours: Duration, other: Option<Duration>) {
    let ratio = other.map_or("–".to_owned(), |other| {
        format!("{:.3}", ours.as_secs_f64() / other.as_secs_f64())
    });
    println!("| {what} | {:.3} s | {ratio} |", ours.as_secs_f64());
}

/// Copies a file by read and write. `std::io::copy` and `cp` may share extents instead.
fn copy(from: &Path, to: &Path) {
    let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        to.write_all(&buffer[..count]).unwrap();
    }
}

/// Returns the processor time that this process has used.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let scale = |number: usize| if is_test { number / 100 + 1 } else { number };
    println!("| what | time | ÷ the plain way |\n|---|---|---|");

    let place = tempfile::tempdir().unwrap();
    let store = slow();
    let (dir, first) = mirror(place.path(), "first", &store).await;
    fill(&dir, scale(200), 4096);
    let started = Instant::now();
    assert!(first.sync().await.unwrap().is_complete());
    row("uploading 200 new files of 4 KB, 20 ms a call", started.elapsed(), None);

    fill(&dir, scale(1_000), 4096);
    assert!(first.sync().await.unwrap().is_complete());
    let listed: Vec<_> = store.list(Some(&Key::from("prefix"))).try_collect().await.unwrap();
    let started = Instant::now();
    for meta in &listed {
        store.get(&meta.location).await.unwrap().bytes().await.unwrap();
    }
    let one_by_one = started.elapsed();
    let started = Instant::now();
    let (_, second) = mirror(place.path(), "second", &store).await;
    assert_eq!(second.opened().restored.len(), listed.len());
    row(
        "restoring 1,000 files of 4 KB, 20 ms a call ÷ fetching one after another",
        started.elapsed(),
        Some(one_by_one),
    );

    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (dir, large) = mirror(place.path(), "large", &store).await;
    std::fs::write(dir.join("large"), vec![7; scale(1 << 30)]).unwrap();
    let before = processor_time();
    assert!(large.sync().await.unwrap().is_complete());
    let ours = processor_time() - before;
    let before = processor_time();
    copy(&dir.join("large"), &place.path().join("copy"));
    let copied = (processor_time() - before).max(Duration::from_millis(1));
    row("uploading 1 GB, processor time ÷ a copy by read and write", ours, Some(copied));
}
