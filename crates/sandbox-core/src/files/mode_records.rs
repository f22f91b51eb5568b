//! Records of modes that the host has changed for a moment, by which the next process restores
//! them.
//!
//! A record is a symlink outside the session directory. Creating one is a single step, so a record
//! is complete or absent. Its target has the original mode, the changed mode, the inode, and the
//! path beneath the session directory.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::readable::{open_path, set_mode};
use super::real_path;
use crate::internal::lock;

/// Session directories whose changed modes are recorded.
static RECORDED: Mutex<Vec<Arc<RecordedDirectory>>> = Mutex::new(Vec::new());

/// Session directory with the directory of its records.
#[derive(Debug)]
struct RecordedDirectory {
    /// Canonical path.
    session: PathBuf,
    records: PathBuf,
}

/// Recording of the modes that this process changes in a session directory, until dropped.
#[derive(Debug)]
pub struct ModeRecords(Arc<RecordedDirectory>);

/// Record of one changed mode.
#[derive(Debug)]
pub(super) struct ModeRecord(PathBuf);

impl ModeRecords {
    /// Restores the modes that an earlier process has recorded and not restored. Then records each
    /// change of a mode by this process. `records` is a directory that only one process uses, out
    /// of the reach of commands. It is created when the first mode changes. The session directory
    /// may be absent, but not its parent.
    ///
    /// # Errors
    /// Returns the error of the system, with the path.
    pub fn begin(session: &Path, records: PathBuf) -> Result<Self, (PathBuf, io::Error)> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| (path, error)
        };
        let (Some(parent), Some(name)) = (session.parent(), session.file_name()) else {
            return Err(failed(session)(Errno::INVAL.into()));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let session = parent.canonicalize().map_err(failed(parent))?.join(name);
        let place = Arc::new(RecordedDirectory { session, records });
        lock(&RECORDED).push(Arc::clone(&place));
        let begun = Self(place);
        begun.restore().map_err(failed(&begun.0.records))?;
        Ok(begun)
    }

    /// Restores all recorded modes, and deletes the records.
    fn restore(&self) -> io::Result<()> {
        let RecordedDirectory { session, records } = &*self.0;
        let entries = match std::fs::read_dir(records) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut left = Vec::new();
        for entry in entries {
            let record = entry?.path();
            let target = std::fs::read_link(&record)?.into_os_string().into_vec();
            left.push((record, Changed::parse(&target)));
        }
        // A directory leads to what lies below as long as it has the changed mode.
        let depth = |changed: &Option<Changed>| {
            changed.as_ref().map(|changed| changed.path.components().count())
        };
        left.sort_by_key(|(_, changed)| std::cmp::Reverse(depth(changed)));
        for (record, changed) in left {
            if let Some(changed) = changed {
                changed.restore(session)?;
            }
            std::fs::remove_file(record)?;
        }
        Ok(())
    }
}

impl Drop for ModeRecords {
    fn drop(&mut self) {
        lock(&RECORDED).retain(|place| !Arc::ptr_eq(place, &self.0));
        // It stays if it has a record.
        let _ = std::fs::remove_dir(&self.0.records);
    }
}

impl ModeRecord {
    /// Records that a file of a session directory is about to get another mode. Returns `None` if
    /// the file is in no directory for which this process keeps records.
    pub(super) fn write(
        file: &OwnedFd,
        (device, inode): (u64, u64),
        original: u32,
        changed: u32,
    ) -> rustix::io::Result<Option<Self>> {
        let recorded = lock(&RECORDED);
        if recorded.is_empty() {
            return Ok(None);
        }
        let path = real_path(file, Path::new("")).map_err(|_| Errno::ACCESS)?;
        let places = recorded.iter().filter(|place| path.starts_with(&place.session));
        let Some(place) = places.max_by_key(|place| place.session.as_os_str().len()).cloned()
        else {
            return Ok(None);
        };
        drop(recorded);
        let Ok(below) = path.strip_prefix(&place.session) else { return Ok(None) };
        let mut target = format!("{original:o} {changed:o} {inode} ").into_bytes();
        target.extend(below.as_os_str().as_bytes());
        let record = place.records.join(format!("{device}-{inode}-{changed:o}"));
        let create = || rustix::fs::symlink(OsStr::from_bytes(&target), &record);
        match create() {
            Err(Errno::NOENT) => {
                let made = DirBuilder::new().mode(0o700).create(&place.records);
                if let Err(error) = made
                    && error.kind() != io::ErrorKind::AlreadyExists
                {
                    return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
                }
                create()?;
            }
            // It could not be deleted when its mode was restored.
            Err(Errno::EXIST) => {
                rustix::fs::unlink(&record)?;
                create()?;
            }
            created => created?,
        }
        Ok(Some(Self(record)))
    }
}

impl Drop for ModeRecord {
    fn drop(&mut self) {
        // A record that stays restores nothing, because the file has another mode by then.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Change of a mode that a record describes.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    original: u32,
    changed: u32,
    inode: u64,
    path: PathBuf,
}

impl Changed {
    fn parse(target: &[u8]) -> Option<Self> {
        let mut words = target.splitn(4, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let original = u32::from_str_radix(word()?, 8).ok()?;
        let changed = u32::from_str_radix(word()?, 8).ok()?;
        let inode = word()?.parse().ok()?;
        let path = PathBuf::from(OsStr::from_bytes(words.next()?));
        Some(Self { original, changed, inode, path })
    }

    /// Restores the mode if the file is still at its path and has the changed mode.
    fn restore(&self, session: &Path) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(session, flags, Mode::empty())
            .and_then(|dir| open_path(dir.as_fd(), &self.path, OFlags::empty()));
        let (_parents, file) = match opened {
            Ok(opened) => opened,
            // The path is absent or another kind of file by now, so the record is void.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS) => {
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let is_left = stat.st_ino == self.inode && stat.st_mode & 0o7777 == self.changed;
        if is_left { Ok(set_mode(&file, self.original)?) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_mode_is_restored_only_if_the_file_has_what_the_record_says() {
        let place = tempfile::tempdir().unwrap();
        let (session, records) = (place.path().join("s"), place.path().join("records"));
        let elsewhere = place.path().join("elsewhere");
        for dir in [&session, &records, &elsewhere] {
            fs::create_dir(dir).unwrap();
        }
        let names = ["left é\n", "changed since", "another file", "kept/below", "not/plain"];
        symlink(&elsewhere, session.join("not")).unwrap();
        fs::create_dir(session.join("kept")).unwrap();
        for (number, name) in names.into_iter().enumerate() {
            let path = session.join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
            let inode = fs::metadata(&path).unwrap().ino() + u64::from(number == 2);
            let target = format!("40 {} {inode} {name}", if number == 1 { "700" } else { "440" });
            symlink(target, records.join(number.to_string())).unwrap();
        }
        symlink("no record", records.join("damaged")).unwrap();
        symlink("40 440 1 absent", records.join("absent")).unwrap();
        let begun = ModeRecords::begin(&session, records.clone()).unwrap();
        let modes = names.map(|name| mode(&session.join(name)));
        assert_eq!(modes, [0o040, 0o440, 0o440, 0o040, 0o440]);
        assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
        drop(begun);
        assert!(!records.exists());
    }

    #[test]
    fn a_record_exists_while_a_mode_is_changed_and_names_the_innermost_session() {
        let place = tempfile::tempdir().unwrap();
        let outer = ModeRecords::begin(place.path(), place.path().join("outer")).unwrap();
        let session = place.path().join("s");
        let records = place.path().join("records");
        fs::create_dir(&session).unwrap();
        let inner = ModeRecords::begin(&session, records.clone()).unwrap();
        fs::create_dir(session.join("d")).unwrap();
        let file = OwnedFd::from(fs::File::open(session.join("d")).unwrap());
        let write = || ModeRecord::write(&file, (1, 2), 0o555, 0o755).unwrap();
        let record = write().unwrap();
        let target = fs::read_link(records.join("1-2-755")).unwrap();
        assert_eq!(target, Path::new("555 755 2 d"));
        // A record that could not be deleted is replaced.
        std::mem::forget(record);
        drop(write().unwrap());
        assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
        drop((inner, outer));
        assert!(write().is_none());
    }
}
