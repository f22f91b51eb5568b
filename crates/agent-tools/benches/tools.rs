//! The file tools of a session without a store.

use agent_tools::{Home, SessionId, SessionSpec, Sessions};
use criterion::{Criterion, criterion_group, criterion_main};

fn tools(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home).build();
    let spec = SessionSpec::new(SessionId::parse("bench").unwrap());
    let session = runtime.block_on(sessions.open(spec)).unwrap();
    let content = "x".repeat(1024);
    runtime.block_on(session.write_file("read.txt", content.as_bytes())).unwrap();

    criterion.bench_function("readFile, 1 KiB", |bencher| {
        bencher.to_async(&runtime).iter(|| async { session.read_file("read.txt").await.unwrap() });
    });
    criterion.bench_function("writeFile, 1 KiB", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            session.write_file("written.txt", content.as_bytes()).await.unwrap()
        });
    });
}

criterion_group!(benches, tools);
criterion_main!(benches);
