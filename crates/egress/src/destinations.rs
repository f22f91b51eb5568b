//! Destinations that the operator has fixed for names, instead of the addresses of a resolver.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use policy::Host;

/// Fixed destinations of names of one session, each for one port.
///
/// They allow no name: the policy decides about the name as ever. A fixed address is approved by
/// the operator, so it may be one of the host's loopback.
///
/// ```
/// use egress::Destinations;
/// use policy::Host;
///
/// let destinations = Destinations::new()
///     .resolve(Host::parse("api.example")?, 443, "127.0.0.1:8443".parse()?)
///     .expose(Host::parse("db.host.internal")?, 5432, Host::parse("localhost")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations(HashMap<(Host, u16), Vec<Destination>>);

/// A destination of a name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An approved address.
    Address(SocketAddr),
    /// The addresses of another host, on the same port.
    Host(Host),
}

impl Destinations {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address for connections to a name on one port. No resolver is asked then.
    #[must_use]
    pub fn resolve(mut self, name: Host, port: u16, to: SocketAddr) -> Self {
        self.0.entry((name, port)).or_default().push(Destination::Address(to));
        self
    }

    /// Adds a host that a name stands for on one port. The addresses of its name are judged like
    /// those of any other, but `localhost` is the loopback of the host.
    #[must_use]
    pub fn expose(mut self, name: Host, port: u16, to: Host) -> Self {
        let destination = match to.as_address() {
            Some(address) => Destination::Address(SocketAddr::new(address, port)),
            None => Destination::Host(to),
        };
        self.0.entry((name, port)).or_default().push(destination);
        self
    }

    /// Returns the destinations of a name and port; an empty slice if none is fixed.
    pub(crate) fn of(&self, host: &Host, port: u16) -> &[Destination] {
        self.0.get(&(host.clone(), port)).map_or(&[], |found| found.as_slice())
    }

    /// Returns whether some port of a name has a destination.
    pub(crate) fn has(&self, host: &Host) -> bool {
        self.0.keys().any(|(name, _)| name == host)
    }

    /// Returns whether the operator has approved an address for a name and port.
    pub(crate) fn approve(&self, host: &Host, port: u16, address: IpAddr) -> bool {
        self.of(host, port).iter().any(|destination| match destination {
            Destination::Address(approved) => approved.ip().to_canonical() == address,
            Destination::Host(host) => host.is_loopback() && address.is_loopback(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_approved_for_its_name_and_port_only() {
        let host = |text| Host::parse(text).unwrap();
        let loopback = "127.0.0.1".parse().unwrap();
        let fixed = Destinations::new()
            .resolve(host("a.test"), 80, "127.0.0.1:8080".parse().unwrap())
            .expose(host("db.host.internal"), 5432, host("localhost"))
            .expose(host("lan.host.internal"), 5432, host("db.lan"));
        assert!(fixed.approve(&host("A.test."), 80, loopback));
        assert!(!fixed.approve(&host("a.test"), 81, loopback));
        assert!(!fixed.approve(&host("b.test"), 80, loopback));
        assert!(!fixed.approve(&host("a.test"), 80, "127.0.0.2".parse().unwrap()));
        assert!(fixed.approve(&host("db.host.internal"), 5432, loopback));
        assert!(!fixed.approve(&host("lan.host.internal"), 5432, loopback));
        assert!(fixed.has(&host("a.test")) && !fixed.has(&host("b.test")));
    }
}
