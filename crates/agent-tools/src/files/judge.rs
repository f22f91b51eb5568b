//! Judgement of the entries of a tar archive, before anything is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use sandbox_core::internal::{PASSES, link_path};
use sandbox_core::{FileError, FileKind, RelativePath};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::TarLimits;
use super::archive::entry_name;
use super::location::{EntryLocation, failed};
use crate::tool_error::ToolError;

/// The maximum number of entries that an error names.
const MAX_NAMED: usize = 10;
/// The maximum size of a name or of other metadata of one entry.
const MAX_METADATA_BYTES: u64 = 64 * 1024;
/// The space of an entry besides its content.
const ENTRY_BYTES: u64 = 4096;

/// An entry of an archive that was judged.
pub(super) struct Planned {
    /// The path below the root of the files.
    pub(super) path: RelativePath,
    pub(super) kind: PlannedKind,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum PlannedKind {
    Directory,
    File { size: u64 },
    Symlink { target: String },
    HardLink { of: RelativePath },
}

impl EntryLocation {
    /// Returns the path of an entry as commands see it.
    pub(super) fn absolute_of(&self, path: &RelativePath) -> std::path::PathBuf {
        self.root_path().join(path.as_str())
    }

    /// Returns the path of the root of the files as commands see it.
    fn root_path(&self) -> &Path {
        let depth = self.relative.as_ref().map_or(0, |path| path.components().count());
        self.absolute.ancestors().nth(depth).unwrap_or(&self.absolute)
    }
}

/// Entries that cannot be unpacked, with reasons.
#[derive(Default)]
pub(super) struct Problems {
    named: Vec<String>,
    further: usize,
}

impl Problems {
    pub(super) fn add(&mut self, name: &str, reason: &str) {
        if self.named.len() < MAX_NAMED {
            self.named.push(format!("{name}: {reason}"));
        } else {
            self.further += 1;
        }
    }

    pub(super) fn check(self) -> Result<(), ToolError> {
        if self.named.is_empty() {
            return Ok(());
        }
        let further =
            if self.further > 0 { format!("; and {} more", self.further) } else { String::new() };
        let named = self.named.join("; ");
        Err(failed(format!("the archive is refused, and nothing was unpacked: {named}{further}")))
    }
}

/// Reads an archive to its end, and judges its entries.
pub(super) fn plan(
    pipe: File,
    spool: File,
    limits: TarLimits,
    location: &EntryLocation,
) -> Result<(File, Vec<Planned>), ToolError> {
    let max_spooled =
        limits.max_bytes.saturating_add(limits.max_entries.saturating_mul(ENTRY_BYTES));
    let mut spooled = Spooled { pipe, spool, left: max_spooled, was_cut: false };
    let read = check_metadata(&mut spooled, limits);
    if spooled.was_cut {
        return Err(unreadable(&io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    read?;
    spooled.drain().map_err(|error| unreadable(&error))?;
    let mut spool = spooled.spool;
    spool.rewind().map_err(|error| unreadable(&error))?;
    let plan = judge(&mut spool, limits, location)?;
    spool.rewind().map_err(|error| unreadable(&error))?;
    Ok((spool, plan))
}

/// Reads the raw entries, so that no name or metadata takes much memory later, and so that the
/// archive ends with its mark: one that is cut between two entries looks complete otherwise.
fn check_metadata(spooled: &mut Spooled, limits: TarLimits) -> Result<(), ToolError> {
    let mut archive = Archive::new(spooled);
    let entries = archive.entries().map_err(|error| unreadable(&error))?.raw(true);
    let mut count = 0;
    for entry in entries {
        let mut entry = entry.map_err(|error| unreadable(&error))?;
        count += 1;
        // Each entry may have a name, a link and an extension before it.
        if count > limits.max_entries.saturating_mul(4) {
            return Err(too_many(limits));
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
        {
            if entry.size() > MAX_METADATA_BYTES {
                return Err(refused("the metadata of an entry is too long"));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text).map_err(|error| unreadable(&error))?;
            let has_size = PaxExtensions::new(&text)
                .filter_map(Result::ok)
                .any(|record| record.key_bytes() == b"size");
            if kind.is_pax_local_extensions() && has_size {
                return Err(refused("an entry has its size in an extension"));
            }
        }
    }
    Ok(())
}

fn judge(
    spool: &mut File,
    limits: TarLimits,
    location: &EntryLocation,
) -> Result<Vec<Planned>, ToolError> {
    let mut archive = Archive::new(spool);
    let entries = archive.entries().map_err(|error| unreadable(&error))?;
    let (mut plan, mut known) = (Vec::new(), BTreeMap::new());
    let (mut problems, mut bytes, mut count) = (Problems::default(), 0_u64, 0);
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        count += 1;
        if count > limits.max_entries {
            return Err(too_many(limits));
        }
        let judged = judge_entry(&entry, location, &known);
        let judged = judged.and_then(|planned| match planned {
            Some(planned) => check_place(location, &planned).map(|()| Some(planned)),
            None => Ok(None),
        });
        match judged {
            Ok(None) => {}
            Ok(Some(planned)) => {
                if let PlannedKind::File { size } = planned.kind {
                    bytes = bytes.saturating_add(size);
                }
                known.insert(planned.path.clone(), planned.kind.clone());
                plan.push(planned);
            }
            Err(reason) => problems.add(&String::from_utf8_lossy(&entry.path_bytes()), &reason),
        }
        if bytes > limits.max_bytes {
            return Err(refused(&format!("its files have more than {} bytes", limits.max_bytes)));
        }
    }
    for Planned { path, kind } in &plan {
        if let PlannedKind::Symlink { target } = kind
            && passes_symlink(location, path, target, &known)
        {
            problems.add(path.as_str(), &format!("it is a symlink {PASSES}, to {target}"));
        }
    }
    problems.check()?;
    Ok(plan)
}

/// Returns whether a symlink leads through another one of the archive.
fn passes_symlink(
    location: &EntryLocation,
    link: &RelativePath,
    target: &str,
    known: &BTreeMap<RelativePath, PlannedKind>,
) -> bool {
    let Ok(path) = link_path(Some(location.root_path()), link, Path::new(target)) else {
        return false;
    };
    let mut passed = RelativePath::parse(&path).ok().and_then(|path| path.parent());
    while let Some(dir) = passed {
        if matches!(known.get(&dir), Some(PlannedKind::Symlink { .. })) {
            return true;
        }
        passed = dir.parent();
    }
    false
}

/// Judges one entry; `None` for the place of the import itself.
fn judge_entry<R: Read>(
    entry: &Entry<'_, R>,
    location: &EntryLocation,
    known: &BTreeMap<RelativePath, PlannedKind>,
) -> Result<Option<Planned>, String> {
    let Some(path) = planned_path(&entry.path_bytes(), location)? else { return Ok(None) };
    let link = || {
        let target = entry.link_name_bytes().ok_or("it has no target")?;
        Ok::<_, String>(target.into_owned())
    };
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => PlannedKind::File { size: entry.size() },
        EntryType::Directory => PlannedKind::Directory,
        EntryType::Symlink => {
            let target = String::from_utf8(link()?).map_err(|_| "its target is not UTF-8")?;
            link_path(Some(location.root_path()), &path, Path::new(&target))
                .map_err(|problem| format!("it is a symlink {problem}, to {target}"))?;
            PlannedKind::Symlink { target }
        }
        EntryType::Link => {
            let of = planned_path(&link()?, location)?;
            let of = of.ok_or("it is a link to a directory")?;
            match known.get(&of) {
                Some(PlannedKind::File { .. } | PlannedKind::HardLink { .. }) => {}
                _ => return Err("it is a link to a file that is not before it".to_owned()),
            }
            PlannedKind::HardLink { of }
        }
        EntryType::Char | EntryType::Block => return Err("it is a device".to_owned()),
        EntryType::Fifo => return Err("it is a FIFO".to_owned()),
        _ => return Err("its type is not supported".to_owned()),
    };
    let mut above = path.parent();
    while let Some(dir) = above {
        if known.get(&dir).is_some_and(|kind| *kind != PlannedKind::Directory) {
            return Err(format!("it is below {dir}, which is no directory in the archive"));
        }
        above = dir.parent();
    }
    let is_directory = kind == PlannedKind::Directory;
    let other = known.get(&path).map(|known| *known == PlannedKind::Directory);
    if other.is_some_and(|other| other != is_directory) {
        return Err("it is a directory and a file in the archive".to_owned());
    }
    Ok(Some(Planned { path, kind }))
}

/// Returns the path of an entry below the root of the files.
fn planned_path(name: &[u8], location: &EntryLocation) -> Result<Option<RelativePath>, String> {
    let Some(name) = entry_name(name)? else { return Ok(None) };
    match &location.relative {
        None => Ok(Some(name)),
        Some(base) => base.join(name.as_str()).map(Some).map_err(|error| error.to_string()),
    }
}

/// Checks that the entry and the file in its place do not exclude each other.
fn check_place(location: &EntryLocation, planned: &Planned) -> Result<(), String> {
    let root = location.root().dir().map_err(|error| error.message())?;
    let place = match root.place(&planned.path) {
        Ok(place) => place,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(sandbox_core::with_causes(&error)),
    };
    let stat = place.stat().map_err(|error| sandbox_core::with_causes(&error))?;
    let Some(stat) = stat else { return Ok(()) };
    match (&planned.kind, stat.kind) {
        (PlannedKind::Directory, FileKind::Directory) => Ok(()),
        (PlannedKind::Directory, FileKind::Symlink) => {
            let found = root.find(Some(&planned.path)).and_then(|found| found.stat());
            match found {
                Ok(stat) if stat.kind == FileKind::Directory => Ok(()),
                _ => Err("a symlink is in the place of the directory".to_owned()),
            }
        }
        (PlannedKind::Directory, _) => Err("a file is in the place of the directory".to_owned()),
        (_, FileKind::Directory) => Err("a directory is in the place of the file".to_owned()),
        _ => Ok(()),
    }
}

fn is_missing(error: &FileError) -> bool {
    error.kind() == sandbox_core::FileErrorKind::NotFound
}

fn refused(problem: &str) -> ToolError {
    failed(format!("the archive is refused, and nothing was unpacked: {problem}"))
}

fn too_many(limits: TarLimits) -> ToolError {
    refused(&format!("it has more than {} entries", limits.max_entries))
}

pub(super) fn unreadable(error: &io::Error) -> ToolError {
    let problem = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        _ => error.to_string(),
    };
    refused(&problem)
}

/// An archive that is copied to a file while it is read.
struct Spooled {
    pipe: File,
    spool: File,
    /// The number of bytes that may follow.
    left: u64,
    /// Set if the archive has ended before its mark.
    was_cut: bool,
}

impl Spooled {
    /// Reads the padding behind the mark.
    fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut (&mut self.pipe).take(self.left), &mut io::sink())?;
        Ok(())
    }
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.pipe.read(&mut buffer[..length])?;
        self.was_cut |= read == 0 && length > 0;
        self.spool.write_all(&buffer[..read])?;
        self.left -= read as u64;
        Ok(read)
    }
}
