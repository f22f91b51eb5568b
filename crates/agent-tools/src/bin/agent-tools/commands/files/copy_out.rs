//! Copies of files of a session on the host.
//!
//! The agent chooses names and links. So the copy is written beneath a descriptor of its directory,
//! and no link leads out of it.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use agent_tools::{ByteRange, FileKind, FileNote, RelativePath, Session};
use sandbox_core::{FileError, SessionDir};
use tar::{Archive, Entry, EntryType};

use super::counted::Counted;
use super::{Copied, own_name};
use crate::failure::Failure;

/// The size of the parts in which a file is read.
const PART_BYTES: u64 = 8 << 20;

/// Copies a file or directory of a session.
pub(super) async fn copy(
    session: &Session,
    from: &str,
    to: &Path,
) -> std::result::Result<Copied, Failure> {
    let stat = session.stat(from).await.map_err(Failure::failed)?;
    let target = if to.is_dir() { to.join(own_name(from)?) } else { to.to_owned() };
    match stat.kind {
        FileKind::Directory => directory(session, from, target).await,
        FileKind::File => file(session, from, target).await,
        _ => Err(Failure::failed_text(format!("{from} is a FIFO, a socket or a device"))),
    }
}

/// Copies one file, which appears under its name when it is whole.
async fn file(
    session: &Session,
    from: &str,
    target: PathBuf,
) -> std::result::Result<Copied, Failure> {
    let named = |error| Failure::failed_text(format!("cannot write {}: {error}", target.display()));
    let name = target.file_name().ok_or_else(|| Failure::usage("the target has no name"))?;
    let mut staged = name.to_owned();
    staged.push(format!(".{}.new", std::process::id()));
    let staged = target.with_file_name(staged);
    let options = File::options().write(true).create_new(true).clone();
    let mut file = Counted::new(options.open(&staged).map_err(named)?);
    let copied = async {
        let mut start = 0;
        loop {
            let range = ByteRange { start, end: Some(start + PART_BYTES) };
            let part = session.read_range(from, range).await.map_err(Failure::failed)?;
            if part.bytes.is_empty() {
                return Ok(start);
            }
            file.write_all(&part.bytes).map_err(named)?;
            start += part.bytes.len() as u64;
        }
    };
    let moved = match copied.await {
        Ok(bytes) => std::fs::rename(&staged, &target).map(|()| bytes).map_err(named),
        Err(failure) => Err(failure),
    };
    if moved.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    let target = target.to_string_lossy().into_owned();
    Ok(Copied { target, entries: 1, bytes: moved?, ..Copied::default() })
}

async fn directory(
    session: &Session,
    from: &str,
    target: PathBuf,
) -> std::result::Result<Copied, Failure> {
    let dir = SessionDir::create(&target).map_err(Failure::failed)?;
    let (reader, writer) = std::io::pipe().map_err(Failure::failed)?;
    let reading = tokio::task::spawn_blocking(move || {
        let reader = Counted::new(File::from(OwnedFd::from(reader)));
        unpack(&dir, reader)
    });
    let mut writer = tokio::fs::File::from_std(File::from(OwnedFd::from(writer)));
    let exported = session.export_tar(from, &mut writer).await;
    drop(writer);
    let unpacked = reading.await.map_err(Failure::failed)?;
    let mut omitted = match (&exported, unpacked) {
        (Ok(_), unpacked) => unpacked.map_err(Failure::failed)?,
        (Err(_), Err(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Failure::failed(error));
        }
        (Err(_), _) => Vec::new(),
    };
    let report = exported.map_err(Failure::failed)?;
    omitted.extend(report.omitted);
    let target = target.to_string_lossy().into_owned();
    Ok(Copied { target, entries: report.entries, bytes: report.bytes, omitted, pending: 0 })
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
            dir.place_with_parents(path)?.create_directory(0o755)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name().map_err(io)?;
            let target = target.as_deref().and_then(Path::to_str).unwrap_or_default();
            if !stays_inside(path, Path::new(target)) {
                return Ok(Some(format!("it is a symlink that leads out, to {target}")));
            }
            dir.place_with_parents(path)?.create_symlink(target)?;
        }
        _ => {
            let (mode, modified) =
                (entry.header().mode().unwrap_or(0o644), entry.header().mtime().unwrap_or(0));
            let mut staged = dir.stage(path)?;
            std::io::copy(entry, &mut staged).map_err(io)?;
            staged.set_mode(u16::try_from(mode & 0o777).unwrap_or(0o644) | 0o600)?;
            if let Ok(seconds) = i64::try_from(modified) {
                staged.set_modified((seconds, 0))?;
            }
            staged.commit()?;
        }
    }
    Ok(None)
}

/// Returns whether a symlink stays in the copied directory.
fn stays_inside(link: &RelativePath, target: &Path) -> bool {
    let mut depth = link.components().count() - 1;
    target.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir if depth > 0 => {
            depth -= 1;
            true
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_that_leads_out_of_the_copy_is_left_out() {
        let inside = |link: &str, target: &str| {
            stays_inside(&RelativePath::parse(link).unwrap(), Path::new(target))
        };
        assert!(inside("a", "b/c") && inside("d/a", "../b") && inside("d/a", "./x/../../b"));
        assert!(!inside("a", "../b") && !inside("d/a", "../../b") && !inside("a", "/etc/passwd"));
    }
}
