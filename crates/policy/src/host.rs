//! Canonical hosts: one value for every spelling of a name or an address.

use core::net::{IpAddr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use crate::error::ErrorKind;
use crate::web_host::{self, WebHost};

/// Longest name and label of the domain name system, in bytes.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Problem of a host in a place that takes no port.
const HAS_PORT: &str = "has a port, which does not belong to the host";

/// A host in its one canonical spelling.
///
/// Equal hosts are the same destination, however they were written: in upper case, with a final
/// dot, in Unicode, as `127.1`, `0x7f.0.0.1` or `2130706433`, in brackets, with a zone, or as an
/// IPv4 address inside an IPv6 one (`::ffff:1.2.3.4`).
///
/// ```
/// use policy::Host;
///
/// assert_eq!(Host::parse("0x7f.1")?, Host::parse("[::ffff:127.0.0.1]")?);
/// assert_eq!(Host::parse("API.example.")?.to_string(), "api.example");
/// # #[cfg(feature = "idna")]
/// assert_eq!(Host::parse("BÜCHER.example.")?.to_string(), "xn--bcher-kva.example");
/// assert!(Host::parse("example.com/path").is_err());
/// # Ok::<(), policy::HostError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Parses a host without a port, such as the one of a request or of a TLS handshake.
    ///
    /// # Errors
    /// Returns [`HostError`] for a text that is no name and no address: an empty text, a pattern, a
    /// URL, a label that is empty or too long, or a character that no name of a host has. Without
    /// the feature `idna`, that includes every character beyond ASCII.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(match inner.contains("]:") {
                true => HostError::new(HAS_PORT),
                false => HostError::new("lacks a bracket"),
            })?;
            return parse_ipv6(inner).or_else(|error| match Self::parse_name(inner) {
                Ok(host) if host.as_address().is_some() => Ok(host),
                _ => Err(error),
            });
        }
        match text.split_once(':') {
            None => Self::parse_name(text),
            Some((_, rest)) if rest.starts_with("//") => Err(HostError::new(
                "is a URL; leave out the scheme, and what follows the host and its port",
            )),
            Some((host, port)) if parse_port(port).is_some() && Self::parse_name(host).is_ok() => {
                Err(HostError::new(HAS_PORT))
            }
            Some(_) => parse_ipv6(text),
        }
    }

    /// Parses `host`, `host:port`, `[address]` or `[address]:port`. An IPv6 address may lack
    /// brackets if there is no port.
    ///
    /// # Errors
    /// Returns [`HostError`] if the host is invalid, or if the port is not a number from 1 to 65535
    /// without leading zeros.
    pub fn parse_with_port(text: &str) -> Result<(Self, Option<u16>), HostError> {
        if text.contains("://") {
            return Ok((Self::parse(text)?, None));
        }
        let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
        let rest = &text[after_brackets..];
        match rest.rsplit_once(':') {
            Some((before, port)) if !before.contains(':') => {
                let host = Self::parse(&text[..after_brackets + before.len()])?;
                Ok((host, Some(parse_port(port).ok_or(HostError::new("has an invalid port"))?)))
            }
            _ => Ok((Self::parse(text)?, None)),
        }
    }

    fn parse_name(text: &str) -> Result<Self, HostError> {
        // A URL may spell characters as `%61`; the name in a request may not.
        if text.contains(['%', '*']) {
            return Err(HostError::new("has a character that no host has"));
        }
        if !cfg!(feature = "idna") && !text.is_ascii() {
            return Err(HostError::new("has a character beyond ASCII; that needs `idna`"));
        }
        let name = match web_host::parse_name(text) {
            Some(WebHost::Address(address)) => return Ok(address.into()),
            Some(WebHost::Name(name)) => name,
            None if text.is_empty() => return Err(HostError::new("is empty")),
            None => return Err(HostError::new("is no name and no address")),
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        if name.len() > MAX_NAME_BYTES {
            return Err(HostError::new("is longer than 253 bytes"));
        }
        let is_label = |label: &str| !label.is_empty() && label.len() <= MAX_LABEL_BYTES;
        if !name.split('.').all(is_label) {
            return Err(HostError::new("has a label that is empty or longer than 63 bytes"));
        }
        // Names of services and containers contain underscores.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(HostError::new("has a character that no host has"));
        }
        Ok(Self(Kind::Name(name.to_owned())))
    }

    /// Returns the name, in ASCII and lower case without a final dot.
    pub fn as_name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Name(name) => Some(name),
            Kind::Address(_) => None,
        }
    }

    /// Returns the address. It is never an IPv4 address inside an IPv6 one.
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Name(_) => None,
            Kind::Address(address) => Some(address),
        }
    }

    /// Returns whether the host is a loopback address, `localhost`, or a name below it (RFC 6761).
    /// A connection to no address, such as `0.0.0.0`, is one to loopback too (`ip(7)`).
    pub fn is_loopback(&self) -> bool {
        match &self.0 {
            Kind::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Kind::Address(address) => address.is_loopback() || address.is_unspecified(),
        }
    }

    /// Returns the smallest entry of `network.allowedDomains` that covers the host on a port, or on
    /// every port: an IPv6 address has brackets. Settings accept no name without a dot but
    /// `localhost`.
    pub fn to_pattern(&self, port: Option<u16>) -> String {
        match (port, &self.0) {
            (Some(port), _) => self.with_port(port),
            (None, Kind::Address(IpAddr::V6(address))) => format!("[{address}]"),
            (None, _) => self.to_string(),
        }
    }

    /// Returns the host and a port as in a URL: an IPv6 address has brackets.
    pub fn with_port(&self, port: u16) -> String {
        match &self.0 {
            Kind::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{self}:{port}"),
        }
    }
}

/// Parses an IPv6 address. Its zone does not belong to the destination.
fn parse_ipv6(text: &str) -> Result<Host, HostError> {
    let address = match text.split_once('%') {
        Some((_, "")) => return Err(HostError::new("has an empty zone")),
        Some((address, _)) => address,
        None => text,
    };
    let address: Result<Ipv6Addr, _> = address.parse();
    address.map(|address| IpAddr::V6(address).into()).map_err(|_| HostError::new("is no address"))
}

/// Parses a port from 1 to 65535 without leading zeros.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self(Kind::Address(address.to_canonical()))
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name(name) => f.write_str(name),
            Kind::Address(address) => address.fmt(f),
        }
    }
}

/// Error for a text that is no host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostError {
    /// Description of the problem. It does not repeat the text.
    pub problem: &'static str,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

impl std::error::Error for HostError {}

impl HostError {
    fn new(problem: &'static str) -> Self {
        Self { problem }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidValue
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spellings: &[&str], canonical: &str) {
        for text in spellings {
            let host = Host::parse(text).unwrap_or_else(|error| panic!("{text:?} {error}"));
            assert_eq!(host.to_string(), canonical, "{text:?}");
            assert_eq!(Host::parse(canonical).unwrap(), host, "{text:?}");
        }
    }

    #[test]
    fn each_spelling_of_a_host_is_the_same_value() {
        check(
            &[
                "127.0.0.1",
                "127.1",
                "0x7f.1",
                "0177.0.0.1",
                "2130706433",
                "0x7f000001",
                "127.0.1.",
                "[127.0.0.1]",
                "::ffff:127.0.0.1",
                "[::ffff:7f00:1]",
                "[0:0:0:0:0:ffff:7F00:1]",
            ],
            "127.0.0.1",
        );
        check(&["::1", "[0:0:0:0:0:0:0:1]", "0::1%lo"], "::1");
        check(&["fe80::1%eth0", "[FE80:0::1%25eth0]", "fe80::1"], "fe80::1");
        check(&["Example.COM", "example.com.", "EXAMPLE.com"], "example.com");
        check(&["localhost", "LOCALHOST."], "localhost");
        check(&["my_service", "My_Service."], "my_service");
        check(&["-odd-.example"], "-odd-.example");
    }

    #[cfg(feature = "idna")]
    #[test]
    fn a_name_in_unicode_has_an_ascii_form() {
        check(
            &["bücher.example", "BÜCHER.example", "bu\u{308}cher。example"],
            "xn--bcher-kva.example",
        );
        check(&["１２７.0.0.1", "①27.0.0.1"], "127.0.0.1");
        check(&["faß.de"], "xn--fa-hia.de");
        assert!(Host::parse("xn--a.example").is_err());
    }

    #[test]
    fn other_texts_are_no_hosts() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = "a.".repeat(127) + "com";
        for text in [
            "",
            ".",
            "a..b",
            "*.a.com",
            "*",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a.com:80",
            "[::1]:80",
            "[::1",
            "::1]",
            "[a.com]",
            "[]",
            "a%62.com",
            "1.2.3.4.5",
            "256.1.1.1",
            "0x100000000",
            "4294967296",
            "a.0x",
            "a.1",
            "::ffff:1.2.3.4.5",
            "1::2::3",
            "fe80::1%",
            "a\0b",
            "a\tb",
            "http://a.com",
            "a.com?",
            "a.com#",
            "a\\b",
            "a,b",
            "a!b",
            &long,
            &longer,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_tells_a_port_and_a_scheme_from_a_wrong_host() {
        let problem = |text| Host::parse(text).unwrap_err().problem;
        assert_eq!(problem("[::1]:80"), HAS_PORT);
        assert_eq!(problem("a.com:80"), HAS_PORT);
        assert_eq!(problem("[::1"), "lacks a bracket");
        assert_eq!(problem("1::2::3"), "is no address");
        for url in ["http://a.com", "https://a.com:1/x"] {
            assert!(problem(url).contains("leave out the scheme"), "{url}");
            let error = Host::parse_with_port(url).unwrap_err();
            assert!(error.problem.contains("leave out the scheme"), "{url}");
        }
    }

    #[test]
    fn a_port_follows_the_host_or_the_bracket() {
        let parse = |text: &str| {
            let (host, port) = Host::parse_with_port(text).ok()?;
            Some((host.to_string(), port))
        };
        let host = |name: &str, port| Some((name.to_owned(), port));
        assert_eq!(parse("A.com:443"), host("a.com", Some(443)));
        assert_eq!(parse("A.com"), host("a.com", None));
        assert_eq!(parse("127.1:80"), host("127.0.0.1", Some(80)));
        assert_eq!(parse("[::1]:80"), host("::1", Some(80)));
        assert_eq!(parse("[::1]"), host("::1", None));
        assert_eq!(parse("::1"), host("::1", None));
        for text in ["a.com:", "a.com:0", "a.com:080", "a.com:65536", "[::1]80", "a.com:+1", ":80"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        let v6 = Host::parse("::1").unwrap();
        assert_eq!(v6.with_port(80), "[::1]:80");
        assert_eq!(Host::parse("a.com").unwrap().with_port(80), "a.com:80");
    }
}
