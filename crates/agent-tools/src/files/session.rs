//! The file calls of a session, wherever it is served.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::pin::pin;

use artifact_sync::SyncReport;
use sandbox_core::{FileStat, SessionPath};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::location::failed;
use super::{DirectoryPage, FileBytes, ListOptions, TarLimits, TarReport};
use crate::error_kind::ErrorKind;
use crate::session::Session;
use crate::sharing::{
    CreateDirectory, DeleteDirectory, DeleteFile, ExportTar, ImportTar, InspectFile, ListDirectory,
    ReadRange, RenameFile,
};
use crate::tool_error::ToolError;
use crate::tools::read_file::ByteRange;
use crate::tools::write_file::WriteFileOutput;

/// The size of the parts of an archive.
const PART_BYTES: usize = 256 * 1024;
/// The number of parts that wait for the slower side.
const WAITING_PARTS: usize = 4;

impl Session {
    /// Returns the properties of a file or directory. Follows symlinks.
    ///
    /// # Errors
    /// Returns [`ToolError`], with the kind [`ErrorKind::NotFound`] if there is no such file, and
    /// [`ErrorKind::Denied`] if the policy denies reading it.
    pub async fn stat(&self, path: &str) -> Result<FileStat, ToolError> {
        self.check_entry(path)?;
        self.run(InspectFile { path: path.into() }).await
    }

    /// Returns whether there is a file or directory. Follows symlinks.
    ///
    /// # Errors
    /// Like [`Session::stat`], except for a missing file.
    pub async fn exists(&self, path: &str) -> Result<bool, ToolError> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists a part of a directory, sorted by name.
    ///
    /// # Errors
    /// Like [`Session::stat`]. Also returns an error if the path names no directory.
    pub async fn list(&self, path: &str, options: ListOptions) -> Result<DirectoryPage, ToolError> {
        self.check_entry(path)?;
        self.run(ListDirectory { path: path.into(), options }).await
    }

    /// Reads bytes of a file, at most [`MAX_RANGE_BYTES`](crate::MAX_RANGE_BYTES). A range behind
    /// the end is empty. Nothing is redacted.
    ///
    /// # Errors
    /// Like [`Session::stat`]. Also returns an error if the path names no regular file.
    pub async fn read_range(&self, path: &str, range: ByteRange) -> Result<FileBytes, ToolError> {
        self.check_entry(path)?;
        self.run(ReadRange { path: path.into(), range }).await
    }

    /// Writes a whole file: the counterpart of [`Session::read_range`], and another name of
    /// [`Session::write_file`].
    ///
    /// # Errors
    /// Like [`Session::write_file`].
    ///
    /// # Cancel safety
    /// Like [`Session::write_file`].
    pub async fn write_bytes(
        &self,
        path: &str,
        content: &[u8],
    ) -> Result<WriteFileOutput, ToolError> {
        self.write_file(path, content).await
    }

    /// Creates a directory with its parents, unless it exists.
    ///
    /// # Errors
    /// Returns [`ToolError`] if a file is in its place, or if the policy denies writing.
    ///
    /// # Cancel safety
    /// The directory may exist. The next call mirrors changes.
    pub async fn create_dir(&self, path: &str) -> Result<SyncReport, ToolError> {
        self.check_entry(path)?;
        self.run(CreateDirectory { path: path.into() }).await
    }

    /// Moves a file, a symlink or a directory in one step. Creates missing parents of `to`.
    /// Replaces a file, a symlink or an empty directory there.
    ///
    /// # Errors
    /// Returns [`ToolError`], with the kind [`ErrorKind::NotFound`] if there is no such file, and
    /// [`ErrorKind::Denied`] if the policy denies a part of the change.
    ///
    /// # Cancel safety
    /// The file has its old or its new name. The next call mirrors changes.
    pub async fn rename(&self, from: &str, to: &str) -> Result<SyncReport, ToolError> {
        self.check_entry(from)?;
        self.check_entry(to)?;
        self.run(RenameFile { from: from.into(), to: to.into() }).await
    }

    /// Deletes a file, or a symlink itself.
    ///
    /// # Errors
    /// Returns [`ToolError`], with the kind [`ErrorKind::NotFound`] if there is no such file, and
    /// also for a directory.
    ///
    /// # Cancel safety
    /// The file may be gone. The next call mirrors changes.
    pub async fn delete_file(&self, path: &str) -> Result<SyncReport, ToolError> {
        self.check_entry(path)?;
        self.run(DeleteFile { path: path.into() }).await
    }

    /// Deletes a directory with everything below it. No symlink is followed.
    ///
    /// # Errors
    /// Returns [`ToolError`], with the kind [`ErrorKind::NotFound`] if there is no such directory,
    /// and [`ErrorKind::Denied`] if a rule of the policy names a path below it.
    ///
    /// # Cancel safety
    /// The removal goes on. The next call mirrors changes.
    pub async fn delete_dir(&self, path: &str) -> Result<SyncReport, ToolError> {
        self.check_entry(path)?;
        self.run(DeleteDirectory { path: path.into() }).await
    }

    /// Writes a file, or everything in a directory, as a tar archive. The names in the archive are
    /// relative to the directory. Symlinks stay symlinks. The report names the files that were left
    /// out, such as sockets, those that the policy hides, and symlinks that lead out of the
    /// directory, have `..` after a name in their target, or pass through another symlink.
    ///
    /// Commands may change files meanwhile; each file is in the archive as it was when it was read.
    ///
    /// # Errors
    /// Like [`Session::stat`], and [`ToolError::Write`] if `writer` fails. The archive then has no
    /// end.
    ///
    /// # Cancel safety
    /// The archive has no end.
    pub async fn export_tar<W>(&self, path: &str, writer: &mut W) -> Result<TarReport, ToolError>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        self.check_entry(path)?;
        let (reader, pipe) = io::pipe().map_err(pipe_failed)?;
        let mut reader = File::from(OwnedFd::from(reader));
        let (sender, mut parts) = mpsc::channel(WAITING_PARTS);
        // Ends with the pipe, or with the receiver.
        tokio::task::spawn_blocking(move || {
            loop {
                let mut part = vec![0; PART_BYTES];
                let read = reader.read(&mut part).map(|read| part.truncate(read));
                let is_end = read.is_err() || part.is_empty();
                if is_end || sender.blocking_send(part).is_err() {
                    return;
                }
            }
        });
        let written = async move {
            while let Some(part) = parts.recv().await {
                writer.write_all(&part).await?;
            }
            writer.flush().await
        };
        let call = self.run(ExportTar { path: path.into(), pipe: Some(pipe.into()) });
        let (exported, written) = tokio::join!(call, written);
        written.map_err(|source| ToolError::Write { path: "the archive".to_owned(), source })?;
        exported
    }

    /// Unpacks a tar archive into a directory, which is created if it is missing. Files are
    /// replaced, and other files stay.
    ///
    /// Every entry is judged before the first one is written. An archive is refused as a whole,
    /// with the names of the entries, if it is cut off or too large, or if an entry is absolute,
    /// contains `..`, is a device, is a link that leads out of the session, has `..` after a name
    /// or passes through another link of the archive, or is denied by the policy. Permissions are
    /// kept, and owners are not.
    ///
    /// # Errors
    /// Returns [`ToolError::Failed`] if the archive is refused. After another error, such as that
    /// of a full disk, a part of the files may be written.
    ///
    /// # Cancel safety
    /// Before the end of the archive, nothing is written. After it, unpacking goes on.
    pub async fn import_tar<R>(
        &self,
        path: &str,
        reader: &mut R,
        limits: TarLimits,
    ) -> Result<TarReport, ToolError>
    where
        R: AsyncRead + Unpin + ?Sized,
    {
        self.check_entry(path)?;
        let (pipe, writer) = io::pipe().map_err(pipe_failed)?;
        let mut writer = File::from(OwnedFd::from(writer));
        let (sender, mut parts) = mpsc::channel::<Vec<u8>>(WAITING_PARTS);
        tokio::task::spawn_blocking(move || {
            while let Some(part) = parts.blocking_recv() {
                if writer.write_all(&part).is_err() {
                    return;
                }
            }
        });
        let mut read = pin!(async move {
            loop {
                let mut part = vec![0; PART_BYTES];
                let length = reader.read(&mut part).await?;
                part.truncate(length);
                // The other side has all that it wants.
                if length == 0 || sender.send(part).await.is_err() {
                    return io::Result::Ok(());
                }
            }
        });
        let mut call =
            pin!(self.run(ImportTar { path: path.into(), limits, pipe: Some(pipe.into()) }));
        tokio::select! {
            imported = &mut call => imported,
            read = &mut read => {
                let imported = call.await;
                match read {
                    Ok(()) => imported,
                    Err(error) => Err(failed(format!("the archive cannot be read: {error}"))),
                }
            }
        }
    }

    /// Resolves a path of a call, so that an invalid one is a typed error wherever the call runs.
    fn check_entry(&self, input: &str) -> Result<(), ToolError> {
        SessionPath::resolve(self.dir(), input)
            .map(drop)
            .map_err(|source| ToolError::Path { source })
    }
}

fn pipe_failed(error: io::Error) -> ToolError {
    failed(format!("no pipe can be opened: {error}"))
}
