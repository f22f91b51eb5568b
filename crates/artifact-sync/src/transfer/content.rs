//! Reading of parts of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Reads `length` bytes, or fewer at the end of the file.
pub(crate) fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let filled = read_into(file, offset, &mut content)?;
    content.truncate(filled);
    Ok(content)
}

/// Fills a buffer from a file and returns the number of bytes, which is less at the end of the
/// file.
pub(crate) fn read_into(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
