//! The command `bash -c true`, run in turn in every way that this machine supports, so that other
//! load affects them all. Prints a table in Markdown: medians, and ratios to a bare spawn with
//! their quartiles.
//!
//! A second table covers many idle sessions and large output.
//!
//! `SRT_PACKAGE_DIR` names the npm package of srt, and `AGENT_TOOLS_PROGRAM` the command
//! `agent-tools`. A row is left out if its program is absent.

#[path = "side_by_side/library.rs"]
mod library;
#[path = "side_by_side/others.rs"]
mod others;

use std::ffi::OsString;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use library::Library;
use policy::Policy;
use sandbox_core::{CommandSpec, NativeSandbox, NetworkListeners, Sandbox, SessionDir, Tier};
use tokio::process::Command;
use tokio::task::JoinSet;

const LIBRARY: &str = "srt's library, in one node process";
const DENIED_PATHS: usize = 800;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Time in which a session prestarts its next shell.
const PAUSE: Duration = Duration::from_millis(8);

/// Number of concurrent callers.
const CALLERS: usize = 16;
/// Number of commands of each caller.
const CALLS: u32 = 20;

/// One way to run the command.
enum Way {
    /// A new process.
    Spawn(Vec<String>),
    Session,
    SessionAfterPause,
    /// A command right after another one in a session without namespaces.
    Weaker(NativeSandbox),
    /// Opening and closing a session without a command.
    Open,
    /// Opening a session under this policy.
    OpenOnly(Box<Policy>),
    /// Opening the network of a session that is open.
    Network,
    /// A command right after another one in this session.
    Other(NativeSandbox),
    /// The same in a session with a network.
    WithNetwork {
        sandbox: NativeSandbox,
        _listeners: NetworkListeners,
    },
    /// A command in srt's library.
    Library(Box<Library>),
    /// New processes of all callers at the same time.
    SpawnsTogether,
    /// Commands of all callers at the same time, distributed over these sessions.
    SessionsTogether(Arc<[NativeSandbox]>),
}

struct Row {
    name: &'static str,
    way: Way,
    /// Measured only every n-th round, because slow rows would delay the others.
    every: usize,
    times: Vec<Duration>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { 400 };
    let root = tempfile::tempdir().unwrap();
    let dir = SessionDir::create(&root.path().join("s1")).unwrap().path().to_owned();
    let settings = root.path().join("settings.json");
    let policy = Policy::session(&dir).home("/root".as_ref()).build().unwrap();
    std::fs::write(&settings, settings_of_peers(&dir).absolute_config().to_json()).unwrap();

    let open =
        |count| (0..count).map(|_| NativeSandbox::builder(&policy, &dir).open().unwrap()).collect();
    println!("| `bash -c true` | median | ÷ bare spawn (quartiles) |\n|---|---|---|");
    let mut rows = rows(&settings, &policy, &dir).await;
    measure(&mut rows, rounds, &policy, &dir).await;
    print(&rows);
    let mut together = vec![
        row("16 callers, bare spawns: time for each command", Way::SpawnsTogether, 1),
        row("16 callers, a session each", Way::SessionsTogether(open(CALLERS)), 1),
        row("16 callers in one session", Way::SessionsTogether(open(1)), 1),
    ];
    measure(&mut together, rounds / 20 + 1, &policy, &dir).await;
    print(&together);
    drop(together);
    let ballast = vec![1u8; if is_test { 0 } else { 1 << 30 }];
    let mut large = vec![
        row("bare spawn, by a process that holds 1 GB", spawn(&["/bin/bash", "-c", "true"]), 1),
        row("session, at once, in a process that holds 1 GB", Way::Session, 1),
        row("session after a pause, in a process that holds 1 GB", Way::SessionAfterPause, 1),
    ];
    measure(&mut large, rounds / 2 + 1, &policy, &dir).await;
    print(&large);
    black_box(ballast);
    others::print(&policy, &dir, is_test).await;
}

/// Returns the policy of `agent-tools sandbox` and srt: that of a session with srt's package
/// readable. srt runs a program of the package inside the sandbox.
fn settings_of_peers(dir: &Path) -> Policy {
    let policy = Policy::session(dir).home("/root".as_ref());
    match srt_package() {
        Some(package) => policy.allow_read(&package).build().unwrap(),
        None => policy.build().unwrap(),
    }
}

/// Returns the node that runs srt, which needs a newer one than distributions have.
fn node() -> OsString {
    std::env::var_os("NODE22").unwrap_or_else(|| "node".into())
}

fn srt_package() -> Option<PathBuf> {
    std::env::var_os("SRT_PACKAGE_DIR").map(PathBuf::from)
}

fn row(name: &'static str, way: Way, every: usize) -> Row {
    Row { name, way, every, times: Vec::new() }
}

fn spawn(arguments: &[&str]) -> Way {
    Way::Spawn(arguments.iter().map(|argument| (*argument).to_owned()).collect())
}

/// Returns the rows. The first one is the reference of the others.
async fn rows(settings: &Path, policy: &Policy, dir: &Path) -> Vec<Row> {
    let mut rows = vec![
        row("bare spawn", spawn(&["/bin/bash", "-c", "true"]), 1),
        row("session, at once after another command", Way::Session, 1),
        row("session after a pause", Way::SessionAfterPause, 1),
        row("opening and closing a session", Way::Open, 2),
        row("opening a session", Way::OpenOnly(Box::new(policy.clone())), 2),
    ];
    rows.push(row("opening the network of a session", Way::Network, 2));
    let other = NativeSandbox::builder(policy, dir).open().unwrap();
    let listeners = other.open_network(&[]).await.unwrap();
    rows.push(row(
        "session with a network, at once",
        Way::WithNetwork { sandbox: other, _listeners: listeners },
        1,
    ));
    let many = with_denied_paths(dir);
    rows.push(row(
        "opening a session with 800 denied paths",
        Way::OpenOnly(Box::new(many.clone())),
        4,
    ));
    let other = NativeSandbox::builder(&many, dir).open().unwrap();
    rows.push(row("session with 800 denied paths, at once", Way::Other(other), 1));
    if let Ok(weaker) =
        NativeSandbox::builder(policy, dir).tier(Tier::Landlock { accepted: Vec::new() }).open()
    {
        rows.push(row("session without namespaces (Landlock), at once", Way::Weaker(weaker), 1));
    }
    let settings = settings.to_str().unwrap();
    if let Ok(program) = std::env::var("AGENT_TOOLS_PROGRAM") {
        rows.push(row(
            "`agent-tools sandbox`",
            spawn(&[&program, "sandbox", "-s", settings, "-c", "true"]),
            4,
        ));
    }
    if Path::new("/usr/bin/bwrap").exists() {
        let bwrap = [
            "/usr/bin/bwrap",
            "--unshare-all",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ];
        rows.push(row("bwrap", spawn(&[&bwrap[..], &["/bin/bash", "-c", "true"]].concat()), 4));
    }
    if let Some(package) = srt_package() {
        let started = Library::start(&package, settings.as_ref(), dir.parent().unwrap()).await;
        rows.extend(started.map(|library| row(LIBRARY, Way::Library(Box::new(library)), 4)));
        let program = package.join("dist/cli.js");
        rows.push(row(
            "`srt`",
            spawn(&[
                node().to_str().unwrap(),
                program.to_str().unwrap(),
                "-s",
                settings,
                "-c",
                "true",
            ]),
            20,
        ));
    }
    rows
}

/// Returns the policy of a session with denied files beside it.
fn with_denied_paths(dir: &Path) -> Policy {
    let denied = dir.with_file_name("denied");
    std::fs::create_dir(&denied).unwrap();
    (0..DENIED_PATHS)
        .fold(Policy::reference(dir).home("/root".as_ref()), |policy, number| {
            let path = denied.join(number.to_string());
            std::fs::write(&path, "").unwrap();
            policy.deny_read(&path)
        })
        .build()
        .unwrap()
}

async fn measure(rows: &mut [Row], rounds: usize, policy: &Policy, dir: &Path) {
    let sandbox = NativeSandbox::builder(policy, dir).open().unwrap();
    for round in 0..rounds {
        for row in rows.iter_mut().filter(|row| round % row.every == 0) {
            // The session may have prestarted a shell during another row. A first command uses it.
            if matches!(row.way, Way::Session | Way::SessionAfterPause) {
                in_session(&sandbox).await;
            }
            if let Way::Weaker(other)
            | Way::Other(other)
            | Way::WithNetwork { sandbox: other, .. } = &row.way
            {
                in_session(other).await;
            }
            if matches!(row.way, Way::SessionAfterPause) {
                tokio::time::sleep(PAUSE).await;
            }
            let (mut commands, mut opened) = (1, None);
            if matches!(row.way, Way::Network) {
                opened = Some(NativeSandbox::builder(policy, dir).open().unwrap());
            }
            let started = Instant::now();
            match &mut row.way {
                Way::SpawnsTogether => {
                    commands = together(|_| async { bare_spawn().await }).await;
                }
                Way::SessionsTogether(sandboxes) => {
                    let sandboxes = Arc::clone(&*sandboxes);
                    let caller = move |caller| {
                        let sandboxes = Arc::clone(&sandboxes);
                        async move { in_session(&sandboxes[caller % sandboxes.len()]).await }
                    };
                    commands = together(caller).await;
                }
                Way::Spawn(arguments) => {
                    let mut command = Command::new(&arguments[0]);
                    command
                        .args(&arguments[1..])
                        .env_clear()
                        .env("PATH", PATH)
                        .env("HOME", "/nonexistent")
                        // srt does not remove its sockets.
                        .env("TMPDIR", dir.parent().unwrap())
                        .current_dir("/");
                    let output = command.stdin(Stdio::null()).output().await.unwrap();
                    assert!(
                        output.status.success(),
                        "{}: {}",
                        row.name,
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
                Way::Session | Way::SessionAfterPause => in_session(&sandbox).await,
                Way::Weaker(other)
                | Way::Other(other)
                | Way::WithNetwork { sandbox: other, .. } => {
                    in_session(other).await;
                }
                Way::Network => {
                    let listeners = opened.as_ref().map(|opened| opened.open_network(&[]));
                    drop(listeners.unwrap().await.unwrap());
                }
                Way::Library(library) => library.run().await,
                Way::OpenOnly(policy) => {
                    opened = Some(NativeSandbox::builder(policy, dir).open().unwrap());
                }
                Way::Open => NativeSandbox::builder(policy, dir).open().unwrap().close().await,
            }
            row.times.push(started.elapsed() / commands);
            if let Some(opened) = opened {
                opened.close().await;
            }
        }
    }
}

/// Runs the commands of every caller, one after another for each, and returns their total number.
async fn together<F: Future<Output = ()> + Send + 'static>(
    command: impl Fn(usize) -> F + Clone + Send + 'static,
) -> u32 {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let command = command.clone();
        callers.spawn(async move {
            for _ in 0..CALLS {
                command(caller).await;
            }
            CALLS
        });
    }
    callers.join_all().await.into_iter().sum()
}

async fn bare_spawn() {
    let mut bash = Command::new("/bin/bash");
    bash.args(["-c", "true"]).env_clear().env("PATH", PATH).stdin(Stdio::null());
    bash.output().await.unwrap();
}

async fn in_session(sandbox: &NativeSandbox) {
    let mut spec = CommandSpec::new("true");
    spec.env.push(("PATH".into(), PATH.into()));
    sandbox.exec(spec).await.unwrap();
}

fn print(rows: &[Row]) {
    let bare = quantile(&rows[0].times, 0.5).as_secs_f64();
    for row in rows {
        let [low, median, high] =
            [0.25, 0.5, 0.75].map(|at| quantile(&row.times, at).as_secs_f64());
        let ratio = |time: f64| {
            if time / bare < 10.0 {
                format!("{:.2}", time / bare)
            } else {
                format!("{:.0}", time / bare)
            }
        };
        println!(
            "| {} | {:.2} ms | {} ({}–{}) |",
            row.name,
            median * 1e3,
            ratio(median),
            ratio(low),
            ratio(high)
        );
    }
}

fn quantile(times: &[Duration], at: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[((times.len() - 1) as f64 * at).round() as usize]
}
