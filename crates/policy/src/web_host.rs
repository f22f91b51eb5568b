//! Hosts of URLs as the URL standard reads them (<https://url.spec.whatwg.org/#host-parsing>).
//!
//! srt reads the hosts of settings and requests this way, and so do browsers, node and curl in
//! effect: `0x7f.1`, `2130706433` and `１２７.1` all name 127.0.0.1.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

/// A host of a URL. A name is in lower case, and in its ASCII form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WebHost {
    Name(String),
    Address(IpAddr),
}

/// Parses a host without brackets that is not an IPv6 address.
pub(crate) fn parse_name(text: &str) -> Option<WebHost> {
    let decoded = percent_decoded(text);
    let name = to_ascii(&decoded)?;
    if name.is_empty() || name.bytes().any(is_forbidden) {
        return None;
    }
    if ends_in_number(&name) {
        return parse_ipv4(&name).map(|address| WebHost::Address(address.into()));
    }
    Some(WebHost::Name(name))
}

/// Parses the host of `http://TEXT/`, where `text` may contain more than a host.
pub(crate) fn of_authority(text: &str) -> Option<WebHost> {
    let text: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    parse_authority(text.trim_start_matches(['/', '\\']), true)?
}

/// Returns whether a text is an absolute URL.
pub(crate) fn is_url(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c <= ' ');
    let text: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme {
        return false;
    }
    match &*scheme.to_ascii_lowercase() {
        "http" | "https" | "ws" | "wss" | "ftp" => {
            parse_authority(rest.trim_start_matches(['/', '\\']), true).is_some()
        }
        "file" => match rest.get(..2) {
            Some(slashes) if slashes.bytes().all(|b| b == b'/' || b == b'\\') => {
                is_file_host(&rest[2..])
            }
            _ => true,
        },
        _ => rest.strip_prefix("//").is_none_or(|rest| parse_authority(rest, false).is_some()),
    }
}

/// Returns whether the URL of a file begins with a valid host, which may be empty or a drive.
fn is_file_host(rest: &str) -> bool {
    let host = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let is_drive = matches!(host.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic());
    host.is_empty() || is_drive || parse_host(host, true).is_some()
}

/// Parses `[user@]host[:port]` at the beginning of a text. The result is `Some(None)` for a valid
/// host that is no host of the web.
fn parse_authority(text: &str, is_special: bool) -> Option<Option<WebHost>> {
    let ends = |c: char| matches!(c, '/' | '?' | '#') || (is_special && c == '\\');
    let authority = text.split(ends).next().unwrap_or_default();
    let (host, has_user) = match authority.rsplit_once('@') {
        Some((_, host)) => (host, true),
        None => (authority, false),
    };
    let (mut in_brackets, mut colon) = (false, None);
    for (at, byte) in host.bytes().enumerate() {
        match byte {
            b'[' => in_brackets = true,
            b']' => in_brackets = false,
            b':' if !in_brackets => {
                colon = Some(at);
                break;
            }
            _ => {}
        }
    }
    let (host, port) = match colon {
        Some(at) => (&host[..at], Some(&host[at + 1..])),
        None => (host, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit())
            && (port.is_empty() || port.trim_start_matches('0').is_empty())
            || port.bytes().all(|b| b.is_ascii_digit())
                && port.trim_start_matches('0').parse::<u16>().is_ok()
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    if host.is_empty() && (is_special || has_user || port.is_some()) {
        return None;
    }
    parse_host(host, is_special)
}

/// Parses a host, which may be an IPv6 address in brackets.
fn parse_host(host: &str, is_special: bool) -> Option<Option<WebHost>> {
    if let Some(rest) = host.strip_prefix('[') {
        let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
        return Some(Some(WebHost::Address(address.into())));
    }
    if is_special {
        return parse_name(host).map(Some);
    }
    let is_allowed = |byte: u8| {
        !matches!(
            byte,
            0 | b'\t'
                | b'\n'
                | b'\r'
                | b' '
                | b'#'
                | b'/'
                | b':'
                | b'<'
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'^'
                | b'|'
        )
    };
    host.bytes().all(is_allowed).then_some(None)
}

/// Returns the ASCII form of a domain name in lower case, as UTS 46 defines it.
#[cfg(feature = "idna")]
pub(crate) fn to_ascii(name: &[u8]) -> Option<String> {
    // Forbidden characters are judged afterwards, in the ASCII form.
    let name = idna::domain_to_ascii_cow(name, idna::AsciiDenyList::EMPTY);
    name.ok().map(Cow::into_owned)
}

/// Returns a domain name in lower case. A name beyond ASCII is not understood.
#[cfg(not(feature = "idna"))]
pub(crate) fn to_ascii(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii());
    name.map(str::to_ascii_lowercase)
}

fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (mut decoded, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let pair = after.first().and_then(digit).zip(after.get(1).and_then(digit));
        match pair.filter(|_| *first == b'%').and_then(|(a, b)| u8::try_from(a * 16 + b).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => decoded.push(*first),
        }
    }
    Cow::Owned(decoded)
}

/// Returns whether a byte is a forbidden domain code point.
fn is_forbidden(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f || b"#/:<>?@[\\]^|%".contains(&byte)
}

/// Returns whether the last label of a name is a number, so that the whole name is an address.
fn ends_in_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) || number(last).is_some()
}

/// Parses an address in the forms of `inet_aton`.
fn parse_ipv4(name: &str) -> Option<Ipv4Addr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let parts = name.split('.').map(number).collect::<Option<Vec<u64>>>()?;
    let (last, octets) = parts.split_last()?;
    let free = 4_usize.checked_sub(octets.len()).filter(|free| *free > 0)?;
    if octets.iter().any(|octet| *octet > 255) || *last >> (8 * free) > 0 {
        return None;
    }
    let high = octets.iter().enumerate().map(|(at, octet)| octet << (24 - 8 * at)).sum::<u64>();
    u32::try_from(high + last).ok().map(Ipv4Addr::from_bits)
}

/// Parses a decimal, octal or hexadecimal number. A number that is too large is the greatest one.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [] => return None,
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    if digits.is_empty() {
        return Some(0);
    }
    Some(u64::from_str_radix(digits, radix).unwrap_or(u64::MAX >> 8))
}

#[cfg(all(test, feature = "idna"))]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use url::{Host, Url};

    use super::*;

    const PARTS: [&str; 40] = [
        "a",
        "b",
        "com",
        ".",
        ".",
        "-",
        "_",
        "0",
        "1",
        "08",
        "0x",
        "255",
        "256",
        "4294967295",
        "é",
        "ß",
        "ü",
        "xn--",
        "。",
        "①",
        "%",
        "%31",
        "%2e",
        "/",
        "\\",
        "?",
        "#",
        "@",
        ":",
        ":80",
        ":99999",
        "[",
        "]",
        "[::1]",
        "::",
        " ",
        "\t",
        "http:",
        "file:",
        "x:",
    ];

    fn texts() -> impl Strategy<Value = String> {
        proptest::collection::vec(select(&PARTS[..]), 0..7).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn urls_and_their_hosts_are_those_of_the_crate_url(text in texts()) {
            prop_assert_eq!(is_url(&text), Url::parse(&text).is_ok(), "{:?}", text);
            let url = Url::parse(&format!("http://{text}/"));
            let expected = url.ok().and_then(|url| match url.host()? {
                Host::Domain(name) => Some(WebHost::Name(name.to_owned())),
                Host::Ipv4(address) => Some(WebHost::Address(address.into())),
                Host::Ipv6(address) => Some(WebHost::Address(address.into())),
            });
            prop_assert_eq!(of_authority(&text), expected, "{:?}", text);
        }
    }
}
