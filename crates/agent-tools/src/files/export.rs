//! Writing of a tar archive of session files.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use policy::Access;
use sandbox_core::internal::{is_staged_name, link_problem};
use sandbox_core::{FileError, FileKind, FileStat, RelativePath};
use tar::{Builder, EntryType, Header};

use super::location::{EntryLocation, Root, failed};
use super::{Judged, TarReport};
use crate::engine::Engine;
use crate::output::FileNote;
use crate::session::{LocalSession, blocking};
use crate::tool_error::ToolError;

/// The maximum number of files that a report names.
const MAX_NAMED: usize = 50;
const BUFFER_BYTES: usize = 256 * 1024;

impl LocalSession {
    /// Writes the archive of a file or directory to a pipe.
    pub(crate) async fn export_tar(&self, path: &str, pipe: File) -> Result<TarReport, ToolError> {
        let turn = self.begin().await?;
        let location = self.entry_location(path)?;
        let Judged { entry, real_path } = location.find(self)?;
        let stat = entry.stat().map_err(|error| location.error(error))?;
        let sandbox = self.sandbox();
        let exporting = location.clone();
        let exported = blocking(move || {
            let export = Export {
                tar: Builder::new(BufWriter::with_capacity(BUFFER_BYTES, pipe)),
                location: exporting,
                sandbox,
                report: TarReport::default(),
            };
            export.run(&real_path, &stat)
        });
        let report = exported.await??;
        self.confirm(turn).await?;
        Ok(report)
    }
}

struct Export {
    tar: Builder<BufWriter<File>>,
    location: EntryLocation,
    sandbox: Arc<dyn Engine>,
    report: TarReport,
}

/// A directory that is still to be written.
struct Waiting {
    /// The path below the root of the files; `None` for the root itself.
    path: Option<RelativePath>,
    /// The name in the archive, empty for the top.
    name: String,
    real_path: std::path::PathBuf,
}

impl Export {
    fn run(mut self, real_path: &std::path::Path, stat: &FileStat) -> Result<TarReport, ToolError> {
        let path = self.location.relative.clone();
        if stat.kind == FileKind::Directory {
            let top = Waiting { path, name: String::new(), real_path: real_path.to_owned() };
            let mut waiting = vec![top];
            while let Some(dir) = waiting.pop() {
                self.directory(&dir, &mut waiting)?;
            }
        } else {
            let path = self.location.below_root()?.clone();
            let name = path.file_name().to_owned();
            self.entry(&path, &name, real_path, stat)?;
        }
        self.tar.into_inner().and_then(|mut pipe| pipe.flush()).map_err(write_failed)?;
        Ok(self.report)
    }

    fn directory(&mut self, dir: &Waiting, waiting: &mut Vec<Waiting>) -> Result<(), ToolError> {
        let root = self.location.root().clone();
        let found = match root.dir()?.find(dir.path.as_ref()) {
            Ok(found) => found,
            Err(error) => return self.vanished(&dir.name, error),
        };
        let (names, unnameable) = match found.names() {
            Ok(names) => names,
            Err(error) => return self.vanished(&dir.name, error),
        };
        if unnameable > 0 {
            let name = if dir.name.is_empty() { "." } else { &dir.name };
            self.omit(name, &format!("{unnameable} names in it are not UTF-8"));
        }
        let mut below = Vec::new();
        for name in names.into_iter().filter(|name| !is_staged_name(name)) {
            let Some(stat) = found.stat_entry(&name).ok().flatten() else { continue };
            let path = match &dir.path {
                Some(above) => above.join(&name),
                None => RelativePath::parse(&name),
            };
            let archived =
                if dir.name.is_empty() { name.clone() } else { format!("{}/{name}", dir.name) };
            let Ok(path) = path else {
                self.omit(&archived, "its path is too long");
                continue;
            };
            let real_path = dir.real_path.join(&name);
            self.entry(&path, &archived, &real_path, &stat)?;
            if stat.kind == FileKind::Directory && self.is_readable(&real_path) {
                below.push(Waiting { path: Some(path), name: archived, real_path });
            }
        }
        // The first directory is written next.
        waiting.extend(below.into_iter().rev());
        Ok(())
    }

    fn entry(
        &mut self,
        path: &RelativePath,
        name: &str,
        real_path: &std::path::Path,
        stat: &FileStat,
    ) -> Result<(), ToolError> {
        if !self.is_readable(real_path) {
            self.omit(name, "the session's policy denies reading it");
            return Ok(());
        }
        let root = self.location.root().clone();
        let mut header = header(stat);
        match stat.kind {
            FileKind::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.tar
                    .append_data(&mut header, format!("{name}/"), io::empty())
                    .map_err(write_failed)?;
            }
            FileKind::Symlink => {
                let target = root.dir()?.place(path).and_then(|place| place.link_target());
                let target = match target {
                    Ok(target) => target,
                    Err(error) => return self.vanished(name, error),
                };
                let problem = RelativePath::parse(name).ok().and_then(|link| {
                    link_problem(root.dir().ok()?, self.location.relative.as_ref(), &link, &target)
                });
                if let Some(problem) = problem {
                    let target = target.display();
                    self.omit(name, &format!("it is a symlink {problem}, to {target}"));
                    return Ok(());
                }
                header.set_entry_type(EntryType::Symlink);
                self.tar.append_link(&mut header, name, &target).map_err(write_failed)?;
            }
            FileKind::File => return self.file(&root, path, name, header),
            _ => {
                self.omit(name, "it is a FIFO, a socket or a device");
                return Ok(());
            }
        }
        self.report.entries += 1;
        Ok(())
    }

    fn file(
        &mut self,
        root: &Root,
        path: &RelativePath,
        name: &str,
        mut header: Header,
    ) -> Result<(), ToolError> {
        let file = match root.dir()?.open_file(path) {
            Ok(file) => file,
            Err(error) => return self.vanished(name, error),
        };
        // A symlink may have got the name since the entry was inspected.
        if let Root::Session(_) = root {
            let opened = sandbox_core::internal::real_path(&file, path.as_ref());
            if !opened.is_ok_and(|opened| self.is_readable(&opened)) {
                self.omit(name, "it was replaced meanwhile");
                return Ok(());
            }
        }
        let size = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(source) => {
                let path = path.as_ref().to_owned();
                return self.vanished(name, FileError::Io { operation: "read", path, source });
            }
        };
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let mut content = Exactly { file, left: size, was_cut: false };
        self.tar.append_data(&mut header, name, &mut content).map_err(write_failed)?;
        self.report.entries += 1;
        self.report.bytes += size;
        if content.was_cut {
            self.omit(name, "it became shorter meanwhile, and ends with zeros");
        }
        Ok(())
    }

    fn is_readable(&self, real_path: &std::path::Path) -> bool {
        self.sandbox.allows(real_path, Access::Read)
    }

    /// Leaves out an entry that changed meanwhile or cannot be read.
    fn vanished(&mut self, name: &str, error: FileError) -> Result<(), ToolError> {
        if name.is_empty() {
            return Err(self.location.error(error));
        }
        self.omit(name, &sandbox_core::with_causes(&error));
        Ok(())
    }

    fn omit(&mut self, name: &str, reason: &str) {
        self.report.omitted_count += 1;
        if self.report.omitted.len() < MAX_NAMED {
            self.report.omitted.push(FileNote::new(&name, &reason));
        }
    }
}

fn header(stat: &FileStat) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(stat.mode.into());
    let since = stat.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(since.as_secs());
    header
}

fn write_failed(error: io::Error) -> ToolError {
    failed(format!("the archive cannot be written: {error}"))
}

/// The announced number of bytes of a file. One that becomes shorter is filled up with zeros.
struct Exactly {
    file: File,
    left: u64,
    was_cut: bool,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut read = if self.was_cut { 0 } else { self.file.read(&mut buffer[..length])? };
        if read == 0 && length > 0 {
            self.was_cut = true;
            buffer[..length].fill(0);
            read = length;
        }
        self.left -= read as u64;
        Ok(read)
    }
}
