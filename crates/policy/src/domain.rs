//! Patterns of hosts in settings: the grammar of srt's schema.
//!
//! srt accepts patterns that match nothing, such as `exa mple.com`. [`lint`](crate::Policy::lint)
//! reports them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

use crate::host::parse_port;
use crate::web_host::{self, WebHost};

/// Kind of list that contains an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// `allowedDomains`.
    Allowed,
    /// `deniedDomains`, which also accepts `*`.
    Denied,
    /// A list of hosts without ports, such as `injectHosts`.
    Hosts,
}

/// Returns whether srt's schema accepts an entry. It also accepts some that match nothing.
pub(crate) fn is_accepted(entry: &str, list: List) -> bool {
    if list == List::Hosts {
        return is_host(entry);
    }
    let has_two_colons = entry.bytes().filter(|byte| *byte == b':').count() > 1;
    if has_two_colons && !entry.starts_with('[') {
        return false;
    }
    let (host, _) = split_port(entry);
    is_host(&host) || (list == List::Denied && host == "*")
}

/// Splits an entry like srt into a host and a port. A host in brackets is made canonical.
pub(crate) fn split_port(entry: &str) -> (Cow<'_, str>, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let Some((inner, rest)) = rest.split_once(']') else { return (entry.into(), None) };
        let inner = without_zone(inner);
        let host = || canonical(inner).map_or(Cow::Borrowed(inner), Cow::Owned);
        if rest.is_empty() {
            return (host(), None);
        }
        return match rest.strip_prefix(':').and_then(parse_port) {
            Some(port) => (host(), Some(port)),
            None => (entry.into(), None),
        };
    }
    match entry.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            let host = without_zone(entry);
            (canonical(host).map_or(Cow::Borrowed(host), Cow::Owned), None)
        }
        Some((host, port)) => match parse_port(port) {
            Some(port) => (host.into(), Some(port)),
            None => (entry.into(), None),
        },
        None => (entry.into(), None),
    }
}

/// Returns the canonical spelling of srt for a host, if a URL can have it.
fn canonical(host: &str) -> Option<String> {
    let bare = without_brackets(host);
    let found = match bare.parse::<Ipv6Addr>() {
        Ok(address) => WebHost::Address(address.into()),
        Err(_) => web_host::of_authority(bare)?,
    };
    Some(match found {
        WebHost::Address(address) => address.to_canonical().to_string(),
        WebHost::Name(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
    })
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn without_zone(host: &str) -> &str {
    host.split_once('%').map_or(host, |(host, _)| host)
}

/// Returns whether a text is an IPv6 address for node, which may have a zone.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
    };
    zone.is_none_or(is_zone) && address.parse::<Ipv6Addr>().is_ok()
}

fn is_address(text: &str) -> bool {
    is_ipv6(text) || text.parse::<Ipv4Addr>().is_ok()
}

fn is_host(host: &str) -> bool {
    if is_ipv6(host) || host == "localhost" {
        return true;
    }
    if host.contains(['/', ':']) {
        return false;
    }
    if let Some(base) = host.strip_prefix("*.") {
        return base.contains('.') && base.split('.').all(|label| !label.is_empty());
    }
    !host.contains('*') && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
}

/// Returns whether a pattern covers a host, neither of which has a port. Both are compared as they
/// are spelled, except for their case.
fn covers(pattern: &str, host: &str) -> bool {
    let host = host.to_lowercase();
    match pattern.strip_prefix("*.") {
        Some(base) => {
            let below = host.strip_suffix(&base.to_lowercase());
            !is_address(without_brackets(&host)) && below.is_some_and(|below| below.ends_with('.'))
        }
        None => pattern == "*" || pattern.to_lowercase() == host,
    }
}

/// Returns whether one of the patterns covers every host of a pattern. The ports of patterns do not
/// matter.
pub(crate) fn is_covered(host: &str, patterns: &[String]) -> bool {
    let mut patterns = patterns.iter().map(|pattern| split_port(pattern).0);
    let Some(base) = host.strip_prefix("*.") else {
        return patterns.any(|pattern| covers(&pattern, host));
    };
    let base = base.to_lowercase();
    patterns.any(|pattern| {
        let above = pattern.strip_prefix("*.").map(str::to_lowercase);
        above.is_some_and(|above| {
            base.strip_suffix(&above).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    })
}

/// Returns whether srt accepts an entry of `deniedResolvedAddresses`: an address or a CIDR block,
/// without brackets.
pub(crate) fn is_accepted_address(entry: &str) -> bool {
    address_block(entry).is_some()
}

/// Parses an address or a CIDR block. IPv4 addresses inside IPv6 ones are IPv4 addresses.
pub(crate) fn address_block(entry: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match entry.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (entry, None),
    };
    let address: IpAddr = without_zone(address).parse().ok()?;
    let max_bits = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
            bits.parse().ok().filter(|bits| *bits <= max_bits)?
        }
        Some(_) => return None,
        None => max_bits,
    };
    match address.to_canonical() {
        canonical if canonical == address => Some((address, bits)),
        mapped => Some((mapped, bits.checked_sub(96)?)),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entries: &[&str], allowed: bool, denied: bool, hosts: bool) {
        for entry in entries {
            let found =
                [List::Allowed, List::Denied, List::Hosts].map(|list| is_accepted(entry, list));
            assert_eq!(found, [allowed, denied, hosts], "{entry:?}");
        }
    }

    #[test]
    fn the_grammar_is_that_of_srt() {
        check(
            &[
                "example.com",
                "EXAMPLE.com",
                "localhost",
                "*.example.com",
                "*.a.b",
                "*.*.com",
                "127.0.0.1",
            ],
            true,
            true,
            true,
        );
        check(
            &["localhost:3000", "*.example.com:443", "127.0.0.1:80", "x.com:65535"],
            true,
            true,
            false,
        );
        check(&["[::1]", "[::1]:443", "[2001:db8::1]:443", "[fe80::1%eth0]"], true, true, false);
        check(&["*", "*:22"], false, true, false);
        check(&["::1", "2001:db8::1", "fe80::1%eth0"], false, false, true);
        check(
            &[
                "*.com",
                "a.*.com",
                "foo*.com",
                "*.localhost",
                "example",
                "https://example.com",
                "2130706433",
            ],
            false,
            false,
            false,
        );
        check(
            &[
                "*.a..b",
                "*.example.",
                ".example.com",
                "example.com.",
                "example.com/path",
                "10.0.0.0/8",
                "",
                "*.",
                "*example.com",
            ],
            false,
            false,
            false,
        );
        check(
            &["x.com:0", "x.com:65536", "x.com:0443", "[::1]junk", "[::1]:0"],
            false,
            false,
            false,
        );
        check(
            &[
                "exa mple.com",
                "exa_mple.com",
                "a..b.com",
                "-a.com",
                "bücher.example",
                "a.com\0b",
                "0x7f.1",
                "256.256.256.256",
            ],
            true,
            true,
            true,
        );
    }

    #[test]
    fn a_host_in_brackets_is_made_canonical() {
        check(&["[a.com]", "[1.2.3.4]", "[0x7f.1]", "[u@a.com]"], true, true, true);
        check(&["[localhost]:443", "[1]", "[a.com/x]"], true, true, false);
        check(&["[*]"], false, true, false);
        check(&["[example]", "[]", "[a.com]:0"], false, false, false);
        assert_eq!(split_port("[0x7f.1]:80"), ("127.0.0.1".into(), Some(80)));
        assert_eq!(split_port("[::ffff:1.2.3.4]"), ("1.2.3.4".into(), None));
    }

    #[test]
    fn patterns_cover_patterns_whatever_their_ports() {
        let is_covered = |host: &str, pattern: &str| is_covered(host, &[pattern.to_owned()]);
        assert!(is_covered("A.b.com", "*.b.com:443"));
        assert!(is_covered("*.a.b.com", "*.b.com"));
        assert!(is_covered("*.b.com", "*.b.com"));
        assert!(is_covered("::1", "[0::1]:80"));
        assert!(!is_covered("b.com", "*.b.com"));
        assert!(!is_covered("*.ab.com", "*.b.com"));
        assert!(!is_covered("10.0.0.1", "*.0.1"));
        assert!(!is_covered("*.b.com", "a.b.com"));
    }

    #[test]
    fn addresses_and_cidr_blocks_are_accepted() {
        for entry in ["10.0.0.0/8", "10.0.0.0/008", "fe80::1%eth0", "::ffff:10.0.0.0/104"] {
            assert!(is_accepted_address(entry), "{entry}");
        }
        for entry in
            ["[::1]", "::ffff:1.2.3.4/95", "10.0.0.0/33", "x/8", "1.2.3.4/", "1.2.3.4/0008"]
        {
            assert!(!is_accepted_address(entry), "{entry}");
        }
    }
}
