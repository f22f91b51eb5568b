//! Files that mark their directory as one that programs can recreate.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Name and beginning of the tag of a cache directory (<https://bford.info/cachedir/>).
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// Name of the file that makes a directory a virtual environment of Python
/// (<https://docs.python.org/3/library/venv.html>). It names the interpreter's directory as `home`.
const ENVIRONMENT: &str = "pyvenv.cfg";
/// Largest part of a marker that is read.
const MAX_BYTES: usize = 4_096;

/// Kind of a marked directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Cache,
    VirtualEnvironment,
}

/// Returns whether a file of this name may be a marker.
pub(super) fn is_marker_name(name: &str) -> bool {
    matches!(name, CACHE_TAG | ENVIRONMENT)
}

/// Reads the marker of this name in a directory. Returns `None` for a file with other content.
pub(super) fn read(dir: impl AsFd, name: &str) -> Option<Marker> {
    let content = beginning(dir, name)?;
    if name.ends_with(CACHE_TAG) {
        return content.starts_with(CACHE_SIGNATURE).then_some(Marker::Cache);
    }
    let names_home = |line: &[u8]| {
        let key = line.split(|byte| *byte == b'=').next().filter(|key| key.len() < line.len());
        key.is_some_and(|key| key.trim_ascii().eq_ignore_ascii_case(b"home"))
    };
    let is_environment = content.split(|byte| *byte == b'\n').any(names_home);
    is_environment.then_some(Marker::VirtualEnvironment)
}

/// Returns the marker in a directory.
pub(super) fn find(dir: impl AsFd) -> Option<Marker> {
    read(&dir, CACHE_TAG).or_else(|| read(dir, ENVIRONMENT))
}

/// Returns whether the directory `path` below `dir` has a marker.
pub(super) fn is_in(dir: impl AsFd, path: &str) -> bool {
    [CACHE_TAG, ENVIRONMENT].iter().any(|name| read(&dir, &format!("{path}/{name}")).is_some())
}

/// Reads the beginning of a regular file, without following symlinks.
fn beginning(dir: impl AsFd, path: &str) -> Option<Vec<u8>> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(dir, Path::new(path), flags, Mode::empty(), how).ok()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    let mut content = vec![0; MAX_BYTES];
    let length = rustix::io::pread(&file, &mut content[..], 0).ok()?;
    content.truncate(length);
    Some(content)
}

/// Returns the marker that an entry of a directory is, if its name is that of a marker.
pub(super) fn of_entry(dir: impl AsFd, name: &CStr) -> Option<Marker> {
    let name = name.to_str().ok().filter(|name| is_marker_name(name))?;
    read(dir, name)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test";

    #[track_caller]
    fn check(name: &str, content: &str, expected: Option<Marker>) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(name), content).unwrap();
        assert_eq!(find(File::open(root.path()).unwrap()), expected, "{name}: {content:?}");
    }

    #[test]
    fn only_files_with_the_right_content_are_markers() {
        check(CACHE_TAG, TAG, Some(Marker::Cache));
        check(CACHE_TAG, &TAG[..43], Some(Marker::Cache));
        check(CACHE_TAG, &TAG[..42], None);
        check(CACHE_TAG, "a cache", None);
        check("CACHEDIR.tag", TAG, None);
        check(ENVIRONMENT, "home = /usr/bin\nversion = 3.12", Some(Marker::VirtualEnvironment));
        check(ENVIRONMENT, "version=3\nHOME=/usr/bin\n", Some(Marker::VirtualEnvironment));
        check(ENVIRONMENT, "", None);
        check(ENVIRONMENT, "home", None);
        check(ENVIRONMENT, "homework = done", None);
    }

    #[test]
    fn a_symlink_is_no_marker() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("tag"), TAG).unwrap();
        let dir = File::open(root.path()).unwrap();
        symlink("../tag", root.path().join("a/CACHEDIR.TAG")).unwrap();
        assert!(!is_in(&dir, "a"));
        fs::rename(root.path().join("tag"), root.path().join("a/CACHEDIR.TAG")).unwrap();
        assert!(is_in(&dir, "a"));
    }
}
