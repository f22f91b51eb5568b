//! Protocols by the first bytes of a client.

/// Protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TLS, or a text that a TLS server may take for it.
    Tls,
    /// HTTP without TLS.
    Http(Version),
    /// Any other protocol.
    Other,
}

/// Version of HTTP without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1: a request line.
    One,
    /// HTTP/2 with prior knowledge (RFC 9113, section 3.3).
    Two,
}

/// The first line of HTTP/2. Servers take no other spelling of it.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r";

/// Bytes of a request line without an end.
const MAX_LINE_BYTES: usize = 8192;

/// Returns the protocol, or `None` if more bytes decide.
///
/// The gate compares the names in TLS and HTTP with the destination. So a text that a lenient
/// server would read as one of them must not count as another protocol: blanks and empty lines
/// before the request line, odd blanks, methods and versions in it, and TLS records before the
/// hello.
pub(crate) fn protocol(bytes: &[u8]) -> Option<Protocol> {
    match *bytes {
        [] => return None,
        // Change cipher spec, alert, handshake, application data.
        [0x14..=0x17] => return None,
        // Some servers read no version here: Go's takes any below 0x1000.
        [0x14..=0x17, 0..=0x0f, ..] => return Some(Protocol::Tls),
        _ => {}
    }
    let Some(start) = bytes.iter().position(|byte| !is_blank(*byte) && *byte != b'\n') else {
        return (bytes.len() > MAX_LINE_BYTES).then_some(Protocol::Http(Version::One));
    };
    let rest = &bytes[start..];
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..end.unwrap_or(rest.len())];
    match line.iter().position(|byte| is_blank(*byte) || byte.is_ascii_control()) {
        // A word this long is as a line this long, below.
        None if line.len() > MAX_LINE_BYTES => return Some(Protocol::Http(Version::One)),
        None if end.is_some() => return Some(Protocol::Other),
        None => return None,
        Some(length) if !is_blank(line[length]) => return Some(Protocol::Other),
        // A server that takes this for a blank knows no such method.
        Some(length) if !line[length].is_ascii() && !line[..length].is_ascii() => {
            return Some(Protocol::Other);
        }
        // Servers that take this for a blank know their methods. It is a length in LDAP.
        Some(length)
            if is_odd_blank(line[length])
                && !METHODS.contains(&&line[..length])
                && line.iter().any(|byte| byte.is_ascii_control() && !is_blank(*byte)) =>
        {
            return Some(Protocol::Other);
        }
        Some(_) if is_git(line) => return Some(Protocol::Other),
        Some(_) => {}
    }
    match end {
        Some(_) if bytes.starts_with(PREFACE_LINE) => Some(Protocol::Http(Version::Two)),
        Some(_) if is_request(line) => Some(Protocol::Http(Version::One)),
        Some(_) => Some(Protocol::Other),
        // A line this long is HTTP or nothing, and the parser of HTTP decides which.
        None if line.len() > MAX_LINE_BYTES => Some(Protocol::Http(Version::One)),
        None => None,
    }
}

/// Returns whether bytes after which the client says no more are a request without the end of its
/// line, which some servers answer.
pub(crate) fn is_unfinished_request(bytes: &[u8]) -> bool {
    let line = [bytes, b"\n"].concat();
    matches!(protocol(&line), Some(Protocol::Http(_)))
}

/// Methods of requests, also of RTSP. Some servers accept them without a version of HTTP, or with
/// another one.
const METHODS: [&[u8]; 46] = [
    b"ACL",
    b"ANNOUNCE",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"DESCRIBE",
    b"FLUSH",
    b"GET",
    b"GET_PARAMETER",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"M-SEARCH",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"PAUSE",
    b"PLAY",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"QUERY",
    b"REBIND",
    b"RECORD",
    b"REDIRECT",
    b"REPORT",
    b"SEARCH",
    b"SETUP",
    b"SET_PARAMETER",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TEARDOWN",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// Commands of memcached, whose keys may be paths.
const MEMCACHED: [&[u8]; 14] = [
    b"add", b"append", b"cas", b"decr", b"delete", b"gat", b"gats", b"get", b"gets", b"incr",
    b"prepend", b"replace", b"set", b"touch",
];

/// Returns whether a line is a request for some server.
///
/// Without a version, Python's takes every target of `GET`. Java's takes every method, if a blank
/// follows the target.
fn is_request(line: &[u8]) -> bool {
    if names_http(line) {
        return true;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return false };
    let has_third = words.next().is_some();
    let is_more = has_third || line.last().is_some_and(|byte| is_blank(*byte));
    let is_url = target.starts_with(b"/") || target.windows(3).any(|window| window == b"://");
    let is_known = METHODS.contains(&method) && (is_url || target == b"*");
    is_known || is_url && is_more && !MEMCACHED.contains(&method) || method == b"GET" && !has_third
}

/// Returns whether a line has a version of HTTP.
fn names_http(line: &[u8]) -> bool {
    line.windows(5).any(|window| window.eq_ignore_ascii_case(b"HTTP/"))
}

/// Returns whether a line is of the protocol of git: a length in hexadecimal digits, a command, one
/// path, and NULs.
fn is_git(line: &[u8]) -> bool {
    let Some(nul) = line.iter().position(|byte| *byte == 0) else { return false };
    let request = &line[..nul];
    let length = request.iter().take_while(|byte| byte.is_ascii_hexdigit()).take(4).count();
    length == 4
        && request[4..].starts_with(b"git-")
        && request.iter().filter(|byte| is_blank(**byte)).count() == 1
        && !names_http(request)
}

/// Returns whether only some servers take a byte for a blank.
fn is_odd_blank(byte: u8) -> bool {
    is_blank(byte) && !matches!(byte, b' ' | b'\t' | b'\r')
}

/// Returns whether some server takes a byte for a blank of a request line. Python's reads the line
/// as Latin-1.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<Protocol>) {
        assert_eq!(protocol(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        use Protocol::{Http, Other, Tls};
        check(b"PRI * HTTP/2.0\r\n\r\nSM", Some(Http(Version::Two)));
        for text in [
            "GET / HTTP/1.1\r\n",
            "\r\n\nGET / HTTP/1.1\r\n",
            "GET\t/ HTTP/1.0\n",
            "get / http/1.1 \r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            " \tGET / HTTP/1.1\r\n",
            "GET / HTTP/01.1\r\n",
            "GET / HTTP/2.0\r\n",
            "G3T / HTTP/1.1\r\n\r\n\0",
            "G3T /x\0 HTTP/1.1\r\n",
            "GET\x0b/x\x0bHTTP/1.1\r\n",
            "\x1cGET /x HTTP/1.1\r\n",
            "\u{feff}GET /x HTTP/1.1\r\n",
            "(GET /x HTTP/1.1\r\n",
            "GET /x\r\n",
            "GET /x RTSP/1.0\r\n",
            "GET http://b.test/ ICE/1.0\r\n",
            "GET key\r\n",
            "GET ?x\n",
            "GET x \r\n",
            "NOTIFY /x\r\n",
            "POST *\n",
            "DESCRIBE rtsp://a.test/ RTSP/1.0\r\n",
            "FOO /x Y\r\n",
            "003bgit-x /x HTTP/1.1 \0\r\n",
            // No server takes these for HTTP/2.
            "PRI * HTTP/2.0\n",
            " PRI * HTTP/2.0\r\n",
            "PRI * HTTP/2.0 \r\n",
        ] {
            check(text.as_bytes(), Some(Http(Version::One)));
        }
        check(b"GET\xa0/x\x85HTTP/1.1\n", Some(Http(Version::One)));
        for blank in ["\r\n", "\n", " ", "A"] {
            check(blank.repeat(MAX_LINE_BYTES + 1).as_bytes(), Some(Http(Version::One)));
        }
        for bytes in
            [&b"\x16\x03\x01\x00\xa5"[..], b"\x15\x03\x03", b"\x14\x03", b"\x16\x02\x03", b"\x16\0"]
        {
            check(bytes, Some(Tls));
        }
        for bytes in [
            &b"SSH-2.0-OpenSSH_9\r\n"[..],
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"NICK ann\r\n",
            b"get /key\r\n",
            b"GET key 0 0 5\r\n",
            b"set /key 0 0 5\r\n",
            b"get /a /b\r\n",
            b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0",
            b"0\x1d\x02\x01\x01w\x18",
            b"AMQP\0\0\x09\x01",
            b"QUIT\n",
            b"\x16\x10",
            b"\x80\x81\x85GET",
            b"003bgit-upload-pack /x.git\0host=a.test\0",
        ] {
            check(bytes, Some(Other));
        }
        for bytes in [&b""[..], b"\x16", b"GET", b"GET / HTTP/1.1", b"\r\n"] {
            check(bytes, None);
        }
    }

    #[test]
    fn a_request_may_end_without_the_end_of_its_line() {
        for text in ["GET /x HTTP/1.0 ", "GET /x", "GET x", "GET http://b.test/ HTTP/1.0"] {
            assert!(is_unfinished_request(text.as_bytes()), "{text}");
        }
        for bytes in [&b"get key"[..], b"", b"\x16", b"\x16\x03", b"SSH-2.0-x"] {
            assert!(!is_unfinished_request(bytes), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_decision_does_not_change_with_more_bytes(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'G'), Just(b' '), Just(b'\n'), Just(0x16), Just(3), any::<u8>()],
                0..80,
            ),
            cut in any::<proptest::sample::Index>(),
        ) {
            let first = protocol(&bytes[..cut.index(bytes.len() + 1)]);
            prop_assert!(first.is_none() || first == protocol(&bytes));
        }

        #[test]
        fn a_decision_needs_a_bounded_number_of_bytes(
            byte in any::<u8>(), start in "[ -~]{0,10}"
        ) {
            let mut bytes = start.into_bytes();
            bytes.resize(MAX_LINE_BYTES + 16, byte);
            prop_assert!(protocol(&bytes).is_some());
        }
    }
}
