//! Identification of the process at the other end of a connection.

use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use super::stream::LocalStream;

/// The process at the other end of a connection, which is outside of every sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pid: u32,
}

impl Peer {
    /// Returns the process id.
    pub fn pid(self) -> u32 {
        self.pid
    }
}

/// Errors returned by [`LocalStream::peer`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer has exited or closed the connection.
    #[error("the peer has exited")]
    Gone,
    /// The peer belongs to another user.
    #[error("process {pid} belongs to another user")]
    OtherUser {
        /// The peer.
        pid: u32,
    },
    /// The peer is in another user namespace, such as that of a sandboxed command.
    #[error("process {pid} is in another user namespace")]
    OtherNamespace {
        /// The peer.
        pid: u32,
    },
    /// The system reported an error, for example because the peer is in another process namespace.
    #[error("the peer cannot be identified")]
    Io {
        /// The system's error.
        #[from]
        source: io::Error,
    },
}

impl LocalStream {
    /// Identifies the peer, and checks that it belongs to the same user and user namespace as this
    /// process.
    ///
    /// A descriptor of the peer's process and the open connection are checked after the comparison.
    /// So the compared namespace belongs to a process that had not exited.
    ///
    /// # Errors
    /// Returns [`PeerError`] for a peer that is sandboxed, belongs to another user, or has exited.
    pub fn peer(&self) -> Result<Peer, PeerError> {
        let credentials = self.credentials()?;
        // The kernel reports 0 for a process that this process namespace does not contain.
        let id = credentials
            .pid()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("it is in another process namespace"))?;
        let pid = id.as_raw_nonzero().get().unsigned_abs();
        if credentials.uid() != geteuid().as_raw() {
            return Err(PeerError::OtherUser { pid });
        }
        let process = pidfd_open(id, PidfdFlags::empty()).map_err(|_| PeerError::Gone)?;
        let namespace = |process: &str| {
            let namespace = std::fs::metadata(format!("/proc/{process}/ns/user"))?;
            Ok::<_, io::Error>((namespace.dev(), namespace.ino()))
        };
        let is_same = namespace(&pid.to_string())? == namespace("self")?;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(self, PollFlags::empty())];
        poll(&mut fds, Some(&now)).map_err(io::Error::from)?;
        if fds[0].revents().contains(PollFlags::IN) || fds[1].revents().contains(PollFlags::HUP) {
            return Err(PeerError::Gone);
        }
        if is_same { Ok(Peer { pid }) } else { Err(PeerError::OtherNamespace { pid }) }
    }
}
