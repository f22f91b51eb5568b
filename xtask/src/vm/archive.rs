//! The archive that a kernel unpacks as its first root: `cpio` in the format `newc` (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Everything in it is root's.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    /// A directory with those above it; all paths are relative to the root.
    pub(super) fn directory(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || !self.directories.insert(path.to_owned()) {
            return;
        }
        self.parents(path);
        self.entry(&path.to_string_lossy(), DIRECTORY | 0o755, b"");
    }

    pub(super) fn file(&mut self, path: &Path, content: &[u8], mode: u32) {
        self.parents(path);
        self.entry(&path.to_string_lossy(), FILE | mode, content);
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn parents(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.directory(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).expect("no file here has four gigabytes");
        // Magic, inode, mode, owner, group, links, time, size, four numbers of devices, the name's
        // length, no checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length(content.len()),
            0,
            0,
            0,
            0,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_begins_at_a_multiple_of_four_and_parents_come_first() {
        let mut archive = Archive::default();
        archive.file(Path::new("a/b"), b"12345", 0o644);
        archive.directory(Path::new("a"));
        let bytes = archive.finish();
        let starts: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(starts.len(), 3, "a, a/b, the trailer");
        assert!(starts.iter().all(|start| start % 4 == 0) && bytes.len() % 4 == 0);
        let name = |start: usize| bytes[start + 110..].split(|byte| *byte == 0).next().unwrap();
        assert_eq!(
            starts.into_iter().map(name).collect::<Vec<_>>(),
            [&b"a"[..], b"a/b", b"TRAILER!!!"]
        );
    }
}
