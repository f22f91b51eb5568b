//! Locks of the places where skills are installed.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use futures::lock::{Mutex as AsyncMutex, OwnedMutexGuard};
use rustix::fs::{FlockOperation, Mode, OFlags};
use sandbox_core::internal::{blocking, lock};

/// Device and inode of a locked file.
type FileId = (u64, u64);

/// The file or directory that is locked.
#[derive(Clone, Debug)]
pub(crate) enum LockPlace {
    /// Created with its parents if it is absent.
    File(PathBuf),
    Directory(PathBuf),
}

/// Exclusive use of a place, among the tasks of this process and among processes.
#[derive(Debug)]
pub(crate) struct TargetLock {
    // Unlocked before the guard, so that the next task of this process does not wait for it.
    _file: File,
    _guard: OwnedMutexGuard<()>,
}

impl TargetLock {
    /// Waits for the lock of a place.
    ///
    /// A dropped future takes no lock: its thread passes the lock on as soon as it has it.
    pub(crate) async fn take(place: LockPlace) -> io::Result<Self> {
        let (file, id) = blocking(move || {
            let (path, flags) = match &place {
                LockPlace::Directory(path) => (path, OFlags::RDONLY | OFlags::DIRECTORY),
                LockPlace::File(path) => {
                    if let Some(parent) = path.parent() {
                        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                    }
                    (path, OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW)
                }
            };
            let mode = Mode::from_raw_mode(0o600);
            let file = File::from(rustix::fs::open(path, flags | OFlags::CLOEXEC, mode)?);
            let metadata = file.metadata()?;
            io::Result::Ok((file, (metadata.dev(), metadata.ino())))
        })
        .await?;
        // One thread of this process at a time waits for other processes.
        let guard = of_process(id).lock_owned().await;
        blocking(move || {
            loop {
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => return Ok(Self { _file: file, _guard: guard }),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        })
        .await
    }
}

/// Returns the lock of this process for a file.
fn of_process(id: FileId) -> Arc<AsyncMutex<()>> {
    static LOCKS: Mutex<Option<HashMap<FileId, Weak<AsyncMutex<()>>>>> = Mutex::new(None);
    let mut locks = lock(&LOCKS);
    let locks = locks.get_or_insert_default();
    if let Some(known) = locks.get(&id).and_then(Weak::upgrade) {
        return known;
    }
    locks.retain(|_, known| known.strong_count() > 0);
    let new = Arc::default();
    locks.insert(id, Arc::downgrade(&new));
    new
}
