//! Classes of addresses to which no name may lead.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// Class of a refused address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressClass {
    /// The host itself.
    Loopback,
    /// No address, which the kernel takes for the host itself.
    Unspecified,
    /// An address of the local link. Most metadata services have one.
    LinkLocal,
    /// Several hosts.
    Multicast,
    /// A metadata service of a cloud.
    Metadata,
    /// An entry of `deniedResolvedAddresses` or `deniedDomains`.
    #[non_exhaustive]
    Listed {
        /// The entry.
        entry: String,
    },
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("a loopback address"),
            Self::Unspecified => f.write_str("an unspecified address"),
            Self::LinkLocal => f.write_str("a link-local address"),
            Self::Multicast => f.write_str("a multicast or broadcast address"),
            Self::Metadata => f.write_str("the address of a metadata service"),
            Self::Listed { entry } => write!(f, "an address that the entry {entry} denies"),
        }
    }
}

impl std::error::Error for AddressClass {}

/// Addresses of metadata services outside the local link, by cloud: Alibaba, Azure, Oracle, AWS,
/// Google, Oracle, Scaleway, Akamai, Alibaba.
const METADATA: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0)), 32),
    (IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)), 128),
];

/// Returns the class of an address, if no name may lead to it.
pub(crate) fn class(address: IpAddr) -> Option<AddressClass> {
    if METADATA.iter().any(|(start, bits)| Block::new(*start, *bits).contains(address)) {
        return Some(AddressClass::Metadata);
    }
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => Some(AddressClass::Loopback),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(AddressClass::Unspecified),
        IpAddr::V4(v4) if v4.is_link_local() => Some(AddressClass::LinkLocal),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some(AddressClass::Multicast),
        IpAddr::V6(v6) if v6.is_loopback() => Some(AddressClass::Loopback),
        IpAddr::V6(v6) if v6.is_unspecified() => Some(AddressClass::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(AddressClass::LinkLocal),
        IpAddr::V6(v6) if v6.is_multicast() => Some(AddressClass::Multicast),
        _ => None,
    }
}

/// Returns the IPv4 address that an IPv6 one leads to: mapped, compatible, translated, NAT64 or
/// 6to4.
pub(crate) fn embedded_ipv4(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let segments = v6.segments();
    let (high, low) = match segments {
        [0x2002, high, low, ..] => (high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // Prefixes of local use (RFC 8215), of which most have 96 bits.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    start: IpAddr,
    bits: u8,
}

impl Block {
    pub(crate) fn new(start: IpAddr, bits: u8) -> Self {
        Self { start, bits }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (differing, width): (u128, u32) = match (self.start, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
            _ => return false,
        };
        let ignored = width.saturating_sub(u32::from(self.bits));
        differing.checked_shr(ignored).unwrap_or_default() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_the_addresses_with_its_first_bits() {
        let block = |start: &str, bits| Block::new(start.parse().unwrap(), bits);
        let at = |text: &str| text.parse().unwrap();
        assert!(block("10.0.0.0", 8).contains(at("10.255.0.1")));
        assert!(!block("10.0.0.0", 8).contains(at("11.0.0.0")));
        assert!(block("0.0.0.0", 0).contains(at("255.1.1.1")));
        assert!(!block("0.0.0.0", 0).contains(at("::1")));
        assert!(block("::", 0).contains(at("ffff::1")));
        assert!(block("1.2.3.4", 32).contains(at("::ffff:1.2.3.4")));
    }

    #[test]
    fn the_kernels_own_addresses_are_classified() {
        for (address, expected) in [
            ("127.9.9.9", Some(AddressClass::Loopback)),
            ("0.1.2.3", Some(AddressClass::Unspecified)),
            ("255.255.255.255", Some(AddressClass::Multicast)),
            ("fe80::1", Some(AddressClass::LinkLocal)),
            ("168.63.129.16", Some(AddressClass::Metadata)),
            ("10.0.0.1", None),
            ("fd00::1", None),
        ] {
            assert_eq!(class(address.parse().unwrap()), expected, "{address}");
        }
    }
}
