//! Memory of large sessions, and bytes in the store for each byte of a session's files. Prints a
//! Markdown table.
//!
//! Each row runs in its own process, so that none affects the memory of another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use artifact_sync::{Durability, GarbageOptions, Mirror, SessionKeys, open_directory};
use object_store::path::Path as Key;

/// Row of the table.
struct Row {
    what: &'static str,
    measure: fn(&Fixture) -> String,
}

const ROWS: [Row; 7] = [
    Row { what: "memory to store a file of 5 GiB", measure: memory_of_a_large_file },
    Row { what: "memory to store 100,000 files of 1 KB", measure: memory_of_many_files },
    Row { what: "memory to restore them on another machine", measure: memory_of_a_restore },
    Row {
        what: "bytes stored ÷ bytes of 1,000 files of 4 KB",
        measure: |fixture| stored(fixture, &[(1_000, 4 << 10)], 1, true),
    },
    Row {
        what: "bytes stored ÷ bytes of 50 files of 1 MB",
        measure: |fixture| stored(fixture, &[(50, 1 << 20)], 1, true),
    },
    Row {
        what: "the same without the projection",
        measure: |fixture| stored(fixture, &[(50, 1 << 20)], 1, false),
    },
    Row {
        what: "the same of 100 files of 4 KB and 5 of 1 MB that changed 10 times, a day later",
        measure: |fixture| stored(fixture, &[(100, 4 << 10), (5, 1 << 20)], 11, true),
    },
];

/// Fixture of a machine and its store.
struct Fixture {
    dir: tempfile::TempDir,
    /// Divisor of all sizes, so that a test of the benchmark is fast.
    divisor: u64,
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self, machine: &str, has_projection: bool) -> Mirror {
        let store = open_directory(&self.path("store")).unwrap();
        let keys = SessionKeys::at(Key::from("user_1/sessions/s"), Key::from("logs/user_1/s"));
        let mirror = Mirror::builder(self.path(machine), store.store, keys)
            .capabilities(store.capabilities)
            .state_dir(self.path(&format!("{machine}-state")))
            .durability(Durability::Memory)
            .deadline(Duration::from_secs(3_600));
        let mirror = if has_projection { mirror } else { mirror.without_projection() };
        mirror.open().await.unwrap()
    }

    fn fill(&self, files: u64, bytes: u64, seed: u64) {
        for number in 0..files {
            let dir = self.path("a").join(format!("{bytes}/{}", number / 100));
            std::fs::create_dir_all(&dir).unwrap();
            let mut content = vec![b'x'; bytes as usize];
            let stamp = format!("{number} {seed}");
            content[..stamp.len()].copy_from_slice(stamp.as_bytes());
            std::fs::write(dir.join(number.to_string()), content).unwrap();
        }
    }
}

async fn sync(mirror: &Mirror) {
    let report = mirror.flush().await.unwrap();
    assert!(report.is_complete(), "{:?}", report.pending.first());
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn memory_of_a_large_file(fixture: &Fixture) -> String {
    block_on(async {
        let mirror = fixture.open("a", true).await;
        // A sparse file takes no disk space itself.
        let file = std::fs::File::create(fixture.path("a/large")).unwrap();
        file.set_len((5 << 30) / fixture.divisor).unwrap();
        sync(&mirror).await;
        peak()
    })
}

fn memory_of_many_files(fixture: &Fixture) -> String {
    block_on(async {
        let mirror = fixture.open("a", true).await;
        fixture.fill(100_000 / fixture.divisor, 1_000, 0);
        sync(&mirror).await;
        peak()
    })
}

fn memory_of_a_restore(fixture: &Fixture) -> String {
    // The other machine is a process of its own.
    let machine = std::env::args().nth(4);
    if let Some(dir) = machine {
        return block_on(async {
            let store = open_directory(&Path::new(&dir).join("store")).unwrap();
            let keys = SessionKeys::at(Key::from("user_1/sessions/s"), Key::from("logs/user_1/s"));
            let mirror = Mirror::builder(fixture.path("b"), store.store, keys)
                .capabilities(store.capabilities)
                .state_dir(fixture.path("b-state"))
                .durability(Durability::Memory)
                .open()
                .await
                .unwrap();
            assert_eq!(mirror.opened().restored.len() as u64, 100_000 / fixture.divisor);
            peak()
        });
    }
    block_on(async {
        let mirror = fixture.open("a", true).await;
        fixture.fill(100_000 / fixture.divisor, 1_000, 0);
        sync(&mirror).await;
        mirror.drain(Duration::ZERO).await.unwrap();
    });
    let mut child = row(2, fixture.divisor);
    let output = child.arg(fixture.dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Stores files several times, collects the garbage, and returns the bytes in the store for each
/// byte of the files.
fn stored(fixture: &Fixture, files: &[(u64, u64)], rounds: u64, has_projection: bool) -> String {
    block_on(async {
        let mirror = fixture.open("a", has_projection).await;
        for round in 0..rounds {
            for (count, bytes) in files {
                fixture.fill(*count, *bytes, round);
            }
            sync(&mirror).await;
        }
        // A second collection removes the entries before the snapshot of the first one.
        for _ in 0..2 {
            age(&fixture.path("store"));
            mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
        }
        let live: u64 = files.iter().map(|(count, bytes)| count * bytes).sum();
        format!("{:.2}", bytes_below(&fixture.path("store")) as f64 / live as f64)
    })
}

/// Makes everything in the store older than the retention time.
fn age(dir: &Path) {
    let before = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => age(&entry.path()),
            false => std::fs::File::open(entry.path()).unwrap().set_modified(before).unwrap(),
        }
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let bytes = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => bytes_below(&entry.path()),
        false => entry.metadata().unwrap().len(),
    };
    entries.map(bytes).sum()
}

/// Returns the largest memory that this process has had.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    format!("{} MB", kilobytes * 1024 / 1_000_000)
}

/// Returns a process that measures one row.
fn row(number: usize, divisor: u64) -> Command {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--row", &number.to_string(), &divisor.to_string()]);
    process
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, option, number, divisor, ..] = &*arguments
        && option == "--row"
    {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture { dir, divisor: divisor.parse().unwrap() };
        let number: usize = number.parse().unwrap();
        return println!("{}", (ROWS[number].measure)(&fixture));
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let divisor = if is_test { 1_000 } else { 1 };
    println!("| what | measured |\n|---|---|");
    for (number, Row { what, .. }) in ROWS.iter().enumerate() {
        let output = row(number, divisor).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("| {what} | {} |", String::from_utf8(output.stdout).unwrap().trim());
    }
}
