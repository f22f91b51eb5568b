//! Reading and writing the streams of a command.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::CapturedStream;

/// Size of one read from a pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads a stream to its end, keeps its first `max_bytes`, and counts the rest.
#[cfg(feature = "srt")]
pub(crate) async fn capture(
    mut pipe: impl AsyncRead + Unpin,
    max_bytes: usize,
) -> io::Result<CapturedStream> {
    let mut stream = CapturedStream::default();
    if fill(&mut pipe, max_bytes, &mut stream).await? == Filled::ToTheEnd {
        return Ok(stream);
    }
    let mut sink = vec![0; CHUNK_BYTES];
    loop {
        match pipe.read(&mut sink).await? {
            0 => return Ok(stream),
            dropped => stream.dropped_bytes += dropped as u64,
        }
    }
}

/// Position at which reading a stream stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    ToTheEnd,
    ToTheLimit,
}

/// Reads the first `max_bytes` of a stream.
pub(crate) async fn fill(
    pipe: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
    stream: &mut CapturedStream,
) -> io::Result<Filled> {
    while stream.bytes.len() < max_bytes {
        let room = max_bytes - stream.bytes.len();
        if stream.bytes.capacity() - stream.bytes.len() < CHUNK_BYTES.min(room) {
            stream.bytes.reserve(CHUNK_BYTES.min(room));
        }
        if (&mut *pipe).take(room as u64).read_buf(&mut stream.bytes).await? == 0 {
            return Ok(Filled::ToTheEnd);
        }
    }
    Ok(Filled::ToTheLimit)
}

/// Writes the input. Succeeds even if the command does not read all of it.
pub(crate) async fn feed(pipe: Option<impl AsyncWrite + Unpin>, input: &[u8]) {
    if let Some(mut pipe) = pipe {
        let _ = pipe.write_all(input).await;
    }
}
