//! Standard input and output as the transport of the server. A line that is no JSON gets an answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rmcp::model::ErrorData;
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::{AsyncRwTransport, DEFAULT_MAX_LINE_LENGTH};
use serde::de::IgnoredAny;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A transport of lines. The SDK drops a line that is no JSON without an answer, so a client with
/// an error would wait for ever.
pub(super) struct AnsweringTransport<R: AsyncRead + Unpin, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, JsonLines<R>, W>,
    invalid: UnboundedReceiver<()>,
}

impl<R, W> AnsweringTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(input: R, output: W) -> Self {
        let (sender, invalid) = unbounded_channel();
        let lines = JsonLines {
            input: BufReader::new(input),
            line: Vec::new(),
            passed: 0,
            is_long: false,
            invalid: sender,
        };
        Self { inner: AsyncRwTransport::new(lines, output), invalid }
    }

    async fn answer_invalid(&mut self) {
        // The client may have closed standard output.
        let error = ErrorData::parse_error("the line is not JSON", None);
        let _ = self.inner.send(TxJsonRpcMessage::<RoleServer>::error(error, None)).await;
    }
}

impl<R, W> Transport<RoleServer> for AnsweringTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            tokio::select! {
                Some(()) = self.invalid.recv() => {}
                message = self.inner.receive() => {
                    if message.is_some() || self.invalid.try_recv().is_err() {
                        return message;
                    }
                }
            }
            self.answer_invalid().await;
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

/// A reader that passes on the lines of its input that are JSON, and reports the others.
struct JsonLines<R> {
    input: BufReader<R>,
    /// The current line, complete if bytes of it are being passed on.
    line: Vec<u8>,
    /// The number of bytes of a complete line that are passed on.
    passed: usize,
    /// The line is longer than any message, which the SDK handles.
    is_long: bool,
    invalid: UnboundedSender<()>,
}

impl<R: AsyncRead + Unpin> JsonLines<R> {
    /// Reads until bytes can be passed on, or to the end of the input.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            let input = Pin::new(&mut self.input);
            let available = ready!(input.poll_fill_buf(context))?;
            let end = available.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(available.len());
            self.line.extend_from_slice(&available[..taken]);
            Pin::new(&mut self.input).consume(taken);
            self.is_long |= self.line.len() > DEFAULT_MAX_LINE_LENGTH;
            let is_end = taken == 0 || end.is_some();
            if !is_end && !self.is_long {
                continue;
            }
            let is_valid = self.is_long || taken == 0 || is_json(&self.line);
            self.is_long &= end.is_none();
            if is_valid {
                return Poll::Ready(Ok(()));
            }
            self.line.clear();
            let _ = self.invalid.send(());
        }
    }
}

/// Returns whether a line is JSON or blank. The SDK judges everything else about a message.
fn is_json(line: &[u8]) -> bool {
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    text.is_empty() || serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

impl<R: AsyncRead + Unpin> AsyncRead for JsonLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if this.passed == this.line.len() {
            this.line.clear();
            this.passed = 0;
        }
        if this.passed == 0 {
            ready!(this.poll_line(context))?;
        }
        let rest = &this.line[this.passed..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.passed += count;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn lines_of_json_pass_in_any_pieces_and_others_are_counted() {
        let long = format!("\"{}\"\n", "x".repeat(100_000));
        let input = format!("{{\"a\":1}}\nnot json\n\r\n[1,\n2]\n\u{feff}{{}}\n{long}{{\"cut\":");
        let (sender, mut invalid) = unbounded_channel();
        let mut lines = JsonLines {
            input: BufReader::with_capacity(7, input.as_bytes()),
            line: Vec::new(),
            passed: 0,
            is_long: false,
            invalid: sender,
        };
        let mut output = String::new();
        lines.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, format!("{{\"a\":1}}\n\r\n\u{feff}{{}}\n{long}{{\"cut\":"));
        assert_eq!(std::iter::from_fn(|| invalid.try_recv().ok()).count(), 3);
    }
}
