//! Names to addresses, on the host.

use std::fmt::Debug;
use std::io;
use std::net::IpAddr;

use async_trait::async_trait;

/// A source of addresses. The gate asks it only for names that a policy allows.
#[async_trait]
pub trait Resolver: Debug + Send + Sync {
    /// Returns the addresses of a name, which is in lower case and without a final dot. The result
    /// is empty if the name does not exist.
    ///
    /// # Errors
    /// Returns the cause if it is unknown whether the name exists.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system: `getaddrinfo`, with the host's own configuration, including its
/// `/etc/hosts` and search domains.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemResolver;

impl SystemResolver {
    /// Creates the resolver.
    pub fn new() -> Self {
        Self
    }
}

/// Texts of `gai_strerror` in glibc and musl for names that do not exist. The standard library
/// reports the number of the error only in its text.
const ABSENT: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        // A final dot would exclude search domains, but glibc then misses names of `/etc/hosts`.
        match tokio::net::lookup_host((name, 0)).await {
            Ok(found) => Ok(found.map(|address| address.ip()).collect()),
            Err(error) => {
                let text = error.to_string();
                let is_absent = ABSENT.iter().any(|absent| text.contains(absent));
                if is_absent { Ok(Vec::new()) } else { Err(error) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let addresses = SystemResolver::new().resolve("localhost").await.unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
