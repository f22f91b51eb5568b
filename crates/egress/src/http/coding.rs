//! Codings of answers.

use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// The registered codings that hide the text of a body, and those that browsers have besides.
const ENCODED: [&str; 12] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

/// Header for another way to ask for a coding, and that of its answer (RFC 3229).
pub(crate) const A_IM: HeaderName = HeaderName::from_static("a-im");
const IM: HeaderName = HeaderName::from_static("im");

/// Returns whether the body of an answer is compressed or encrypted. With an unknown coding, it is
/// redacted as it is.
pub(crate) fn hides_text(response: &Response<Incoming>) -> bool {
    let values =
        [CONTENT_ENCODING, TRANSFER_ENCODING, IM].map(|name| response.headers().get_all(name));
    let mut values = values.iter().flatten();
    !response.body().is_end_stream() && values.any(names_coding)
}

/// Returns whether a list of codings, which may have parameters, has one that hides text.
fn names_coding(value: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    text.split([',', ';', ' ', '\t', '"']).any(|word| ENCODED.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_found_in_every_spelling() {
        for value in ["gzip", "x, BR", "gzip;q=1", "identity ; a, \"zstd\"", "diffe,\tgzip"] {
            assert!(names_coding(&HeaderValue::from_static(value)), "{value}");
        }
        for value in ["", "identity", "chunked", "aws-chunked", "gzipped"] {
            assert!(!names_coding(&HeaderValue::from_static(value)), "{value}");
        }
    }
}
