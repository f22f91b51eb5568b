//! The location of an entry that a program names: of the session directory, or of its own `/tmp`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::Access;
use sandbox_core::internal::real_path;
use sandbox_core::{
    EntryPlace, FileError, FileErrorKind, FoundEntry, RelativePath, SessionDir, SessionPath,
};

use super::Judged;
use crate::engine::Engine;
use crate::rules::Rules;
use crate::session::LocalSession;
use crate::tool_error::ToolError;
use crate::tools::location::Anchor;

/// The directory that commands and tools share besides the session directory.
const TMP: &str = "/tmp";
/// The subject of errors.
pub(super) const FILES: &str = "files";

/// The location of an entry, which may be the session directory or `/tmp` itself.
#[derive(Clone, Debug)]
pub(super) struct EntryLocation {
    /// The path as the caller wrote it.
    input: String,
    /// The meaning of the path if its leading slash stands for the session directory.
    anchor: Option<Anchor>,
    root: Root,
    /// The path below the root; `None` for the root itself.
    pub(super) relative: Option<RelativePath>,
    /// The path as commands see it.
    pub(super) absolute: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) enum Root {
    Session(Arc<SessionDir>),
    /// `/tmp` of this sandbox.
    Tmp(Arc<dyn Engine>),
}

impl Root {
    /// Returns the directory beneath which paths are resolved.
    pub(super) fn dir(&self) -> Result<&SessionDir, ToolError> {
        match self {
            Self::Session(dir) => Ok(dir),
            Self::Tmp(sandbox) => {
                let gone = || failed("the session's own /tmp is gone".to_owned());
                sandbox.own_tmp().ok_or_else(gone)
            }
        }
    }
}

pub(super) fn failed(problem: String) -> ToolError {
    ToolError::Failed { tool: FILES, problem }
}

impl LocalSession {
    /// Finds the location of an entry.
    pub(super) fn entry_location(&self, input: &str) -> Result<EntryLocation, ToolError> {
        let path =
            SessionPath::resolve(self.dir(), input).map_err(|source| ToolError::Path { source })?;
        let outside = SessionPath::outside(self.dir(), input);
        let input = input.to_owned();
        // The reference has `/tmp` in the session directory.
        let shows_tmp = self.rules() == Rules::Standard;
        let in_tmp = outside.as_ref().filter(|path| shows_tmp && path.starts_with(TMP));
        let Some(absolute) = in_tmp.cloned() else {
            let root = Root::Session(Arc::clone(&self.workspace.dir));
            let (absolute, relative) = (path.absolute().to_owned(), path.relative().cloned());
            let anchor = outside.map(|outside| self.anchor(&outside, &absolute));
            return Ok(EntryLocation { input, anchor, root, relative, absolute });
        };
        let sandbox = self.sandbox();
        if sandbox.own_tmp().is_none() {
            return Err(failed(format!(
                "{input} cannot be reached: this session has no /tmp of its own"
            )));
        }
        let below = absolute.strip_prefix(TMP).ok().and_then(Path::to_str).unwrap_or_default();
        let relative = match below {
            "" => None,
            below => Some(RelativePath::parse(below).map_err(|source| ToolError::Path { source })?),
        };
        let root = Root::Tmp(sandbox);
        Ok(EntryLocation { input, anchor: None, root, relative, absolute })
    }
}

impl EntryLocation {
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Returns whether the entry is in the session directory, and not in `/tmp`.
    pub(super) fn is_of_session(&self) -> bool {
        matches!(self.root, Root::Session(_))
    }

    /// Returns the path below the root. The root itself can be neither moved nor replaced.
    pub(super) fn below_root(&self) -> Result<&RelativePath, ToolError> {
        let is_root = || failed(format!("{} is the root of the files itself", self.input));
        self.relative.as_ref().ok_or_else(is_root)
    }

    /// Finds the entry, with every symlink followed, and checks that the policy lets it be read.
    pub(super) fn find(&self, session: &LocalSession) -> Result<Judged<FoundEntry>, ToolError> {
        let found = self.root.dir()?.find(self.relative.as_ref());
        let entry = found.map_err(|error| self.error(error))?;
        let real_path = self.judged_path(|| entry.real_path())?;
        self.check(session, &real_path, Access::Read)?;
        Ok(Judged { entry, real_path })
    }

    /// Finds the place of the entry, and checks that the policy lets it be written.
    pub(super) fn place(&self, session: &LocalSession) -> Result<Judged<EntryPlace>, ToolError> {
        let relative = self.below_root()?;
        let placed = self.root.dir()?.place(relative);
        self.judge_place(session, placed)
    }

    /// Like [`Self::place`], and creates missing directories.
    pub(super) fn place_with_parents(
        &self,
        session: &LocalSession,
    ) -> Result<Judged<EntryPlace>, ToolError> {
        let relative = self.below_root()?;
        self.check(session, &self.absolute, Access::Write)?;
        let placed = self.root.dir()?.place_with_parents(relative);
        self.judge_place(session, placed)
    }

    fn judge_place(
        &self,
        session: &LocalSession,
        placed: Result<EntryPlace, FileError>,
    ) -> Result<Judged<EntryPlace>, ToolError> {
        let entry = placed.map_err(|error| self.error(error))?;
        let real_path = self.judged_path(|| entry.real_path())?;
        self.check(session, &real_path, Access::Write)?;
        Ok(Judged { entry, real_path })
    }

    /// Checks that the policy allows access to an open file: its name may lead to another one by
    /// now.
    pub(super) fn check_file(
        &self,
        session: &LocalSession,
        file: &File,
        access: Access,
    ) -> Result<(), ToolError> {
        let path = self.judged_path(|| real_path(file, &self.absolute))?;
        self.check(session, &path, access)
    }

    /// Returns the path by which the policy judges an entry. The host sees no path of `/tmp`.
    pub(super) fn judged_path(
        &self,
        real_path: impl FnOnce() -> Result<PathBuf, FileError>,
    ) -> Result<PathBuf, ToolError> {
        match self.root {
            Root::Session(_) => real_path().map_err(|error| self.error(error)),
            Root::Tmp(_) => Ok(self.absolute.clone()),
        }
    }

    /// Returns an error if the policy denies access to a path.
    pub(super) fn check(
        &self,
        session: &LocalSession,
        path: &Path,
        access: Access,
    ) -> Result<(), ToolError> {
        match &self.root {
            Root::Session(_) => session.check_access(path, access),
            Root::Tmp(sandbox) if sandbox.allows(path, access) => Ok(()),
            Root::Tmp(_) => {
                session.check_access(path, access)?;
                Err(failed(format!("the session's policy denies access to {}", self.input)))
            }
        }
    }

    /// Returns the error of an access, with the path as the caller wrote it.
    pub(super) fn error(&self, mut error: FileError) -> ToolError {
        if !self.is_of_session() && matches!(error, FileError::Escapes { .. }) {
            return ToolError::LeavesTmp { input: self.input.clone() };
        }
        let is_missing = error.kind() == FileErrorKind::NotFound;
        if let Some(anchor) = self.anchor.as_ref().filter(|_| is_missing) {
            return anchor.missing(self.input.clone(), error);
        }
        if let FileError::Io { path, .. }
        | FileError::Escapes { path }
        | FileError::SymlinkLoop { path }
        | FileError::NotAFile { path, .. }
        | FileError::TooLarge { path, .. } = &mut error
        {
            *path = self.input.clone().into();
        }
        ToolError::File { source: error }
    }
}
