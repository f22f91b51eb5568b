//! A session in which nothing changed, looked at by a mirror and by `find`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use artifact_sync::Mirror;
use criterion::{Criterion, criterion_group, criterion_main};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use sandbox_core::SessionDir;

const FILES: usize = 10_000;
const FILES_A_DIRECTORY: usize = 50;

fn fill(dir: &Path) {
    for number in 0..FILES {
        let parent = dir.join(format!("d{}/e{}", number / 1_000, number / FILES_A_DIRECTORY));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file-{number}.txt")), number.to_string()).unwrap();
    }
}

fn snapshot(criterion: &mut Criterion) {
    let place = tempfile::tempdir().unwrap();
    let dir = Arc::new(SessionDir::create(&place.path().join("session")).unwrap());
    fill(dir.path());
    let mirror = Mirror::builder(Arc::clone(&dir), Arc::new(InMemory::new()), Key::from("prefix"))
        .state_dir(place.path().join("state"))
        .open()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime.block_on(mirror.sync());
    assert_eq!((first.changed.len(), first.pending.len()), (FILES, 0));

    let mut group = criterion.benchmark_group("10,000 files, none changed");
    group.sample_size(30);
    group.bench_function("find -printf", |bench| {
        bench.iter(|| {
            let mut find = Command::new("find");
            find.arg(dir.path()).args(["-printf", "%p %T@\n"]).stdout(Stdio::null());
            assert!(find.status().unwrap().success());
        });
    });
    group.bench_function("sync", |bench| {
        bench.iter(|| {
            let report = runtime.block_on(mirror.sync());
            assert!(report.changed.is_empty());
        });
    });
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
