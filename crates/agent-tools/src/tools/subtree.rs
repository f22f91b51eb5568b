//! The files beneath a directory that an agent names, as far as the policy lets commands read them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobMatcher};
use policy::Access;
use sandbox_core::internal::{EntryKind, Subtree, Walk, WalkEntry, real_path};
use sandbox_core::{FileError, FileErrorKind, RelativePath, SessionPath};

use super::location::{Anchor, Files, TMP};
use crate::engine::Engine;
use crate::session::LocalSession;
use crate::tool_error::ToolError;

mod ignored;

use ignored::Ignored;

/// The maximum number of entries that one call visits.
const MAX_ENTRIES: usize = 200_000;
/// The maximum time of a call.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The text of [`FileError::NotAFile`] for a directory.
const DIRECTORY: &str = "a directory";

/// The files beneath a directory, or one file.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Files,
    /// The path below the root of `files`; `None` is the root itself.
    relative: Option<RelativePath>,
    /// The text before a path below the root, in paths that the file tools take.
    shown_root: &'static str,
    sandbox: Arc<dyn Engine>,
    /// The path as the agent wrote it.
    input: String,
    /// The meaning of the path if its leading slash stands for the session directory.
    anchor: Option<Anchor>,
    tool: &'static str,
}

/// The choice of files of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All files.
    All,
    /// All files but `.git`, and the files that `.gitignore` files of the walk exclude.
    NotIgnored,
}

/// The reason for which a walk ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EarlyEnd {
    /// The visitor has seen enough.
    Stopped,
    /// The limit on entries or on time was reached.
    Limit,
}

impl EarlyEnd {
    /// Returns the text for a result that lacks files.
    pub(super) fn note(self) -> Option<String> {
        (self == Self::Limit).then(|| {
            format!(
                "not all files were visited ({MAX_ENTRIES} entries or {} s at most); name a \
                 directory",
                MAX_TIME.as_secs()
            )
        })
    }
}

/// An entry, with the path that the file tools take.
#[derive(Debug)]
pub(super) struct TreeEntry<'t> {
    pub(super) entry: WalkEntry<'t>,
    pub(super) shown: String,
    /// The path below the root of the files; `None` for a name that no tool takes.
    pub(super) relative: Option<RelativePath>,
}

/// A request to end a walk, set when its call is dropped.
#[derive(Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl LocalSession {
    /// Finds the directory or the file that a search begins in, for the tool called `tool`.
    pub(super) fn tree(&self, tool: &'static str, input: &str) -> Result<Tree, ToolError> {
        let path =
            SessionPath::resolve(self.dir(), input).map_err(|source| ToolError::Path { source })?;
        let outside = SessionPath::outside(self.dir(), input);
        let sandbox = self.sandbox();
        let input = input.to_owned();
        let in_tmp = outside.as_deref().filter(|_| self.shows_tmp());
        let Some(below) = in_tmp.and_then(|path| path.strip_prefix(TMP).ok()) else {
            let files = Files::Session(Arc::clone(&self.workspace.dir));
            let relative = path.relative().cloned();
            let anchor = outside.map(|outside| self.anchor(&outside, path.absolute()));
            return Ok(Tree { files, relative, shown_root: "", sandbox, input, anchor, tool });
        };
        let files = Files::Tmp(self.tmp_for(tool, &input)?);
        let relative = below.to_str().and_then(|path| RelativePath::parse(path).ok());
        Ok(Tree { files, relative, shown_root: "/tmp/", sandbox, input, anchor: None, tool })
    }
}

impl Tree {
    /// Visits the files in the order of their paths. A path is passed if the policy denies commands
    /// to read it.
    pub(super) fn walk(
        &self,
        selection: Selection,
        cancelled: &AtomicBool,
        mut visit: impl FnMut(TreeEntry<'_>) -> Walk,
    ) -> Result<Option<EarlyEnd>, ToolError> {
        let dir = self.files.dir().ok_or_else(|| self.failed("it is gone"))?;
        let subtree = dir.subtree(self.relative.as_ref()).map_err(|error| self.error(error))?;
        let started = Instant::now();
        let (mut count, mut end) = (0, None);
        let mut ignored = Ignored::new(dir, self.relative.as_ref(), selection);
        subtree.walk(|entry| {
            count += 1;
            let is_late = count % 64 == 0 && started.elapsed() > MAX_TIME;
            if count > MAX_ENTRIES || is_late || cancelled.load(Ordering::Relaxed) {
                end = Some(EarlyEnd::Limit);
                return Walk::Stop;
            }
            let is_directory = entry.kind == EntryKind::Directory;
            if ignored.excludes(entry.path, is_directory) {
                return Walk::Pass;
            }
            // A denied directory may have files that another rule allows.
            if !self.allows(&subtree, entry.path) {
                return Walk::Enter;
            }
            let relative = self.below(entry.path);
            let below = relative.as_ref().map_or(entry.path, RelativePath::as_str);
            let shown = format!("{}{below}", self.shown_root);
            let next = visit(TreeEntry { entry, shown, relative });
            if next == Walk::Stop {
                end = Some(EarlyEnd::Stopped);
            }
            next
        });
        Ok(end)
    }

    /// Returns the regular file that the input names; `None` for a directory, or if it does not
    /// exist.
    ///
    /// # Errors
    /// Returns an error for another type of file, such as a FIFO.
    pub(super) fn single_file(&self) -> Result<Option<(RelativePath, String)>, ToolError> {
        let (Some(relative), Some(dir)) = (self.relative.clone(), self.files.dir()) else {
            return Ok(None);
        };
        match dir.open_file(&relative) {
            Ok(_) => {
                let shown = format!("{}{relative}", self.shown_root);
                Ok(Some((relative, shown)))
            }
            Err(FileError::NotAFile { found, .. }) if found != DIRECTORY => {
                Err(self.failed(&format!("it is {found}, not a regular file or a directory")))
            }
            // A walk reports what is wrong.
            Err(_) => Ok(None),
        }
    }

    /// Opens a file for reading. Returns `None` if the policy denies that, or if it is gone.
    pub(super) fn open(&self, path: &RelativePath) -> Option<std::fs::File> {
        let file = self.files.dir()?.open_file(path).ok()?;
        // The name may lead to another file than the one that was visited.
        let real = match &self.files {
            Files::Session(_) => real_path(&file, path.as_ref()).ok()?,
            Files::Tmp(_) => Path::new(TMP).join(path.as_ref()),
        };
        self.allows_path(&real).then_some(file)
    }

    fn below(&self, path: &str) -> Option<RelativePath> {
        match &self.relative {
            Some(root) => RelativePath::parse(&format!("{root}/{path}")).ok(),
            None => RelativePath::parse(path).ok(),
        }
    }

    fn allows(&self, subtree: &Subtree, path: &str) -> bool {
        let real = match (&self.files, &self.relative) {
            (Files::Session(_), _) => subtree.real_path().join(path),
            (Files::Tmp(_), Some(root)) => Path::new(TMP).join(root).join(path),
            (Files::Tmp(_), None) => Path::new(TMP).join(path),
        };
        self.allows_path(&real)
    }

    fn allows_path(&self, path: &Path) -> bool {
        match &self.files {
            Files::Session(_) => self.sandbox.explain(path, Access::Read).allowed,
            Files::Tmp(_) => self.sandbox.allows(path, Access::Read),
        }
    }

    fn failed(&self, problem: &str) -> ToolError {
        let problem = format!("{}: {problem}", self.input);
        ToolError::Failed { tool: self.tool, problem }
    }

    /// Returns an error, with the path as the agent wrote it.
    fn error(&self, mut error: FileError) -> ToolError {
        if let Some(anchor) =
            self.anchor.as_ref().filter(|_| error.kind() == FileErrorKind::NotFound)
        {
            return anchor.missing(self.input.clone(), error);
        }
        if let FileError::Io { path, .. }
        | FileError::Escapes { path }
        | FileError::SymlinkLoop { path } = &mut error
        {
            *path = PathBuf::from(&self.input);
        }
        ToolError::File { source: error }
    }
}

/// Parses a glob: `*` and `?` stay within a name, and `**` covers any number of directories.
pub(super) fn parse_glob(tool: &'static str, pattern: &str) -> Result<GlobMatcher, ToolError> {
    let failed = |problem| ToolError::Failed { tool, problem };
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        let problem = format!(
            "the pattern {pattern} leaves the directory; give one relative to `path`, such as \
             `**/*.rs`"
        );
        return Err(failed(problem));
    }
    let pattern = pattern.trim_start_matches("./");
    let glob = GlobBuilder::new(pattern).literal_separator(true).empty_alternates(true).build();
    let glob = glob.map_err(|error| failed(error.to_string()))?;
    Ok(glob.compile_matcher())
}

/// Parses a glob of files. Like those of ripgrep's `-g`, one without a slash is a glob of names at
/// any depth.
pub(super) fn parse_file_glob(tool: &'static str, glob: &str) -> Result<GlobMatcher, ToolError> {
    if glob.contains('/') {
        parse_glob(tool, glob)
    } else {
        // An error has the glob as it was written.
        parse_glob(tool, glob)?;
        parse_glob(tool, &format!("**/{glob}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_of_files_without_a_slash_is_one_of_names_at_any_depth() {
        let matches =
            |glob: &str, path: &str| parse_file_glob("grep", glob).unwrap().is_match(path);
        assert!(
            matches("*.rs", "a.rs") && matches("*.rs", "d/e/a.rs") && matches("a.rs", "d/a.rs")
        );
        assert!(matches("d/*.rs", "d/a.rs") && !matches("d/*.rs", "e/d/a.rs"));
        assert!(matches("./*.rs", "a.rs") && !matches("./*.rs", "d/a.rs"));
        assert!(matches("{a,b}.rs", "d/b.rs") && matches("**", "d/e"));
        for glob in ["..", "/etc/*", "["] {
            assert!(parse_file_glob("grep", glob).is_err(), "{glob}");
        }
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_cover_directories() {
        let matches =
            |pattern: &str, path: &str| parse_glob("listFiles", pattern).unwrap().is_match(path);
        assert!(matches("*.rs", "a.rs") && !matches("*.rs", "d/a.rs"));
        assert!(matches("**/*.rs", "a.rs") && matches("**/*.rs", "d/e/a.rs"));
        assert!(matches("./d/{a,b}.rs", "d/b.rs") && matches("**", "d/e"));
        for pattern in ["/etc/*", "../*", "a/../b", "[", "{a"] {
            assert!(parse_glob("listFiles", pattern).is_err(), "{pattern}");
        }
    }
}
