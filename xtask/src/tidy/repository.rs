//! The files of the workspace, read once for all rules.

use std::fs;
use std::io;
use std::path::Path;

use crate::scan::{Scan, scan};

/// Directories that hold build output or other projects' files.
const SKIPPED_DIRECTORIES: [&str; 3] = ["target", ".git", "node_modules"];

/// The workspace's files, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Repository {
    files: Vec<SourceFile>,
}

/// A file with its content, which is empty if the file is not text that a rule reads.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Path below the workspace, with `/` between its components.
    pub(super) path: String,
    pub(super) text: String,
    /// Comments, literals and code of a Rust file.
    pub(super) scan: Scan,
}

impl SourceFile {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let scan = if path.ends_with(".rs") { scan(text) } else { Scan::default() };
        Self { path: path.to_owned(), text: text.to_owned(), scan }
    }
}

impl Repository {
    /// Reads all files below a directory, except build output.
    pub(super) fn read(workspace: &Path) -> io::Result<Self> {
        let mut repository = Self::default();
        repository.read_directory(workspace, "")?;
        repository.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(repository)
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| SourceFile::new(path, text)).collect() }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files().filter(|file| file.path.ends_with(".rs"))
    }

    pub(super) fn markdown(&self) -> impl Iterator<Item = &SourceFile> {
        self.files().filter(|file| file.path.ends_with(".md"))
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
                    self.read_directory(&entry.path(), &format!("{path}/"))?;
                }
                continue;
            }
            let is_text = path.ends_with(".rs") || path.ends_with(".md");
            let text = if is_text { fs::read_to_string(entry.path())? } else { String::new() };
            self.files.push(SourceFile::new(&path, &text));
        }
        Ok(())
    }
}
