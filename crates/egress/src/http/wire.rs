//! A socket under HTTP, with bytes that were read before, and with a count of bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::flow::{Traffic, Way};
use crate::tunnel::End;

pub(crate) struct Wire {
    stream: TcpStream,
    read: Bytes,
    traffic: Option<Arc<Traffic>>,
    /// End of the time for bytes after the last answer.
    linger: Option<Pin<Box<Sleep>>>,
}

/// Time for bytes after the last answer. A socket that is closed with unread bytes sends a reset,
/// which would overtake the answer to a request whose body was not read.
const LINGER: Duration = Duration::from_secs(1);

impl Wire {
    pub(crate) fn new(stream: TcpStream, read: Bytes, traffic: Option<Arc<Traffic>>) -> Self {
        Self { stream, read, traffic, linger: None }
    }

    /// Returns the socket with all bytes that were read from it and not used.
    pub(crate) fn into_end(self, buffered: Bytes) -> End {
        let read = match (buffered.is_empty(), self.read.is_empty()) {
            (_, true) => buffered,
            (true, false) => self.read,
            (false, false) => {
                let mut read = BytesMut::from(buffered);
                read.extend_from_slice(&self.read);
                read.freeze()
            }
        };
        End { stream: self.stream, read }
    }

    fn count(&self, way: Way, bytes: usize) {
        if let Some(traffic) = &self.traffic {
            traffic.count(way, bytes);
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..length]);
            self.read.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.count(Way::In, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.count(Way::Out, wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.count(Way::Out, wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.traffic.is_some() {
            return Poll::Ready(Ok(()));
        }
        let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if linger.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut dropped = [0; 8192];
            let mut buffer = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
