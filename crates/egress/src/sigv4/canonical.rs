//! Canonical requests: the texts that AWS signatures are over.

use hyper::header::HOST;
use hyper::http::request::Parts;

/// The parameter of a presigned URL that its own signature does not cover.
const SIGNATURE: &str = "X-Amz-Signature";

/// Form of the path in a canonical request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The path of the request itself.
    AsSent,
    /// Encoded once, as S3 does.
    Once,
    /// The encoded path encoded again, as the other services do.
    Twice,
    /// The sent path encoded again.
    SentAgain,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [Self::AsSent, Self::Once, Self::Twice, Self::SentAgain];

    fn path(self, sent: &str) -> String {
        match self {
            Self::AsSent => sent.to_owned(),
            Self::Once => encode(&decode(sent), b"/"),
            Self::Twice => encode(encode(&decode(sent), b"/").as_bytes(), b"/"),
            Self::SentAgain => encode(sent.as_bytes(), b"/"),
        }
    }
}

/// Returns the canonical request. The result is `None` if a signed header is missing, or has bytes
/// beyond ASCII.
pub(super) fn request(
    head: &Parts,
    form: Form,
    signed_headers: &[String],
    body: &str,
) -> Option<String> {
    let path = match head.uri.path() {
        "" => "/",
        path => path,
    };
    let mut text = format!("{}\n{}\n", head.method, form.path(path));
    text.push_str(&query(head.uri.query().unwrap_or_default()));
    text.push('\n');
    for name in signed_headers {
        text.push_str(name);
        text.push(':');
        text.push_str(&header(head, name)?);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed_headers.join(";"));
    text.push('\n');
    text.push_str(body);
    Some(text)
}

/// Returns the values of a header, with single blanks.
fn header(head: &Parts, name: &str) -> Option<String> {
    let mut values = Vec::new();
    for value in head.headers.get_all(name) {
        let words: Vec<&str> = value.to_str().ok()?.split_ascii_whitespace().collect();
        values.push(words.join(" "));
    }
    match (values.is_empty(), name == HOST.as_str()) {
        (false, _) => Some(values.join(",")),
        // The host of HTTP/2 is in the URL.
        (true, true) => head.uri.authority().map(ToString::to_string),
        (true, false) => None,
    }
}

/// Returns the parameters of a query in their canonical order, without the signature.
fn query(query: &str) -> String {
    let mut parameters: Vec<(String, String)> = pairs(query)
        .filter(|(name, _)| *name != SIGNATURE)
        .map(|(name, value)| (encode(&decode(name), b""), encode(&decode(value), b"")))
        .collect();
    parameters.sort();
    let parameters: Vec<String> =
        parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.join("&")
}

/// Returns a query without the signature.
pub(super) fn query_without_signature(query: &str) -> String {
    let is_other = |part: &&str| part.split('=').next() != Some(SIGNATURE);
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

/// Returns the value of a parameter.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = pairs(query).find(|(own, _)| *own == name)?;
    String::from_utf8(decode(value)).ok()
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Decodes percent-encoded bytes. Other texts after a `%` remain.
fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (*first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high << 4 | low));
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// Encodes all bytes but the unreserved ones of RFC 3986, section 2.3, and those that are kept.
fn encode(bytes: &[u8], kept: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_encoded() {
        assert_eq!(query("b=2&a=%2f&a=+&c&X-Amz-Signature=0"), "a=%2B&a=%2F&b=2&c=");
        assert_eq!(query_without_signature("a=1&X-Amz-Signature=0&b"), "a=1&b");
        assert_eq!(parameter("a=1&b=x%2Fy", "b").as_deref(), Some("x/y"));
        assert_eq!(decode("%4g%"), b"%4g%");
    }

    #[test]
    fn a_path_has_the_form_of_its_service() {
        let forms = Form::ALL.map(|form| form.path("/a%20b/(c)"));
        assert_eq!(
            forms,
            ["/a%20b/(c)", "/a%20b/%28c%29", "/a%2520b/%2528c%2529", "/a%2520b/%28c%29"]
        );
    }
}
