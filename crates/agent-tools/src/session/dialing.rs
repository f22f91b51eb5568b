//! Connections from the host to servers that run in a session.

use std::io;
use std::os::unix::net::UnixStream as Socket;

use sandbox_core::NetworkError;
use tokio::net::{TcpStream, UnixStream};

use super::{LocalSession, Session};
use crate::sharing::DialPort;
use crate::tool_error::ToolError;

impl Session {
    /// Connects to a port of the session's loopback, on which a [process](Session::spawn) listens:
    /// `127.0.0.1`, and then `::1`. The session needs no allowed host for this, and no one else of
    /// the host can connect.
    ///
    /// ```no_run
    /// # use agent_tools::{Session, Spawn};
    /// # use std::time::Duration;
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # use tokio::time::sleep;
    /// # async fn example(session: &Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let server = session.spawn(Spawn::command("python3 -m http.server 8000")).await?;
    /// let mut stream = loop {
    ///     match session.dial(8000).await {
    ///         Err(error) if error.is_retryable() => sleep(Duration::from_millis(50)).await,
    ///         dialed => break dialed?,
    ///     }
    /// };
    /// stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer).await?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The program that serves the session forwards the bytes, and closes the stream when the
    /// server does, or when the session ends.
    ///
    /// # Errors
    /// Returns [`ToolError::Dial`] if nothing listens on the port yet, which is retryable, and with
    /// [`Tier::Landlock`](crate::Tier::Landlock). Returns [`ToolError::Sharing`] if the session
    /// cannot be opened again.
    ///
    /// # Cancel safety
    /// After the future is dropped, the server may accept a connection that is closed at once.
    pub async fn dial(&self, port: u16) -> Result<UnixStream, ToolError> {
        let failed = failed(port);
        let (own, other) = Socket::pair().map_err(&failed)?;
        own.set_nonblocking(true).map_err(&failed)?;
        let own = UnixStream::from_std(own).map_err(&failed)?;
        self.run(DialPort::new(port, other)).await?;
        Ok(own)
    }
}

impl LocalSession {
    /// Connects a stream of the host to a port of the session.
    pub(crate) async fn dial(&self, port: u16, host: Socket) -> Result<(), ToolError> {
        let failed = failed(port);
        let server = self.sandbox().dial(port).await;
        let server = server.map_err(|source| ToolError::Dial { port, source })?;
        server.set_nonblocking(true).map_err(&failed)?;
        host.set_nonblocking(true).map_err(&failed)?;
        let server = TcpStream::from_std(server).map_err(&failed)?;
        let host = UnixStream::from_std(host).map_err(&failed)?;
        self.network.relay(server, host);
        Ok(())
    }
}

/// Returns the error of a socket of the host.
fn failed(port: u16) -> impl Fn(io::Error) -> ToolError {
    move |source| {
        let operation = "create sockets";
        ToolError::Dial { port, source: NetworkError::Host { operation, source } }
    }
}
