//! Files that killed processes leave: uploads in a store on the local disk, and temporary names in
//! the session directory.
//!
//! The lock on the state directory proves that the process that held it before has ended, or has
//! given the session up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path as Key;
use sandbox_core::{RelativePath, Replaced};

use crate::log::{Hash, LogStore, Node};
use crate::mirror::place::{Expected, conflict_path, remove_now};
use crate::mirror::shared::Shared;
use crate::paths::relative;
use crate::scan::{Signature, SkipReason, Skipped};
use crate::transfer::{Remote, clear_place, sweep_local};

/// Time after which a staging file counts as left behind. A running upload writes more often, and a
/// stopped one begins again.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);

/// Removes what earlier processes of this machine left of these blobs, in the background. Only they
/// know the names, so the age of the files does not matter.
pub(super) fn sweep_uploads(remote: &Arc<Remote>, log: &LogStore, ended: BTreeSet<String>) {
    if ended.is_empty() || remote.capabilities().root.is_none() {
        return;
    }
    let (remote, blobs) = (Arc::clone(remote), log.blobs());
    // No result depends on it.
    drop(tokio::task::spawn_blocking(move || {
        sweep(&remote, &blobs, Duration::ZERO, &|name| ended.contains(name));
    }));
}

impl Shared {
    /// Removes files and symlinks of killed processes that have a temporary name in the session
    /// directory, if the log has their content. Any other one may be the only copy of what a
    /// program wrote, and stays among the skipped files.
    pub(super) fn sweep_staged(&self, skipped: &mut Vec<Skipped>) {
        skipped.retain(|skip| {
            let is_swept = skip.reason == SkipReason::Staged
                && relative(&skip.path).is_some_and(|path| self.remove_staged(&path).is_some());
            !is_swept
        });
    }

    fn remove_staged(&self, path: &RelativePath) -> Option<()> {
        let log = self.ledger().shared_log();
        let place = self.dir.path().join(path);
        let found = std::fs::symlink_metadata(&place).ok()?;
        let (is_known, expected, version) = if found.is_symlink() {
            let text = std::fs::read_link(&place).ok()?;
            let is_known = log.nodes.values().any(|node| match node {
                Node::Symlink { target } => text.as_os_str() == target.as_str(),
                Node::File(_) | Node::Directory { .. } => false,
            });
            (is_known, Expected::Symlink, Hash::of(text.as_os_str().as_encoded_bytes()))
        } else {
            let file = self.dir.open_file(path).ok().filter(|_| found.is_file())?;
            let signature = Signature::of(&file).ok()?;
            let (hash, size) = Hash::of_file(&file).ok()?;
            let is_known = size == 0 || log.files().any(|(_, file)| file.hash == hash);
            (is_known, Expected::recorded(signature.racy(), hash), hash)
        };
        let removed = is_known
            .then(|| remove_now(&self.dir, path, expected, &conflict_path(path, version)))?;
        (removed.ok()? == Replaced::Expected).then_some(())
    }

    /// Removes staging files of this session in the background.
    pub(super) fn sweep_in_background(self: &Arc<Self>) {
        if self.remote.capabilities().root.is_none() {
            return;
        }
        let shared = Arc::clone(self);
        // No result depends on it.
        drop(tokio::task::spawn_blocking(move || {
            sweep(&shared.remote, shared.log.prefix(), LEFT_BEHIND, &|_| true);
            // Other programs may keep files with such names beside their objects.
            let is_ours = |path: &str| shared.knows(path);
            sweep(&shared.remote, shared.remote.prefix(), LEFT_BEHIND, &is_ours);
        }));
    }

    /// Returns whether the session has or had an object for this path.
    fn knows(&self, path: &str) -> bool {
        let ledger = self.ledger();
        let log = ledger.log();
        log.nodes.contains_key(path)
            || log.removed.contains_key(path)
            || ledger.seen(path).is_some()
    }

    /// Returns the paths of all objects that the session has or had, if they can have staging
    /// files.
    pub(super) fn staged_paths(&self) -> BTreeSet<String> {
        if self.remote.capabilities().root.is_none() {
            return BTreeSet::new();
        }
        let ledger = self.ledger();
        let log = ledger.log();
        let seen = ledger.all_seen().map(|(path, _)| path);
        log.nodes.keys().chain(log.removed.keys()).chain(seen).cloned().collect()
    }
}

/// Removes the staging files of a deleted session, whatever their age. `paths` are those of its
/// objects.
pub(super) fn sweep_erased(remote: &Remote, log: &Key, paths: &BTreeSet<String>) {
    sweep(remote, log, Duration::ZERO, &|_| true);
    sweep(remote, remote.prefix(), Duration::ZERO, &|path| paths.contains(path));
    let Some(root) = &remote.capabilities().root else { return };
    // A process that was killed after it deleted the last file leaves the directory.
    for empty in [&log.clone().join("blobs"), remote.prefix()] {
        if let Err(error) = clear_place(root, empty) {
            tracing::debug!(%empty, %error, "cannot remove the directories of a deleted session");
        }
    }
}

fn sweep(remote: &Remote, prefix: &Key, older_than: Duration, is_ours: &dyn Fn(&str) -> bool) {
    let Some(root) = &remote.capabilities().root else { return };
    match sweep_local(root, prefix, older_than, is_ours) {
        Ok(0) => {}
        Ok(count) => tracing::info!(%prefix, count, "files of killed uploads were removed"),
        Err(error) => tracing::debug!(%prefix, %error, "cannot look for files of killed uploads"),
    }
}
