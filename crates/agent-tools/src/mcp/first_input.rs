//! The first input of a client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

/// A reader that announces its first bytes.
pub(super) struct FirstInput<R> {
    input: R,
    announce: Option<oneshot::Sender<()>>,
}

impl<R> FirstInput<R> {
    /// Returns the reader, and the announcement, which fails if the reader ends without bytes.
    pub(super) fn new(input: R) -> (Self, oneshot::Receiver<()>) {
        let (announce, announced) = oneshot::channel();
        (Self { input, announce: Some(announce) }, announced)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for FirstInput<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.input).poll_read(context, buffer));
        if buffer.filled().len() > before
            && let Some(announce) = self.announce.take()
        {
            let _ = announce.send(());
        }
        Poll::Ready(read)
    }
}
