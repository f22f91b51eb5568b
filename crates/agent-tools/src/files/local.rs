//! The file calls, in the process that serves the session.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use artifact_sync::SyncReport;
use policy::{Access, CreationRules};
use sandbox_core::{
    EntryPlace, FileError, FileKind, FileStat, FoundEntry, RelativePath, SessionDir,
};

use super::location::{EntryLocation, failed};
use super::{DirectoryPage, FileBytes, Judged, ListOptions, ListedEntry, MAX_RANGE_BYTES};
use crate::engine::Engine;
use crate::session::{LocalSession, blocking};
use crate::tool_error::ToolError;
use crate::tools::read_file::ByteRange;
use crate::workspace::Turn;

/// The maximum number of entries of a directory that is renamed under rules for new files: each of
/// them is judged.
const MAX_JUDGED: usize = 100_000;

impl LocalSession {
    pub(crate) async fn stat(&self, path: &str) -> Result<FileStat, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let stat = location.find(self)?.entry.stat().map_err(|error| location.error(error))?;
        self.confirm(turn).await?;
        Ok(stat)
    }

    pub(crate) async fn list(
        &self,
        path: &str,
        options: ListOptions,
    ) -> Result<DirectoryPage, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let Judged { entry, real_path } = location.find(self)?;
        let sandbox = self.sandbox();
        let shown = move || page(&entry, &real_path, &*sandbox, &options);
        let page = blocking(shown).await?.map_err(|error| location.error(error))?;
        self.confirm(turn).await?;
        Ok(page)
    }

    pub(crate) async fn read_range(
        &self,
        path: &str,
        range: ByteRange,
    ) -> Result<FileBytes, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let relative = location.below_root()?;
        let file = location.root().dir()?.open_file(relative);
        let file = file.map_err(|error| location.error(error))?;
        location.check_file(self, &file, Access::Read)?;
        let read = blocking(move || read_part(file, range)).await?;
        let bytes = read.map_err(|source| {
            let path = relative.as_ref().to_owned();
            location.error(FileError::Io { operation: "read", path, source })
        })?;
        self.confirm(turn).await?;
        Ok(bytes)
    }

    pub(crate) async fn create_dir(&self, path: &str) -> Result<SyncReport, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        if location.relative.is_some() {
            if location.is_of_session() {
                self.check_access(&location.absolute, Access::Write)?;
                let full = |source| ToolError::Write { path: path.to_owned(), source };
                self.reserve(&location.absolute, 0).await.map_err(full)?;
            }
            let place = location.place_with_parents(self)?.entry;
            place.create_directory(0o755).map_err(|error| location.error(error))?;
        }
        self.store_changes(turn, &location, Scope::One).await
    }

    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<SyncReport, ToolError> {
        let turn = self.begin().await?;
        let (source, target) = (self.entry_location(from)?, self.entry_location(to)?);
        let Judged { entry: moved, real_path } = source.place(self)?;
        let stat = existing(&source, &moved)?;
        source.check(self, &real_path, Access::Read)?;
        if source.is_of_session() != target.is_of_session() {
            return Err(failed(format!(
                "{from} cannot be moved to {to}, which is on another file system; copy the file"
            )));
        }
        let Judged { entry: place, real_path: new_path } = target.place_with_parents(self)?;
        let is_directory = stat.kind == FileKind::Directory;
        if is_directory && source.is_of_session() {
            self.check_tree(&real_path)?;
            if let Some(rules) = self.sandbox().creation_rules() {
                let (dir, relative) =
                    (Arc::clone(&self.workspace.dir), source.below_root()?.clone());
                let denied = blocking(move || first_denied(&dir, &relative, &new_path, &rules));
                if let Some(denied) = denied.await?? {
                    self.check_access(&denied, Access::Write)?;
                    return Err(failed(format!(
                        "the session's policy denies creating {}",
                        denied.display()
                    )));
                }
            }
        }
        moved.rename_to(&place).map_err(|error| source.error(error))?;
        let scope = if is_directory { Scope::Tree } else { Scope::One };
        self.store_changes(turn, &target, scope).await
    }

    pub(crate) async fn delete_file(&self, path: &str) -> Result<SyncReport, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let place = location.place(self)?.entry;
        place.remove_file().map_err(|error| location.error(error))?;
        self.store_changes(turn, &location, Scope::One).await
    }

    pub(crate) async fn delete_dir(&self, path: &str) -> Result<SyncReport, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let Judged { entry: place, real_path } = location.place(self)?;
        if existing(&location, &place)?.kind != FileKind::Directory {
            return Err(failed(format!("{path} is not a directory")));
        }
        if location.is_of_session() {
            self.check_tree(&real_path)?;
        }
        let removed = blocking(move || place.remove_tree()).await?;
        removed.map_err(|error| location.error(error))?;
        self.store_changes(turn, &location, Scope::Tree).await
    }

    /// Returns an error if a rule of the policy names a path below a directory that is moved or
    /// removed.
    fn check_tree(&self, dir: &Path) -> Result<(), ToolError> {
        match self.sandbox().restricted_below(dir) {
            None => Ok(()),
            Some(path) => {
                self.check_access(&path, Access::Read)?;
                self.check_access(&path, Access::Write)
            }
        }
    }

    /// Applies the policy to what a call has changed, and mirrors it.
    pub(super) async fn store_changes(
        &self,
        turn: Turn,
        location: &EntryLocation,
        scope: Scope,
    ) -> Result<SyncReport, ToolError> {
        let mut report = SyncReport::default();
        if location.is_of_session() {
            let affects = |path: &RelativePath| self.sandbox().affects_policy(path.as_ref());
            if scope == Scope::Tree || location.relative.as_ref().is_some_and(affects) {
                self.reapply_policy().await;
            }
            if let Some(mirror) = &self.workspace.mirror {
                match mirror.sync().await.and_then(|report| mirror.check().map(|()| report)) {
                    Ok(synced) => report = synced,
                    Err(error) => return Err(self.sync_failed(error).await),
                }
            }
        }
        self.confirm(turn).await?;
        Ok(report)
    }

    /// Proves that this home has owned the session during the call.
    pub(super) async fn confirm(&self, turn: Turn) -> Result<(), ToolError> {
        match turn.confirm().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.sync_failed(error).await),
        }
    }
}

/// The extent of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    One,
    /// Further files below.
    Tree,
}

fn existing(location: &EntryLocation, place: &EntryPlace) -> Result<FileStat, ToolError> {
    let stat = place.stat().map_err(|error| location.error(error))?;
    stat.ok_or_else(|| {
        let source = std::io::ErrorKind::NotFound.into();
        location.error(FileError::Io { operation: "find", path: "".into(), source })
    })
}

fn page(
    dir: &FoundEntry,
    real_path: &Path,
    sandbox: &dyn Engine,
    options: &ListOptions,
) -> Result<DirectoryPage, FileError> {
    let (names, unnameable) = dir.names()?;
    let mut page = DirectoryPage { unnameable, ..DirectoryPage::default() };
    let begin =
        options.after.as_ref().map_or(0, |after| names.partition_point(|name| name <= after));
    let mut last = None;
    for name in &names[begin..] {
        if page.entries.len() == options.limit.max(1) {
            page.next = last;
            break;
        }
        last = Some(name.clone());
        if !sandbox.allows(&real_path.join(name), Access::Read) {
            continue;
        }
        if let Some(stat) = dir.stat_entry(name)? {
            page.entries.push(ListedEntry { name: name.clone(), stat });
        }
    }
    Ok(page)
}

fn read_part(mut file: std::fs::File, range: ByteRange) -> std::io::Result<FileBytes> {
    let total_bytes = file.metadata()?.len();
    let end = range.end.unwrap_or(u64::MAX);
    let length = end.saturating_sub(range.start).min(MAX_RANGE_BYTES);
    let mut bytes = Vec::new();
    if range.start < total_bytes {
        file.seek(SeekFrom::Start(range.start))?;
        file.take(length).read_to_end(&mut bytes)?;
    }
    Ok(FileBytes { bytes, total_bytes })
}

/// Returns the first path that a directory would have after its renaming, and that must not be
/// created.
fn first_denied(
    root: &SessionDir,
    from: &RelativePath,
    to: &Path,
    rules: &CreationRules,
) -> Result<Option<std::path::PathBuf>, ToolError> {
    let mut waiting = vec![(from.clone(), to.to_owned())];
    let mut count = 0;
    while let Some((dir, new_path)) = waiting.pop() {
        let found = root.find(Some(&dir)).map_err(|source| ToolError::File { source })?;
        let (names, _) = found.names().map_err(|source| ToolError::File { source })?;
        for name in names {
            count += 1;
            if count > MAX_JUDGED {
                let problem = format!("{from} has more than {MAX_JUDGED} entries to judge");
                return Err(failed(problem));
            }
            let path = new_path.join(&name);
            if rules.denies(&path) {
                return Ok(Some(path));
            }
            let stat = found.stat_entry(&name).map_err(|source| ToolError::File { source })?;
            if stat.is_some_and(|stat| stat.kind == FileKind::Directory) {
                let below = dir.join(&name).map_err(|source| ToolError::Path { source })?;
                waiting.push((below, path));
            }
        }
    }
    Ok(None)
}
