//! Time of installations: `cargo bench -p skill-store --bench install`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox_core::SessionDir;
use skill_store::{Digest, PublishOptions, SkillCache, SkillStore};
use testkit::LatencyStore;

const FILES: usize = 100;
const FILE_BYTES: usize = 4 * 1024;
const ROUNDS: usize = 21;
const LATENCY: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("SKILL.md"), "---\nname: a\ndescription: b\n---\n").unwrap();
    for number in 1..FILES {
        let content = format!("{number:08}").repeat(FILE_BYTES / 8);
        std::fs::write(source.join(format!("f{number}")), content).unwrap();
    }
    let fast: Arc<dyn ObjectStore> = LatencyStore::new(Duration::ZERO);
    let slow: Arc<dyn ObjectStore> = LatencyStore::new(LATENCY);
    for store in [&fast, &slow] {
        let skills = SkillStore::new(Arc::clone(store), Key::default());
        skills.publish(&source, &PublishOptions::default()).await.unwrap();
    }
    let cached = |store: &Arc<dyn ObjectStore>, cache: &Path| {
        SkillStore::new(Arc::clone(store), Key::default()).with_cache(SkillCache::new(cache))
    };
    let warm = cached(&fast, &root.path().join("warm"));
    install(&warm, &root.path().join("first")).await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        times.push(install(&warm, &root.path().join(format!("warm{round}"))).await);
    }
    println!("warm installation of {FILES} files in a new session: {:?}", median(times));

    let dir = Arc::new(SessionDir::create(&root.path().join("again")).unwrap());
    let state = root.path().join("again-state");
    let skill = "a@1".parse().unwrap();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        warm.install(&skill, &dir, &state).await.unwrap();
        times.push(begun.elapsed());
    }
    println!("the same session again: {:?}", median(times));

    let begun = Instant::now();
    for number in 1..FILES {
        let key = Key::from(format!("skills/a/v1/f{number}"));
        slow.get(&key).await.unwrap().bytes().await.unwrap();
    }
    let sequential = begun.elapsed();
    let mut times = Vec::new();
    for round in 0..5 {
        let cold = cached(&slow, &root.path().join(format!("cache{round}")));
        times.push(install(&cold, &root.path().join(format!("cold{round}"))).await);
    }
    let cold = median(times);
    let ratio = cold.as_secs_f64() / sequential.as_secs_f64();
    println!("cold at {LATENCY:?}: {cold:?}, one after another {sequential:?}, ratio {ratio:.3}");

    let content = vec![7_u8; 64 << 20];
    let begun = Instant::now();
    std::hint::black_box(Digest::of(&content));
    let rate = content.len() as f64 / begun.elapsed().as_secs_f64() / 1e9;
    println!("verification: {rate:.2} GB/s");
}

async fn install(skills: &SkillStore, root: &Path) -> Duration {
    let dir = Arc::new(SessionDir::create(&root.join("session")).unwrap());
    let skill = "a@1".parse().unwrap();
    let begun = Instant::now();
    skills.install(&skill, &dir, &root.join("state")).await.unwrap();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
