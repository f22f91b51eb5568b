//! Flushing of a store on the local disk.
//!
//! `syncfs(2)` would need one call, but it waits for every file that any program has written to the
//! file system. So only the objects of a call and their directories are flushed, in parallel: the
//! file system then writes its journal once for all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore};
use sandbox_core::internal::blocking;

use crate::durability::Durability;
use crate::transfer::stores::StoreCapabilities;

/// Files and directories that are flushed at once.
const FLUSHES_AT_ONCE: usize = 16;

/// Store on the local disk whose changes must survive a loss of power.
#[derive(Clone)]
pub(crate) struct Disk {
    root: PathBuf,
    /// The store, whose puts return when the disk has the object.
    pub(crate) flushing: Arc<dyn ObjectStore>,
}

impl Disk {
    /// Returns the disk of a store. Returns `None` if the store needs no flush.
    pub(crate) fn of(capabilities: &StoreCapabilities, durability: Durability) -> Option<Self> {
        match durability {
            Durability::Memory => None,
            Durability::Disk => {
                let root = capabilities.root.clone()?;
                let flushing = Arc::clone(capabilities.flushing.as_ref()?);
                Some(Self { root, flushing })
            }
        }
    }

    /// Returns when the disk has these objects, and all directories that lead to them.
    pub(crate) async fn flush(&self, keys: &[Key]) -> Result<(), Error> {
        let objects = keys.iter().map(|key| self.place(key));
        let directories: BTreeSet<PathBuf> =
            keys.iter().flat_map(|key| self.directories(&self.place(key))).collect();
        self.flush_all(objects.chain(directories).collect()).await
    }

    /// Returns when the disk has the names of the objects in a directory.
    pub(crate) async fn flush_directory(&self, prefix: &Key) -> Result<(), Error> {
        self.flush_all(vec![self.place(prefix)]).await
    }

    async fn flush_all(&self, paths: Vec<PathBuf>) -> Result<(), Error> {
        let flushes = futures::stream::iter(paths)
            .map(|path| blocking(move || flush(&path).map_err(|source| failed(&path, source))));
        flushes.buffer_unordered(FLUSHES_AT_ONCE).try_collect().await
    }

    fn place(&self, key: &Key) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(key.parts().map(|part| part.as_ref().to_owned()));
        path
    }

    /// Returns the directories from that of an object up to the root.
    fn directories(&self, object: &Path) -> Vec<PathBuf> {
        let above = object.ancestors().skip(1);
        above.take_while(|dir| dir.starts_with(&self.root)).map(Path::to_owned).collect()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Creates a directory with mode 0700 and those above it. Flushes the directories that contain new
/// ones, if they can be opened and the file system supports that.
#[cfg(feature = "fs")]
pub(crate) fn create_directory(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    let absent: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in absent.into_iter().filter_map(Path::parent) {
        if let Err(error) = flush(parent) {
            tracing::debug!(parent = %parent.display(), %error, "a directory is not flushed");
        }
    }
    Ok(())
}

fn flush(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> Error {
    let source = format!("cannot flush {}: {source}", path.display()).into();
    Error::Generic { store: "local disk", source }
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::transfer::open_directory;

    #[tokio::test]
    async fn objects_are_flushed_with_the_directories_up_to_the_root() {
        let root = tempfile::tempdir().unwrap();
        let opened = open_directory(&root.path().join("a/store")).unwrap();
        let disk = Disk::of(&opened.capabilities, Durability::Disk).unwrap();
        let keys = ["logs/user_u/s/blobs/é #1x", "logs/user_u/s/1"].map(Key::from);
        for key in &keys {
            opened.store.put(key, "content".into()).await.unwrap();
        }
        disk.flush(&keys).await.unwrap();
        disk.flush_directory(&Key::from("logs/user_u/s")).await.unwrap();
        let above = disk.directories(&disk.place(&keys[1]));
        let names: Vec<&str> =
            above.iter().map(|dir| dir.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["s", "user_u", "logs", "store"]);
    }

    #[tokio::test]
    async fn an_object_that_is_gone_cannot_be_flushed() {
        let root = tempfile::tempdir().unwrap();
        let opened = open_directory(root.path()).unwrap();
        let disk = Disk::of(&opened.capabilities, Durability::Disk).unwrap();
        let error = disk.flush(&[Key::from("absent")]).await.unwrap_err();
        assert!(error.to_string().contains("cannot flush"), "{error}");
        assert!(disk.flush_directory(&Key::from("absent")).await.is_err());
    }

    #[test]
    fn only_a_store_on_the_local_disk_is_flushed_and_only_on_request() {
        let root = tempfile::tempdir().unwrap();
        let opened = open_directory(root.path()).unwrap();
        assert!(Disk::of(&opened.capabilities, Durability::Memory).is_none());
        let memory = crate::transfer::open_store("memory:///").unwrap();
        assert!(Disk::of(&memory.capabilities, Durability::Disk).is_none());
    }
}
