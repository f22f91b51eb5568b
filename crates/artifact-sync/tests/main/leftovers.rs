//! Staging files that killed uploads leave in a store on the local disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use artifact_sync::{Mirror, OpenedStore, Takeover, open_directory};
use sandbox_core::STAGED_PREFIX;

use crate::machine::{LOG, Machine, PREFIX, expected, keys};

const HOURS: Duration = Duration::from_secs(2 * 60 * 60);

struct Store {
    place: tempfile::TempDir,
    opened: OpenedStore,
    machine: Machine,
}

impl Store {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let opened = open_directory(&place.path().join("store")).unwrap();
        let machine = Machine::new(Arc::clone(&opened.store));
        Self { place, opened, machine }
    }

    async fn open(&self) -> Mirror {
        let capabilities = self.opened.capabilities.clone();
        self.machine.open_with(|mirror| mirror.capabilities(capabilities)).await
    }

    /// Leaves a staging file behind that was last written some time ago.
    fn leave(&self, directory: &str, name: &str, age: Duration) -> PathBuf {
        let path =
            testkit::write_file(&self.place.path().join("store").join(directory), name, "half");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    }
}

/// Waits until the background has removed a file.
async fn vanished(path: &Path) {
    while path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_directory_in_the_place_of_an_entry_is_named_and_stops_no_call() {
    let store = Store::new();
    let mirror = store.open().await;
    store.machine.write("f", "1");
    assert!(mirror.sync().await.unwrap().is_complete());
    let number = mirror.entry() + 1;
    let place = store.place.path().join("store").join(LOG).join(format!("{number:020}"));
    std::fs::create_dir(&place).unwrap();
    store.machine.write("f", "2");
    let report = mirror.sync().await.unwrap();
    assert!(report.pending[0].reason.contains("holds no object"), "{report:?}");
    assert!(!mirror.is_lost());
    let other = Machine::new(Arc::clone(&store.opened.store));
    let opened = other.try_open_with(|mirror| mirror.home("other", Takeover::Steal)).await;
    let error = opened.unwrap_err();
    assert!(sandbox_core::with_causes(&error).contains("holds no object"), "{error:?}");
    std::fs::remove_dir(&place).unwrap();
    assert!(mirror.flush().await.unwrap().is_complete());
}

#[tokio::test]
async fn opening_removes_old_staging_files_of_the_session_and_no_others() {
    let store = Store::new();
    let mirror = store.open().await;
    store.machine.write("d/known", "1");
    store.machine.write("removed", "1");
    mirror.sync().await.unwrap();
    store.machine.remove("removed");
    mirror.sync().await.unwrap();
    drop(mirror);
    let swept = [
        store.leave(LOG, "00000000000000000009#1", HOURS),
        store.leave(&format!("{LOG}/blobs"), "0123456789abcdef0123456789abcdef#2", HOURS),
        store.leave(PREFIX, "d/known#1", HOURS),
        store.leave(PREFIX, "removed#1", HOURS),
    ];
    let kept = [
        store.leave(PREFIX, "d/known#3", Duration::ZERO),
        store.leave(LOG, "00000000000000000009#4", Duration::ZERO),
        // A file that a person has put there.
        store.leave(PREFIX, "draft#2", HOURS),
        store.leave(&LOG.replace("s1", "s2"), "00000000000000000009#1", HOURS),
    ];
    let _mirror = store.open().await;
    for path in &swept {
        vanished(path).await;
    }
    for path in &kept {
        assert!(path.exists(), "{}", path.display());
    }
}

/// Environment variable with the working directory of the child.
const PLACE: &str = "ARTIFACT_SYNC_LEFTOVERS_PLACE";

async fn open_at(place: &Path) -> Mirror {
    let OpenedStore { store, capabilities, .. } = open_directory(&place.join("store")).unwrap();
    let mirror = Mirror::builder(place.join("session"), store, keys());
    mirror.state_dir(place.join("state")).capabilities(capabilities).open().await.unwrap()
}

/// Returns the staging files of blobs.
fn staged_blobs(place: &Path) -> Vec<PathBuf> {
    let Ok(listed) = std::fs::read_dir(place.join("store").join(LOG).join("blobs")) else {
        return Vec::new();
    };
    let paths = listed.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains('#')).collect()
}

#[tokio::test]
async fn opening_removes_what_a_killed_process_was_uploading() {
    if let Some(place) = std::env::var_os(PLACE) {
        let mirror = open_at(Path::new(&place)).await;
        let _ = mirror.flush().await;
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path();
    drop(open_at(place).await);
    let file = std::fs::File::create(place.join("session/large")).unwrap();
    file.set_len(64 << 20).unwrap();
    let left = loop {
        let mut child =
            testkit::rerun("leftovers::opening_removes_what_a_killed_process_was_uploading")
                .env(PLACE, place)
                .spawn()
                .unwrap();
        while staged_blobs(place).is_empty() && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        let left = staged_blobs(place);
        if !left.is_empty() {
            break left;
        }
        // The upload was complete. The next content is another one.
        file.set_len(file.metadata().unwrap().len() + 1).unwrap();
    };
    // A process of another machine may still write this one.
    let other =
        place.join("store").join(LOG).join("blobs").join("0123456789abcdef".repeat(2) + "#1");
    std::fs::write(&other, "half").unwrap();
    let journal = place.join("state/journal.new");
    std::fs::write(&journal, "half").unwrap();
    file.set_len(1).unwrap();
    let mirror = open_at(place).await;
    assert!(!journal.exists());
    for path in &left {
        vanished(path).await;
    }
    assert!(other.exists());
    assert!(mirror.flush().await.unwrap().is_complete());
}

#[tokio::test]
async fn a_temporary_name_is_removed_if_the_log_has_its_content() {
    let machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("d/f", "stored");
    std::os::unix::fs::symlink("f", machine.dir().join("d/link")).unwrap();
    assert!(mirror.sync().await.unwrap().is_complete());
    drop(mirror);
    let name = |number: u32| format!("d/{STAGED_PREFIX}{number:032x}");
    machine.write(&name(1), "stored");
    machine.write(&name(2), "");
    machine.write(&name(3), "only here");
    for (number, target) in [(4, "only here"), (5, "f")] {
        std::os::unix::fs::symlink(target, machine.dir().join(name(number))).unwrap();
    }
    let mirror = machine.open().await;
    let report = mirror.sync().await.unwrap();
    let skipped: Vec<&str> = report.skipped.iter().map(|skip| skip.path.as_str()).collect();
    assert_eq!(skipped, [name(3), name(4)]);
    let mut left = machine.files();
    left.remove("d/link");
    assert_eq!(left, expected(&[("d/f", "stored"), (&name(3), "only here")]));
    assert!(machine.dir().join(name(4)).is_symlink());
    assert!(!machine.dir().join(name(5)).is_symlink());
}

#[tokio::test]
async fn deleting_a_session_removes_its_staging_files_of_any_age() {
    let store = Store::new();
    let mirror = store.open().await;
    store.machine.write("known", "1");
    mirror.sync().await.unwrap();
    let swept = [
        store.leave(LOG, "00000000000000000009#1", Duration::ZERO),
        store.leave(&format!("{LOG}/blobs"), "0123456789abcdef0123456789abcdef#2", Duration::ZERO),
        store.leave(PREFIX, "known#1", Duration::ZERO),
    ];
    let kept = store.leave(PREFIX, "draft#2", HOURS);
    mirror.erase().await.unwrap();
    for path in &swept {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(kept.exists());
}

#[tokio::test]
async fn several_threads_remove_what_a_close_has_left() {
    let place = tempfile::tempdir().unwrap();
    let (dir, rest) = (place.path().join("session"), place.path().join("session~closing"));
    for _ in 0..20 {
        for number in 0..200 {
            std::fs::create_dir_all(rest.join(format!("{}/{number}", number % 7))).unwrap();
        }
        let remove = || artifact_sync::internal::remove_rest(&dir);
        let removed = tokio::join!(remove(), remove(), remove(), remove());
        assert!(matches!(removed, (Ok(()), Ok(()), Ok(()), Ok(()))), "{removed:?}");
        assert!(!rest.exists());
    }
}
