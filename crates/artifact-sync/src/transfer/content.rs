//! Reading and hashing of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const CHUNK_BYTES: u64 = 1 << 20;

/// Reads `length` bytes, or fewer at the end of the file.
pub(super) fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(&mut content[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// Returns the BLAKE3 hash of a file's content, in hexadecimal.
pub(super) fn hash_of(file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let part = read_at(file, offset, CHUNK_BYTES)?;
        if part.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&part);
        offset += part.len() as u64;
    }
}
