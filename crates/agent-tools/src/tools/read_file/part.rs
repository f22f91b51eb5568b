//! The part of an open file that a call asks for.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox_core::internal::read_open;
use sandbox_core::{FileError, RelativePath};

use super::image::{self, MAX_IMAGE_BYTES};
use super::{ByteRange, FilePart, LineRange, MAX_READ_BYTES, ReadFileOutput};
use crate::printable::counted;
use crate::redaction::Redaction;

/// The number of bytes around a range in which values are searched. No variable is longer in any
/// of its forms.
const MARGIN: u64 = 1 << 20;
/// The size of the pieces in which lines are counted.
const PIECE_BYTES: usize = 256 * 1024;
/// The maximum number of bytes of UTF-8 for one UTF-16 unit.
const BYTES_PER_UNIT: u64 = 3;

/// The reason for which a part cannot be read.
#[derive(Debug)]
pub(super) enum Failure {
    File(FileError),
    /// The file has no such part; the text says what it has.
    NoSuchPart(String),
}

/// Reads a part of an open file. `path` names it in errors.
pub(super) fn read(
    file: &File,
    path: &RelativePath,
    part: FilePart,
    max_units: Option<usize>,
    redaction: Redaction<'_>,
) -> Result<ReadFileOutput, Failure> {
    let source = Source::open(file, path)?;
    let mut reader = Reader { source, path, max_units, redaction };
    let mut output = match part {
        FilePart::Whole => reader.whole(),
        FilePart::Lines(range) => reader.lines(range),
        FilePart::Bytes(range) => reader.bytes(range),
    }?;
    output.redacted = reader.redaction.into_names();
    Ok(output)
}

struct Reader<'r> {
    source: Source<'r>,
    path: &'r RelativePath,
    max_units: Option<usize>,
    redaction: Redaction<'r>,
}

impl Reader<'_> {
    fn whole(&mut self) -> Result<ReadFileOutput, Failure> {
        let size = self.source.size;
        if self.max_units.is_none() && size > MAX_READ_BYTES {
            let (path, max_bytes) = (self.path.as_ref().to_owned(), MAX_READ_BYTES);
            return Err(Failure::File(FileError::TooLarge { path, size, max_bytes }));
        }
        let is_image = size <= MAX_IMAGE_BYTES && self.is_image()?;
        if is_image || !self.source.is_text()? {
            let max = if is_image { size } else { self.max_binary_bytes() };
            let mut output = self.binary(0..size.min(max))?;
            if size > max {
                (output.next_byte, output.total_bytes) = (Some(max), Some(size));
            }
            return Ok(output);
        }
        let mut output = self.text_of_lines(0..size, 1)?;
        if output.next_line.is_some() {
            output.total_lines = Some(self.source.lines(1, None)?.total);
        }
        Ok(output)
    }

    fn lines(&mut self, range: LineRange) -> Result<ReadFileOutput, Failure> {
        let LineRange { first, last } = range;
        let lines = self.source.lines(first.max(1), last)?;
        let total = lines.total;
        let failed = |problem: String| {
            Err(Failure::NoSuchPart(format!("{problem}; the file has {}", counted(total, "line"))))
        };
        if first == 0 {
            return failed("startLine must be at least 1".to_owned());
        }
        if first > total.max(1) {
            return failed(format!("startLine {first} is past the end"));
        }
        if let Some(last) = last.filter(|last| *last < first) {
            return failed(format!("endLine {last} is before startLine {first}"));
        }
        if !self.source.is_text()? {
            let problem = "it is not text; give a range of bytes instead of lines";
            return Err(Failure::NoSuchPart(problem.to_owned()));
        }
        let mut output = self.text_of_lines(lines.bytes, first)?;
        output.total_lines = Some(total);
        Ok(output)
    }

    fn bytes(&mut self, range: ByteRange) -> Result<ReadFileOutput, Failure> {
        let size = self.source.size;
        let failed = |problem: String| {
            Err(Failure::NoSuchPart(format!("{problem}; the file has {}", counted(size, "byte"))))
        };
        let ByteRange { start, end } = range;
        if start > size || start == size && size > 0 {
            return failed(format!("startByte {start} is past the end"));
        }
        let asked = start..end.unwrap_or(size).min(size);
        if end.is_some_and(|end| end <= start) {
            return failed("endByte must be above startByte".to_owned());
        }
        let range = start..asked.end.min(start + self.max_text_bytes());
        let mut output = match self.text(range.clone(), range.end < size)? {
            Some((content, end)) => {
                let next_byte = (end < asked.end).then_some(end);
                ReadFileOutput { content, next_byte, ..ReadFileOutput::default() }
            }
            None => {
                let end = range.end.min(start + self.max_binary_bytes());
                let mut output = self.binary(start..end)?;
                output.next_byte = (end < asked.end).then_some(end);
                output
            }
        };
        output.total_bytes = Some(size);
        Ok(output)
    }

    /// Returns whole lines of a text as far as there is room, or the beginning of a long line.
    fn text_of_lines(
        &mut self,
        asked: Range<u64>,
        first: usize,
    ) -> Result<ReadFileOutput, Failure> {
        let range = asked.start..asked.end.min(asked.start + self.max_text_bytes());
        let is_cut = range.end < asked.end;
        let not_text = || Failure::NoSuchPart("it is not text in this part".to_owned());
        let (content, end) = self.text(range.clone(), is_cut)?.ok_or_else(not_text)?;
        let mut output = ReadFileOutput { content, ..ReadFileOutput::default() };
        if end >= asked.end {
            return Ok(output);
        }
        let (bytes, place) = self.source.window(range.start..end)?;
        match bytes[place.clone()].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                let place = place.start..place.start + at + 1;
                let lines = bytes[place.clone()].iter().filter(|byte| **byte == b'\n').count();
                output.content = self.redaction.excerpt(&bytes, place, usize::MAX).0;
                output.next_line = Some(first + lines);
            }
            None => {
                (output.next_byte, output.total_bytes) = (Some(end), Some(self.source.size));
            }
        }
        Ok(output)
    }

    /// Returns the text of a range as far as there is room, and its end. `None` if it is not UTF-8.
    fn text(
        &mut self,
        range: Range<u64>,
        may_split_character: bool,
    ) -> Result<Option<(String, u64)>, Failure> {
        let (bytes, mut place) = self.source.window(range.clone())?;
        if let Err(error) = std::str::from_utf8(&bytes[place.clone()]) {
            let is_split = error.error_len().is_none() && may_split_character;
            if !is_split || error.valid_up_to() == 0 {
                return Ok(None);
            }
            place.end = place.start + error.valid_up_to();
        }
        let max_units = self.max_units.unwrap_or(usize::MAX);
        let (text, end) = self.redaction.excerpt(&bytes, place.clone(), max_units);
        Ok(Some((text, range.start + (end - place.start) as u64)))
    }

    fn binary(&mut self, range: Range<u64>) -> Result<ReadFileOutput, Failure> {
        let (bytes, place) = self.source.window(range.clone())?;
        let image = if range.start == 0 { image::media_type(&bytes[place.clone()]) } else { None };
        let guessed = || mime_guess::from_path(self.path.as_str()).first_or_octet_stream();
        let media_type = image.map_or_else(|| guessed().to_string(), str::to_owned);
        Ok(ReadFileOutput {
            content: STANDARD.encode(self.redaction.part(&bytes, place)),
            encoding: Some("base64"),
            media_type: Some(media_type),
            ..ReadFileOutput::default()
        })
    }

    fn is_image(&self) -> Result<bool, Failure> {
        let (bytes, place) = self.source.window(0..self.source.size)?;
        Ok(image::whole_media_type(&bytes[place]).is_some())
    }

    /// Returns the size of the largest text that can have room.
    fn max_text_bytes(&self) -> u64 {
        self.max_units.map_or(MAX_READ_BYTES, |units| {
            (units as u64).saturating_mul(BYTES_PER_UNIT).clamp(4, MAX_READ_BYTES)
        })
    }

    /// Returns the size of the largest binary content whose base64 has room.
    fn max_binary_bytes(&self) -> u64 {
        self.max_units
            .map_or(MAX_READ_BYTES, |units| (units as u64 / 4 * 3).clamp(3, MAX_READ_BYTES))
    }
}

/// An open file, which is in memory if it is not too large.
struct Source<'f> {
    file: &'f File,
    path: &'f RelativePath,
    size: u64,
    whole: Option<Vec<u8>>,
}

/// The place of some lines.
struct Lines {
    bytes: Range<u64>,
    /// The number of lines of the file.
    total: usize,
}

impl<'f> Source<'f> {
    fn open(file: &'f File, path: &'f RelativePath) -> Result<Self, Failure> {
        let source = Self { file, path, size: 0, whole: None };
        let size = file.metadata().map_err(|error| source.failed(error))?.len();
        if size > MAX_READ_BYTES {
            return Ok(Self { size, ..source });
        }
        let whole = read_open(file, path.as_ref(), MAX_READ_BYTES).map_err(Failure::File)?;
        Ok(Self { size: whole.len() as u64, whole: Some(whole), ..source })
    }

    /// Returns the bytes of a range with those around it, and the place of the range in them.
    fn window(&self, range: Range<u64>) -> Result<(Cow<'_, [u8]>, Range<usize>), Failure> {
        if let Some(whole) = &self.whole {
            let place = usize_of(range.start)..usize_of(range.end);
            return Ok((Cow::Borrowed(whole), place));
        }
        let start = range.start.saturating_sub(MARGIN);
        let end = range.end.saturating_add(MARGIN).min(self.size);
        let mut bytes = vec![0; usize_of(end - start)];
        let read = self.read_at(&mut bytes, start)?;
        bytes.truncate(read);
        // The file may have become shorter.
        let at = |position: u64| usize_of(position - start).min(read);
        Ok((Cow::Owned(bytes), at(range.start)..at(range.end)))
    }

    /// Returns whether the file is UTF-8. Of a large file, the first bytes decide.
    fn is_text(&self) -> Result<bool, Failure> {
        let end = if self.whole.is_some() { self.size } else { PIECE_BYTES as u64 };
        let (bytes, place) = self.window(0..end)?;
        Ok(match std::str::from_utf8(&bytes[place]) {
            Ok(_) => true,
            Err(error) => self.whole.is_none() && error.error_len().is_none(),
        })
    }

    /// Finds the lines from `first` to `last`, and counts all.
    fn lines(&self, first: usize, last: Option<usize>) -> Result<Lines, Failure> {
        let (mut ends, mut position) = (0, 0);
        let mut start = if first == 1 { Some(0) } else { None };
        let (mut end, mut is_at_end_of_line) = (None, true);
        let mut count = |piece: &[u8]| {
            for (at, byte) in piece.iter().enumerate() {
                if *byte != b'\n' {
                    continue;
                }
                ends += 1;
                let after = position + at as u64 + 1;
                if ends + 1 == first {
                    start = Some(after);
                }
                if Some(ends) == last {
                    end = Some(after);
                }
            }
            position += piece.len() as u64;
            is_at_end_of_line = piece.last().is_none_or(|byte| *byte == b'\n');
        };
        match &self.whole {
            Some(whole) => count(whole),
            None => {
                let mut piece = vec![0; PIECE_BYTES];
                let mut at = 0;
                loop {
                    let read = self.read_at(&mut piece, at)?;
                    if read == 0 {
                        break;
                    }
                    count(&piece[..read]);
                    at += read as u64;
                }
            }
        }
        let total = ends + usize::from(!is_at_end_of_line);
        let start = start.unwrap_or(self.size).min(self.size);
        Ok(Lines { bytes: start..end.unwrap_or(self.size).clamp(start, self.size), total })
    }

    /// Reads until the buffer is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(filled)
    }

    fn failed(&self, source: io::Error) -> Failure {
        let path = self.path.as_ref().to_owned();
        Failure::File(FileError::Io { operation: "read", path, source })
    }
}

/// Converts a position in memory.
fn usize_of(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
