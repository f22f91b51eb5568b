//! The location of a file that a path names, as an agent wrote it.
//!
//! 1. A path below the session directory is a file of the session.
//! 2. `/tmp` and the paths below it are those of the session's commands.
//! 3. Another leading slash stands for the session directory, as in the reference.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::Access;
use sandbox_core::internal::real_path;
use sandbox_core::{FileError, FileErrorKind, RelativePath, SessionDir, SessionPath, Tier};

use crate::engine::Engine;
use crate::rules::Rules;
use crate::session::LocalSession;
use crate::tool_error::ToolError;

/// The directory that commands and tools share besides the session directory.
pub(super) const TMP: &str = "/tmp";

/// The location of a file.
#[derive(Debug)]
pub(super) struct FileLocation {
    /// The path as the agent wrote it.
    input: String,
    files: Files,
    /// The path below the root of `files`.
    pub(super) relative: RelativePath,
    /// The path as commands see it.
    pub(super) absolute: PathBuf,
    /// The path that a command sees by `input`, if that is another one.
    outside: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum Files {
    Session(Arc<SessionDir>),
    /// `/tmp` of this sandbox.
    Tmp(Arc<dyn Engine>),
}

impl LocalSession {
    /// Finds the location of a file for the tool called `tool`.
    pub(super) fn locate(
        &self,
        tool: &'static str,
        input: &str,
    ) -> Result<FileLocation, ToolError> {
        let (absolute, relative) = self.resolve(input)?;
        let outside = SessionPath::outside(self.dir(), input);
        let input = input.to_owned();
        let Some(path) =
            outside.as_deref().filter(|path| self.shows_tmp() && path.starts_with(TMP))
        else {
            let files = Files::Session(Arc::clone(&self.workspace.dir));
            return Ok(FileLocation { input, files, relative, absolute, outside });
        };
        let failed = |problem| ToolError::Failed { tool, problem };
        let sandbox = self.tmp_for(tool, &input)?;
        let below = path.strip_prefix(TMP).ok().and_then(Path::to_str).unwrap_or_default();
        let Ok(relative) = RelativePath::parse(below) else {
            return Err(failed(format!("{input} is a directory, not a file")));
        };
        let absolute = path.to_owned();
        Ok(FileLocation { input, files: Files::Tmp(sandbox), relative, absolute, outside: None })
    }

    /// Opens a file that commands can read for the tool called `tool`. The file that is opened is
    /// the one that was checked.
    pub(super) fn open_readable(
        &self,
        tool: &'static str,
        input: &str,
    ) -> Result<(FileLocation, File), ToolError> {
        let place = self.locate(tool, input)?;
        let error = |source| place.error(self, source);
        let file = place.dir()?.open_file(&place.relative).map_err(error)?;
        if place.is_of_session() {
            let opened = real_path(file.as_fd(), place.relative.as_ref()).map_err(error)?;
            self.check_access(&opened, Access::Read)?;
        }
        place.check_tmp(self, Access::Read)?;
        Ok((place, file))
    }

    /// Returns whether a path below `/tmp` names the file that commands see there.
    pub(super) fn shows_tmp(&self) -> bool {
        self.rules() == Rules::Standard
    }

    /// Returns the sandbox whose `/tmp` has the file `input`.
    pub(super) fn tmp_for(
        &self,
        tool: &'static str,
        input: &str,
    ) -> Result<Arc<dyn Engine>, ToolError> {
        let sandbox = self.sandbox();
        if sandbox.own_tmp().is_some() {
            return Ok(sandbox);
        }
        let reason = match self.tier() {
            Tier::Landlock { .. } => "the files of $TMPDIR, which commands have instead of /tmp",
            Tier::Namespaces => "the host's /tmp, which commands have in this session",
        };
        let problem = format!(
            "{input} cannot be reached: the file tools do not reach {reason}; use a path in the \
             session directory for files that commands and tools share"
        );
        Err(ToolError::Failed { tool, problem })
    }
}

impl Files {
    /// Returns the directory beneath which paths are resolved; `None` if it is gone.
    pub(super) fn dir(&self) -> Option<&SessionDir> {
        match self {
            Self::Session(dir) => Some(dir),
            Self::Tmp(sandbox) => sandbox.own_tmp(),
        }
    }
}

impl FileLocation {
    /// Returns the files beneath which the path is resolved.
    pub(super) fn dir(&self) -> Result<&SessionDir, ToolError> {
        self.files.dir().ok_or_else(|| ToolError::Failed {
            tool: super::read_file::NAME,
            problem: format!("{} is gone", self.input),
        })
    }

    /// Returns whether the file is in the session directory, and not in `/tmp`.
    pub(super) fn is_of_session(&self) -> bool {
        matches!(self.files, Files::Session(_))
    }

    /// Returns an error if the policy denies access to the file in `/tmp`. What the host has at the
    /// same path makes no difference.
    pub(super) fn check_tmp(
        &self,
        session: &LocalSession,
        access: Access,
    ) -> Result<(), ToolError> {
        match &self.files {
            Files::Tmp(sandbox) if !sandbox.allows(&self.absolute, access) => {
                session.check_access(&self.absolute, access)?;
                let problem = format!("the session's policy denies access to {}", self.input);
                Err(ToolError::Failed { tool: super::read_file::NAME, problem })
            }
            _ => Ok(()),
        }
    }

    /// Returns a note if the path is another one than a shell would find.
    pub(super) fn anchored(&self) -> Option<String> {
        let (input, absolute) = (&self.input, self.absolute.display());
        let reason = match &self.outside {
            Some(_) => "it cannot reach files of the system",
            None if input.starts_with("~/") => "only a shell replaces ~",
            None => return None,
        };
        Some(format!("{input} is {absolute} for this tool: {reason}"))
    }

    /// Returns the error of an access, with the path as the agent wrote it.
    pub(super) fn error(&self, session: &LocalSession, error: FileError) -> ToolError {
        let is_missing = error.kind() == FileErrorKind::NotFound;
        let input = self.input.clone();
        match (&self.outside, error) {
            (Some(outside), source) if is_missing => {
                session.anchor(outside, &self.absolute).missing(input, source)
            }
            (_, FileError::Escapes { .. }) if !self.is_of_session() => {
                ToolError::LeavesTmp { input }
            }
            (_, mut error) => {
                if let FileError::Io { path, .. }
                | FileError::Escapes { path }
                | FileError::SymlinkLoop { path }
                | FileError::NotAFile { path, .. }
                | FileError::TooLarge { path, .. } = &mut error
                {
                    *path = input.into();
                }
                ToolError::File { source: error }
            }
        }
    }

    /// Returns the error of a write, with the path as the agent wrote it.
    pub(super) fn write_error(&self, source: std::io::Error) -> ToolError {
        ToolError::Write { path: self.input.clone(), source }
    }
}

/// The meaning of a path whose leading slash stands for the session directory.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    /// The path that it names.
    path: PathBuf,
    /// A command that reads the entry of the system, if there is one that commands can read.
    command: Option<String>,
}

impl Anchor {
    /// Returns the error for the path if there is no such entry.
    pub(crate) fn missing(&self, input: String, source: FileError) -> ToolError {
        let Self { path, command } = self.clone();
        ToolError::Anchored { input, path, command, source: Box::new(source) }
    }
}

impl LocalSession {
    /// Returns the meaning of a path that commands see as `outside`, and tools as `path`.
    pub(crate) fn anchor(&self, outside: &Path, path: &Path) -> Anchor {
        let reader = match outside.metadata() {
            Ok(metadata) if metadata.is_file() => Some("cat"),
            Ok(metadata) if metadata.is_dir() => Some("ls"),
            _ => None,
        };
        let reads = || is_plain(outside) && self.denial_reason(outside, Access::Read).is_none();
        let command =
            reader.filter(|_| reads()).map(|reader| format!("{reader} {}", outside.display()));
        Anchor { path: path.to_owned(), command }
    }
}

/// Returns whether a shell takes the path as it is.
fn is_plain(path: &Path) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    path.as_os_str().as_encoded_bytes().iter().all(is_plain)
}
