//! A call of `bash` in a session with many files, compared with an empty session.
//!
//! The calls alternate, so that a disturbance of the machine affects both. Prints a Markdown table
//! of medians, and of ratios to the empty session with quartiles.

use std::time::{Duration, Instant};

use agent_tools::{Home, Session, SessionId, SessionSpec, Sessions, Storage, UserId};

/// A pause like that between the calls of a model, in which the session prestarts a shell.
const PAUSE: Duration = Duration::from_millis(8);
const FILES_PER_DIRECTORY: usize = 50;

async fn call(session: &Session, pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    let started = Instant::now();
    let output = session.bash("true").await.unwrap();
    let elapsed = started.elapsed();
    assert!(output.exit_code == 0 && output.artifacts.is_empty() && output.pending.is_empty());
    elapsed
}

fn row(label: &str, times: &[Duration], baseline: &[Duration]) {
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let seconds = |times: &[Duration]| sorted(times.iter().map(Duration::as_secs_f64).collect());
    let (times, median) = (seconds(times), seconds(baseline)[baseline.len() / 2]);
    let ratio = |part: usize| times[times.len() * part / 4] / median;
    println!(
        "| {label} | {:.3} ms | {:.2} ({:.2}–{:.2}) |",
        times[times.len() / 2] * 1e3,
        ratio(2),
        ratio(1),
        ratio(3)
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, files) = if is_test { (1, 100) } else { (300, 10_000) };
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home).storage(Storage::open("memory:///").unwrap()).build();
    let open = async |id: &str| {
        let spec =
            SessionSpec::new(SessionId::parse(id).unwrap()).user(UserId::parse("ann").unwrap());
        sessions.open(spec).await.unwrap()
    };
    let (empty, full) = (open("empty").await, open("full").await);
    for number in 0..files {
        let parent =
            full.dir().join(format!("d{}/e{}", number / 1_000, number / FILES_PER_DIRECTORY));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file-{number}.txt")), number.to_string()).unwrap();
    }
    // Waits until all files are stored.
    while !full.bash("true").await.unwrap().artifacts.is_empty() {}

    println!("| `Session::bash(\"true\")` | median | ÷ empty session (quartiles) |\n|---|---|---|");
    for (when, pause) in [("at once", Duration::ZERO), ("after a pause", PAUSE)] {
        let (mut baseline, mut times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            baseline.push(call(&empty, pause).await);
            times.push(call(&full, pause).await);
        }
        row(&format!("empty session, {when}"), &baseline, &baseline);
        row(&format!("session with 10,000 files, {when}"), &times, &baseline);
    }
}
