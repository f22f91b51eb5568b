//! Unpacking of a tar archive into session files.
//!
//! 1. The archive is read to its end into a file without a name, within the limits.
//! 2. Every entry is judged: its name, type and links, the policy, and what is in its place.
//! 3. Only then the files are written. Each is replaced in one step.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use policy::Access;
use sandbox_core::{FileError, FileKind, RelativePath, SessionDir};
use tar::{Archive, Entry};

use super::archive::entry_name;
use super::judge::{Planned, PlannedKind, Problems, plan, unreadable};
use super::local::Scope;
use super::location::{EntryLocation, Root, failed};
use super::{TarLimits, TarReport};
use crate::engine::Engine;
use crate::session::{LocalSession, blocking};
use crate::tool_error::ToolError;

impl LocalSession {
    /// Unpacks an archive that comes from a pipe.
    pub(crate) async fn import_tar(
        &self,
        path: &str,
        limits: TarLimits,
        pipe: File,
    ) -> Result<TarReport, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        location.check(self, &location.absolute, Access::Write)?;
        let spool = self.workspace.state.dir().unnamed_file();
        let spool = spool.map_err(|error| failed(sandbox_core::with_causes(&error)))?;
        let planned = location.clone();
        let (spool, plan) = blocking(move || plan(pipe, spool, limits, &planned)).await??;
        let mut report = TarReport::default();
        let mut problems = Problems::default();
        for Planned { path, kind } in &plan {
            report.entries += 1;
            if let PlannedKind::File { size } = kind {
                report.bytes += size;
            }
            let absolute = location.absolute_of(path);
            if let Err(error) = location.check(self, &absolute, Access::Write) {
                problems.add(path.as_str(), &error.message());
            }
        }
        problems.check()?;
        let has_room =
            !location.is_of_session() || self.sandbox().reserve(report.bytes, report.entries).await;
        if !has_room {
            let source = io::ErrorKind::QuotaExceeded.into();
            return Err(ToolError::Write { path: path.to_owned(), source });
        }
        let (sandbox, target) = (self.sandbox(), location.clone());
        let unpacked = blocking(move || Unpacking { location: target, sandbox }.run(spool, &plan));
        let unpacked = unpacked.await?;
        // Also if only a part was written.
        let stored = self.store_changes(turn, &location, Scope::Tree).await;
        unpacked?;
        report.sync = stored?;
        Ok(report)
    }
}

/// The writing of the files of an archive.
struct Unpacking {
    location: EntryLocation,
    sandbox: Arc<dyn Engine>,
}

impl Unpacking {
    fn run(&self, mut spool: File, plan: &[Planned]) -> Result<(), ToolError> {
        let mut archive = Archive::new(&mut spool);
        let entries = archive.entries().map_err(|error| unreadable(&error))?;
        if let Some(path) = &self.location.relative {
            self.create_directory(path, 0o755)?;
        }
        let mut planned = plan.iter();
        for entry in entries {
            let mut entry = entry.map_err(|error| unreadable(&error))?;
            let is_unpacked = !entry.header().entry_type().is_pax_global_extensions()
                && !matches!(entry_name(&entry.path_bytes()), Ok(None));
            if is_unpacked && let Some(Planned { path, kind }) = planned.next() {
                self.unpack(&mut entry, path, kind)?;
            }
        }
        Ok(())
    }

    fn unpack<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        path: &RelativePath,
        kind: &PlannedKind,
    ) -> Result<(), ToolError> {
        let dir = self.dir()?;
        let failed = |source| ToolError::File { source };
        match kind {
            PlannedKind::Directory => {
                let mode = entry.header().mode().ok().map(|mode| mode & 0o777);
                let mode = mode.and_then(|mode| u16::try_from(mode).ok());
                // The engine reads what it mirrors.
                self.create_directory(path, mode.unwrap_or(0o755) | 0o700)
            }
            PlannedKind::File { size } => self.write(entry, path, *size),
            PlannedKind::Symlink { target } => {
                let place = dir.place_with_parents(path).map_err(failed)?;
                self.check(|| place.real_path(), path)?;
                place.create_symlink(target).map_err(failed)
            }
            PlannedKind::HardLink { of } => {
                let of = dir.place(of).map_err(failed)?;
                self.check(|| of.real_path(), path)?;
                let place = dir.place_with_parents(path).map_err(failed)?;
                self.check(|| place.real_path(), path)?;
                place.create_hard_link(&of).map_err(failed)
            }
        }
    }

    fn create_directory(&self, path: &RelativePath, mode: u16) -> Result<(), ToolError> {
        let failed = |source| ToolError::File { source };
        let place = self.dir()?.place_with_parents(path).map_err(failed)?;
        self.check(|| place.real_path(), path)?;
        place.create_directory(mode).map(drop).map_err(failed)
    }

    fn write<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        path: &RelativePath,
        size: u64,
    ) -> Result<(), ToolError> {
        let failed = |source| ToolError::File { source };
        let dir = self.dir()?;
        let place = dir.place_with_parents(path).map_err(failed)?;
        // A symlink is replaced, and not written through.
        let found = place.stat().map_err(failed)?;
        if found.is_some_and(|found| found.kind == FileKind::Symlink) {
            self.check(|| place.real_path(), path)?;
            place.remove_file().map_err(failed)?;
        }
        let mut staged = dir.stage(path).map_err(failed)?;
        self.check(|| staged.real_path(), path)?;
        let io = |source| ToolError::Write { path: path.to_string(), source };
        let header = entry.header();
        let (mode, modified) = (header.mode().unwrap_or(0o644), header.mtime().unwrap_or(0));
        io::copy(&mut entry.take(size), &mut staged).map_err(io)?;
        let mode = u16::try_from(mode & 0o777).unwrap_or(0o644) | 0o600;
        staged.set_mode(mode).map_err(failed)?;
        // The store keeps no time that the file system cannot represent.
        if let Ok(seconds) = i64::try_from(modified) {
            staged.set_modified((seconds, 0)).map_err(failed)?;
        }
        staged.commit().map(drop).map_err(failed)
    }

    /// Checks that the policy lets a path be written: a symlink may have appeared since the entry
    /// was judged.
    fn check(
        &self,
        real_path: impl FnOnce() -> Result<std::path::PathBuf, FileError>,
        path: &RelativePath,
    ) -> Result<(), ToolError> {
        let absolute = match self.location.root() {
            Root::Session(_) => real_path().map_err(|source| ToolError::File { source })?,
            Root::Tmp(_) => self.location.absolute_of(path),
        };
        if self.sandbox.allows(&absolute, Access::Write) {
            return Ok(());
        }
        Err(failed(format!("the session's policy denies writing {path}")))
    }

    fn dir(&self) -> Result<&SessionDir, ToolError> {
        self.location.root().dir()
    }
}
