//! File systems that are mounted below a directory.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Returns the mount points below a directory, relative to it. `dir` is canonical.
///
/// # Errors
/// Returns the system's error if `/proc` is not mounted.
pub fn mount_points_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(below(&std::fs::read("/proc/self/mountinfo")?, dir))
}

/// Finds the mount points in the content of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
fn below(mounts: &[u8], dir: &Path) -> Vec<PathBuf> {
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        let point = PathBuf::from(OsString::from_vec(unescaped(field)));
        let below = point.strip_prefix(dir).ok()?.to_owned();
        (!below.as_os_str().is_empty()).then_some(below)
    });
    points.collect()
}

/// Replaces octal numbers such as `\040` by the bytes for which they stand.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        text.push(escaped.unwrap_or(first));
        rest = &after[if escaped.is_some() { 3 } else { 0 }..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_directory_are_found_also_with_escaped_names() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/vda rw\n\
            30 22 0:5 / /s/1 rw - tmpfs none rw\n\
            31 22 0:6 / /s/1/a\\040b\\134c rw shared:2 - tmpfs none rw\n\
            32 22 0:7 / /s/10/x rw - tmpfs none rw\n";
        assert_eq!(below(mounts, Path::new("/s/1")), [Path::new("a b\\c")]);
        assert_eq!(
            mount_points_below(Path::new("/nonexistent")).unwrap(),
            [""; 0].map(PathBuf::from)
        );
    }
}
