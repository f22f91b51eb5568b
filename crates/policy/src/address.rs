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

/// Returns the IPv4 addresses inside an IPv6 one, to which it may lead: mapped, compatible,
/// translated, NAT64, 6to4, Teredo or ISATAP.
pub(crate) fn embedded_ipv4(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let segments = match address {
        IpAddr::V6(v6) => v6.segments(),
        IpAddr::V4(_) => [u16::MAX; 8],
    };
    let by_prefix = match segments {
        [0x2002, high, low, ..] => [Some((high, low)), None],
        // The server, and the client with inverted bits (RFC 4380, section 4).
        [0x2001, 0, high, low, _, _, of_client, and_low] => {
            [Some((high, low)), Some((!of_client, !and_low))]
        }
        // A prefix of local use that has 64 bits (RFC 6052, section 2.2).
        [0x64, 0xff9b, 1, _, first @ 0..=0xff, middle, last, 0] if last.trailing_zeros() >= 8 => {
            [Some((first << 8 | middle >> 8, middle << 8 | last >> 8)), Some((last, 0))]
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // Prefixes of local use (RFC 8215), of which most have 96 bits.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => [Some((high, low)), None],
        _ => [None; 2],
    };
    // ISATAP has any prefix (RFC 5214, section 6.1). Two bits say that an identifier is a universal
    // one, and that it is one of a group.
    let by_identifier = match segments {
        [_, _, _, _, 0 | 0x100 | 0x200 | 0x300, 0x5efe, high, low] => Some((high, low)),
        _ => None,
    };
    let embedded = by_prefix.into_iter().chain([by_identifier]).flatten();
    embedded.map(|(high, low)| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
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
    fn every_form_of_ipv6_shows_the_ipv4_addresses_inside() {
        for (address, expected) in [
            ("::ffff:10.0.0.1", &["10.0.0.1"][..]),
            ("64:ff9b::10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b:1:7::10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b:1:7:a:0:100::", &["10.0.0.1", "1.0.0.0"]),
            ("2002:a00:1::1", &["10.0.0.1"]),
            ("2001:0:4136:e378:8000:63bf:f5ff:fffe", &["65.54.227.120", "10.0.0.1"]),
            ("2001:db8::5efe:10.0.0.1", &["10.0.0.1"]),
            ("2001:db8::200:5efe:10.0.0.1", &["10.0.0.1"]),
            ("2002:102:304::5efe:10.0.0.1", &["1.2.3.4", "10.0.0.1"]),
            ("2001:db8::400:5efe:a00:1", &[]),
            ("2001:db8::a00:1", &[]),
            ("10.0.0.1", &[]),
        ] {
            let found: Vec<_> = embedded_ipv4(address.parse().unwrap()).collect();
            let expected: Vec<IpAddr> = expected.iter().map(|one| one.parse().unwrap()).collect();
            assert_eq!(found, expected, "{address}");
        }
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
