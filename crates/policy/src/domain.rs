//! Grammar of domain patterns, the same as in srt.

use core::net::IpAddr;

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
        return entry.parse::<core::net::Ipv6Addr>().is_ok() || is_host(entry);
    }
    if let Some(rest) = entry.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return false;
        };
        let address = address.split_once('%').map_or(address, |(address, _)| address);
        let port = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return port && address.parse::<core::net::Ipv6Addr>().is_ok();
    }
    let (host, port) = match entry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (entry, None),
    };
    port.is_none_or(is_port) && (is_host(host) || (list == List::Denied && host == "*"))
}

fn is_port(text: &str) -> bool {
    !text.starts_with('0')
        && text.len() <= 5
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u16>().is_ok()
}

fn is_host(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    if host.contains('/') || host.contains(':') {
        return false;
    }
    if let Some(suffix) = host.strip_prefix("*.") {
        return suffix.split('.').filter(|label| !label.is_empty()).count() >= 2
            && !suffix.starts_with('.')
            && !suffix.ends_with('.');
    }
    !host.contains('*') && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
}

/// Returns whether an entry is well-formed: valid host labels, or an address in canonical form.
pub(crate) fn is_well_formed(entry: &str) -> bool {
    let host = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or_else(
        || entry.split_once(':').map_or(entry, |(host, _)| host),
        |(address, _)| address,
    );
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_string() == host.to_lowercase();
    }
    let host = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host == "*"
        || host.len() <= 253
            && host.split('.').all(is_label)
            && !host
                .split('.')
                .next_back()
                .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns whether an entry covers a host and a port. An entry without a port covers all ports.
/// `*.x` covers the names below `x`, but not `x` itself. Case and a final dot are ignored.
pub(crate) fn covers(entry: &str, host: &str, port: Option<u16>) -> bool {
    let (pattern, entry_port) = match entry.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => {
            entry.split_once(':').map_or((entry, None), |(pattern, port)| (pattern, Some(port)))
        }
    };
    let same_port =
        entry_port.is_none_or(|wanted| port.is_some_and(|port| wanted == port.to_string()));
    let (pattern, host) = (pattern.to_lowercase(), host.trim_end_matches('.').to_lowercase());
    let same_host = match pattern.strip_prefix("*.") {
        Some(above) => {
            host.strip_suffix(above).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        }
        None => pattern == "*" || pattern == host,
    };
    same_port && same_host
}

/// Returns whether srt accepts an entry of `deniedResolvedAddresses`: an address or a CIDR block,
/// without brackets.
pub(crate) fn is_accepted_address(entry: &str) -> bool {
    let (address, bits) = match entry.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (entry, None),
    };
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let (max_bits, min_bits) = match address {
        IpAddr::V4(_) => (32, 0),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => (128, 96),
        IpAddr::V6(_) => (128, 0),
    };
    bits.is_none_or(|bits| {
        bits.bytes().all(|b| b.is_ascii_digit())
            && bits.parse::<u8>().is_ok_and(|bits| bits >= min_bits && bits <= max_bits)
    })
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
        check(&["::1", "2001:db8::1"], false, false, true);
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
    fn some_accepted_entries_are_not_well_formed() {
        for entry in [
            "exa mple.com",
            "exa_mple.com",
            "a..b.com",
            "-a.com",
            "bücher.example",
            "0x7f.1",
            "256.256.256.256",
        ] {
            assert!(!is_well_formed(entry), "{entry}");
        }
        for entry in
            ["example.com", "*.example.com:443", "localhost", "[::1]:443", "127.0.0.1", "*"]
        {
            assert!(is_well_formed(entry), "{entry}");
        }
    }

    #[test]
    fn entries_cover_hosts_by_whole_labels_and_ports() {
        for (entry, host, port, expected) in [
            ("github.com", "GitHub.com.", Some(443), true),
            ("github.com", "api.github.com", None, false),
            ("*.github.com", "api.github.com", None, true),
            ("*.github.com", "a.b.github.com", None, true),
            ("*.github.com", "github.com", None, false),
            ("*.github.com", "malicious-github.com", None, false),
            ("x.com:443", "x.com", Some(443), true),
            ("x.com:443", "x.com", Some(80), false),
            ("x.com:443", "x.com", None, false),
            ("*", "anything.at.all", Some(1), true),
            ("*:22", "x.com", Some(22), true),
            ("*:22", "x.com", Some(23), false),
            ("[::1]:443", "::1", Some(443), true),
            ("[::1]", "::1", None, true),
        ] {
            assert_eq!(covers(entry, host, port), expected, "{entry} {host} {port:?}");
        }
    }

    #[test]
    fn addresses_and_cidr_blocks_are_accepted() {
        for entry in ["10.0.0.0/8", "10.0.0.0/08", "fe80::1%eth0", "::ffff:10.0.0.0/104"] {
            assert!(is_accepted_address(entry), "{entry}");
        }
        for entry in ["[::1]", "::ffff:1.2.3.4/95", "10.0.0.0/33", "x/8", "1.2.3.4/"] {
            assert!(!is_accepted_address(entry), "{entry}");
        }
    }
}
