//! Copies of files of a session on the host.
//!
//! The agent chooses names and links. So the copy is written beneath a descriptor of its directory,
//! no symlink below it is followed, and no link leads out of it.

use std::fs::File;
use std::io::{Read, Result};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use agent_tools::{FileKind, FileNote, RelativePath, Session, TarReport};
use sandbox_core::internal::{link_problem, without_symlinks};
use sandbox_core::{EntryPlace, FileError, SessionDir};
use tar::{Archive, Entry, EntryType};

use super::counted::Counted;
use super::new_file::{self, NewFile};
use super::{Copied, own_name};
use crate::failure::Failure;
use crate::progress_bar::Bars;

/// Copies a file or directory of a session.
pub(super) async fn copy(
    session: &Session,
    from: &str,
    to: &Path,
    bars: Bars,
) -> std::result::Result<Copied, Failure> {
    let stat = session.stat(from).await.map_err(Failure::failed)?;
    let target = if to.is_dir() { to.join(own_name(from)?) } else { to.to_owned() };
    match stat.kind {
        FileKind::Directory => {
            if target.symlink_metadata().is_err() {
                let created = create(&target, stat.mode.into());
                created.map_err(|error| new_file::failed(&target, &error))?;
            }
            directory(session, from, &target, bars).await
        }
        FileKind::File => file(session, from, &target, bars).await,
        _ => Err(Failure::failed_text(format!("{from} is a FIFO, a socket or a device"))),
    }
}

/// Copies one file, which appears under its name when it is whole.
async fn file(
    session: &Session,
    from: &str,
    target: &Path,
    bars: Bars,
) -> std::result::Result<Copied, Failure> {
    let new = NewFile::begin(target)?;
    let failed = |error: &_| new_file::failed(target, error);
    let (report, new) =
        export(session, from, bars, move |reader| new.receive(reader), failed).await?;
    if report.entries == 0 {
        let reason = report.omitted.first().map(ToString::to_string);
        return Err(Failure::failed_text(reason.unwrap_or_else(|| format!("{from} is gone"))));
    }
    new.commit()?;
    Ok(copied(target, report, Vec::new()))
}

async fn directory(
    session: &Session,
    from: &str,
    target: &Path,
    bars: Bars,
) -> std::result::Result<Copied, Failure> {
    let dir = SessionDir::create(target).map_err(|error| match error {
        FileError::UnsafeDirectory { path, problem } => {
            Failure::failed_text(format!("the target {} {problem}", path.display()))
        }
        error => Failure::failed(error),
    })?;
    let dir = without_symlinks(dir);
    let failed = |error: &std::io::Error| Failure::failed_text(error.to_string());
    let (report, omitted) =
        export(session, from, bars, move |reader| unpack(&dir, reader), failed).await?;
    Ok(copied(target, report, omitted))
}

/// Creates a directory with the mode of the one in the session. The owner can add files.
fn create(target: &Path, mode: u32) -> Result<()> {
    if let Some(above) = target.parent() {
        std::fs::create_dir_all(above)?;
    }
    std::fs::DirBuilder::new().mode(mode & 0o777 | 0o700).create(target)
}

/// Passes the archive of a file or directory to `read`, and returns its result.
async fn export<T: Send + 'static>(
    session: &Session,
    from: &str,
    bars: Bars,
    read: impl FnOnce(Counted<File>) -> Result<T> + Send + 'static,
    failed: impl Fn(&std::io::Error) -> Failure,
) -> std::result::Result<(TarReport, T), Failure> {
    let (reader, writer) = std::io::pipe().map_err(Failure::failed)?;
    let reading = tokio::task::spawn_blocking(move || {
        read(Counted::new(File::from(OwnedFd::from(reader)), bars))
    });
    let mut writer = tokio::fs::File::from_std(File::from(OwnedFd::from(writer)));
    let exported = session.export_tar(from, &mut writer).await;
    drop(writer);
    let read = reading.await.map_err(Failure::failed)?;
    match (exported, read) {
        (Ok(report), Ok(read)) => Ok((report, read)),
        // The archive has no end because the export failed.
        (Err(error), Err(read)) if read.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Failure::failed(error))
        }
        (_, Err(error)) => Err(failed(&error)),
        (Err(error), Ok(_)) => Err(Failure::failed(error)),
    }
}

fn copied(target: &Path, report: TarReport, mut omitted: Vec<FileNote>) -> Copied {
    omitted.extend(report.omitted);
    let target = target.to_string_lossy().into_owned();
    Copied { target, entries: report.entries, bytes: report.bytes, omitted, pending: 0 }
}

/// Unpacks an archive of files of a session. Returns what was left out.
fn unpack(dir: &SessionDir, reader: impl Read) -> Result<Vec<FileNote>> {
    let mut archive = Archive::new(reader);
    let mut omitted = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path =
            RelativePath::parse(name.trim_end_matches('/')).map_err(std::io::Error::other)?;
        let left_out = unpack_entry(dir, &mut entry, &path).map_err(std::io::Error::other)?;
        omitted.extend(left_out.map(|reason| FileNote::new(&path, &reason)));
    }
    Ok(omitted)
}

/// Unpacks one entry. Returns the reason if it is left out.
fn unpack_entry<R: Read>(
    dir: &SessionDir,
    entry: &mut Entry<'_, R>,
    path: &RelativePath,
) -> std::result::Result<Option<String>, FileError> {
    let io = |source| FileError::Io { operation: "write", path: path.as_ref().to_owned(), source };
    match entry.header().entry_type() {
        EntryType::Directory => {
            let place = dir.place_with_parents(path)?;
            if kind_of(&place)? == Some(FileKind::Symlink) {
                let found = "a symlink in the place of a directory";
                return Err(FileError::NotAFile { path: path.as_ref().to_owned(), found });
            }
            // What only the owner may enter stays so. The owner can always add files.
            place.create_directory(mode_of(entry, 0o755) | 0o700)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name().map_err(io)?;
            let target = target.as_deref().and_then(Path::to_str).unwrap_or_default();
            if let Some(problem) = link_problem(dir, None, path, Path::new(target)) {
                return Ok(Some(format!("it is a symlink {problem}, to {target}")));
            }
            let place = dir.place_with_parents(path)?;
            if kind_of(&place)? == Some(FileKind::Other) {
                let found = "a FIFO, a socket or a device";
                return Err(FileError::NotAFile { path: path.as_ref().to_owned(), found });
            }
            place.create_symlink(target)?;
        }
        _ => {
            let (mode, modified) = (mode_of(entry, 0o644), entry.header().mtime().unwrap_or(0));
            // A symlink is replaced, and not written through.
            let place = dir.place_with_parents(path)?;
            if kind_of(&place)? == Some(FileKind::Symlink) {
                place.remove_file()?;
            }
            let mut staged = dir.stage(path)?;
            std::io::copy(entry, &mut staged).map_err(io)?;
            staged.set_mode(mode)?;
            if let Ok(seconds) = i64::try_from(modified) {
                staged.set_modified((seconds, 0))?;
            }
            staged.commit()?;
        }
    }
    Ok(None)
}

/// Returns the permissions of an entry.
fn mode_of<R: Read>(entry: &Entry<'_, R>, otherwise: u16) -> u16 {
    let mode = entry.header().mode().ok().map(|mode| mode & 0o777);
    mode.and_then(|mode| u16::try_from(mode).ok()).unwrap_or(otherwise)
}

fn kind_of(place: &EntryPlace) -> std::result::Result<Option<FileKind>, FileError> {
    Ok(place.stat()?.map(|stat| stat.kind))
}
