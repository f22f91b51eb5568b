//! The files of the operator that decide about access, which no command may change.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use agent_tools::SessionsBuilder;
use agent_tools::policy::Policy;

use super::Context;
use crate::failure::Failure;
use crate::{project_file, settings, variable_source};

/// Trees of the kernel. A file in them is a stream or a descriptor of this process.
const KERNEL: [&str; 2] = ["/dev", "/proc"];
/// Ends of the names of files that SQLite reads beside a database
/// (<https://sqlite.org/tempfiles.html>).
const BESIDE_DATABASE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Files that are in use, or that the next call would use. They may be absent.
#[derive(Debug, Default)]
pub(crate) struct ProtectedFiles {
    /// Files that commands cannot see.
    sealed: Vec<PathBuf>,
    /// Files that commands cannot write.
    frozen: Vec<PathBuf>,
}

impl ProtectedFiles {
    /// Adds the protection to the policy of a command without a session.
    pub(crate) fn protect(&self, policy: Policy) -> Policy {
        let policy = self.sealed.iter().fold(policy, |policy, file| policy.seal(file));
        self.frozen.iter().fold(policy, |policy, file| policy.freeze(file))
    }

    /// Adds the protection to the policies of sessions.
    pub(super) fn protect_sessions(self, builder: SessionsBuilder) -> SessionsBuilder {
        let builder = self.sealed.into_iter().fold(builder, SessionsBuilder::seal);
        self.frozen.into_iter().fold(builder, SessionsBuilder::freeze)
    }
}

impl Context {
    /// Returns the files that decide about the access of commands, with the file of settings or of
    /// a policy that a call names. Those in the home are hidden with the home.
    pub(crate) fn protected_files(
        &self,
        settings: Option<&Path>,
    ) -> Result<ProtectedFiles, Failure> {
        let mut files = ProtectedFiles::default();
        for file in settings.into_iter().chain(self.global.skill_keys.iter().map(PathBuf::as_path))
        {
            files.frozen.extend(spellings(file)?);
        }
        files.frozen.extend(spellings(&settings::default_file())?);
        if let Ok(dir) = std::env::current_dir()
            && let Some(file) = project_file::place(&dir)
        {
            files.frozen.extend(spellings(&file)?);
        }
        if let Some(file) = &self.global.secret_file {
            files.sealed.extend(spellings(file)?);
        }
        let database = self.global.variables.as_deref().and_then(variable_source::file);
        for file in database.iter().map(|file| spellings(file)).collect::<Result<Vec<_>, _>>()? {
            for file in file {
                let beside = |end: &str| {
                    let mut name = OsString::from(&file);
                    name.push(end);
                    PathBuf::from(name)
                };
                files.sealed.extend(BESIDE_DATABASE.map(beside));
                files.sealed.push(file);
            }
        }
        Ok(files)
    }
}

/// Returns the absolute path of a file as it is spelled, and without symlinks. The caller protects
/// both, because a command could replace a symlink.
fn spellings(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    let file = std::path::absolute(file).map_err(Failure::not_run)?;
    let name = file.file_name().unwrap_or_default();
    let in_directory = || Some(file.parent()?.canonicalize().ok()?.join(name));
    let canonical = file.canonicalize().ok().or_else(in_directory);
    let mut spellings: Vec<PathBuf> = canonical.into_iter().chain([file]).collect();
    spellings.dedup();
    spellings.retain(|file| !KERNEL.iter().any(|tree| file.starts_with(tree)));
    Ok(spellings)
}
