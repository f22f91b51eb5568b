//! The files that a walk leaves out: `.git`, and what the `.gitignore` files of the tree exclude.

use std::fmt;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sandbox_core::internal::read_open;
use sandbox_core::{RelativePath, SessionDir};

use super::Selection;

/// The size of the largest `.gitignore` that is read. A larger one excludes nothing.
const MAX_BYTES: u64 = 64 * 1024;

/// The rules of the directories above the current entry of a walk.
pub(super) struct Ignored<'d> {
    dir: &'d SessionDir,
    root: Option<&'d RelativePath>,
    selection: Selection,
    /// The rules of each directory, the start of the walk first, with its path.
    rules: Vec<(String, Gitignore)>,
}

impl fmt::Debug for Ignored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ignored").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl<'d> Ignored<'d> {
    pub(super) fn new(
        dir: &'d SessionDir,
        root: Option<&'d RelativePath>,
        selection: Selection,
    ) -> Self {
        let mut ignored = Self { dir, root, selection, rules: Vec::new() };
        if selection == Selection::NotIgnored {
            ignored.enter("");
        }
        ignored
    }

    /// Returns whether the walk leaves an entry out. A walk calls this for each entry in turn, and
    /// for a directory before its entries.
    pub(super) fn excludes(&mut self, path: &str, is_directory: bool) -> bool {
        if self.selection == Selection::All {
            return false;
        }
        if path == ".git" || path.ends_with("/.git") {
            return true;
        }
        let is_above = |dir: &str| {
            dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
        };
        while self.rules.last().is_some_and(|(dir, _)| !is_above(dir)) {
            self.rules.pop();
        }
        let verdict = self.rules.iter().rev().find_map(|(dir, rules)| {
            let below = path.get(dir.len()..).unwrap_or_default().trim_start_matches('/');
            let verdict = rules.matched(below, is_directory);
            (!verdict.is_none()).then(|| verdict.is_ignore())
        });
        let is_excluded = verdict.unwrap_or(false);
        if is_directory && !is_excluded {
            self.enter(path);
        }
        is_excluded
    }

    /// Adds the rules of a directory.
    fn enter(&mut self, path: &str) {
        let parts = [self.root.map_or("", RelativePath::as_str), path, ".gitignore"];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let Ok(file) = RelativePath::parse(&parts.join("/")) else { return };
        let Ok(opened) = self.dir.open_file(&file) else { return };
        let Ok(content) = read_open(&opened, file.as_ref(), MAX_BYTES) else { return };
        let mut builder = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(&content).lines() {
            // Like git, which passes a line that is no pattern.
            let _ = builder.add_line(None, line);
        }
        if let Ok(rules) = builder.build() {
            self.rules.push((path.to_owned(), rules));
        }
    }
}
