//! What a mirror needs of a store, as a suite that runs on any: memory, a disk, a cloud, an
//! embedder's own.
//!
//! Each check works below a prefix of its own and leaves its objects there. A check that fails
//! panics and says what was found.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox_core::SessionDir;

use crate::keys::strip_prefix;
use crate::mirror::Mirror;
use crate::report::SyncReport;

/// Names that are right for every store, and that one or another makes something else of.
const NAMES: [&str; 14] = [
    "plain.txt",
    "with space",
    "é🎉.md",
    "a%20b",
    "a#b",
    "a+b&c=d?e",
    "~x",
    "(1) [2] {3}",
    "quote'\"",
    "d/e/f/g.txt",
    "d/e.txt",
    "trailing.",
    "-dash",
    "*.star",
];
/// More than one page of a listing.
const MANY: usize = 1_100;
/// More than two parts.
const LARGE_BYTES: usize = 17 << 20;

/// Runs every check. `scratch` is an empty directory for the other side of the mirrors.
///
/// # Panics
/// When the store does not do what a mirror needs.
pub async fn check(store: &Arc<dyn ObjectStore>, prefix: &Key, scratch: &Path) {
    let side = |check: &str| Side {
        store: Arc::clone(store),
        prefix: prefix.clone().join(check),
        scratch: scratch.join(check),
    };
    names(&side("names")).await;
    changes(&side("changes")).await;
    conflicts(&side("conflicts")).await;
    large(&side("large")).await;
    many(&side("many")).await;
}

/// One prefix, and directories that are mirrored to it.
struct Side {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    scratch: PathBuf,
}

/// One machine's directory.
struct Place {
    dir: PathBuf,
    mirror: Mirror,
}

impl Side {
    fn place(&self, name: &str) -> Place {
        let dir = Arc::new(SessionDir::create(&self.scratch.join(name)).expect("a directory"));
        let mirror =
            Mirror::builder(Arc::clone(&dir), Arc::clone(&self.store), self.prefix.clone());
        let mirror =
            mirror.state_dir(self.scratch.join(format!("{name}-state"))).open().expect("a mirror");
        Place { dir: dir.path().to_owned(), mirror }
    }

    /// What stands in the store, as the store itself tells.
    async fn objects(&self) -> Vec<String> {
        let listed: Vec<_> =
            self.store.list(Some(&self.prefix)).try_collect().await.expect("a listing");
        let paths = listed.iter().filter_map(|meta| strip_prefix(&self.prefix, &meta.location));
        let mut paths: Vec<String> = paths.map(str::to_owned).collect();
        paths.sort();
        paths
    }
}

impl Place {
    fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    async fn sync(&self) -> SyncReport {
        let report = self.mirror.sync().await;
        assert!(report.pending.is_empty() && report.skipped.is_empty(), "{report:?}");
        report
    }

    async fn restore(&self) {
        let report = self.mirror.restore().await.expect("a listing");
        assert!(report.failed.is_empty(), "{report:?}");
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut files, mut rest) = (BTreeMap::new(), vec![self.dir.clone()]);
        while let Some(dir) = rest.pop() {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    rest.push(path);
                } else {
                    let name = path
                        .strip_prefix(&self.dir)
                        .expect("below")
                        .to_str()
                        .expect("UTF-8")
                        .to_owned();
                    files.insert(name, fs::read(path).expect("a file"));
                }
            }
        }
        files
    }
}

/// Odd names are the same there and back, and a file that can be executed comes back as one, where
/// attributes are kept.
async fn names(side: &Side) {
    let here = side.place("here");
    for name in NAMES {
        here.write(name, name.as_bytes());
    }
    fs::set_permissions(here.dir.join("-dash"), fs::Permissions::from_mode(0o755))
        .expect("permissions");
    here.sync().await;
    let mut expected: Vec<String> = NAMES.map(str::to_owned).into();
    expected.sort();
    assert_eq!(side.objects().await, expected, "keys are paths, byte for byte");
    let there = side.place("there");
    there.restore().await;
    assert_eq!(there.files(), here.files());
    let key = side.prefix.clone().join("-dash");
    let attributes = side.store.get(&key).await.expect("an object").attributes;
    let mode = fs::metadata(there.dir.join("-dash")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o100 != 0, crate::attributes::is_executable(&attributes));
    assert!(there.sync().await.changed.is_empty(), "what came is not sent back");
}

/// What is changed, renamed and removed is so in the store; what is gone already is no error.
async fn changes(side: &Side) {
    let here = side.place("here");
    for (path, content) in [("a", "1"), ("b", "1"), ("c", "1"), ("d/x", "1")] {
        here.write(path, content.as_bytes());
    }
    let large = vec![b'x'; 300_000];
    here.write("e", &large);
    here.sync().await;
    here.write("a", b"2");
    here.write("f/empty", b"");
    for gone in ["b", "c", "d/x"] {
        fs::remove_file(here.dir.join(gone)).expect("a file");
    }
    fs::rename(here.dir.join("e"), here.dir.join("g")).expect("a file");
    side.store.delete(&side.prefix.clone().join("c")).await.expect("an object");
    here.sync().await;
    assert_eq!(side.objects().await, ["a", "f/empty", "g"]);
    let there = side.place("there");
    there.restore().await;
    assert_eq!(there.files(), here.files());
    assert_eq!(there.files()["g"], large);
    assert!(here.mirror.pending().is_empty());
}

/// Two machines that write one file lose neither version, whether or not the store has conditions.
async fn conflicts(side: &Side) {
    let (here, there) = (side.place("here"), side.place("there"));
    here.write("old", b"1");
    here.sync().await;
    there.restore().await;
    for (place, content) in [(&here, "from here"), (&there, "from there")] {
        place.write("old", content.as_bytes());
        place.write("new", content.as_bytes());
        place.write("same", b"both");
    }
    here.sync().await;
    let report = there.sync().await;
    let mut conflicts: Vec<&str> =
        report.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    conflicts.sort_unstable();
    assert_eq!(conflicts, ["new", "old"]);
    here.restore().await;
    assert_eq!(here.files(), there.files());
    let mut contents: Vec<Vec<u8>> = here.files().into_values().collect();
    contents.sort();
    assert_eq!(contents, [&b"both"[..], b"from here", b"from here", b"from there", b"from there"]);
}

/// A large file goes in parts and comes back whole.
async fn large(side: &Side) {
    let here = side.place("here");
    let content: Vec<u8> = (0..LARGE_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    here.write("large", &content);
    here.sync().await;
    let there = side.place("there");
    there.restore().await;
    assert!(there.files()["large"] == content, "byte for byte");
}

/// A listing of several pages is whole.
async fn many(side: &Side) {
    let here = side.place("here");
    for number in 0..MANY {
        here.write(&format!("d{}/{number}", number % 7), number.to_string().as_bytes());
    }
    // A slow store may need longer than a call waits.
    while !here.mirror.sync().await.pending.is_empty() {}
    assert_eq!(side.objects().await.len(), MANY);
    let there = side.place("there");
    there.restore().await;
    assert_eq!(there.files(), here.files());
}
