//! List of what the rules ignore, for a report before it is deleted.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir, StatxFlags};
use sandbox_core::internal::ReadableDirectory;

use crate::limits::MAX_DEPTH;
use crate::scan::ignore::{IgnoreRules, Rule};
use crate::scan::markers::{self, Marker};

/// Most ignored entries that are counted.
const MAX_COUNTED: u64 = 100_000;
const BUFFER_BYTES: usize = 32 * 1024;

/// An ignored file, or an ignored directory with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Path in the directory. Its parent directories are not ignored.
    pub path: String,
    /// Rule that ignores it.
    pub reason: IgnoreReason,
    /// Number of entries that are not directories.
    pub files: u64,
    /// Size of the regular files among them.
    pub bytes: u64,
    /// Set if everything was counted. Counting ends after 100,000 entries of all ignored
    /// directories, and stops at directories that cannot be read.
    pub is_complete: bool,
}

/// Rule that ignores a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoreReason {
    /// A default name or a pattern.
    Pattern,
    /// The directory contains a valid `CACHEDIR.TAG`.
    CacheDirectory,
    /// The directory contains a `pyvenv.cfg`.
    VirtualEnvironment,
    /// The application excludes it ([`MirrorBuilder::exclude`](crate::MirrorBuilder::exclude)).
    Excluded,
    /// A process was writing the file when it ended, or is still writing it.
    Staged,
}

/// Lists the ignored files and the topmost ignored directories, by path.
pub(crate) fn ignored(dir: impl AsFd, rules: &IgnoreRules) -> Vec<Ignored> {
    ignored_up_to(MAX_COUNTED, dir, rules)
}

fn ignored_up_to(max_counted: u64, dir: impl AsFd, rules: &IgnoreRules) -> Vec<Ignored> {
    let mut listing = Listing { rules, found: Vec::new(), left: max_counted, rest: Vec::new() };
    if let Ok(top) = ReadableDirectory::open_beneath(dir, Path::new("")) {
        listing.list(&Arc::new(top), "", None);
    }
    while let Some(Below { parent, name, path, ignored }) = listing.rest.pop() {
        match ReadableDirectory::open_at(&*parent, &name) {
            Ok(dir) => listing.enter(&Arc::new(dir), &path, ignored),
            Err(_) => listing.set_incomplete(ignored),
        }
    }
    listing.found.sort_by(|a, b| a.path.cmp(&b.path));
    listing.found
}

/// Directory to list.
struct Below {
    parent: Arc<ReadableDirectory>,
    name: CString,
    path: String,
    /// Index of the ignored directory that contains it or that it is.
    ignored: Option<usize>,
}

struct Listing<'r> {
    rules: &'r IgnoreRules,
    found: Vec<Ignored>,
    /// Number of ignored entries that may still be counted.
    left: u64,
    rest: Vec<Below>,
}

impl Listing<'_> {
    /// Lists a directory that may be marked.
    fn enter(&mut self, dir: &Arc<ReadableDirectory>, path: &str, mut ignored: Option<usize>) {
        if ignored.is_none()
            && self.rules.honours_marker(path)
            && let Some(marker) = markers::find(&**dir)
        {
            ignored = Some(self.add(path, marker.into()));
        }
        self.list(dir, path, ignored);
    }

    fn list(&mut self, dir: &Arc<ReadableDirectory>, path: &str, ignored: Option<usize>) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        let mut entries = RawDir::new(&**dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let Ok(entry) = entry else { return self.set_incomplete(ignored) };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if ignored.is_some() && self.left == 0 {
                return self.set_incomplete(ignored);
            }
            let name = entry.file_name();
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let wanted = StatxFlags::TYPE | StatxFlags::SIZE;
            let Ok(stat) = rustix::fs::statx(&**dir, name, flags, wanted) else { continue };
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            let mut ignored = ignored;
            // Names that are not UTF-8 are skipped, unless they are below an ignored directory.
            let text = match name.to_str() {
                Ok(text) => text.to_owned(),
                Err(_) if ignored.is_some() => name.to_string_lossy().into_owned(),
                Err(_) => continue,
            };
            let path = if path.is_empty() { text } else { format!("{path}/{text}") };
            if ignored.is_none()
                && let Some(rule) = self.rules.rule(&path, kind == FileType::Directory)
            {
                ignored = Some(self.add(&path, rule.into()));
            }
            if kind == FileType::Directory {
                self.left = self.left.saturating_sub(u64::from(ignored.is_some()));
                if path.split('/').count() > MAX_DEPTH {
                    self.set_incomplete(ignored);
                    continue;
                }
                let (parent, name) = (Arc::clone(dir), name.to_owned());
                self.rest.push(Below { parent, name, path, ignored });
            } else if let Some(at) = ignored {
                self.left = self.left.saturating_sub(1);
                self.found[at].files += 1;
                if kind == FileType::RegularFile {
                    self.found[at].bytes += stat.stx_size;
                }
            }
        }
    }

    fn add(&mut self, path: &str, reason: IgnoreReason) -> usize {
        let path = path.to_owned();
        self.found.push(Ignored { path, reason, files: 0, bytes: 0, is_complete: true });
        self.found.len() - 1
    }

    fn set_incomplete(&mut self, ignored: Option<usize>) {
        if let Some(ignored) = ignored.and_then(|at| self.found.get_mut(at)) {
            ignored.is_complete = false;
        }
    }
}

impl From<Rule> for IgnoreReason {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Pattern => Self::Pattern,
            Rule::Excluded => Self::Excluded,
            Rule::Staged => Self::Staged,
        }
    }
}

impl From<Marker> for IgnoreReason {
    fn from(marker: Marker) -> Self {
        match marker {
            Marker::Cache => Self::CacheDirectory,
            Marker::VirtualEnvironment => Self::VirtualEnvironment,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use sandbox_core::STAGED_PREFIX;
    use testkit::write_file;

    use super::*;

    #[test]
    fn the_topmost_ignored_entries_are_listed_with_their_counts() {
        let root = tempfile::tempdir().unwrap();
        let staged = format!("d/{STAGED_PREFIX}{:032x}", 1);
        for (path, content) in [
            ("mirrored/file", "x"),
            ("d/node_modules/a/node_modules/b", "12345"),
            ("d/node_modules/c", "1"),
            ("d/.x.swp", "123"),
            ("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55"),
            ("target/debug/x", "1"),
            ("env/pyvenv.cfg", "home = /usr"),
            ("skills/s/SKILL.md", "1"),
            (&staged, ""),
        ] {
            write_file(root.path(), path, content);
        }
        symlink("c", root.path().join("d/node_modules/link")).unwrap();
        fs::create_dir(root.path().join(".git")).unwrap();
        let mut rules = IgnoreRules::default();
        rules.add_top_level("skills".to_owned());
        let listed = ignored(File::open(root.path()).unwrap(), &rules);
        assert!(listed.iter().all(|ignored| ignored.is_complete));
        let listed: Vec<_> = listed
            .iter()
            .map(|ignored| (ignored.path.as_str(), ignored.reason, ignored.files, ignored.bytes))
            .collect();
        assert_eq!(
            listed,
            [
                (".git", IgnoreReason::Pattern, 0, 0),
                (staged.as_str(), IgnoreReason::Staged, 1, 0),
                ("d/.x.swp", IgnoreReason::Pattern, 1, 3),
                ("d/node_modules", IgnoreReason::Pattern, 3, 6),
                ("env", IgnoreReason::VirtualEnvironment, 1, 11),
                ("skills", IgnoreReason::Excluded, 1, 1),
                ("target", IgnoreReason::CacheDirectory, 2, 44),
            ]
        );
    }

    #[test]
    fn counting_ends_after_many_entries_and_says_so() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..4 {
            write_file(root.path(), &format!("node_modules/{number}/a"), "");
            write_file(root.path(), &format!("node_modules/{number}/b"), "");
        }
        let count = |max| {
            let dir = File::open(root.path()).unwrap();
            let listed = ignored_up_to(max, dir, &IgnoreRules::default());
            assert_eq!(listed.len(), 1);
            (listed[0].files, listed[0].is_complete)
        };
        // Directories count too.
        assert_eq!(count(13), (8, true));
        assert_eq!(count(12), (7, false));
        assert_eq!(count(1), (0, false));
    }
}
