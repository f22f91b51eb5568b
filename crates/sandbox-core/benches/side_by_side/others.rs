//! Measurements beyond one command: many idle sessions, and large output.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use policy::Policy;
use sandbox_core::{CommandSpec, NativeSandbox, Sandbox};

use crate::{in_session, quantile};

const IDLE_SESSIONS: usize = 1000;
/// Time after which the last idle worker has exited and only init is left.
const UNTIL_IDLE: Duration = Duration::from_secs(33);
/// Time in which the kernel removes namespaces in the background.
const UNTIL_RETURNED: Duration = Duration::from_secs(5);
const OUTPUT_ROUNDS: usize = 10;
const WRAPPED_COMMANDS: usize = 20_000;

/// Prints a second table.
pub(crate) async fn print(policy: &Policy, dir: &Path, is_test: bool) {
    println!("\n| what | measured | ÷ the plain way (quartiles) |\n|---|---|---|");
    idle_sessions(policy, dir, if is_test { 10 } else { IDLE_SESSIONS }).await;
    wrapping(policy, dir, if is_test { 20 } else { WRAPPED_COMMANDS });
    output(policy, dir, if is_test { 1 } else { OUTPUT_ROUNDS }).await;
}

async fn idle_sessions(policy: &Policy, dir: &Path, count: usize) {
    let open = || NativeSandbox::builder(policy, dir).open().unwrap();
    let alone = open();
    let mut times = [Vec::new(), Vec::new()];
    let mut opening = Vec::new();
    for _ in 0..count.min(50) {
        in_session(&alone).await;
        times[0].push(timed(in_session(&alone)).await);
        let started = Instant::now();
        let opened = open();
        opening.push(started.elapsed());
        opened.close().await;
    }
    let started = Instant::now();
    let sessions: Vec<_> = (0..count).map(|_| open()).collect();
    let took = started.elapsed();
    tokio::time::sleep(UNTIL_IDLE).await;
    let with_sessions = memory_available_kb();
    for session in sessions.iter().cycle().step_by(7).take(count.min(50)) {
        in_session(session).await;
        times[1].push(timed(in_session(session)).await);
    }
    let plain = quantile(&opening, 0.5).as_secs_f64() * count as f64;
    println!(
        "| {count} idle sessions, opened one after another ÷ {count} times one alone | {:.2} s \
         | {:.2} |",
        took.as_secs_f64(),
        took.as_secs_f64() / plain
    );
    println!(
        "| a command in one of {count} idle sessions ÷ the same in a session alone | {} |",
        compared(&times[1], &times[0], "ms", 1e3)
    );
    for session in sessions {
        session.close().await;
    }
    tokio::time::sleep(UNTIL_RETURNED).await;
    let each_kb = memory_available_kb().saturating_sub(with_sessions) / count as u64;
    println!("| memory of an idle session, in the kernel and outside | {each_kb} KB | – |");
}

/// Measures whether wrapping slows down with the number of commands that were wrapped before.
fn wrapping(policy: &Policy, dir: &Path, count: usize) {
    let sandbox = NativeSandbox::builder(policy, dir).open().unwrap();
    let wrap = |number: usize| {
        let started = Instant::now();
        sandbox.wrap_command(&CommandSpec::new(format!("echo {number}"))).unwrap();
        started.elapsed()
    };
    let times: Vec<_> = (0..count).map(wrap).collect();
    let (first, last) = (&times[count / 20..count / 10], &times[count - count / 20..]);
    println!(
        "| wrapping a command after {count} others ÷ after {} others | {} |",
        count / 10,
        compared(last, first, "µs", 1e6)
    );
}

/// Measures programs that write in pieces: `head` in 8 KB, `dd` in 1 MB.
async fn output(policy: &Policy, dir: &Path, rounds: usize) {
    let count = if rounds == 1 { 4 } else { 1024 };
    for (size, script) in [
        ("8 KB", format!("head -c {count}M /dev/zero")),
        ("1 MB", format!("dd if=/dev/zero bs=1M count={count} status=none")),
    ] {
        let sandbox = NativeSandbox::builder(policy, dir).open().unwrap();
        let (mut session, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut spec = CommandSpec::new(&script);
            spec.env.push(("PATH".into(), crate::PATH.into()));
            spec.max_output_bytes = 1 << 20;
            let started = Instant::now();
            let ran = sandbox.exec(spec).await.unwrap();
            session.push(started.elapsed());
            assert_eq!(ran.stdout.bytes.len() as u64 + ran.stdout.dropped_bytes, count << 20);
            let started = Instant::now();
            assert_eq!(read_plainly(&script), count << 20);
            plain.push(started.elapsed());
        }
        println!(
            "| a command that prints 1 GB in pieces of {size}, 1 MiB kept ÷ a loop that reads a \
             pipe 64 KiB at a time | {} |",
            compared(&session, &plain, "s", 1.0)
        );
    }
}

fn read_plainly(script: &str) -> u64 {
    let mut child =
        Command::new("/bin/bash").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
    loop {
        match pipe.read(&mut buffer).unwrap() {
            0 => break,
            count => total += count as u64,
        }
    }
    child.wait().unwrap();
    total
}

async fn timed(command: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    command.await;
    started.elapsed()
}

/// Returns the median, and its ratio to that of `plain` with the quartiles.
fn compared(times: &[Duration], plain: &[Duration], unit: &str, factor: f64) -> String {
    let plain = quantile(plain, 0.5).as_secs_f64();
    let [low, median, high] = [0.25, 0.5, 0.75].map(|at| quantile(times, at).as_secs_f64());
    format!(
        "{:.2} {unit} | {:.2} ({:.2}–{:.2})",
        median * factor,
        median / plain,
        low / plain,
        high / plain
    )
}

/// Returns the available memory (`proc_meminfo(5)`).
fn memory_available_kb() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
