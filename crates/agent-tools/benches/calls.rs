//! A whole call of `bash` in a session with many files and in one with none, in turn, so that what
//! disturbs the machine disturbs both. Prints a table in Markdown: medians, and ratios to the empty
//! session with their quartiles.

use std::time::{Duration, Instant};

use agent_tools::{Home, Session, SessionId, SessionSpec, Sessions, Storage, UserId};

/// Long enough for a session to start its next shell ahead, as between the calls of a model.
const PAUSE: Duration = Duration::from_millis(8);
const FILES_A_DIRECTORY: usize = 50;

async fn call(session: &Session, pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    let started = Instant::now();
    let output = session.bash("true").await.unwrap();
    let took = started.elapsed();
    assert!(output.exit_code == 0 && output.artifacts.is_empty() && output.pending.is_empty());
    took
}

fn row(what: &str, times: &[Duration], beside: &[Duration]) {
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let seconds = |times: &[Duration]| sorted(times.iter().map(Duration::as_secs_f64).collect());
    let (times, median) = (seconds(times), seconds(beside)[beside.len() / 2]);
    let ratio = |part: usize| times[times.len() * part / 4] / median;
    println!(
        "| {what} | {:.3} ms | {:.2} ({:.2}–{:.2}) |",
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
    let place = tempfile::tempdir().unwrap();
    let home = Home::new(place.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home).storage(Storage::open("memory:///").unwrap()).build();
    let open = async |id: &str| {
        let spec =
            SessionSpec::new(SessionId::parse(id).unwrap()).user(UserId::parse("ann").unwrap());
        sessions.open(spec).await.unwrap()
    };
    let (empty, full) = (open("empty").await, open("full").await);
    for number in 0..files {
        let parent =
            full.dir().join(format!("d{}/e{}", number / 1_000, number / FILES_A_DIRECTORY));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("file-{number}.txt")), number.to_string()).unwrap();
    }
    // Stores all of them, then sees that they are stored.
    while !full.bash("true").await.unwrap().artifacts.is_empty() {}

    println!("| `Session::bash(\"true\")` | median | ÷ empty session (quartiles) |\n|---|---|---|");
    for (when, pause) in [("at once", Duration::ZERO), ("after a pause", PAUSE)] {
        let (mut beside, mut times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            beside.push(call(&empty, pause).await);
            times.push(call(&full, pause).await);
        }
        row(&format!("empty session, {when}"), &beside, &beside);
        row(&format!("session with 10,000 files, {when}"), &times, &beside);
    }
}
