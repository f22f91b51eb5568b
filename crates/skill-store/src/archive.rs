//! Zip archives of skills, read without trust.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};

use artifact_sync::internal::Object;
use sandbox_core::RelativePath;
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::cautions::left_out_part;
use crate::error_kind::ErrorKind;
use crate::layout::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES, SKILL_FILE};
use crate::names::{Names, has_deceptive};

/// Maximum number of entries, most of which could be directories.
const MAX_ENTRIES: usize = 2 * MAX_FILES;
/// Maximum size of an archive: the files without compression, and a header for each.
pub(crate) const MAX_ARCHIVE_BYTES: u64 = 2 * MAX_BYTES;
/// Sizes of the records at the end of an archive (APPNOTE.TXT 6.3.10, 4.3.16 and 4.3.12).
const END_BYTES: u64 = 22;
/// Size of the header of an entry without its name and its extra fields (4.3.7).
const HEADER_BYTES: usize = 30;
/// Size of an entry of the directory without its name, extra fields and comment (4.3.12).
const ENTRY_BYTES: usize = 46;
const MAX_COMMENT_BYTES: u64 = u16::MAX as u64;
/// Bits of a Unix mode (`stat(2)`).
const FILE_TYPE: u32 = 0o170_000;
const REGULAR_FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// Directory with attributes of macOS, beside that of the skill.
const MACOS_ATTRIBUTES: &str = "__MACOSX";

/// Errors of a zip archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The archive is damaged, encrypted, or compressed in an unsupported way.
    #[error("it cannot be read: {problem}")]
    Unreadable {
        /// The message of the reader.
        problem: String,
    },
    /// The archive has too many entries.
    #[error("it has {entries} entries; a skill has at most 512 files")]
    TooManyEntries {
        /// The number of entries that it claims to have.
        entries: u64,
    },
    /// The archive, or its files together, are too large.
    #[error("it has more than {limit}")]
    TooLarge {
        /// The limit.
        limit: &'static str,
    },
    /// The name of an entry leads out of the skill, or no object can have it.
    #[error("the entry {name:?} {problem}")]
    InvalidName {
        /// The start of the name.
        name: String,
        /// The reason.
        problem: &'static str,
    },
    /// An entry has another name in its own header than in the directory of the archive. Programs
    /// differ in which of them they use.
    #[error("the entry {name:?} has the name {other:?} in its own header")]
    OtherName {
        /// The start of the name in the directory of the archive.
        name: String,
        /// The start of the name in the header.
        other: String,
    },
    /// An entry is a symlink.
    #[error("the entry {name:?} is a symlink; put the file itself there")]
    Link {
        /// The start of the name.
        name: String,
    },
    /// An entry is a device, a socket or a FIFO.
    #[error("the entry {name:?} is no regular file")]
    SpecialFile {
        /// The start of the name.
        name: String,
    },
    /// Two entries have the same name, also if only the case of letters differs, or the way in
    /// which characters are composed. The cases are those of Unicode, so `ß` equals `ss`.
    #[error("the entries {first:?} and {second:?} have the same name on some systems")]
    Collision {
        /// The start of the first name.
        first: String,
        /// The start of the second name.
        second: String,
    },
    /// An entry has the name of a directory that other entries are in.
    #[error("{name:?} is a file and a directory")]
    FileAndDirectory {
        /// The start of the name.
        name: String,
    },
    /// The content of an entry has another size than the archive says.
    #[error("the entry {name:?} has another size than the archive says")]
    WrongSize {
        /// The start of the name.
        name: String,
    },
}

impl ArchiveError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// The content of an archive.
#[derive(Debug, Default)]
pub struct ArchiveContent {
    /// The files to publish, sorted by path.
    pub files: Vec<(RelativePath, Object)>,
    /// The files and directories that are left out.
    pub left_out: BTreeSet<String>,
}

/// Reads all files of an archive. Holds at most 16 MiB of contents.
///
/// # Errors
/// Returns [`ArchiveError`] if the archive is damaged or has an entry that no skill may have.
pub fn read_archive<R: Read + Seek>(mut reader: R) -> Result<ArchiveContent, ArchiveError> {
    // The reader of the crate holds every entry in memory, so the count is checked before.
    let entries = claimed_entries(&mut reader)?;
    if entries > MAX_ENTRIES as u64 {
        return Err(ArchiveError::TooManyEntries { entries });
    }
    let mut archive = ZipArchive::new(&mut reader).map_err(unreadable)?;
    if archive.len() as u64 != entries {
        // The crate keeps the last of several entries with one name.
        return Err(ArchiveError::Unreadable {
            problem: "two entries have one name, or its directory is damaged".to_owned(),
        });
    }
    if archive.has_overlapping_entries().map_err(unreadable)? {
        let problem = "its entries overlap".to_owned();
        return Err(ArchiveError::Unreadable { problem });
    }
    let directory = archive.central_directory_start();
    let mut headers = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(unreadable)?;
        headers.push((entry.header_start(), entry.name_raw().to_vec()));
    }
    check_directory(&mut reader, directory, entries)?;
    check_headers(&mut reader, headers)?;
    let mut archive = ZipArchive::new(reader).map_err(unreadable)?;
    let mut names = Names::default();
    let (mut files, mut left_out) = (BTreeMap::new(), BTreeSet::new());
    let mut bytes = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unreadable)?;
        let name = entry_name(&entry)?;
        let path = check_entry(&entry, &name)?;
        // macOS adds a tree of attributes to its archives.
        if path.components().next() == Some(MACOS_ATTRIBUTES) {
            left_out.insert(MACOS_ATTRIBUTES.to_owned());
            continue;
        }
        if let Some(part) = left_out_part(&path, entry.is_dir()) {
            left_out.insert(part.to_owned());
            continue;
        }
        names.add(&path, entry.is_dir())?;
        if entry.is_dir() {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(ArchiveError::TooLarge { limit: "512 files" });
        }
        let is_executable = entry.unix_mode().is_some_and(|mode| mode & 0o100 != 0);
        let content = read_entry(&mut entry, &name, MAX_BYTES - bytes)?;
        bytes += content.len() as u64;
        files.insert(path, Object::new(content, is_executable));
    }
    Ok(without_directory(files, left_out))
}

/// Returns the number of entries in the record at the end of the archive. Archives of the format
/// zip64 have more entries or bytes than a skill.
fn claimed_entries<R: Read + Seek>(reader: &mut R) -> Result<u64, ArchiveError> {
    let io = |error: std::io::Error| ArchiveError::Unreadable { problem: error.to_string() };
    let size = reader.seek(SeekFrom::End(0)).map_err(io)?;
    if size > MAX_ARCHIVE_BYTES {
        return Err(ArchiveError::TooLarge { limit: "32 MiB" });
    }
    let start = size.saturating_sub(END_BYTES + MAX_COMMENT_BYTES);
    reader.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut end = Vec::new();
    reader.take(END_BYTES + MAX_COMMENT_BYTES).read_to_end(&mut end).map_err(io)?;
    let absent = || ArchiveError::Unreadable { problem: "it is no zip archive".to_owned() };
    let record = |at: &usize| {
        let record = end.get(*at..*at + END_BYTES as usize);
        record.is_some_and(|record| record.starts_with(b"PK\x05\x06"))
    };
    // Every record that a reader could take for the last one counts.
    let mut claimed = None;
    for at in (0..end.len()).filter(record) {
        let number =
            |offset: usize| u64::from(u16::from_le_bytes([end[at + offset], end[at + offset + 1]]));
        claimed = claimed.max(Some(number(8).max(number(10))));
    }
    claimed.ok_or_else(absent)
}

/// Checks that the directory of the archive has no more entries than its end record counts
/// (APPNOTE.TXT 6.3.10, 4.3.12). Other programs read them all.
fn check_directory<R: Read + Seek>(
    reader: &mut R,
    start: u64,
    entries: u64,
) -> Result<(), ArchiveError> {
    let io = |error: std::io::Error| ArchiveError::Unreadable { problem: error.to_string() };
    reader.seek(SeekFrom::Start(start)).map_err(io)?;
    for number in 0..=entries {
        let mut header = [0; ENTRY_BYTES];
        reader.read_exact(&mut header[..4]).map_err(io)?;
        let is_entry = header.starts_with(b"PK\x01\x02");
        if is_entry != (number < entries) {
            let problem = "its end counts other entries than its directory has".to_owned();
            return Err(ArchiveError::Unreadable { problem });
        }
        if is_entry {
            reader.read_exact(&mut header[4..]).map_err(io)?;
            let length = |at: usize| i64::from(u16::from_le_bytes([header[at], header[at + 1]]));
            let rest = length(28) + length(30) + length(32);
            reader.seek(SeekFrom::Current(rest)).map_err(io)?;
        }
    }
    Ok(())
}

/// Checks that each entry has the same name in its own header (APPNOTE.TXT 6.3.10, 4.3.7).
fn check_headers<R: Read + Seek>(
    reader: &mut R,
    headers: Vec<(u64, Vec<u8>)>,
) -> Result<(), ArchiveError> {
    for (start, name) in headers {
        let io = |error: std::io::Error| ArchiveError::Unreadable { problem: error.to_string() };
        reader.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header).map_err(io)?;
        let mut other = vec![0; usize::from(u16::from_le_bytes([header[26], header[27]]))];
        reader.read_exact(&mut other).map_err(io)?;
        if other != name {
            let shown = |name: &[u8]| beginning(&String::from_utf8_lossy(name));
            return Err(ArchiveError::OtherName { name: shown(&name), other: shown(&other) });
        }
    }
    Ok(())
}

fn entry_name<R: Read>(entry: &ZipFile<'_, R>) -> Result<String, ArchiveError> {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(invalid(&String::from_utf8_lossy(entry.name_raw()), "is not UTF-8")),
    }
}

/// Checks the name and the kind of an entry.
fn check_entry<R: Read>(entry: &ZipFile<'_, R>, name: &str) -> Result<RelativePath, ArchiveError> {
    let kind = entry.unix_mode().unwrap_or(0) & FILE_TYPE;
    let plain = name.strip_suffix('/').unwrap_or(name);
    if entry.encrypted() {
        return Err(invalid(name, "is encrypted"));
    }
    if entry.is_symlink() || kind == SYMLINK {
        return Err(ArchiveError::Link { name: beginning(name) });
    }
    let expected = if entry.is_dir() { DIRECTORY } else { REGULAR_FILE };
    if kind != 0 && kind != expected {
        return Err(ArchiveError::SpecialFile { name: beginning(name) });
    }
    if plain.starts_with('/') || plain.contains('\\') || plain.as_bytes().get(1) == Some(&b':') {
        return Err(invalid(name, "is absolute, or a path of another system"));
    }
    if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid(name, "is not a plain path below the skill"));
    }
    if plain.len() > MAX_PATH_BYTES {
        return Err(invalid(name, "is longer than 512 bytes"));
    }
    let path = RelativePath::parse(plain).map_err(|_| invalid(name, "is no path of a file"))?;
    if has_deceptive(plain) {
        return Err(invalid(name, "has a character that changes how its name is shown"));
    }
    if artifact_sync::internal::key_for(&Default::default(), &path).is_err() {
        return Err(invalid(name, "has a character that object keys cannot have"));
    }
    Ok(path)
}

/// Reads an entry, at most `max_bytes` bytes and never more than it claims to have.
fn read_entry<R: Read>(
    entry: &mut ZipFile<'_, R>,
    name: &str,
    max_bytes: u64,
) -> Result<Vec<u8>, ArchiveError> {
    let size = entry.size();
    if size > max_bytes {
        return Err(ArchiveError::TooLarge { limit: "16 MiB" });
    }
    let mut content = Vec::new();
    let mut limited = entry.take(size + 1);
    match limited.read_to_end(&mut content) {
        _ if content.len() as u64 > size => {}
        Ok(count) if count as u64 == size => return Ok(content),
        Ok(_) => {}
        Err(error) => return Err(ArchiveError::Unreadable { problem: error.to_string() }),
    }
    Err(ArchiveError::WrongSize { name: beginning(name) })
}

/// Removes the directory that all files are in, if SKILL.md is directly in it.
fn without_directory(
    files: BTreeMap<RelativePath, Object>,
    left_out: BTreeSet<String>,
) -> ArchiveContent {
    let has_skill_file = files.keys().any(|path| path.as_str() == SKILL_FILE);
    let directory = files.keys().next().and_then(|path| path.components().next());
    let directory = directory.filter(|_| !has_skill_file).map(|name| format!("{name}/"));
    let inner = |path: &RelativePath| {
        let rest = path.as_str().strip_prefix(directory.as_deref()?)?;
        RelativePath::parse(rest).ok()
    };
    if !files.keys().all(|path| inner(path).is_some()) {
        return ArchiveContent { files: files.into_iter().collect(), left_out };
    }
    let shortened = |path: String| match path.strip_prefix(directory.as_deref()?) {
        Some(rest) => Some(rest.to_owned()),
        None => Some(path),
    };
    let left_out = left_out.into_iter().filter_map(shortened).collect();
    let files = files.into_iter().filter_map(|(path, object)| Some((inner(&path)?, object)));
    ArchiveContent { files: files.collect(), left_out }
}

fn unreadable(error: zip::result::ZipError) -> ArchiveError {
    ArchiveError::Unreadable { problem: beginning(&error.to_string()) }
}

fn invalid(name: &str, problem: &'static str) -> ArchiveError {
    ArchiveError::InvalidName { name: beginning(name), problem }
}

pub(crate) fn beginning(text: &str) -> String {
    text.chars().take(160).collect()
}
