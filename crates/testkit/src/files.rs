//! Files of a test directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the file `path` of `dir`, creates its parent directories, and returns its full path.
///
/// # Panics
/// Panics if the file cannot be written.
#[track_caller]
pub fn write_file(dir: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Returns the regular files of a directory and its subdirectories by their relative path.
///
/// # Panics
/// Panics if a directory or a file cannot be read, or a name or a content is not UTF-8.
#[track_caller]
pub fn read_files(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    collect(dir, dir, &mut files);
    files
}

#[track_caller]
fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(root, &entry.path(), files);
        } else if kind.is_file() {
            let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}
