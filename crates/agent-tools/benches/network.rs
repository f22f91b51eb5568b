//! Sessions with a network, compared with the same sessions without: their opening, and a command.
//!
//! The runs alternate, so that a disturbance of the machine affects all. Prints a Markdown table of
//! medians, of differences and of ratios with quartiles.

use std::time::{Duration, Instant};

use agent_tools::{Home, NetworkSpec, Session, SessionId, SessionSpec, Sessions, Storage, UserId};

/// A pause in which the session prestarts a shell.
const PAUSE: Duration = Duration::from_millis(8);

fn spec(id: &str) -> SessionSpec {
    SessionSpec::new(SessionId::parse(id).unwrap()).user(UserId::parse("ann").unwrap())
}

fn with_network(id: &str) -> SessionSpec {
    spec(id).network(NetworkSpec::allow(["index.example:443"]))
}

async fn open(sessions: &Sessions, spec: SessionSpec) -> Duration {
    let started = Instant::now();
    let session = sessions.open(spec).await.unwrap();
    let elapsed = started.elapsed();
    session.close().await.unwrap();
    elapsed
}

async fn call(session: &Session) -> Duration {
    tokio::time::sleep(PAUSE).await;
    let started = Instant::now();
    assert_eq!(session.bash("true").await.unwrap().exit_code, 0);
    started.elapsed()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Prints a row. Differences and ratios are those of neighbouring runs.
fn row(label: &str, without: &[Duration], with: &[Duration]) {
    let median =
        |times: &[Duration]| sorted(times.iter().map(Duration::as_secs_f64))[times.len() / 2] * 1e3;
    let pairs = || with.iter().zip(without).map(|(a, b)| (a.as_secs_f64(), b.as_secs_f64()));
    let added = sorted(pairs().map(|(with, without)| (with - without) * 1e3));
    let ratios = sorted(pairs().map(|(with, without)| with / without));
    let part = |part: usize| ratios[ratios.len() * part / 4];
    println!(
        "| {label} | {:.2} ms | {:.2} ms | {:+.2} ms | {:.2} ({:.2}–{:.2}) |",
        median(without),
        median(with),
        added[added.len() / 2],
        part(2),
        part(1),
        part(3)
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { 200 };
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
    let sessions = Sessions::builder(home).storage(Storage::open("memory:///").unwrap()).build();
    // The first session with a network creates the gate.
    open(&sessions, with_network("first")).await;

    println!(
        "| what | without a network | with one | added | ÷ without (quartiles) |\n\
         |---|---|---|---|---|"
    );
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        without.push(open(&sessions, spec(&format!("without-{round}"))).await);
        with.push(open(&sessions, with_network(&format!("with-{round}"))).await);
    }
    row("opening a session", &without, &with);

    let (without, with) = (
        sessions.open(spec("without")).await.unwrap(),
        sessions.open(with_network("with")).await.unwrap(),
    );
    let (mut plain, mut times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(call(&without).await);
        times.push(call(&with).await);
    }
    row("`Session::bash(\"true\")`, after a pause", &plain, &times);
}
