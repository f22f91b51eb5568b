//! A command that prints 1 GB of which 1 MiB is kept, beside a loop that reads a pipe 64 KiB at a time.

use std::io::Read;
use std::process::{Command, Stdio};

use criterion::{Criterion, criterion_group, criterion_main};
use policy::Policy;
use sandbox_core::{CommandSpec, NativeSandbox, Sandbox, SessionDir};

const PRINT: &str = "head -c 1G /dev/zero";

fn output(criterion: &mut Criterion) {
    // Under `--test` each bench runs once, in a moment.
    let (script, bytes) =
        if std::env::args().any(|arg| arg == "--test") { ("head -c 4M /dev/zero", 4 << 20) } else { (PRINT, 1 << 30) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = SessionDir::create(&root.path().join("s1")).unwrap().path().to_owned();
    let policy = Policy::session(&dir).home("/root".as_ref()).build().unwrap();
    let sandbox = NativeSandbox::open(&policy, &dir).unwrap();

    let mut group = criterion.benchmark_group("1 GB of output");
    group.sample_size(10);
    group.bench_function("session", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let mut spec = CommandSpec::new(script);
            spec.env.push(("PATH".into(), "/usr/bin:/bin".into()));
            spec.max_output_bytes = 1 << 20;
            let ran = sandbox.exec(spec).await.unwrap();
            assert_eq!(ran.stdout.bytes.len() as u64 + ran.stdout.dropped_bytes, bytes);
        });
    });
    group.bench_function("plain loop", |bencher| {
        bencher.iter(|| {
            let mut child = Command::new("/bin/bash").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut pipe = child.stdout.take().unwrap();
            let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
            loop {
                match pipe.read(&mut buffer).unwrap() {
                    0 => break,
                    count => total += count as u64,
                }
            }
            child.wait().unwrap();
            assert_eq!(total, bytes);
        });
    });
    group.finish();
}

criterion_group!(benches, output);
criterion_main!(benches);
