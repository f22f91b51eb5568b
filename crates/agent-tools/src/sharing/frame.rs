//! Frames: messages of a connection, with a format number, a method, an id and descriptors.
//!
//! A frame is a header of 20 bytes in little-endian order, and a body of JSON:
//!
//! | bytes | content |
//! |---|---|
//! | 0–1 | format number |
//! | 2–3 | method or answer |
//! | 4–7 | length of the body |
//! | 8–15 | id of the call |
//! | 16–19 | number of descriptors that arrive with the first byte |
//!
//! A body of more than 64 KiB is in a sealed file in memory: the length is 0, and the last
//! descriptor is that file. Later formats may only add methods, answers and fields.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use sandbox_core::internal::{LocalStream, MAX_DESCRIPTORS, memory_file, read_open};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format number of this version.
pub(super) const FORMAT: u16 = 1;
/// The size of the largest body that is sent inside its frame.
const MAX_INLINE_BYTES: usize = 64 * 1024;
/// The size of the largest body in a file.
const MAX_BODY_BYTES: usize = 256 << 20;
const HEADER_BYTES: usize = 20;

/// One message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) method: u16,
    pub(super) id: u64,
    pub(super) body: Vec<u8>,
    /// Descriptors, without that of the body.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Frame {
    /// Creates a message without descriptors.
    pub(super) fn new(method: u16, id: u64, body: &impl Serialize) -> io::Result<Self> {
        let body = serde_json::to_vec(body)?;
        Ok(Self { method, id, body, descriptors: Vec::new() })
    }

    /// Parses the body.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    method: u16,
    body_bytes: u32,
    id: u64,
    descriptors: u32,
}

impl Header {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..2].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.method.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..].copy_from_slice(&self.descriptors.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; HEADER_BYTES]) -> io::Result<Self> {
        let [f0, f1, m0, m1, b0, b1, b2, b3, i0, i1, i2, i3, i4, i5, i6, i7, d0, d1, d2, d3] =
            bytes;
        if u16::from_le_bytes([f0, f1]) != FORMAT {
            return Err(invalid("the frame has another format number"));
        }
        let header = Self {
            method: u16::from_le_bytes([m0, m1]),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            descriptors: u32::from_le_bytes([d0, d1, d2, d3]),
        };
        if header.body_bytes as usize > MAX_INLINE_BYTES {
            return Err(invalid("the body of the frame is too long"));
        }
        if header.descriptors as usize > MAX_DESCRIPTORS {
            return Err(invalid("the frame has too many descriptors"));
        }
        Ok(header)
    }
}

/// A connection that carries frames, one after the other in each direction.
#[derive(Debug)]
pub(super) struct Channel {
    stream: LocalStream,
}

impl Channel {
    pub(super) fn new(stream: LocalStream) -> Self {
        Self { stream }
    }

    pub(super) fn stream(&self) -> &LocalStream {
        &self.stream
    }

    /// Sends a frame. After an error, or if the caller drops the future, the connection is useless.
    pub(super) async fn send(&self, frame: &Frame) -> io::Result<()> {
        let Frame { method, id, body, descriptors } = frame;
        if body.len() > MAX_BODY_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the message is too long"));
        }
        let file =
            if body.len() > MAX_INLINE_BYTES { Some(memory_file("frame", body)?) } else { None };
        let inline = if file.is_some() { &[][..] } else { body };
        let fds: Vec<_> = descriptors.iter().chain(&file).map(AsFd::as_fd).collect();
        let count = |length: usize| u32::try_from(length).map_err(|_| invalid("too long"));
        let header = Header {
            method: *method,
            body_bytes: count(inline.len())?,
            id: *id,
            descriptors: count(fds.len())?,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(inline);
        let mut sent = self.stream.send(&bytes, &fds).await?;
        while sent < bytes.len() {
            sent += self.stream.send(&bytes[sent..], &[]).await?;
        }
        Ok(())
    }

    /// Receives a frame; `None` if the peer has closed between two frames.
    pub(super) async fn receive(&self) -> io::Result<Option<Frame>> {
        let (mut header, mut descriptors) = ([0; HEADER_BYTES], Vec::new());
        if !self.fill(&mut header, &mut descriptors).await? {
            return Ok(None);
        }
        let Header { method, body_bytes, id, descriptors: announced } = Header::decode(header)?;
        let mut body = vec![0; body_bytes as usize];
        if !body.is_empty() && !self.fill(&mut body, &mut descriptors).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if descriptors.len() != announced as usize {
            return Err(invalid("the number of descriptors is not the announced one"));
        }
        if body.is_empty() {
            let file = descriptors.pop().ok_or_else(|| invalid("the frame has no body"))?;
            body = read_body(File::from(file)).await?;
        }
        Ok(Some(Frame { method, id, body, descriptors }))
    }

    /// Fills the buffer. Returns `false` if the peer had closed before the first byte.
    async fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.receive(&mut buffer[filled..], descriptors).await? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => filled += received,
            }
            if descriptors.len() > MAX_DESCRIPTORS {
                return Err(invalid("the frame has too many descriptors"));
            }
        }
        Ok(true)
    }
}

/// Reads a body from a file. Only a file on a disk or in memory is read, so this cannot block.
async fn read_body(mut file: File) -> io::Result<Vec<u8>> {
    sandbox_core::internal::blocking(move || {
        if !file.metadata()?.is_file() {
            return Err(invalid("the body of the frame is not in a file"));
        }
        file.rewind()?;
        read_open(&file, Path::new("the body of a frame"), MAX_BODY_BYTES as u64)
            .map_err(io::Error::other)
    })
    .await
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use sandbox_core::internal::LocalListener;

    use super::*;

    async fn pair() -> (Channel, Channel) {
        let root = tempfile::tempdir().unwrap();
        let dir = File::open(root.path()).unwrap();
        let listener = LocalListener::bind(&dir, "socket").unwrap();
        let client = LocalStream::connect(&dir, "socket").unwrap();
        (Channel::new(client), Channel::new(listener.accept().await.unwrap()))
    }

    #[tokio::test]
    async fn frames_of_every_size_arrive_with_their_descriptors() {
        let (client, server) = pair().await;
        for length in [0, 1, MAX_INLINE_BYTES - 2, MAX_INLINE_BYTES - 1, 3 << 20] {
            let text = "x".repeat(length);
            let mut frame = Frame::new(7, length as u64, &text).unwrap();
            frame.descriptors = vec![memory_file("extra", b"e").unwrap()];
            let (sent, received) = tokio::join!(client.send(&frame), server.receive());
            sent.unwrap();
            let received = received.unwrap().unwrap();
            assert_eq!((received.method, received.id), (7, length as u64));
            assert_eq!(received.parse::<String>().unwrap(), text);
            assert_eq!(received.descriptors.len(), 1);
            assert_ne!(received.descriptors[0].as_raw_fd(), frame.descriptors[0].as_raw_fd());
        }
        drop(client);
        assert!(server.receive().await.unwrap().is_none());
    }

    #[test]
    fn a_header_of_another_format_or_an_excessive_length_is_rejected() {
        let good = Header { method: 3, body_bytes: 5, id: u64::MAX, descriptors: 4 };
        assert_eq!(Header::decode(good.encode()).unwrap(), good);
        let mut other = good.encode();
        other[0] = 2;
        Header::decode(other).unwrap_err();
        let long = Header { body_bytes: MAX_INLINE_BYTES as u32 + 1, ..good };
        Header::decode(long.encode()).unwrap_err();
        Header::decode(Header { descriptors: 5, ..good }.encode()).unwrap_err();
    }

    #[tokio::test]
    async fn a_torn_frame_a_missing_body_and_a_body_that_is_no_file_are_errors() {
        let header = Header { method: 1, body_bytes: 4, id: 0, descriptors: 0 };
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = OwnedFd::from(reader);
        for (header, rest, fds) in [
            (header, &b"12"[..], vec![]),
            (Header { body_bytes: 0, ..header }, b"", vec![]),
            (Header { descriptors: 1, ..header }, b"1234", vec![]),
            (Header { body_bytes: 0, descriptors: 1, ..header }, b"", vec![pipe.as_fd()]),
        ] {
            let (client, server) = pair().await;
            let bytes = [&header.encode()[..], rest].concat();
            assert_eq!(client.stream.send(&bytes, &fds).await.unwrap(), bytes.len());
            drop(client);
            server.receive().await.unwrap_err();
        }
    }
}
