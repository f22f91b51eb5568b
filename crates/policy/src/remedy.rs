//! Changes of settings that would allow an access.

use std::fmt;
use std::path::PathBuf;

/// Change of the settings that would allow an access.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Adds a path to `filesystem.allowRead`.
    AllowRead(PathBuf),
    /// Adds a path to `filesystem.allowWrite`.
    AllowWrite(PathBuf),
    /// Adds a path that does not exist to `filesystem.allowWrite`. An entry opens what exists when
    /// the engine opens, so the path has to be created before.
    CreateAndAllowWrite(PathBuf),
    /// Removes an entry from `filesystem.denyWrite`.
    RemoveDenyWrite(String),
    /// Sets `filesystem.allowGitConfig`.
    AllowGitConfig,
    /// Adds an entry, such as `example.com:443` or `[::1]`, to `network.allowedDomains`.
    AllowDomain(String),
    /// Removes an entry from `network.deniedDomains`.
    RemoveDeniedDomain(String),
    /// Uses the temporary directory of the session.
    UseTemporaryDirectory,
    /// Uses the tier of an engine that does not deny the access.
    UseNamespaces,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowRead(path) => write!(f, "add {} to filesystem.allowRead", path.display()),
            Self::AllowWrite(path) => write!(f, "add {} to filesystem.allowWrite", path.display()),
            Self::CreateAndAllowWrite(path) => {
                write!(f, "create {} and add it to filesystem.allowWrite", path.display())
            }
            Self::RemoveDenyWrite(entry) => write!(f, "remove {entry} from filesystem.denyWrite"),
            Self::AllowGitConfig => f.write_str("set filesystem.allowGitConfig to true"),
            Self::UseTemporaryDirectory => f.write_str("use a path below $TMPDIR"),
            Self::AllowDomain(host) => write!(f, "add {host} to network.allowedDomains"),
            Self::RemoveDeniedDomain(entry) => {
                write!(f, "remove {entry} from network.deniedDomains")
            }
            Self::UseNamespaces => f.write_str("use the tier with namespaces"),
        }
    }
}
