//! SOCKS5 (RFC 1928): CONNECT without authentication.

use std::net::{Ipv4Addr, Ipv6Addr};

use policy::Host;

/// First byte of a client.
pub(crate) const VERSION: u8 = 5;

/// Answers to a greeting.
pub(crate) const NO_AUTHENTICATION: [u8; 2] = [VERSION, 0];
pub(crate) const NO_METHOD: [u8; 2] = [VERSION, 0xff];

/// A message, as far as it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<T> {
    /// More bytes decide.
    Incomplete,
    /// The message and its length in bytes.
    Message(T, usize),
    /// The message is invalid, with the answer.
    Invalid(Reply),
}

/// Answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Unavailable = 5,
    TimedOut = 6,
    UnknownCommand = 7,
    UnknownAddressType = 8,
}

impl Reply {
    pub(crate) fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// Reads a greeting. The message tells whether the client can do without authentication.
pub(crate) fn greeting(bytes: &[u8]) -> Parsed<bool> {
    match *bytes {
        [] | [VERSION] => Parsed::Incomplete,
        [VERSION, count, ref rest @ ..] => match rest.get(..usize::from(count)) {
            Some(methods) => Parsed::Message(methods.contains(&0), 2 + methods.len()),
            None => Parsed::Incomplete,
        },
        _ => Parsed::Invalid(Reply::Failed),
    }
}

/// Reads a request to connect.
pub(crate) fn request(bytes: &[u8]) -> Parsed<(Host, u16)> {
    let (kind, rest) = match *bytes {
        [VERSION, 1, 0, kind, ref rest @ ..] => (kind, rest),
        [VERSION, 1, 0] | [VERSION, 1] | [VERSION] | [] => return Parsed::Incomplete,
        [VERSION, command, ..] if command != 1 => return Parsed::Invalid(Reply::UnknownCommand),
        _ => return Parsed::Invalid(Reply::Failed),
    };
    let (host, length) = match kind {
        1 => match rest.first_chunk::<4>() {
            Some(octets) => (Some(Host::from(std::net::IpAddr::V4(Ipv4Addr::from(*octets)))), 4),
            None => return Parsed::Incomplete,
        },
        4 => match rest.first_chunk::<16>() {
            Some(octets) => (Some(Host::from(std::net::IpAddr::V6(Ipv6Addr::from(*octets)))), 16),
            None => return Parsed::Incomplete,
        },
        3 => {
            let Some((length, name)) = rest.split_first() else { return Parsed::Incomplete };
            let length = usize::from(*length);
            let Some(name) = name.get(..length) else { return Parsed::Incomplete };
            let name = std::str::from_utf8(name).ok();
            (name.and_then(|name| Host::parse(name).ok()), 1 + length)
        }
        _ => return Parsed::Invalid(Reply::UnknownAddressType),
    };
    let Some(port) = rest[length..].first_chunk::<2>() else { return Parsed::Incomplete };
    match (host, u16::from_be_bytes(*port)) {
        (None, _) | (_, 0) => Parsed::Invalid(Reply::Failed),
        (Some(host), port) => Parsed::Message((host, port), 4 + length + 2),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        [&[5, 1, 0, 3, length], name.as_bytes(), &[1, 187]].concat()
    }

    #[test]
    fn requests_name_hosts_in_three_ways() {
        let a = |text: &str| Host::parse(text).unwrap();
        let message = Parsed::Message((a("a.test"), 443), 13);
        assert_eq!(request(&named("A.test")), message);
        assert_eq!(
            request(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]),
            Parsed::Message((a("127.0.0.1"), 80), 10)
        );
        let mut mapped = vec![5, 1, 0, 4];
        mapped.extend("::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        mapped.extend([0, 80]);
        assert_eq!(request(&mapped), Parsed::Message((a("127.0.0.1"), 80), 22));
        assert_eq!(request(&named("a\0.test")), Parsed::Invalid(Reply::Failed));
        assert_eq!(request(&[5, 2, 0, 1]), Parsed::Invalid(Reply::UnknownCommand));
        assert_eq!(request(&[5, 1, 0, 9, 1]), Parsed::Invalid(Reply::UnknownAddressType));
    }

    #[test]
    fn a_greeting_lists_methods() {
        assert_eq!(greeting(&[5, 2, 2, 0]), Parsed::Message(true, 4));
        assert_eq!(greeting(&[5, 1, 2]), Parsed::Message(false, 3));
        assert_eq!(greeting(&[5, 2, 2]), Parsed::Incomplete);
        assert_eq!(greeting(&[4, 1]), Parsed::Invalid(Reply::Failed));
    }

    proptest! {
        #[test]
        fn a_cut_message_is_incomplete(name in "[a-z]{1,20}", cut in any::<prop::sample::Index>()) {
            let bytes = named(&name);
            prop_assert_eq!(request(&bytes[..cut.index(bytes.len())]), Parsed::Incomplete);
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            greeting(&bytes);
            request(&bytes);
            let mut long = bytes;
            long.resize(600, 1);
            prop_assert_ne!(greeting(&long), Parsed::Incomplete);
            prop_assert_ne!(request(&long), Parsed::Incomplete);
        }
    }
}
