//! Space that a tree takes on its file system.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxFlags};

use super::readable::ReadableDirectory;

/// Size of the part of a directory that is read at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// Number of levels below the top whose directories stay open while their entries are counted.
/// Directories further down are opened again from the top.
const OPEN_LEVELS: usize = 64;
/// Length of the paths with which a deep directory is opened step by step.
const STEP_BYTES: usize = 2048;
/// `STATX_BLOCKS` counts these (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// Space that a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Allocated bytes, so not the holes of a sparse file.
    pub(crate) bytes: u64,
    /// Number of files, directories, and other entries. A file with several names counts once.
    pub(crate) files: u64,
}

/// Counts the files below a directory, including those in parts that deny access to their owner.
///
/// Symlinks are not followed, and mount points are not entered. What cannot be read, and what
/// vanishes meanwhile, does not count. The tree may have any depth.
///
/// # Errors
/// Returns the error of the system if the directory itself cannot be read.
pub(crate) fn usage(dir: &Path) -> rustix::io::Result<Usage> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(dir, flags, Mode::empty())?;
    let top = Rc::new(ReadableDirectory::open_beneath(top, Path::new(""))?);
    let mut count = Count::new(Rc::clone(&top));
    count.run(top);
    Ok(count.usage)
}

/// A directory that is still to be counted.
struct Pending {
    /// Its place in [`Count::names`].
    place: usize,
    depth: usize,
    /// The open directory above, unless that is too deep.
    parent: Option<Rc<ReadableDirectory>>,
}

struct Count {
    usage: Usage,
    top: Rc<ReadableDirectory>,
    /// The directories that were found, each with the place of the directory above.
    names: Vec<(usize, CString)>,
    pending: Vec<Pending>,
    /// Inodes of files with several names.
    linked: HashSet<u64>,
    /// The directory that was counted last, which is the parent of the next in a chain.
    last: Option<(usize, Rc<ReadableDirectory>)>,
}

/// The place of the top in [`Count::names`].
const TOP: usize = usize::MAX;

impl Count {
    fn new(top: Rc<ReadableDirectory>) -> Self {
        Self {
            usage: Usage::default(),
            top,
            names: Vec::new(),
            pending: Vec::new(),
            linked: HashSet::new(),
            last: None,
        }
    }

    fn run(&mut self, top: Rc<ReadableDirectory>) {
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        self.entries(&top, TOP, 0, &mut buffer);
        self.last = Some((TOP, top));
        while let Some(next) = self.pending.pop() {
            let Some(dir) = self.open(&next) else { continue };
            let dir = Rc::new(dir);
            self.entries(&dir, next.place, next.depth, &mut buffer);
            self.last = Some((next.place, dir));
        }
    }

    /// Counts the entries of a directory, and adds its subdirectories to the pending ones.
    fn entries(
        &mut self,
        dir: &Rc<ReadableDirectory>,
        place: usize,
        depth: usize,
        buffer: &mut [MaybeUninit<u8>],
    ) {
        let mut entries = RawDir::new(&**dir, buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let wanted =
                StatxFlags::TYPE | StatxFlags::BLOCKS | StatxFlags::NLINK | StatxFlags::INO;
            let stat = rustix::fs::statx(&**dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted);
            let Ok(stat) = stat else { continue };
            let is_directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
            self.add(&stat, is_directory);
            if is_directory {
                self.names.push((place, name.to_owned()));
                let parent = (depth < OPEN_LEVELS).then(|| Rc::clone(dir));
                let place = self.names.len() - 1;
                self.pending.push(Pending { place, depth: depth + 1, parent });
            }
        }
    }

    fn add(&mut self, stat: &Statx, is_directory: bool) {
        if is_directory || stat.stx_nlink < 2 || self.linked.insert(stat.stx_ino) {
            self.usage.files += 1;
            self.usage.bytes += stat.stx_blocks * BLOCK_BYTES;
        }
    }

    /// Opens a pending directory. Returns `None` if it has vanished, or is a mount point.
    fn open(&mut self, next: &Pending) -> Option<ReadableDirectory> {
        let (above, _) = self.names[next.place];
        let last = self.last.take().filter(|(place, _)| *place == above);
        let parent = match (&next.parent, last) {
            (Some(parent), _) => Rc::clone(parent),
            (None, Some((_, parent))) => parent,
            (None, None) => self.open_again(above)?,
        };
        open_below(&parent, &self.names[next.place].1)
    }

    /// Opens a directory by its path from the top, which may be longer than a system call accepts.
    fn open_again(&self, place: usize) -> Option<Rc<ReadableDirectory>> {
        let mut names = Vec::new();
        let mut at = place;
        while at != TOP {
            let (above, name) = &self.names[at];
            names.push(name);
            at = *above;
        }
        let mut dir = Rc::clone(&self.top);
        let mut path = PathBuf::new();
        while let Some(name) = names.pop() {
            path.push(OsStr::from_bytes(name.to_bytes()));
            if names.is_empty() || path.as_os_str().len() > STEP_BYTES {
                dir = Rc::new(ReadableDirectory::open_beneath(&*dir, &path).ok()?);
                path.clear();
            }
        }
        Some(dir)
    }
}

fn open_below(parent: &ReadableDirectory, name: &CStr) -> Option<ReadableDirectory> {
    let mut dir = ReadableDirectory::open_at(parent, name).ok()?;
    let stat = rustix::fs::statx(&dir, "", AtFlags::EMPTY_PATH, StatxFlags::MODE).ok()?;
    dir.make_accessible(stat.stx_mode).ok()?;
    Some(dir)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// Counts by the standard library, recursively.
    fn oracle(dir: &Path, seen: &mut HashSet<u64>) -> Usage {
        let mut total = Usage::default();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() || seen.insert(metadata.ino()) {
                total.files += 1;
                total.bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                let below = oracle(&path, seen);
                total.files += below.files;
                total.bytes += below.bytes;
            }
        }
        total
    }

    #[test]
    fn a_tree_with_links_holes_and_closed_parts_is_counted_like_by_the_oracle() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/data"), vec![1; 100_000]).unwrap();
        fs::hard_link(path("a/b/data"), path("again")).unwrap();
        symlink("/usr", path("link")).unwrap();
        File::create(path("sparse")).unwrap().set_len(5 << 30).unwrap();
        let expected = oracle(root.path(), &mut HashSet::new());
        assert!(expected.bytes < 1 << 20, "the hole is not allocated: {expected:?}");
        for mode in [0o000, 0o300] {
            fs::set_permissions(path("a/b"), Permissions::from_mode(mode)).unwrap();
            assert_eq!(usage(root.path()).unwrap(), expected);
            let after = fs::metadata(path("a/b")).unwrap().mode() & 0o777;
            assert_eq!(after, mode);
        }
        fs::set_permissions(path("a/b"), Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn deep_trees_are_counted_with_few_descriptors() {
        // Longer than a path may be, and with a sibling at each level.
        let depth = 1000;
        let root = tempfile::tempdir().unwrap();
        let mut dir = rustix::fs::open(root.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..depth {
            for name in ["deep-directory", "sibling"] {
                rustix::fs::mkdirat(&dir, name, Mode::RWXU).unwrap();
            }
            dir = rustix::fs::openat(&dir, "deep-directory", OFlags::PATH, Mode::empty()).unwrap();
        }
        let file = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&dir, "file", file, Mode::RWXU).unwrap();
        File::from(file).write_all(&[1; 50_000]).unwrap();
        let counted = usage(root.path()).unwrap();
        assert_eq!(counted.files, 2 * depth + 1);
        assert!(counted.bytes >= 50_000);
        super::super::remove_tree(root.path()).unwrap();
    }
}
