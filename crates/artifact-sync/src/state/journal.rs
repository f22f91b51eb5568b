//! Journal: a file of records that a crash cannot corrupt.
//!
//! The journal has one line per record, with a checksum like the lines of log entries. Lines are
//! only appended. When the journal is opened, it is cut at the first incomplete line.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::log::{append_checksummed, parse};
use crate::state::entry::JournalEntry;

/// Memory for unsaved lines that is kept from one save to the next.
const KEPT_BYTES: usize = 1 << 16;
/// Extension of a journal that is being written to replace the other one.
const UNFINISHED: &str = "new";

/// The journal file.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Length up to which the file is known to be valid.
    length: u64,
    /// Lines that could not be written yet.
    unsaved: Vec<u8>,
    /// Set if the file may have a partial line after its valid length.
    is_torn: bool,
    /// Number of records in the file.
    pub(super) records: usize,
}

impl Journal {
    /// Opens or creates a journal, with a reader of its records. [`Self::end_reading`] must follow.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Reader)> {
        // A process that was killed while it replaced the journal leaves a part of the new one.
        let _ = std::fs::remove_file(path.with_extension(UNFINISHED));
        let file = options().open(&path)?;
        let reader = Reader {
            lines: BufReader::with_capacity(1 << 16, File::open(&path)?),
            line: Vec::new(),
            length: 0,
            records: 0,
            is_damaged: false,
        };
        let (length, unsaved, is_torn, records) = (0, Vec::new(), false, 0);
        Ok((Self { path, file, length, unsaved, is_torn, records }, reader))
    }

    /// Cuts the file after the last complete line that the reader returned.
    pub(super) fn end_reading(&mut self, reader: &Reader) -> io::Result<()> {
        (self.length, self.records) = (reader.length, reader.records);
        if reader.is_damaged {
            let path = self.path.display();
            tracing::warn!(%path, "the damaged end of the journal is cut off");
            self.file.set_len(self.length)?;
        }
        Ok(())
    }

    /// Adds a record to those that the next save writes.
    pub(super) fn stage(&mut self, record: &JournalEntry) {
        append_checksummed(&mut self.unsaved, record);
        self.records += 1;
    }

    /// Writes the staged records. If this fails, the next call retries.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.cut()?;
        }
        if let Err(error) = self.file.write_all(&self.unsaved) {
            self.is_torn = true;
            // A disk that cannot do this now may be able to before the next line.
            let _ = self.cut();
            return Err(error);
        }
        self.length += self.unsaved.len() as u64;
        self.unsaved.clear();
        self.unsaved.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Removes a partial line, because no line may follow it.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.is_torn = false;
        Ok(())
    }

    /// Returns whether the file lacks staged records.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Writes everything to the disk, so that a crash of the machine does not lose it.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.save()?;
        self.file.sync_all()
    }

    /// Replaces the journal with these records. If this fails, the old journal remains valid.
    pub(super) fn rewrite(
        &mut self,
        records: impl Iterator<Item = JournalEntry>,
    ) -> io::Result<()> {
        let beside = self.path.with_extension(UNFINISHED);
        let mut file = options().open(&beside)?;
        file.set_len(0)?;
        let (mut length, mut count) = (0, 0);
        {
            let mut writer = BufWriter::with_capacity(1 << 16, &mut file);
            let mut line = Vec::new();
            for record in records {
                line.clear();
                append_checksummed(&mut line, &record);
                writer.write_all(&line)?;
                length += line.len() as u64;
                count += 1;
            }
            writer.flush()?;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.length, self.records) = (file, length, count);
        self.unsaved.clear();
        self.is_torn = false;
        Ok(())
    }
}

/// Reader of a journal's records.
#[derive(Debug)]
pub(super) struct Reader {
    lines: BufReader<File>,
    line: Vec<u8>,
    length: u64,
    records: usize,
    is_damaged: bool,
}

impl Reader {
    /// Returns the next record, or `None` at the end or at the first damaged line.
    pub(super) fn next(&mut self) -> io::Result<Option<JournalEntry>> {
        self.line.clear();
        if self.is_damaged || self.lines.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let record = self.line.strip_suffix(b"\n").and_then(parse);
        match &record {
            Some(_) => {
                self.length += self.line.len() as u64;
                self.records += 1;
            }
            None => self.is_damaged = true,
        }
        Ok(record)
    }
}

/// Options to open a file of the state for appending.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}
