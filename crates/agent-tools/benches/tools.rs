//! Opening a session, and its file tools, without a store; also through the socket by which another
//! `Sessions` uses the session.

use agent_tools::{Home, SessionId, SessionSpec, Sessions};
use criterion::{Criterion, criterion_group, criterion_main};

fn tools(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let spec = SessionSpec::new(SessionId::parse("bench").unwrap());
    criterion.bench_function("open and drop", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            Sessions::builder(home.clone()).build().open(spec.clone()).await.unwrap()
        });
    });

    let sessions = Sessions::builder(home.clone()).build();
    let session = runtime.block_on(sessions.open(spec.clone())).unwrap();
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

    criterion.bench_function("open and drop, as a client", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            Sessions::builder(home.clone()).build().open(spec.clone()).await.unwrap()
        });
    });
    let clients = Sessions::builder(home).build();
    let client = runtime.block_on(clients.open(spec)).unwrap();
    assert!(client.is_served_elsewhere());
    criterion.bench_function("readFile, 1 KiB, as a client", |bencher| {
        bencher.to_async(&runtime).iter(|| async { client.read_file("read.txt").await.unwrap() });
    });
    for (name, session) in [("bash true", &session), ("bash true, as a client", &client)] {
        criterion.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async { session.bash("true").await.unwrap() });
        });
    }
}

criterion_group!(benches, tools);
criterion_main!(benches);
