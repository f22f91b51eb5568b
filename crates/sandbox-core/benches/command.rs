//! `bash -c true` in an open session compared with a bare spawn, in a small and a large host
//! process, without and with a pause before it.

use std::hint::black_box;
use std::process::Stdio;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use policy::Policy;
use sandbox_core::{CommandSpec, NativeSandbox, Sandbox, SessionDir};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn command(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = SessionDir::create(&root.path().join("s1")).unwrap().path().to_owned();
    let policy = Policy::session(&dir).home("/root".as_ref()).build().unwrap();
    let sandbox = NativeSandbox::builder(&policy, &dir).open().unwrap();

    for (size, resident_bytes) in [("small host", 0usize), ("1 GB resident", 1 << 30)] {
        // With `--test`, each bench runs once and does not need the gigabyte.
        let resident_bytes =
            if std::env::args().any(|arg| arg == "--test") { 0 } else { resident_bytes };
        let ballast = vec![1u8; resident_bytes];
        let mut group = criterion.benchmark_group(format!("bash true, {size}"));
        group.bench_function("session", |bencher| {
            bencher.to_async(&runtime).iter(|| in_session(&sandbox));
        });
        group.bench_function("bare spawn", |bencher| bencher.to_async(&runtime).iter(bare_spawn));
        group.bench_function("session, after a pause", |bencher| {
            bencher
                .to_async(&runtime)
                .iter_custom(async |rounds| after_pauses(rounds, || in_session(&sandbox)).await);
        });
        group.bench_function("bare spawn, after a pause", |bencher| {
            bencher
                .to_async(&runtime)
                .iter_custom(async |rounds| after_pauses(rounds, bare_spawn).await);
        });
        group.finish();
        black_box(ballast);
    }

    criterion.bench_function("open and close a session", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let sandbox = NativeSandbox::builder(&policy, &dir).open().unwrap();
            sandbox.close().await;
        });
    });
}

async fn in_session(sandbox: &NativeSandbox) {
    let mut spec = CommandSpec::new("true");
    spec.env.push(("PATH".into(), PATH.into()));
    sandbox.exec(spec).await.unwrap();
}

async fn bare_spawn() {
    let mut bash = tokio::process::Command::new("/bin/bash");
    bash.args(["-c", "true"]).env_clear().env("PATH", PATH).stdin(Stdio::null());
    bash.output().await.unwrap();
}

/// Returns the duration of the rounds without the pauses, in which a session prestarts a shell.
async fn after_pauses<F: Future<Output = ()>>(rounds: u64, run: impl Fn() -> F) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(8)).await;
        let started = Instant::now();
        run().await;
        total += started.elapsed();
    }
    total
}

criterion_group!(benches, command);
criterion_main!(benches);
