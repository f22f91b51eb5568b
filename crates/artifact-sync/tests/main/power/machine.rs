//! The program that runs in a virtual machine whose power is lost again and again. It checks what
//! earlier starts have acknowledged, and then stores changes until it is killed.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use artifact_sync::{
    ConflictCopy, Durability, LogView, Mirror, OpenedStore, SessionKeys, open_directory,
};
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use testkit::read_files;

/// Environment variable with the directory on the disk of the machine.
const PLACE: &str = "ARTIFACT_SYNC_POWER_PLACE";
/// Environment variable with the number of the last call that the machine acknowledged.
const ACKNOWLEDGED: &str = "ARTIFACT_SYNC_POWER_ACKNOWLEDGED";
/// Environment variable with the number of the last call to make.
const LAST: &str = "ARTIFACT_SYNC_POWER_LAST";
/// Environment variable that turns the flushes off.
const MEMORY: &str = "ARTIFACT_SYNC_POWER_MEMORY";

const PREFIX: &str = "user_7/sessions/s1";
/// Files that calls write one at a time.
const SINGLE: u64 = 7;
/// Files that one call writes together.
const TOGETHER: u64 = 12;
/// Versions whose content is read from the history. Reading is slow in an emulated machine.
const READ: usize = 6;

type Files = BTreeMap<String, String>;

/// Changes of one call; `None` is a removal.
fn changes(call: u64) -> Vec<(String, Option<String>)> {
    match call % 6 {
        0 => (0..TOGETHER)
            .map(|file| (format!("d/g{file}"), Some(content(call * TOGETHER + file))))
            .collect(),
        5 => vec![(format!("f{}", (call - 1) % SINGLE), None)],
        _ => vec![(format!("f{}", call % SINGLE), Some(content(call)))],
    }
}

/// Returns a content of up to 40 KB. It is small enough for an entry, or becomes a blob.
fn content(seed: u64) -> String {
    let mut content = String::new();
    for line in 0..seed * 7919 % 1_500 {
        let _ = writeln!(content, "{seed} {line} {:x}", seed.wrapping_mul(0x9e37_79b9) ^ line);
    }
    content + &seed.to_string()
}

fn apply(files: &mut Files, call: u64) {
    for (path, content) in changes(call) {
        match content {
            Some(content) => drop(files.insert(path, content)),
            None => drop(files.remove(&path)),
        }
    }
}

fn open_store(place: &Path) -> OpenedStore {
    open_directory(&place.join("store")).unwrap()
}

fn keys() -> SessionKeys {
    SessionKeys::at(Key::parse(PREFIX).unwrap(), Key::from("logs/user_7/s1"))
}

/// Opens the session whose working copy and journal are below `local`.
async fn open(store: &OpenedStore, local: &Path, durability: Durability) -> Mirror {
    Mirror::builder(local.join("session"), store.store.clone(), keys())
        .capabilities(store.capabilities.clone())
        .state_dir(local.join("state"))
        .durability(durability)
        .open()
        .await
        .unwrap()
}

/// Makes a call and waits until it is acknowledged.
async fn call(mirror: &Mirror, call: u64) {
    for (path, content) in changes(call) {
        let path = mirror.dir().path().join(path);
        match content {
            Some(content) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            None => drop(std::fs::remove_file(path)),
        }
    }
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "call {call}: {report:?}");
}

/// Checks files after `acknowledged` calls. The changes of the next call may be there or not, and
/// its new files may be cut off.
#[track_caller]
fn check_files(files: &Files, acknowledged: u64, what: &str) {
    let mut expected = Files::new();
    (1..=acknowledged).for_each(|call| apply(&mut expected, call));
    let next: BTreeMap<String, Option<String>> = changes(acknowledged + 1).into_iter().collect();
    for path in expected.keys().chain(files.keys()).chain(next.keys()) {
        let (found, wanted) = (files.get(path), expected.get(path));
        let is_next = next.get(path).is_some_and(|next| match (next, found) {
            (Some(next), Some(found)) if wanted.is_none() => next.starts_with(found.as_str()),
            (next, found) => next.as_ref() == found,
        });
        let end = |content: Option<&String>| {
            content.map(|content| (content.len(), content.lines().last().map(str::to_owned)))
        };
        assert!(
            found == wanted || is_next,
            "{what} after {acknowledged} calls: {path} is {:?}, not {:?}",
            end(found),
            end(wanted),
        );
    }
}

/// Checks that the history has every version that was acknowledged.
async fn check_history(store: &OpenedStore, acknowledged: u64) {
    let view = LogView::open(store.store.clone(), keys(), None).await.unwrap();
    let mut entries: BTreeMap<(String, String), u64> = BTreeMap::new();
    for entry in view.history(None).await.unwrap() {
        for change in entry.changes {
            if let Some(hash) = change.hash {
                entries.entry((change.path, hash)).or_insert(entry.number);
            }
        }
    }
    let mut versions = Vec::new();
    for call in (1..=acknowledged).rev() {
        for (path, content) in changes(call) {
            let Some(content) = content else { continue };
            let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
            let entry = entries.get(&(path.clone(), hash));
            let entry = entry.unwrap_or_else(|| panic!("the history lost {path} of call {call}"));
            versions.push((*entry, path, content));
        }
    }
    for (entry, path, content) in versions.into_iter().take(READ) {
        let view = LogView::open(store.store.clone(), keys(), Some(entry)).await.unwrap();
        let read = view.read(&RelativePath::parse(&path).unwrap()).await.unwrap();
        assert_eq!(read, content, "{path} in entry {entry}");
    }
}

/// Checks everything that was acknowledged: in the store alone, and in the session as the loss of
/// power left it.
async fn check(place: &Path, acknowledged: u64, durability: Durability) -> Mirror {
    let store = open_store(place);
    check_history(&store, acknowledged).await;
    let restored = tempfile::tempdir().unwrap();
    let view = LogView::open(store.store.clone(), keys(), None).await.unwrap();
    let report = view.restore_to(restored.path()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    check_files(&read_files(restored.path()), acknowledged, "the log");

    let mirror = open(&store, place, durability).await;
    let report = mirror.opened();
    println!("opened: {:?}", report.problems());
    assert!(report.failed.is_empty(), "{report:?}");
    // If the journal lost its end, a change that was not acknowledged is kept beside.
    let next = changes(acknowledged + 1);
    for ConflictCopy { path, kept_as, .. } in &report.conflicts {
        let copy = mirror.dir().path().join(kept_as);
        let content = std::fs::read_to_string(&copy).unwrap();
        assert!(next.contains(&(path.to_string(), Some(content))), "{report:?}");
        std::fs::remove_file(copy).unwrap();
    }
    check_files(&read_files(mirror.dir().path()), acknowledged, "the working copy");
    let report = mirror.flush().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
    let files = read_files(mirror.dir().path());
    check_files(&files, acknowledged, "the session");
    let projection = place.join("store").join(PREFIX);
    let objects = if projection.exists() { read_files(&projection) } else { Files::new() };
    assert_eq!(objects, files, "the projection");
    mirror
}

/// Makes calls and prints a line for each that is acknowledged.
async fn make_calls(mirror: &Mirror, calls: impl Iterator<Item = u64>) {
    for number in calls {
        call(mirror, number).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn acknowledged_changes_survive_a_loss_of_power() {
    let number = |name| env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let Some(place) = env::var_os(PLACE) else {
        // Without a machine, both parts at least agree.
        let place = tempfile::tempdir().unwrap();
        make_calls(&check(place.path(), 0, Durability::Disk).await, 1..=20).await;
        make_calls(&check(place.path(), 20, Durability::Disk).await, 21..=30).await;
        check(place.path(), 30, Durability::Disk).await;
        return;
    };
    let durability = match env::var_os(MEMORY) {
        Some(_) => Durability::Memory,
        None => Durability::Disk,
    };
    let acknowledged = number(ACKNOWLEDGED).unwrap();
    let mirror = check(Path::new(&place), acknowledged, durability).await;
    println!("checked {acknowledged}");
    // The last call may have been stored without its acknowledgement. It is made again.
    make_calls(&mirror, acknowledged + 1..=number(LAST).unwrap()).await;
}
