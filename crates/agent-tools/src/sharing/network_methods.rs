//! The calls of a shared session about servers that run in it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::methods::Call;
use crate::session::LocalSession;
use crate::tool_error::ToolError;

/// Connects to a port of the session, for the holder of the other end of a pair of sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DialPort {
    port: u16,
    #[serde(skip)]
    end: Option<OwnedFd>,
}

impl DialPort {
    pub(crate) fn new(port: u16, end: UnixStream) -> Self {
        Self { port, end: Some(end.into()) }
    }
}

impl Call for DialPort {
    const METHOD: u16 = 19;
    type Output = ();
    type Error = ToolError;

    fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        self.end.iter().map(OwnedFd::try_clone).collect()
    }

    fn attach(&mut self, descriptors: Vec<OwnedFd>) {
        self.end = descriptors.into_iter().next();
    }

    async fn run_on(self, session: &LocalSession) -> Result<(), ToolError> {
        // A call without its descriptor is like one whose other end is closed.
        let Some(end) = self.end else { return Ok(()) };
        session.dial(self.port, end.into()).await
    }
}
