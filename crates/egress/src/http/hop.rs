//! Headers that concern one connection only (RFC 9110, section 7.6.1).

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that never pass. hyper writes the framing of a body anew, and answers `Expect` itself.
const NEVER: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Removes the headers of one connection, and those that `Connection` names. An upgrade passes if
/// the message asks for it properly, and if `passes` returns true for each of its protocols. A
/// value that is not ASCII names protocols that cannot be judged.
pub(crate) fn strip(headers: &mut HeaderMap, passes: impl Fn(&str) -> bool) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    let is_text = headers.get_all(UPGRADE).iter().all(|value| value.to_str().is_ok());
    let is_upgrade = named.contains(&UPGRADE)
        && is_text
        && tokens(headers, &UPGRADE).next().is_some()
        && tokens(headers, &UPGRADE).all(passes);
    let upgrade = is_upgrade.then(|| headers.get(UPGRADE).cloned()).flatten();
    let accepts_trailers =
        tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    // Two framings are an attempt to make the next server see another one.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in NEVER.iter().chain(&named).chain([&TE]) {
        headers.remove(name);
    }
    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Returns the comma-separated parts of a header.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[(&'static str, &'static str)], after: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers, |protocol| protocol != "h2c");
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, after);
    }

    #[test]
    fn headers_of_one_connection_do_not_pass() {
        check(
            &[
                ("connection", "close, X-Private"),
                ("connection", "authorization"),
                ("x-private", "1"),
                ("authorization", "Basic YQ=="),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "Basic YQ=="),
                ("te", "gzip"),
                ("upgrade", "h2c"),
                ("accept", "*/*"),
            ],
            &[("accept", "*/*")],
        );
    }

    #[test]
    fn an_upgrade_of_which_one_protocol_may_not_pass_is_none() {
        check(&[("connection", "Upgrade"), ("upgrade", "websocket, h2c")], &[]);
        check(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")], &[]);
    }

    #[test]
    fn an_upgrade_that_cannot_be_read_is_none() {
        for value in ["raw, \u{ff}", "\u{ff}", " ", ","] {
            let mut headers = HeaderMap::new();
            headers.append(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.append(UPGRADE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            strip(&mut headers, |protocol| protocol == "websocket");
            assert!(headers.is_empty(), "{value:?}");
        }
    }

    #[test]
    fn an_upgrade_and_trailers_pass() {
        check(
            &[("connection", "Upgrade"), ("upgrade", "websocket"), ("te", "trailers, gzip")],
            &[
                ("te", "trailers"),
                ("connection", "te"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
            ],
        );
    }

    #[test]
    fn one_framing_remains() {
        check(&[("transfer-encoding", "chunked"), ("content-length", "5")], &[]);
        check(&[("content-length", "5")], &[("content-length", "5")]);
    }
}
