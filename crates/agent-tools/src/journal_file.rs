//! An append-only file of records in the state of a session, with a bounded size.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum size of each of the two files.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// The names of the two files of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalNames {
    /// The file of the latest records.
    pub(crate) current: &'static str,
    /// The file of the records before.
    pub(crate) former: &'static str,
}

/// The open file of a journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    names: JournalNames,
    open: Option<(File, u64)>,
}

impl JournalFile {
    pub(crate) fn new(names: JournalNames) -> Self {
        Self { names, open: None }
    }

    /// Appends a record with one write to the page cache. The first one creates the file.
    pub(crate) fn append(&mut self, dir: &Path, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let length = line.len() as u64;
        if self.open.as_ref().is_some_and(|(_, bytes)| bytes + length > MAX_FILE_BYTES) {
            self.open = None;
            std::fs::rename(dir.join(self.names.current), dir.join(self.names.former))?;
        }
        let (file, bytes) = match &mut self.open {
            Some(open) => open,
            None => {
                let options = OpenOptions::new().append(true).create(true).mode(0o600).clone();
                let file = options.open(dir.join(self.names.current))?;
                let bytes = file.metadata()?.len();
                self.open.insert((file, bytes))
            }
        };
        file.write_all(&line)?;
        *bytes += length;
        Ok(())
    }
}

/// Reads the records of a journal, oldest first. Lines that are no records are left out, such as
/// one that a full disk has cut.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, names: JournalNames) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    for name in [names.former, names.current] {
        let file = match File::open(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).split(b'\n') {
            records.extend(serde_json::from_slice::<T>(&line?));
        }
    }
    Ok(records)
}
