//! Tunnels: bytes from one socket to another, through a pipe in the kernel.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf as _, Bytes};
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::flow::{Flow, Traffic, Way};

/// Bytes that a pipe holds. The kernel may grant fewer.
const PIPE_BYTES: usize = 1 << 20;

/// One end of a tunnel.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) stream: TcpStream,
    /// Bytes that were already read from the stream.
    pub(crate) read: Bytes,
}

/// Passes bytes in both directions until both ends are closed. An end that closes one direction
/// still receives the other one.
pub(crate) async fn run(client: End, upstream: End, flow: &Flow) {
    let traffic = flow.traffic();
    let mut out = Direction::new(&client.stream, &upstream.stream, client.read, traffic, Way::Out);
    let mut back =
        Direction::new(&upstream.stream, &client.stream, upstream.read, traffic, Way::In);
    finish(&mut out, &mut back, flow).await;
}

/// Runs two directions to their end. Both ends are reset if one is broken, or if the flow is cut:
/// the other end must not take the bytes so far for all.
pub(crate) async fn finish(out: &mut Direction<'_>, back: &mut Direction<'_>, flow: &Flow) {
    let (client, upstream) = (out.from, out.to);
    let is_whole = tokio::select! {
        result = async { tokio::try_join!(out.run(), back.run()) } => result.is_ok(),
        () = flow.cut().ordered() => false,
    };
    if !is_whole {
        reset(client);
        reset(upstream);
    }
}

/// Makes the kernel reset a connection when its socket is closed.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Bytes from one socket to another. Dropping a call of [`Direction::run`] loses none.
#[derive(Debug)]
pub(crate) struct Direction<'s> {
    from: &'s TcpStream,
    to: &'s TcpStream,
    pending: Bytes,
    pipe: Option<(OwnedFd, OwnedFd)>,
    /// Bytes in the pipe.
    held: usize,
    is_ended: bool,
    traffic: &'s Traffic,
    way: Way,
}

impl<'s> Direction<'s> {
    pub(crate) fn new(
        from: &'s TcpStream,
        to: &'s TcpStream,
        pending: Bytes,
        traffic: &'s Traffic,
        way: Way,
    ) -> Self {
        Self { from, to, pending, pipe: None, held: 0, is_ended: false, traffic, way }
    }

    /// Returns whether bytes have arrived that are not sent yet.
    pub(crate) fn holds_bytes(&self) -> bool {
        self.held > 0 || !self.pending.is_empty()
    }

    /// Returns whether the first socket has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Passes bytes until the first socket ends, and then ends the second one.
    pub(crate) async fn run(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let wrote = self.to.async_io(Interest::WRITABLE, || self.to.try_write(&self.pending));
            let wrote = wrote.await?;
            self.pending.advance(wrote);
            self.traffic.count(self.way, wrote);
        }
        while !self.is_ended {
            if self.pipe.is_none() {
                // Idle tunnels have no pipe, so they cost two descriptors.
                self.from.readable().await?;
                self.pipe = Some(pipe()?);
            }
            let Some((output, input)) = &self.pipe else { continue };
            if self.held == 0 {
                let fill = || move_bytes(self.from, input, PIPE_BYTES);
                self.held = self.from.async_io(Interest::READABLE, fill).await?;
                self.is_ended = self.held == 0;
            }
            while self.held > 0 {
                let drain = || move_bytes(output, self.to, self.held);
                let moved = self.to.async_io(Interest::WRITABLE, drain).await?;
                if moved == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.held -= moved;
                self.traffic.count(self.way, moved);
            }
        }
        self.pipe = None;
        // The other end may have closed its socket already.
        let _ = rustix::net::shutdown(self.to, Shutdown::Write);
        Ok(())
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // An ordinary user's pipes are limited together; a smaller one works too.
    let _ = fcntl_setpipe_size(&pipe.1, PIPE_BYTES);
    Ok(pipe)
}

fn move_bytes(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    bytes: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, bytes, flags)?)
}
