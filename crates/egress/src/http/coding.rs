//! Codings of answers.

use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderValue, TRANSFER_ENCODING};

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

/// Returns whether the body of an answer is compressed or encrypted. With an unknown coding, it is
/// redacted as it is.
pub(crate) fn hides_text(response: &Response<Incoming>) -> bool {
    let codings = |name| response.headers().get_all(name).into_iter();
    let tokens = |value: &HeaderValue| -> Vec<String> {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.split(',').map(|coding| coding.trim().to_owned()).collect()
    };
    let mut named = codings(CONTENT_ENCODING).chain(codings(TRANSFER_ENCODING)).flat_map(tokens);
    !response.body().is_end_stream() && named.any(|coding| ENCODED.contains(&&*coding))
}
