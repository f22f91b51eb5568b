//! Time of a call on a store on the local disk that waits for the disk, compared with one that does
//! not. The calls alternate, so that a disturbance of the machine affects both. Prints a Markdown
//! table.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use artifact_sync::{Durability, Mirror, SessionKeys, open_directory};
use object_store::path::Path as Key;

/// Content of another program that is in memory only, in bytes.
const DIRTY_BYTES: usize = 1 << 30;

struct Session {
    dir: PathBuf,
    mirror: Mirror,
}

impl Session {
    async fn open(place: &Path, durability: Durability) -> Self {
        let place = place.join(format!("{durability:?}"));
        std::fs::create_dir(&place).unwrap();
        let store = open_directory(&place.join("store")).unwrap();
        let keys = SessionKeys::at(Key::from("user_1/sessions/s"), Key::from("logs/user_1/s"));
        let dir = place.join("session");
        let mirror = Mirror::builder(&dir, store.store, keys)
            .capabilities(store.capabilities)
            .state_dir(place.join("state"))
            .durability(durability)
            .open()
            .await
            .unwrap();
        let session = Self { dir, mirror };
        session.call("first", 1, 1).await;
        session
    }

    /// Changes files and returns the time of the call that stores them.
    async fn call(&self, name: &str, files: usize, bytes: usize) -> Duration {
        for number in 0..files {
            // Each content is new, so that none is found in the store.
            let mut content = vec![b'x'; bytes];
            let stamp = format!("{number} {:?}", Instant::now());
            let length = stamp.len().min(bytes);
            content[..length].copy_from_slice(&stamp.as_bytes()[..length]);
            std::fs::write(self.dir.join(format!("{name}-{number}")), content).unwrap();
        }
        let started = Instant::now();
        let report = self.mirror.sync().await.unwrap();
        let elapsed = started.elapsed();
        assert!(report.is_complete(), "{report:?}");
        elapsed
    }
}

/// Program that keeps changing a large file.
struct Dirty(Option<PathBuf>);

impl Dirty {
    fn renew(&self) {
        let Some(path) = &self.0 else { return };
        let _ = std::fs::remove_file(path);
        let (mut file, chunk) = (File::create(path).unwrap(), vec![1; 1 << 20]);
        for _ in 0..DIRTY_BYTES / chunk.len() {
            file.write_all(&chunk).unwrap();
        }
    }
}

async fn row(
    what: &str,
    disk: &Session,
    memory: &Session,
    call: (usize, usize, usize),
    dirty: &Dirty,
) {
    let (rounds, files, bytes) = call;
    let (mut waiting, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        dirty.renew();
        plain.push(memory.call("f", files, bytes).await);
        waiting.push(disk.call("f", files, bytes).await);
    }
    waiting.sort_unstable();
    plain.sort_unstable();
    let at =
        |times: &[Duration], part: usize| times[(times.len() - 1) * part / 20].as_secs_f64() * 1e3;
    println!(
        "| {what} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} |",
        at(&waiting, 10),
        at(&waiting, 19),
        at(&plain, 10),
        at(&waiting, 10) / at(&plain, 10),
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = |count: usize| if is_test { 1 } else { count };
    // A directory for temporary files may be in memory.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Session::open(place.path(), Durability::Disk).await;
    let memory = Session::open(place.path(), Durability::Memory).await;
    println!("| what | disk | 95 of 100 | memory | disk ÷ memory |\n|---|---|---|---|---|");
    let idle = Dirty(None);
    row("a call that changes one file of 1 KB", &disk, &memory, (rounds(300), 1, 1 << 10), &idle)
        .await;
    row("a call that changes one file of 1 MB", &disk, &memory, (rounds(100), 1, 1 << 20), &idle)
        .await;
    row(
        "a call that changes 100 files of 20 KB",
        &disk,
        &memory,
        (rounds(30), 100, 20 << 10),
        &idle,
    )
    .await;
    if !is_test {
        let dirty = Dirty(Some(place.path().join("dirty")));
        let what = "a call that changes one file of 1 KB, after another program wrote 1 GB";
        row(what, &disk, &memory, (20, 1, 1 << 10), &dirty).await;
    }
}
