//! Cost of finding changes, by events and by walks, compared with plain ways to do the same. Prints
//! a Markdown table of medians and their ratios.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{ChangeSource, ChangeSourceReport, Mirror, SessionKeys};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use tokio::runtime::Runtime;

const FILES_A_DIRECTORY: usize = 50;

/// Two sequential walks, as the reference performs around each command. Prints the milliseconds
/// without the start of the program.
const NODE: &str = r#"
const { readdir, stat } = require("node:fs/promises");
const seen = async (directory, found = new Map()) => {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory()) await seen(path, found);
    else found.set(path, (await stat(path)).mtimeMs);
  }
  return found;
};
(async () => {
  const started = performance.now();
  const before = await seen(process.argv[1]);
  const after = await seen(process.argv[1]);
  for (const [path, time] of after) if (before.get(path) !== time) console.error(path);
  console.log(performance.now() - started);
})();
"#;

/// Directory with stored files, and its mirror.
struct Session {
    dir: PathBuf,
    mirror: Mirror,
}

impl Session {
    fn with(runtime: &Runtime, place: &Path, name: &str, files: usize) -> Self {
        let dir = place.join(name);
        for number in 0..files {
            let parent = dir.join(format!("d{}/e{}", number / 1_000, number / FILES_A_DIRECTORY));
            std::fs::create_dir_all(&parent).unwrap();
            std::fs::write(parent.join(format!("file-{number}.txt")), number.to_string()).unwrap();
        }
        Self::of(runtime, dir, &place.join(format!("{name}-state")), ChangeSource::Events)
    }

    fn of(runtime: &Runtime, dir: PathBuf, state: &Path, source: ChangeSource) -> Self {
        let keys = SessionKeys::at(Key::from("prefix"), Key::from("log"));
        std::fs::create_dir_all(&dir).unwrap();
        let mirror = Mirror::builder(&dir, Arc::new(InMemory::new()), keys)
            .state_dir(state.to_owned())
            .deadline(Duration::from_secs(600))
            .change_source(source);
        let session = Self { dir, mirror: runtime.block_on(mirror.open()).unwrap() };
        assert!(runtime.block_on(session.mirror.sync()).unwrap().is_complete());
        let has_events =
            matches!(session.mirror.change_source(), ChangeSourceReport::Events { .. });
        assert_eq!(has_events, source == ChangeSource::Events);
        session
    }

    /// Measures a call that finds nothing.
    fn idle(&self, runtime: &Runtime) -> Duration {
        let started = Instant::now();
        let report = runtime.block_on(self.mirror.sync()).unwrap();
        assert!(report.changed.is_empty() && report.deleted.is_empty());
        started.elapsed()
    }

    /// Measures a scan that finds some changed files.
    fn changed(&self, runtime: &Runtime, files: usize) -> Duration {
        for number in 0..files {
            let path = self.dir.join(format!("d0/e{number}"));
            let changed = path.join(format!("file-{}.txt", number * FILES_A_DIRECTORY));
            if path.exists() {
                let content = std::fs::read_to_string(&changed).unwrap();
                std::fs::write(changed, content + "x").unwrap();
            }
        }
        let started = Instant::now();
        self.mirror.pending();
        let took = started.elapsed();
        runtime.block_on(self.mirror.sync()).unwrap();
        took
    }
}

fn find(dir: &Path) -> Duration {
    let started = Instant::now();
    let status =
        Command::new("find").arg(dir).args(["-printf", "%p %T@\n"]).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    started.elapsed()
}

/// Runs the two walks. Returns `None` if node is not installed.
fn node(dir: &Path) -> Option<Duration> {
    let output = Command::new("node").args(["-e", NODE]).arg(dir).output().ok()?;
    let milliseconds: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    Some(Duration::from_secs_f64(milliseconds / 1e3))
}

/// Returns the medians of two alternatives. They run in turn, so that a disturbance of the machine
/// affects both.
fn medians(rounds: usize, mut alternatives: [&mut dyn FnMut() -> Duration; 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (alternative, times) in alternatives.iter_mut().zip(&mut times) {
            times.push(alternative());
        }
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    })
}

fn row(what: &str, [ours, other]: [Duration; 2]) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let ratio = ours.as_secs_f64() / other.as_secs_f64();
    let ratio = if ratio < 0.01 { format!("{ratio:.5}") } else { format!("{ratio:.3}") };
    println!("| {what} | {:.3} ms | {:.3} ms | {ratio} |", milliseconds(ours), milliseconds(other));
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let scale = |number: usize| if is_test { number / 100 + 1 } else { number };
    let runtime = Runtime::new().unwrap();
    let place = tempfile::tempdir().unwrap();
    println!("| what | time | beside | ratio |\n|---|---|---|---|");

    let empty = Session::with(&runtime, place.path(), "empty", 0);
    let some = Session::with(&runtime, place.path(), "some", scale(10_000));
    let medians_of_idle =
        medians(scale(1_000), [&mut || some.idle(&runtime), &mut || empty.idle(&runtime)]);
    row("a call that finds nothing, 10,000 files ÷ an empty directory", medians_of_idle);
    if node(&some.dir).is_some() {
        let mut walks = || node(&some.dir).unwrap();
        let medians = medians(scale(7), [&mut || some.changed(&runtime, 3), &mut walks]);
        row(
            "finding 3 changes among 10,000 files ÷ two walks of node, one file after another",
            medians,
        );
    }

    let many = Session::with(&runtime, place.path(), "many", scale(100_000));
    let by_events = medians(scale(9), [&mut || many.idle(&runtime), &mut || find(&many.dir)]);
    row("finding nothing among 100,000 files, by events ÷ `find -printf`", by_events);
    let dir = many.dir.clone();
    drop(many);
    let walking =
        Session::of(&runtime, dir, &place.path().join("walking-state"), ChangeSource::Walks);
    let by_walks = medians(scale(9), [&mut || walking.idle(&runtime), &mut || find(&walking.dir)]);
    row("finding nothing among 100,000 files, by a walk ÷ `find -printf`", by_walks);
}
