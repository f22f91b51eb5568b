//! First opening after the machine has started again: files that did not reach the disk are taken
//! from the log, and are not mistaken for changes.
//!
//! The journal tells what a file was like when the log had it. After a loss of power, the file
//! system may show an older state of it: an earlier version, no content, or no file. A change by a
//! program always moves the change time forward, so a file whose time did not move lost its
//! content. A file without content is lost too, whatever its time: there is nothing to keep.
//! A removal that the log does not have cannot be distinguished from a lost file, and is undone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::error::SyncError;
use crate::log::{Hash, LogState, Node};
use crate::mirror::apply::{Application, Applied, Base, DiskFailure, hash_of, held_version};
use crate::mirror::incoming::Incoming;
use crate::mirror::shared::Shared;
use crate::report::RestoreReport;
use crate::scan::{Changes, Entry, Signature};
use crate::state::Ledger;

/// Files of the working copy that are not what the journal says.
#[derive(Debug, Default)]
struct Suspects {
    /// Paths of the log that do not exist.
    absent: BTreeSet<String>,
    /// Files of the log that lost their content.
    lost: BTreeMap<String, Signature>,
    /// Files that the log has removed, and that may be back.
    returned: BTreeMap<String, Signature>,
}

impl Suspects {
    fn paths(&self) -> impl Iterator<Item = &String> {
        self.absent.iter().chain(self.lost.keys()).chain(self.returned.keys())
    }
}

impl Shared {
    /// Makes the working copy follow the log, like [`Shared::follow_log`], and repairs what the
    /// machine lost when it stopped.
    pub(super) async fn recover(
        self: &Arc<Self>,
        incoming: Option<Incoming>,
    ) -> Result<RestoreReport, SyncError> {
        let shared = Arc::clone(self);
        self.ledger().distrust_recent();
        let mut changes = blocking(move || shared.walk()).await;
        let has_incoming = incoming.is_some();
        let (mut base, mut incoming) = {
            let ledger = self.ledger();
            let unchanged = || Incoming::unchanged(ledger.shared_log(), ledger.position());
            (Base::of(&ledger), incoming.unwrap_or_else(unchanged))
        };
        let suspects = suspects(&changes, &self.ledger(), &incoming.state);
        if suspects.paths().next().is_none() && !has_incoming {
            return Ok(RestoreReport::default());
        }
        self.begin_applying(&mut incoming);
        self.distinguish(&suspects, &mut incoming, &mut base, &mut changes).await?;
        let application = Application {
            dir: &self.dir,
            fetcher: &self.fetcher,
            progress: self.progress.as_deref(),
            disk_failure: DiskFailure::SkipsPath,
        };
        let Applied { mut report, signatures, unfollowed } =
            application.apply(&incoming, base, &changes).await?;
        let is_lost = |path: &&RelativePath| {
            suspects.absent.contains(path.as_str()) || suspects.lost.contains_key(path.as_str())
        };
        report.recovered = report.restored.iter().filter(is_lost).cloned().collect();
        self.ledger().replace_log(incoming.state, incoming.position, signatures, unfollowed);
        self.fetcher.forget();
        Ok(report)
    }

    /// Prepares the application of the log. A lost file is replaced if what is there is empty or a
    /// version of the path, and otherwise kept beside. A removed file that is back is removed if it
    /// is such a version.
    async fn distinguish(
        &self,
        suspects: &Suspects,
        incoming: &mut Incoming,
        base: &mut Base,
        changes: &mut Changes,
    ) -> Result<(), SyncError> {
        let hashes = self.hashes(suspects).await;
        let is_current = |path: &str, hash: &Hash| {
            let nodes = [base.nodes.get(path), incoming.node(path)];
            nodes
                .into_iter()
                .flatten()
                .any(|node| matches!(node, Node::File(file) if file.hash == *hash))
        };
        let other = hashes.iter().filter(|(path, hash)| !is_current(path, hash));
        let other: BTreeSet<String> = other.map(|(path, _)| path.clone()).collect();
        let held = match other.is_empty() {
            true => Default::default(),
            false => {
                self.log.versions_of(&other).await.map_err(|source| SyncError::Log { source })?
            }
        };
        let is_version = |path: &str, hash: &Hash| {
            let is_held = held.get(path).is_some_and(|held| held.contains(hash));
            *hash == Hash::of(b"") || is_held || !other.contains(path)
        };
        for path in &suspects.absent {
            base.nodes.remove(path);
            base.local.remove(path);
        }
        let mut explained: BTreeSet<&str> = BTreeSet::new();
        for (path, signature) in suspects.lost.iter().chain(&suspects.returned) {
            match hashes.get(path).filter(|hash| is_version(path, hash)) {
                // The file follows the log like one that nothing has changed.
                Some(hash) => {
                    base.nodes
                        .insert(path.clone(), Node::File(held_version(&signature.racy(), *hash)));
                    base.local.insert(path.clone(), signature.racy());
                    explained.insert(path);
                }
                None if suspects.lost.contains_key(path) => drop(base.nodes.remove(path)),
                None => {}
            }
        }
        changes.modified.retain(|entry| !explained.contains(entry.path.as_str()));
        if let Some(touched) = &mut incoming.touched {
            touched.extend(suspects.paths().cloned());
        }
        Ok(())
    }

    /// Hashes the files that are there.
    async fn hashes(&self, suspects: &Suspects) -> BTreeMap<String, Hash> {
        let mut hashes = BTreeMap::new();
        for path in suspects.lost.keys().chain(suspects.returned.keys()) {
            if let Some(hash) = hash_of(&self.dir, path).await {
                hashes.insert(path.clone(), hash);
            }
        }
        hashes
    }
}

/// Finds the files that may not be what their last writer left. `target` is the log that the
/// working copy is about to follow.
fn suspects(changes: &Changes, ledger: &Ledger, target: &LogState) -> Suspects {
    let mut suspects = Suspects::default();
    for Entry { path, signature } in &changes.modified {
        let known = ledger.local(path).map(|recorded| recorded.signature);
        let Some(version) = target.file(path) else {
            let removal = target.removed.get(path);
            if removal.is_some_and(|removal| signature.changed.0 <= removal.at) {
                suspects.returned.insert(path.clone(), *signature);
            }
            continue;
        };
        let did_not_move = known.is_some_and(|known| signature.changed <= known.changed);
        let is_emptied = signature.size == 0 && version.size > 0;
        if did_not_move || is_emptied {
            suspects.lost.insert(path.clone(), *signature);
        }
    }
    let absent = changes.removed.iter().filter(|path| target.nodes.contains_key(*path));
    suspects.absent.extend(absent.cloned());
    suspects
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use object_store::ObjectStore;
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;
    use testkit::{Calls, FailingStore};

    use super::*;
    use crate::keys::SessionKeys;
    use crate::mirror::Mirror;

    struct Machine {
        place: tempfile::TempDir,
        store: Arc<dyn ObjectStore>,
    }

    impl Machine {
        fn new() -> Self {
            Self { place: tempfile::tempdir().unwrap(), store: Arc::new(InMemory::new()) }
        }

        async fn open(&self, boot: &str) -> Mirror {
            self.try_open(boot).await.unwrap()
        }

        async fn try_open(&self, boot: &str) -> Result<Mirror, SyncError> {
            let keys = SessionKeys::at(Key::from("session"), Key::from("log"));
            let mirror = Mirror::builder(self.file(""), Arc::clone(&self.store), keys);
            let mirror = mirror.state_dir(self.place.path().join("state")).without_projection();
            mirror.booted(boot).open().await
        }

        fn file(&self, path: &str) -> PathBuf {
            self.place.path().join("session").join(path)
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.file(path)).unwrap()
        }

        /// Writes a file and stores it.
        async fn store(&self, mirror: &Mirror, path: &str, content: &str) {
            fs::write(self.file(path), content).unwrap();
            assert!(mirror.sync().await.unwrap().is_complete());
        }

        /// Gives a file another content without moving its change time past the recorded one.
        fn lose(&self, mirror: &Mirror, path: &str, content: &str) {
            fs::write(self.file(path), content).unwrap();
            let mut recorded = Signature::record(&File::open(self.file(path)).unwrap()).unwrap();
            recorded.is_racy = false;
            mirror.shared.ledger().set_local(path, recorded);
        }
    }

    fn recovered(mirror: &Mirror) -> Vec<&str> {
        mirror.opened().recovered.iter().map(RelativePath::as_str).collect()
    }

    #[tokio::test]
    async fn an_earlier_version_with_the_recorded_times_is_replaced() {
        let machine = Machine::new();
        let mirror = machine.open("1").await;
        machine.store(&mirror, "a", "first").await;
        machine.store(&mirror, "a", "second").await;
        machine.lose(&mirror, "a", "first");
        drop(mirror);
        let mirror = machine.open("2").await;
        assert_eq!(recovered(&mirror), ["a"]);
        assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
        assert_eq!(machine.read("a"), "second");
        assert!(mirror.pending().is_empty());
    }

    #[tokio::test]
    async fn a_content_that_the_log_never_had_is_kept_beside() {
        let machine = Machine::new();
        let mirror = machine.open("1").await;
        machine.store(&mirror, "a", "stored").await;
        machine.lose(&mirror, "a", "parts");
        drop(mirror);
        let mirror = machine.open("2").await;
        let [conflict] = mirror.opened().conflicts.as_slice() else {
            panic!("{:?}", mirror.opened())
        };
        assert_eq!(
            (machine.read("a"), machine.read(conflict.kept_as.as_str())),
            ("stored".into(), "parts".into())
        );
    }

    #[tokio::test]
    async fn a_removed_file_that_is_back_is_removed_again() {
        let machine = Machine::new();
        let mirror = machine.open("1").await;
        // The log has whole seconds, and a file that is newer than its removal is a new one.
        loop {
            machine.store(&mirror, "a", "old").await;
            fs::remove_file(machine.file("a")).unwrap();
            assert!(mirror.sync().await.unwrap().is_complete());
            fs::write(machine.file("a"), "old").unwrap();
            let removal = mirror.shared.ledger().log().removed["a"];
            if fs::metadata(machine.file("a")).unwrap().ctime() <= removal.at {
                break;
            }
        }
        fs::write(machine.file("b"), "new").unwrap();
        drop(mirror);
        let mirror = machine.open("2").await;
        assert!(!machine.file("a").exists() && machine.file("b").exists());
        assert_eq!(mirror.opened().removed.len(), 1, "{:?}", mirror.opened());
    }

    #[tokio::test]
    async fn contents_are_compared_once_after_each_start() {
        let machine = Machine::new();
        let mirror = machine.open("1").await;
        machine.store(&mirror, "a", "first").await;
        machine.lose(&mirror, "a", "other");
        drop(mirror);
        assert_eq!(recovered(&machine.open("1").await), [""; 0]);
        assert_eq!(recovered(&machine.open("2").await), ["a"]);
        assert_eq!(recovered(&machine.open("2").await), [""; 0]);
    }

    #[tokio::test]
    async fn a_session_with_lost_files_opens_only_with_the_store() {
        let store = FailingStore::new();
        let machine = Machine { store: Arc::clone(&store) as _, ..Machine::new() };
        let mirror = machine.open("1").await;
        machine.store(&mirror, "a", "1").await;
        machine.store(&mirror, "b", "1").await;
        drop(mirror);
        store.fail(Calls::All, 0, usize::MAX);
        drop(machine.open("2").await);
        fs::write(machine.file("a"), "").unwrap();
        let error = machine.try_open("3").await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        store.recover();
        assert_eq!(recovered(&machine.open("3").await), ["a"]);
    }
}
