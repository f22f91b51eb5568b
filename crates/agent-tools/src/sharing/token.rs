//! The token by which a client proves that it can read the state directory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::TOKEN;

/// A random secret of one server. Sandboxed commands cannot read its file.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// Creates the token of a new server, in place of that of the last one.
    ///
    /// A rename onto the last one would be slower, because file systems then write the content to
    /// the disk at once. A client that reads an incomplete token is a client of the last server.
    pub(super) fn create(state_dir: &Path) -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let path = state_dir.join(TOKEN);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the token of the current server.
    pub(super) fn read(state_dir: &Path) -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open(state_dir.join(TOKEN))?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the key for hashes that only holders of the token can compute.
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the proof that a client sends. Equal proofs are found in constant time.
    pub(super) fn proof(&self) -> blake3::Hash {
        blake3::keyed_hash(&self.0, b"agent-tools session client")
    }
}

/// Hides the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_read_a_token_and_each_server_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let first = Token::create(dir.path()).unwrap();
        let mode = dir.path().join(TOKEN).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Token::read(dir.path()).unwrap().proof(), first.proof());
        let second = Token::create(dir.path()).unwrap();
        assert_ne!(second.proof(), first.proof());
        assert_eq!(format!("{second:?}"), "Token(…)");
    }
}
