//! Addresses that stand for names inside a session.
//!
//! A session resolves an allowed name to an address in 198.18.0.0/16, and a denied one to an
//! address in 198.19.0.0/16 (RFC 2544: no network routes them). A name keeps its address, so the
//! gate knows which name a connection to the address is for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use policy::Host;

/// The first addresses. 198.18.0.1 is an address of the session's own interface.
const ALLOWED: [u8; 4] = [198, 18, 1, 0];
const DENIED: [u8; 4] = [198, 19, 1, 0];

/// Range of an address that stands for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    Allowed,
    Denied,
}

/// The names of a session with their addresses.
#[derive(Debug)]
pub(crate) struct Names {
    max: usize,
    allowed: Table,
    denied: Table,
}

#[derive(Debug, Default)]
struct Table {
    names: Vec<Host>,
    positions: HashMap<Host, usize>,
}

impl Names {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, allowed: Table::default(), denied: Table::default() }
    }

    /// Returns the address of a name. The result is `None` if the range has no more addresses: an
    /// address is never used for a second name.
    pub(crate) fn address(&mut self, name: &Host, range: Range) -> Option<Ipv4Addr> {
        let (table, first) = match range {
            Range::Allowed => (&mut self.allowed, ALLOWED),
            Range::Denied => (&mut self.denied, DENIED),
        };
        let position = match table.positions.get(name) {
            Some(position) => *position,
            None if table.names.len() >= self.max => return None,
            None => {
                table.names.push(name.clone());
                table.positions.insert(name.clone(), table.names.len() - 1);
                table.names.len() - 1
            }
        };
        let offset = u32::try_from(position).ok()?;
        Some(Ipv4Addr::from_bits(Ipv4Addr::from(first).to_bits() + offset))
    }

    /// Returns the name of an address.
    pub(crate) fn name(&self, address: IpAddr) -> Option<&Host> {
        let IpAddr::V4(address) = address else { return None };
        let (table, first) = match address.octets() {
            [198, 18, ..] => (&self.allowed, ALLOWED),
            [198, 19, ..] => (&self.denied, DENIED),
            _ => return None,
        };
        let offset = address.to_bits().checked_sub(Ipv4Addr::from(first).to_bits())?;
        table.names.get(usize::try_from(offset).ok()?)
    }
}

/// Returns whether an address is in one of the ranges.
pub(crate) fn stands_for_name(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 198 && v4.octets()[1] & 0xfe == 18)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_no_address_is_used_twice() {
        let mut names = Names::new(2);
        let a = names.address(&host("a.test"), Range::Allowed).unwrap();
        let b = names.address(&host("b.test"), Range::Allowed).unwrap();
        assert_ne!(a, b);
        assert_eq!(names.address(&host("A.test."), Range::Allowed), Some(a));
        assert_eq!(names.address(&host("c.test"), Range::Allowed), None);
        assert_eq!(names.name(b.into()), Some(&host("b.test")));
        // Denied names do not use up the addresses of allowed ones.
        let denied = names.address(&host("c.test"), Range::Denied).unwrap();
        assert_eq!(denied.octets()[..2], [198, 19]);
        assert_eq!(names.name(denied.into()), Some(&host("c.test")));
    }

    #[test]
    fn an_address_without_a_name_has_none() {
        let names = Names::new(2);
        for address in ["198.18.0.1", "198.18.1.0", "198.19.255.255", "10.0.0.1", "::1"] {
            assert_eq!(names.name(address.parse().unwrap()), None);
        }
        assert!(stands_for_name("198.19.255.255".parse().unwrap()));
        assert!(!stands_for_name("198.20.0.0".parse().unwrap()));
    }
}
