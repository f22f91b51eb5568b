//! Loss of power: entries are cut off, and files and objects are older, empty or absent.
//! `cargo xtask ci vm` loses the power of a virtual machine.

mod log;
mod machine;
mod objects;
mod working_copy;

use std::path::PathBuf;
use std::sync::Arc;

use artifact_sync::{Mirror, MirrorBuilder, StoreCapabilities, SyncError, open_directory};
use testkit::read_files;

use crate::machine::{LOG, Machine, PREFIX};

/// Machine with a store on the local disk.
struct Computer {
    place: tempfile::TempDir,
    capabilities: StoreCapabilities,
    machine: Machine,
}

impl Computer {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let opened = open_directory(&place.path().join("store")).unwrap();
        let (machine, capabilities) = (Machine::new(opened.store), opened.capabilities);
        Self { place, capabilities, machine }
    }

    /// Returns another machine with the same store.
    fn other(&self) -> Machine {
        Machine::new(Arc::clone(&self.machine.store))
    }

    /// Opens the session after a start of the machine.
    async fn open(&self, boot: &str) -> Mirror {
        self.try_open(boot, |mirror| mirror).await.unwrap()
    }

    async fn try_open(
        &self,
        boot: &str,
        set: impl FnOnce(MirrorBuilder) -> MirrorBuilder,
    ) -> Result<Mirror, SyncError> {
        let capabilities = self.capabilities.clone();
        self.machine
            .try_open_with(|mirror| set(mirror.capabilities(capabilities).booted(boot)))
            .await
    }

    /// Opens the session, writes files, stores them and ends the process.
    async fn store(&self, boot: &str, files: &[(&str, &str)]) {
        let mirror = self.open(boot).await;
        files.iter().for_each(|(path, content)| self.machine.write(path, content));
        store(&mirror).await;
    }

    fn entry(&self, number: u64) -> PathBuf {
        self.place.path().join("store").join(LOG).join(format!("{number:020}"))
    }

    fn object(&self, path: &str) -> PathBuf {
        self.place.path().join("store").join(PREFIX).join(path)
    }

    fn journal(&self) -> PathBuf {
        self.machine.state().join("journal")
    }

    /// Asserts that the working copy and the projection have these files and nothing else.
    #[track_caller]
    fn check_files(&self, files: &[(&str, &str)]) {
        let expected = crate::machine::expected(files);
        assert_eq!(self.machine.files(), expected);
        assert_eq!(read_files(&self.object("")), expected);
    }
}

/// Stores all changes and returns the number of the last entry.
async fn store(mirror: &Mirror) -> u64 {
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
    report.entry
}
