//! Files that make the programs of sessions trust the gate's authority.
//!
//! A process has one gate, and so one set of files. A session sees them in the place of the
//! system's own, though it cannot see their directory.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use egress::{Trust, TrustFiles};
use sandbox_core::Overlay;

/// The file by whose lock other processes know that a directory is in use.
const LOCK: &str = "lock";

/// The files of one gate. Dropping the value removes them; sessions still see them.
#[derive(Debug)]
pub(crate) struct GateTrust {
    dir: PathBuf,
    /// Locked until the value is dropped.
    _lock: File,
    overlays: Vec<Overlay>,
}

impl GateTrust {
    /// Writes the files into a new directory below `root`, which other processes of the home use
    /// too. Removes the directories of processes that were killed.
    pub(crate) fn create(root: &Path, trust: &Trust) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let turn = lock_file(&root)?;
        turn.lock()?;
        sweep(&root)?;
        let (dir, lock) = new_directory(&root)?;
        drop(turn);
        let files = trust.write(&dir)?;
        Ok(Self { overlays: overlays(&files), dir, _lock: lock })
    }

    /// Returns the overlays that make programs trust the gate.
    pub(crate) fn overlays(&self) -> Vec<Overlay> {
        self.overlays.clone()
    }
}

impl Drop for GateTrust {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn overlays(files: &TrustFiles) -> Vec<Overlay> {
    let over = |source: &Path| {
        let source = source.to_owned();
        move |target| Overlay { target, source: source.clone() }
    };
    let bundles = Trust::bundle_targets().into_iter().map(over(&files.bundle));
    let keystores = Trust::keystore_targets().into_iter().map(over(&files.keystore));
    bundles.chain(keystores).collect()
}

/// Returns the variables for programs that bring their own certificates, if the session sees the
/// bundle in the place of a file of the system.
pub(crate) fn variables(overlays: &[Overlay]) -> Vec<(&'static str, String)> {
    let targets = Trust::bundle_targets();
    let bundle = overlays.iter().find(|overlay| targets.contains(&overlay.target));
    bundle.map_or_else(Vec::new, |bundle| Trust::variables(&bundle.target))
}

fn lock_file(dir: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))
}

/// Creates a directory whose name is free, and locks it.
fn new_directory(root: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0_u32;
    let dir = loop {
        let dir = root.join(number.to_string());
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => break created.map(|()| dir)?,
        }
    };
    let lock = lock_file(&dir)?;
    lock.lock()?;
    Ok((dir, lock))
}

/// Removes the directories that no process has locked.
fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)?.flatten() {
        let dir = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && lock_file(&dir).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use egress::Gate;

    use super::*;

    #[tokio::test]
    async fn the_files_of_a_killed_process_are_removed_and_those_of_a_live_one_stay() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("trust");
        let gate = Gate::builder().build().unwrap();
        let first = GateTrust::create(&root, gate.trust()).unwrap();
        let left = root.join("7");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("bundle.pem"), "").unwrap();
        let second = GateTrust::create(&root, gate.trust()).unwrap();
        assert!(!left.exists() && first.dir.join("bundle.pem").exists());
        assert_ne!(first.dir, second.dir);
        for Overlay { target, source } in second.overlays() {
            assert!(target.is_file() && source.starts_with(&second.dir), "{target:?}");
        }
        drop((first, second));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "only the lock is left");
    }
}
