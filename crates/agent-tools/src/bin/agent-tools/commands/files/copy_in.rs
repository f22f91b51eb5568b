//! Copies of files of the host into a session.

use std::fs::{File, Metadata};
use std::io::{BufWriter, Read, Result, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use agent_tools::{ErrorKind, FileKind, FileNote, Session, TarLimits, ToolError};
use tar::{Builder, EntryType, Header};

use super::counted::Counted;
use super::{Copied, own_name};
use crate::failure::Failure;
use crate::progress_bar::Bars;

const BUFFER_BYTES: usize = 256 * 1024;
/// The maximum size of a copy.
const MAX_BYTES: u64 = 64 << 30;

/// Copies a file or directory of the host.
pub(super) async fn copy(
    session: &Session,
    from: &Path,
    to: &str,
    bars: Bars,
) -> std::result::Result<Copied, Failure> {
    let source = check_source(from)?;
    let target = target(session, from, to).await?;
    // Before any of it is copied.
    check_size(from, source.len()).map_err(Failure::failed_text)?;
    let (dir, name) = if source.is_dir() {
        (target.clone(), String::new())
    } else {
        match target.rsplit_once('/') {
            Some(("", name)) => ("/".to_owned(), name.to_owned()),
            Some((dir, name)) => (dir.to_owned(), name.to_owned()),
            None => (String::new(), target.clone()),
        }
    };
    let (reader, writer) = std::io::pipe().map_err(Failure::failed)?;
    let from = from.to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        let writer = Counted::new(File::from(OwnedFd::from(writer)), bars);
        let tar = Builder::new(BufWriter::with_capacity(BUFFER_BYTES, writer));
        Archive { tar, bytes: 0, omitted: Vec::new() }.write(&from, &name, &source)
    });
    let mut reader = tokio::fs::File::from_std(File::from(OwnedFd::from(reader)));
    let mut limits = TarLimits::default();
    limits.max_bytes = MAX_BYTES;
    limits.max_entries = 10_000_000;
    let imported = session.import_tar(&dir, &mut reader, limits).await;
    drop(reader);
    let written = writing.await.map_err(Failure::failed)?;
    let report = match (imported, written) {
        // The other side has ended the pipe.
        (Err(error), Err(write)) if write.kind() == std::io::ErrorKind::BrokenPipe => {
            return Err(Failure::failed(error));
        }
        (_, Err(error)) => return Err(Failure::failed(error)),
        (Err(error), Ok(_)) => return Err(Failure::failed(error)),
        (Ok(report), Ok(omitted)) => (report, omitted),
    };
    let (report, omitted) = report;
    let pending = report.sync.pending.len() + report.sync.still_pending;
    Ok(Copied { target, entries: report.entries, bytes: report.bytes, omitted, pending })
}

/// Returns the attributes of a file or directory that can be copied.
pub(super) fn check_source(from: &Path) -> std::result::Result<Metadata, Failure> {
    let named = |error| Failure::failed_text(format!("cannot read {}: {error}", from.display()));
    let source = from.metadata().map_err(named)?;
    if !source.is_dir() && !source.is_file() {
        return Err(Failure::failed_text(format!(
            "{} is a FIFO, a socket or a device, and cannot be copied; `agent-tools write-file` \
             stores its standard input",
            from.display()
        )));
    }
    Ok(source)
}

/// Returns the path of the copy in the session.
async fn target(session: &Session, from: &Path, to: &str) -> std::result::Result<String, Failure> {
    let is_directory = match session.stat(to).await {
        Ok(stat) if stat.kind == FileKind::Directory => true,
        Ok(_) if to.ends_with('/') => {
            return Err(Failure::failed_text(format!("{to} is not a directory")));
        }
        Ok(_) => false,
        Err(error) if is_missing(&error) => to.ends_with('/'),
        Err(error) => return Err(Failure::failed(error)),
    };
    if !is_directory {
        return Ok(to.to_owned());
    }
    let absolute = std::path::absolute(from).map_err(Failure::failed)?;
    let name = own_name(absolute.to_str().ok_or_else(not_utf8)?)?.to_owned();
    Ok(match to.trim_end_matches('/') {
        "" if to.is_empty() => name,
        dir => format!("{dir}/{name}"),
    })
}

fn is_missing(error: &ToolError) -> bool {
    error.kind() == ErrorKind::NotFound
}

fn not_utf8() -> Failure {
    Failure::usage("the name is not UTF-8; only a command of `bash` could reach the file")
}

/// Returns the problem of a file with which a copy gets too large.
fn check_size(path: &Path, bytes: u64) -> std::result::Result<(), String> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let path = path.display();
    Err(format!("cannot copy {path}: that would be {bytes} bytes, and {MAX_BYTES} are the most"))
}

struct Archive<W: Write> {
    tar: Builder<W>,
    /// The size of the files so far.
    bytes: u64,
    omitted: Vec<FileNote>,
}

impl<W: Write> Archive<W> {
    /// Writes a file under this name, or everything in a directory. Returns what was left out.
    fn write(mut self, from: &Path, name: &str, source: &Metadata) -> Result<Vec<FileNote>> {
        if source.is_dir() {
            self.directory(from, "")?;
        } else {
            self.file(from, name, source)?;
        }
        self.tar.into_inner()?.flush()?;
        Ok(self.omitted)
    }

    fn directory(&mut self, dir: &Path, above: &str) -> Result<()> {
        let mut waiting = vec![(dir.to_owned(), above.to_owned())];
        while let Some((dir, above)) = waiting.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    let name = entry.file_name();
                    self.omit(&name.to_string_lossy(), "its name is not UTF-8");
                    continue;
                };
                let name = if above.is_empty() { name } else { format!("{above}/{name}") };
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    let mut header = header(&metadata, EntryType::Directory);
                    self.tar.append_data(&mut header, format!("{name}/"), std::io::empty())?;
                    waiting.push((entry.path(), name));
                } else if metadata.is_symlink() {
                    let target = std::fs::read_link(entry.path())?;
                    let mut header = header(&metadata, EntryType::Symlink);
                    self.tar.append_link(&mut header, &name, &target)?;
                } else {
                    self.file(&entry.path(), &name, &metadata)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str, metadata: &Metadata) -> Result<()> {
        if !metadata.is_file() {
            self.omit(name, "it is a FIFO, a socket or a device");
            return Ok(());
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        self.bytes = self.bytes.saturating_add(size);
        check_size(path, self.bytes).map_err(std::io::Error::other)?;
        let mut header = header(metadata, EntryType::Regular);
        header.set_size(size);
        let mut content = file.take(size);
        self.tar.append_data(&mut header, name, &mut content)?;
        if content.limit() > 0 {
            return Err(std::io::Error::other(format!("{} became shorter", path.display())));
        }
        Ok(())
    }

    fn omit(&mut self, name: &str, reason: &str) {
        self.omitted.push(FileNote::new(&name, &reason));
    }
}

fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(metadata.permissions().mode() & 0o777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}
