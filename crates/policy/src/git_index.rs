//! A reader of the index of git (`gitformat-index(5)`), for entries that lead out of a work tree.
//!
//! Git checks the names that it adds to an index, and none that it reads from one. So an index that
//! was not written by git leads its commands anywhere: `git checkout .` writes to
//! `.git/config`, and `git status` runs git in the directory of a submodule, such as `../x`.
//!
//! Git reads large indexes in several threads, from positions that an extension lists. An index is
//! therefore accepted only if the list agrees with the sequence of the entries.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::git_config;

/// The file of a repository that is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexFile {
    /// `index`.
    Own,
    /// `sharedindex.<id>`, whose entries `index` can change to submodules.
    Shared,
}

/// The reason for which git must not read an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexFlaw {
    /// The file is not in the format of git, or git could read it in another way.
    Malformed,
    /// An entry has a name that git refuses to add.
    Name(PathBuf),
    /// A submodule lies in a place where an agent could have created its repository.
    Submodule(PathBuf),
}

/// A fragment about an index.
impl fmt::Display for IndexFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("is not in the format of git"),
            Self::Name(path) => write!(f, "has the entry {path:?}, which git refuses to add"),
            Self::Submodule(path) => {
                write!(f, "has the submodule {path:?} in a place without protection")
            }
        }
    }
}

/// Length of the object ids in a repository with this configuration file.
pub fn object_id_bytes(config: &[u8]) -> usize {
    let mut formats = git_config::read(config).into_iter().filter(|variable| {
        (&variable.section[..], &variable.name[..]) == (b"extensions", b"objectformat")
    });
    if formats.next_back().is_some_and(|format| format.value == b"sha256") { 32 } else { 20 }
}

/// Returns the first flaw of an index. `is_safe` tells whether a path of the work tree may be a
/// submodule.
pub fn flaw(
    index: &[u8],
    file: IndexFile,
    id_bytes: usize,
    is_safe: impl Fn(&Path) -> bool,
) -> Option<IndexFlaw> {
    let mut reader = Reader { index, at: 0, id_bytes, name: Vec::new(), entries: Vec::new() };
    match reader.read(file, is_safe) {
        Some(Ok(())) => None,
        Some(Err(flaw)) => Some(flaw),
        None => Some(IndexFlaw::Malformed),
    }
}

/// Bytes of an entry before its object id: ten numbers.
const STAT_BYTES: usize = 40;
/// Position of the mode among them.
const MODE_AT: usize = 24;
/// Type of a file in its mode (`S_IFMT`), and the types that matter.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;
/// The flag of an entry with more flags, and the bits with the length of the name.
const EXTENDED: usize = 0x4000;
const NAME_LENGTH: usize = 0x0fff;

/// The beginning of one entry.
struct Position {
    at: usize,
    /// The name is not a continuation of the name before.
    is_complete: bool,
}

struct Reader<'i> {
    index: &'i [u8],
    at: usize,
    id_bytes: usize,
    /// Name of the last entry.
    name: Vec<u8>,
    entries: Vec<Position>,
}

impl<'i> Reader<'i> {
    /// Returns `None` if the format is wrong.
    fn read(
        &mut self,
        file: IndexFile,
        is_safe: impl Fn(&Path) -> bool,
    ) -> Option<Result<(), IndexFlaw>> {
        let (signature, version, count) = (self.take(4)?, self.number()?, self.number()?);
        if signature != b"DIRC" || !(2..=4).contains(&version) {
            return None;
        }
        for _ in 0..count {
            let mode = self.entry(version)?;
            let path = || PathBuf::from(OsStr::from_bytes(&self.name));
            // The name of an entry that replaces one of the shared index is there.
            let is_replacement = self.name.is_empty() && file == IndexFile::Own;
            if !is_replacement && !is_valid(&self.name, mode) {
                return Some(Err(IndexFlaw::Name(path())));
            }
            let may_be_submodule = mode & TYPE == SUBMODULE || file == IndexFile::Shared;
            if may_be_submodule && !is_replacement && !is_safe(&path()) {
                return Some(Err(IndexFlaw::Submodule(path())));
            }
        }
        self.check_extensions().map(Ok)
    }

    fn take(&mut self, len: usize) -> Option<&'i [u8]> {
        let taken = self.index.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        let found = number_at(self.index, self.at)?;
        self.at += 4;
        Some(found)
    }

    /// Reads an entry, and returns its mode.
    fn entry(&mut self, version: usize) -> Option<u32> {
        let begin = self.at;
        let mode = u32::try_from(number_at(self.index, begin + MODE_AT)?).ok()?;
        self.take(STAT_BYTES + self.id_bytes)?;
        let flags = usize::from(u16::from_be_bytes(self.take(2)?.try_into().ok()?));
        if flags & EXTENDED != 0 {
            self.take(if version == 2 { return None } else { 2 })?;
        }
        let mut is_complete = true;
        if version == 4 {
            let removed = self.variable_number()?;
            let kept = self.name.len().checked_sub(removed)?;
            is_complete = kept == 0;
            self.name.truncate(kept);
        } else {
            self.name.clear();
        }
        let len = self.index.get(self.at..)?.iter().position(|byte| *byte == 0)?;
        let rest = self.index.get(self.at..self.at + len)?;
        self.name.extend(rest);
        self.at += len;
        // Git takes the length from the flags, so both must agree.
        if flags & NAME_LENGTH != self.name.len().min(NAME_LENGTH) {
            return None;
        }
        // Up to eight NULs fill an entry of the older versions.
        let padding = if version == 4 { 1 } else { 8 - (self.at - begin) % 8 };
        self.take(padding)?;
        self.entries.push(Position { at: begin, is_complete });
        Some(mode)
    }

    /// Reads a number of seven bits a byte, each step of which counts (`varint.c`).
    fn variable_number(&mut self) -> Option<usize> {
        let mut byte = *self.take(1)?.first()?;
        let mut number = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = *self.take(1)?.first()?;
            number = number.checked_add(1)?.checked_mul(0x80)? + usize::from(byte & 0x7f);
        }
        Some(number)
    }

    /// Checks the positions in the extensions.
    fn check_extensions(&mut self) -> Option<()> {
        let entries_end = self.at;
        let extensions_end = self.index.len().checked_sub(self.id_bytes)?;
        // Git looks for this extension at the end of the file.
        let last = extensions_end.checked_sub(8 + 4 + self.id_bytes);
        let last = last.filter(|at| self.index[*at..].starts_with(b"EOIE"));
        if let Some(last) = last
            && (last < entries_end || number_at(self.index, last + 8)? != entries_end)
        {
            return None;
        }
        while self.at < extensions_end {
            let signature: [u8; 4] = self.take(4)?.try_into().ok()?;
            let len = self.number()?;
            let content = self.index.get(self.at..self.at.checked_add(len)?)?;
            if signature == *b"IEOT" {
                self.check_blocks(content)?;
            }
            self.at += len;
        }
        (self.at == extensions_end).then_some(())
    }

    /// Checks the positions from which threads of git read entries.
    fn check_blocks(&self, table: &[u8]) -> Option<()> {
        let mut next = 0;
        let mut at = 4;
        while at < table.len() {
            let (begin, count) = (number_at(table, at)?, number_at(table, at + 4)?);
            let first = self.entries.get(next)?;
            if first.at != begin || !first.is_complete {
                return None;
            }
            next = next.checked_add(count)?;
            at += 8;
        }
        (next == self.entries.len()).then_some(())
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(number)).ok()
}

/// Returns whether git adds an entry of this name to an index (`verify_path` in `read-cache.c`).
fn is_valid(name: &[u8], mode: u32) -> bool {
    // The entries of a sparse index are directories, whose names end with a slash.
    let name = match name.strip_suffix(b"/") {
        Some(name) if mode & TYPE == DIRECTORY => name,
        _ => name,
    };
    name.split(|byte| *byte == b'/').all(|part| {
        let is_plain = !matches!(part, b"" | b"." | b"..");
        is_plain
            && part.split(|byte| *byte == b'\\').all(|part| !is_git_directory(part))
            && (mode & TYPE != SYMLINK || !part.eq_ignore_ascii_case(b".gitmodules"))
    })
}

/// Returns whether any file system takes a name for `.git`.
fn is_git_directory(name: &[u8]) -> bool {
    // NTFS ignores a stream, dots and spaces at the end, and has a short name for each file.
    let end = name.iter().position(|byte| *byte == b':').unwrap_or(name.len());
    let mut name: Vec<u8> = name[..end].to_vec();
    while name.last().is_some_and(|byte| matches!(byte, b'.' | b' ')) {
        name.pop();
    }
    if name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1") {
        return true;
    }
    // HFS+ ignores some characters.
    std::str::from_utf8(&name).is_ok_and(|name| {
        let is_ignored = |c: &char| {
            matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{206a}'..='\u{206f}' | '\u{feff}')
        };
        let seen = name.chars().filter(|c| !is_ignored(c));
        seen.map(|c| c.to_ascii_lowercase()).eq(".git".chars())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u32 = 0o100_644;

    /// Writes an index. An entry of version 4 repeats nothing of the name before.
    fn index(version: u32, entries: &[(u32, &[u8])]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).unwrap();
        let mut index =
            [&b"DIRC"[..], &version.to_be_bytes(), &count.to_be_bytes()].concat().clone();
        let mut before = 0;
        for (mode, name) in entries {
            let begin = index.len();
            index.extend([0; MODE_AT]);
            index.extend(mode.to_be_bytes());
            index.extend([0; 12 + 20]);
            index.extend(u16::try_from(name.len().min(NAME_LENGTH)).unwrap().to_be_bytes());
            if version == 4 {
                index.push(before);
                before = u8::try_from(name.len()).unwrap();
            }
            index.extend(*name);
            let padding = if version == 4 { 1 } else { 8 - (index.len() - begin) % 8 };
            index.extend(vec![0; padding]);
        }
        index
    }

    fn finished(mut index: Vec<u8>, extensions: &[u8]) -> Vec<u8> {
        index.extend(extensions);
        index.extend([0; 20]);
        index
    }

    fn found(index: &[u8]) -> Option<IndexFlaw> {
        flaw(index, IndexFile::Own, 20, |path| !path.starts_with("free"))
    }

    #[track_caller]
    fn check(mode: u32, name: &str, expected: bool) {
        for version in 2..=4 {
            let index = finished(index(version, &[(FILE, b"a"), (mode, name.as_bytes())]), &[]);
            let expected = (!expected).then(|| IndexFlaw::Name(name.into()));
            assert_eq!(found(&index), expected, "{name:?} in version {version}");
        }
    }

    #[test]
    fn names_that_git_refuses_to_add_are_flaws() {
        for name in ["a", "a/b.git", ".gitx", "é", ".github/x", ".gitmodules", "a\\b", "...", "x.."]
        {
            check(FILE, name, true);
        }
        for name in [
            "../a",
            "a/../../b",
            "/a",
            "a//b",
            "./a",
            "a/.",
            "a/",
            ".git/config",
            "a/.GIT/hooks/x",
            "git~1/x",
            ".git. ./x",
            ".git:x/y",
            "a\\.git/x",
            ".g\u{200c}it/config",
        ] {
            check(FILE, name, false);
        }
        check(SUBMODULE, ".git/x", false);
        check(SYMLINK, "a/.gitmodules", false);
        check(DIRECTORY, "a/", true);
        check(DIRECTORY, "a//", false);
    }

    #[test]
    fn a_submodule_without_protection_is_a_flaw() {
        let module =
            |name: &'static str| found(&finished(index(2, &[(SUBMODULE, name.as_bytes())]), &[]));
        assert_eq!(module("sub"), None);
        assert_eq!(module("free/x"), Some(IndexFlaw::Submodule("free/x".into())));
        // The mode of an entry in the shared index may be elsewhere, and so may a name.
        let shared = finished(index(2, &[(FILE, b"free/x")]), &[]);
        let is_safe = |path: &Path| !path.starts_with("free");
        let flaw_of = |file| flaw(&shared, file, 20, is_safe);
        assert_eq!(flaw_of(IndexFile::Own), None);
        assert_eq!(flaw_of(IndexFile::Shared), Some(IndexFlaw::Submodule("free/x".into())));
        let replaced = finished(index(2, &[(SUBMODULE, b"")]), b"link\0\0\0\0");
        assert_eq!(found(&replaced), None);
        assert_eq!(
            flaw(&replaced, IndexFile::Shared, 20, is_safe),
            Some(IndexFlaw::Name("".into()))
        );
    }

    #[test]
    fn what_git_could_read_in_another_way_is_malformed() {
        let good = index(4, &[(FILE, b"a"), (FILE, b"b")]);
        let (entries_end, first) = (u32::try_from(good.len()).unwrap(), 12_u32);
        let blocks = |at: u32, count: u32| {
            let numbers = [1, at, count].map(u32::to_be_bytes).concat();
            [&b"IEOT\0\0\0\x0c"[..], &numbers].concat()
        };
        let end = |at: u32| [&b"EOIE\0\0\0\x18"[..], &at.to_be_bytes(), &[0; 20]].concat();
        let malformed = Some(IndexFlaw::Malformed);
        assert_eq!(found(&finished(good.clone(), &[])), None);
        assert_eq!(found(&finished(good.clone(), &blocks(first, 2))), None);
        assert_eq!(found(&finished(good.clone(), &end(entries_end))), None);
        for extensions in [
            blocks(first + 1, 2),
            blocks(first, 1),
            end(entries_end + 4),
            b"TREE\0\0\0\x09".to_vec(),
        ] {
            assert_eq!(found(&finished(good.clone(), &extensions)), malformed, "{extensions:?}");
        }
        let mut wrong_length = index(2, &[(FILE, b"ab")]);
        wrong_length[73] = 1;
        let mut other_version = index(2, &[]);
        other_version[7] = 5;
        for file in [wrong_length, other_version, b"DIRC".to_vec(), Vec::new()] {
            assert_eq!(found(&finished(file.clone(), &[])), malformed, "{file:?}");
        }
        for len in 0..good.len() {
            assert_eq!(found(&good[..len]), malformed, "{len}");
        }
    }

    #[test]
    fn the_length_of_ids_follows_the_configuration() {
        assert_eq!(object_id_bytes(b"[core]\nbare = false\n"), 20);
        assert_eq!(object_id_bytes(b"[Extensions]\nobjectFormat = sha256\n"), 32);
    }
}
