//! Test suite for stores: checks that a mirror works on an implementation of `ObjectStore`.
//!
//! Each check uses its own prefix and leaves its objects there. A failed check panics with the
//! difference.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::keys::{SessionKeys, strip_prefix};
use crate::mirror::Mirror;
use crate::report::SyncReport;
use crate::transfer::StoreCapabilities;

/// Valid names that some stores alter or reject.
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
/// Number of objects that exceeds one page of a listing.
const MANY: usize = 1_100;
/// Size of a file that is uploaded in more than two parts.
const LARGE_BYTES: usize = 17 << 20;

/// Runs every check below `prefix`. `scratch` is an empty directory for the mirrored directories.
///
/// # Panics
/// Panics if a check fails.
pub async fn check(store: &Arc<dyn ObjectStore>, prefix: &Key, scratch: &Path) {
    check_with(store, &StoreCapabilities::default(), prefix, scratch).await;
}

/// Runs every check with a store's abilities beyond `ObjectStore`.
///
/// # Panics
/// Panics if a check fails.
pub async fn check_with(
    store: &Arc<dyn ObjectStore>,
    capabilities: &StoreCapabilities,
    prefix: &Key,
    scratch: &Path,
) {
    let fixture = |check: &str| Fixture {
        store: Arc::clone(store),
        capabilities: capabilities.clone(),
        prefix: prefix.clone().join(check),
        scratch: scratch.join(check),
    };
    names(&fixture("names")).await;
    changes(&fixture("changes")).await;
    conflicts(&fixture("conflicts")).await;
    large(&fixture("large")).await;
    many(&fixture("many")).await;
}

/// One prefix, and the directories that are mirrored to it.
struct Fixture {
    store: Arc<dyn ObjectStore>,
    capabilities: StoreCapabilities,
    prefix: Key,
    scratch: PathBuf,
}

/// Directory of one machine, with its mirror.
struct Machine {
    dir: PathBuf,
    mirror: Mirror,
}

impl Fixture {
    /// Opens a machine, which restores what the store has.
    async fn machine(&self, name: &str) -> Machine {
        let dir = self.scratch.join(name);
        fs::create_dir_all(&self.scratch).expect("a directory");
        let keys = SessionKeys::at(self.projection(), self.prefix.clone().join("log"));
        let mirror = Mirror::builder(&dir, Arc::clone(&self.store), keys)
            .capabilities(self.capabilities.clone())
            .state_dir(self.scratch.join(format!("{name}-state")))
            .open()
            .await
            .expect("a mirror");
        let report = mirror.opened();
        assert!(report.failed.is_empty(), "{report:?}");
        Machine { dir, mirror }
    }

    fn projection(&self) -> Key {
        self.prefix.clone().join("files")
    }

    /// Returns the paths of all objects, as the store lists them.
    async fn objects(&self) -> Vec<String> {
        let prefix = self.projection();
        let listed: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.expect("a listing");
        let paths = listed.iter().filter_map(|meta| strip_prefix(&prefix, &meta.location));
        let mut paths: Vec<String> = paths.map(str::to_owned).collect();
        paths.sort();
        paths
    }
}

impl Machine {
    fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    async fn sync(&self) -> SyncReport {
        let report = self.mirror.sync().await.expect("an open mirror");
        assert!(report.is_complete() && report.skipped.is_empty(), "{report:?}");
        report
    }

    async fn refresh(&self) {
        let report = self.mirror.refresh().await.expect("a listing");
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

/// Checks that odd names and modes survive a round trip.
async fn names(fixture: &Fixture) {
    let here = fixture.machine("here").await;
    for name in NAMES {
        here.write(name, name.as_bytes());
    }
    fs::set_permissions(here.dir.join("-dash"), fs::Permissions::from_mode(0o755))
        .expect("permissions");
    here.sync().await;
    let mut expected: Vec<String> = NAMES.map(str::to_owned).into();
    expected.sort();
    assert_eq!(fixture.objects().await, expected, "keys equal paths byte for byte");
    let there = fixture.machine("there").await;
    assert_eq!(there.files(), here.files());
    let mode = fs::metadata(there.dir.join("-dash")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "the mode does not depend on the store");
    assert!(there.sync().await.changed.is_empty(), "restored files are not uploaded again");
}

/// Checks that changes, renames and removals reach the store, and that an absent object is no
/// error.
async fn changes(fixture: &Fixture) {
    let here = fixture.machine("here").await;
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
    fixture.store.delete(&fixture.projection().join("c")).await.expect("an object");
    here.sync().await;
    assert_eq!(fixture.objects().await, ["a", "f/empty", "g"]);
    let there = fixture.machine("there").await;
    assert_eq!(there.files(), here.files());
    assert_eq!(there.files()["g"], large);
    assert!(here.mirror.pending().is_empty());
}

/// Checks that another program that writes the objects loses no version, with and without
/// conditional puts.
async fn conflicts(fixture: &Fixture) {
    let here = fixture.machine("here").await;
    here.write("old", b"1");
    here.sync().await;
    for path in ["old", "new"] {
        here.write(path, b"from here");
        let key = fixture.projection().join(path);
        fixture.store.put(&key, "from elsewhere".into()).await.expect("an object");
    }
    here.sync().await;
    here.refresh().await;
    here.sync().await;
    let mut contents: Vec<Vec<u8>> = here.files().into_values().collect();
    contents.sort();
    assert_eq!(contents, [&b"from elsewhere"[..], b"from elsewhere", b"from here", b"from here"]);
    assert_eq!(fixture.objects().await.len(), 4);
    let there = fixture.machine("there").await;
    assert_eq!(there.files(), here.files());
}

/// Checks that a large file survives a round trip in parts.
async fn large(fixture: &Fixture) {
    let here = fixture.machine("here").await;
    let content: Vec<u8> = (0..LARGE_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    here.write("large", &content);
    here.sync().await;
    let there = fixture.machine("there").await;
    assert!(there.files()["large"] == content, "byte for byte");
}

/// Checks that a listing of several pages is complete.
async fn many(fixture: &Fixture) {
    let here = fixture.machine("here").await;
    for number in 0..MANY {
        here.write(&format!("d{}/{number}", number % 7), number.to_string().as_bytes());
    }
    // A slow store may take longer than the deadline of a call, and objects follow the log.
    for _ in 0..10 {
        let report = here.mirror.flush().await.expect("an open mirror");
        if report.is_complete() && fixture.objects().await.len() == MANY {
            break;
        }
    }
    assert_eq!(fixture.objects().await.len(), MANY);
    let there = fixture.machine("there").await;
    assert_eq!(there.files(), here.files());
}
