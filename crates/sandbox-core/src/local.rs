//! Sockets in a directory, between processes of one user on this machine.
//!
//! A socket is named by the descriptor of its directory, so its path may be longer than the 107
//! bytes of a socket address (`unix(7)`). The id of a user proves nothing: sandboxed commands have
//! the same one. [`LocalStream::peer`] therefore compares user namespaces.

#![cfg(target_os = "linux")]

mod peer;
mod stream;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::io::Errno;

pub use peer::{Peer, PeerError};
pub use stream::{LocalStream, MAX_DESCRIPTORS};

/// A listening socket in a directory.
#[derive(Debug)]
pub struct LocalListener {
    socket: tokio::net::UnixListener,
}

impl LocalListener {
    /// Creates the socket `name` in a directory and listens. Replaces a socket of that name, so the
    /// caller must know that no process listens on it.
    ///
    /// # Errors
    /// Returns the error of the system call; `NotFound` if `/proc` is not mounted.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime with I/O.
    pub fn bind(dir: impl AsFd, name: &str) -> io::Result<Self> {
        match rustix::fs::unlinkat(dir.as_fd(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let socket = UnixListener::bind(path(&dir, name))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: tokio::net::UnixListener::from_std(socket)? })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Returns the error of the system call, for example if descriptors ran out.
    ///
    /// # Cancel safety
    /// No connection is lost if the caller drops the future.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        let (stream, _) = self.socket.accept().await?;
        Ok(LocalStream::new(stream))
    }
}

/// Returns a short path of a name in an open directory.
fn path(dir: &impl AsFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::OwnedFd;

    use super::*;

    async fn pair(dir: &File) -> (LocalStream, LocalStream) {
        let listener = LocalListener::bind(dir, "socket").unwrap();
        let client = LocalStream::connect(dir, "socket").unwrap();
        (client, listener.accept().await.unwrap())
    }

    #[tokio::test]
    async fn a_socket_is_reached_by_its_directory_at_any_length_of_the_path() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&long).unwrap();
        let dir = File::open(&long).unwrap();
        let (client, server) = pair(&dir).await;
        assert_eq!(client.send(b"hello", &[]).await.unwrap(), 5);
        let (mut bytes, mut fds) = ([0; 16], Vec::new());
        assert_eq!(server.receive(&mut bytes, &mut fds).await.unwrap(), 5);
        assert_eq!((&bytes[..5], fds.len()), (&b"hello"[..], 0));
        assert_eq!(server.peer().unwrap().pid(), std::process::id());
        assert_eq!(client.peer().unwrap().pid(), std::process::id());
        drop(client);
        assert_eq!(server.receive(&mut bytes, &mut fds).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn descriptors_travel_with_the_bytes() {
        let root = tempfile::tempdir().unwrap();
        let (client, server) = pair(&File::open(root.path()).unwrap()).await;
        let file = crate::internal::memory_file("content", b"large").unwrap();
        client.send(b"x", &[file.as_fd()]).await.unwrap();
        let (mut bytes, mut fds) = ([0; 1], Vec::<OwnedFd>::new());
        server.receive(&mut bytes, &mut fds).await.unwrap();
        let mut received = File::from(fds.pop().unwrap());
        received.rewind().unwrap();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "large");
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_refuses_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = File::open(root.path()).unwrap();
        let absent = LocalStream::connect(&dir, "socket").unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        drop(pair(&dir).await);
        let refused = LocalStream::connect(&dir, "socket").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        pair(&dir).await;
    }

    /// The sandboxed client has the same user id, and the policy shows it the socket.
    #[tokio::test]
    async fn a_peer_in_another_user_namespace_is_refused() {
        use crate::{CommandSpec, NativeSandbox, OpenError, Sandbox};
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let config = policy::SandboxRuntimeConfig::from_json(
            r#"{"network":{"allowedDomains":[],"deniedDomains":[],"allowAllUnixSockets":true},
                "filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#,
        )
        .unwrap();
        let policy = policy::Policy::custom(&dir, config).build().unwrap();
        let sandbox = match NativeSandbox::builder(&policy, &dir).open() {
            Err(OpenError::LayerUnavailable { .. }) => {
                return testkit::skipped("a sandboxed client", "user namespaces");
            }
            opened => opened.unwrap(),
        };
        let listener = LocalListener::bind(File::open(&dir).unwrap(), "socket").unwrap();
        let script = "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); \
                      connect(S, sockaddr_un(\"socket\")) or die $!; print \"in\"; <S>'";
        let client = tokio::spawn(async move { sandbox.exec(CommandSpec::new(script)).await });
        let server = listener.accept().await.unwrap();
        let error = server.peer().unwrap_err();
        assert!(matches!(error, PeerError::OtherNamespace { .. }), "{error}");
        drop(server);
        assert_eq!(client.await.unwrap().unwrap().stdout.bytes, b"in");
    }
}
