//! The calls of a shared session that inspect and change its files.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use artifact_sync::SyncReport;
use sandbox_core::FileStat;
use serde::{Deserialize, Serialize};

use super::methods::{Call, calls};
use crate::files::{DirectoryPage, FileBytes, ListOptions, TarLimits, TarReport};
use crate::session::LocalSession;
use crate::tool_error::ToolError;
use crate::tools::read_file::ByteRange;

calls! {
    40: InspectFile<'_> => FileStat, ToolError,
        |call, session| session.stat(&call.path).await;
    41: ListDirectory<'_> => DirectoryPage, ToolError,
        |call, session| session.list(&call.path, call.options).await;
    42: ReadRange<'_> => FileBytes, ToolError,
        |call, session| session.read_range(&call.path, call.range).await;
    43: CreateDirectory<'_> => SyncReport, ToolError,
        |call, session| {
            session.record("createDirectory", &call.path, session.create_dir(&call.path)).await
        };
    44: RenameFile<'_> => SyncReport, ToolError,
        |call, session| {
            let subject = format!("{} → {}", call.from, call.to);
            session.record("rename", &subject, session.rename(&call.from, &call.to)).await
        };
    45: DeleteFile<'_> => SyncReport, ToolError,
        |call, session| {
            session.record("deleteFile", &call.path, session.delete_file(&call.path)).await
        };
    46: DeleteDirectory<'_> => SyncReport, ToolError,
        |call, session| {
            session.record("deleteDirectory", &call.path, session.delete_dir(&call.path)).await
        };
    47: ExportTar<'_>, with pipe => TarReport, ToolError,
        |call, session| {
            let exported = session.export_tar(&call.path, pipe(call.pipe)?);
            session.record("exportTar", recorded(&call.path), exported).await
        };
    48: ImportTar<'_>, with pipe => TarReport, ToolError,
        |call, session| {
            let imported = session.import_tar(&call.path, call.limits, pipe(call.pipe)?);
            session.record("importTar", recorded(&call.path), imported).await
        };
}

/// Inspects a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InspectFile<'c> {
    pub(crate) path: Cow<'c, str>,
}

/// Lists a part of a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListDirectory<'c> {
    pub(crate) path: Cow<'c, str>,
    pub(crate) options: ListOptions,
}

/// Reads bytes of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadRange<'c> {
    pub(crate) path: Cow<'c, str>,
    pub(crate) range: ByteRange,
}

/// Creates a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CreateDirectory<'c> {
    pub(crate) path: Cow<'c, str>,
}

/// Moves a file or directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RenameFile<'c> {
    pub(crate) from: Cow<'c, str>,
    pub(crate) to: Cow<'c, str>,
}

/// Deletes a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeleteFile<'c> {
    pub(crate) path: Cow<'c, str>,
}

/// Deletes a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeleteDirectory<'c> {
    pub(crate) path: Cow<'c, str>,
}

/// Writes an archive to a pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExportTar<'c> {
    pub(crate) path: Cow<'c, str>,
    #[serde(skip)]
    pub(crate) pipe: Option<OwnedFd>,
}

/// Unpacks an archive from a pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImportTar<'c> {
    pub(crate) path: Cow<'c, str>,
    pub(crate) limits: TarLimits,
    #[serde(skip)]
    pub(crate) pipe: Option<OwnedFd>,
}

/// Returns the path of a call as its record has it. The session directory itself has a name there.
fn recorded(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn pipe(descriptor: Option<OwnedFd>) -> Result<File, ToolError> {
    descriptor.map(File::from).ok_or_else(|| ToolError::Failed {
        tool: "files",
        problem: "the call came without its pipe".to_owned(),
    })
}
