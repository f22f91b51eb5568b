//! Processes with streams and tools over MCP, compared with plain processes: their first byte, a
//! large output through the command `agent-tools bash`, and that command itself.
//!
//! The runs alternate, so that a disturbance of the machine affects both. Prints a Markdown table
//! of medians, and of ratios with quartiles.

#[path = "streams/mcp.rs"]
mod mcp;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_tools::{Home, Session, SessionId, SessionSpec, Sessions, Spawn, Storage, UserId};
use mcp::{Node, Server};
use serde_json::json;
use tokio::io::AsyncReadExt;

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent-tools");
const GIB: &str = "1G";
/// A pause like that between the calls of a model, in which the session prestarts a shell.
const PAUSE: Duration = Duration::from_millis(8);

fn median(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints a row. The ratios are those of neighbouring runs.
fn row(label: &str, times: &[Duration], plain: Option<&[Duration]>) {
    let ratio = plain.map_or_else(
        || "–".to_owned(),
        |plain| {
            let mut ratios: Vec<f64> = times
                .iter()
                .zip(plain)
                .map(|(time, plain)| time.as_secs_f64() / plain.as_secs_f64())
                .collect();
            ratios.sort_by(f64::total_cmp);
            let part = |part: usize| ratios[ratios.len() * part / 4];
            format!("{:.2} ({:.2}–{:.2})", part(2), part(1), part(3))
        },
    );
    println!("| {label} | {:.2} ms | {ratio} |", median(times) * 1e3);
}

/// Time until a plain process has printed its first byte.
async fn bare() -> Duration {
    let started = Instant::now();
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", "echo x"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_u8().await.unwrap();
    let elapsed = started.elapsed();
    child.wait().await.unwrap();
    elapsed
}

/// The same for a process of a session.
async fn spawned(session: &Session) -> Duration {
    let started = Instant::now();
    let mut process = session.spawn(Spawn::command("echo x")).await.unwrap();
    process.take_stdout().unwrap().read_u8().await.unwrap();
    let elapsed = started.elapsed();
    process.wait().await.unwrap();
    elapsed
}

/// Time for a pipeline of the shell.
fn pipeline(script: &str, home: &Path) -> Duration {
    timed(Command::new("bash").args(["-c", script]).env("AGENT_TOOLS_HOME", home))
}

/// Time for a process without input.
fn timed(command: &mut Command) -> Duration {
    let started = Instant::now();
    assert!(command.stdin(Stdio::null()).status().unwrap().success(), "{command:?}");
    started.elapsed()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, large_rounds) = if is_test { (1, 1) } else { (200, 10) };
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap().join("home");
    let storage = Storage::open("memory:///").unwrap();
    let sessions = Sessions::builder(Home::new(&home)).storage(storage).build();
    let id = SessionId::parse("streams").unwrap();
    let spec = SessionSpec::new(id).user(UserId::parse("ann").unwrap());
    let session = sessions.open(spec).await.unwrap();

    println!("| what | median | ÷ the plain way (quartiles) |\n|---|---|---|");
    let (mut plain, mut times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(bare().await);
        times.push(spawned(&session).await);
    }
    row("bare spawn of `bash -c`, to its first byte", &plain, None);
    row("`Session::spawn`, to its first byte", &times, Some(&plain));
    drop((session, sessions));

    let source = format!("head -c {GIB} /dev/zero");
    let (mut plain, mut times) = (Vec::new(), Vec::new());
    for _ in 0..large_rounds {
        plain.push(pipeline(&format!("{source} | cat | cat > /dev/null"), &home));
        times.push(pipeline(&format!("{PROGRAM} bash '{source}' | cat > /dev/null"), &home));
    }
    row("1 GiB from a program through `cat` and a pipe", &plain, None);
    row("1 GiB through `agent-tools bash` and a pipe", &times, Some(&plain));

    let (mut plain, mut times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(timed(Command::new("bash").args(["-c", "true"])));
        let mut command = Command::new(PROGRAM);
        times.push(timed(command.args(["bash", "true"]).env("AGENT_TOOLS_HOME", &home)));
    }
    row("bare spawn of `bash -c true`", &plain, None);
    row("`agent-tools bash true`, a new process each time", &times, Some(&plain));
    tools_over_mcp(&home, rounds);
}

/// Prints the rows of tools over MCP. The calls of a model come one after another, with pauses.
fn tools_over_mcp(home: &Path, rounds: usize) {
    let mut server = Server::start(PROGRAM, home);
    server.call("writeFile", &json!({ "path": "small.txt", "content": "x".repeat(1024) }));
    let Some(mut node) = Node::start() else {
        println!("| without node, tools over MCP are not measured | – | – |");
        return;
    };
    let (mut plain, mut bash, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(node.spawn());
        std::thread::sleep(PAUSE);
        bash.push(server.call("bash", &json!({ "command": "true" })));
        std::thread::sleep(PAUSE);
        read.push(server.call("readFile", &json!({ "path": "small.txt" })));
    }
    row("bare spawn of `bash -c true` by node", &plain, None);
    row("`bash true` over MCP", &bash, Some(&plain));
    row("`readFile` of 1 KiB over MCP", &read, Some(&plain));
}
