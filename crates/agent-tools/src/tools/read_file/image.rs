//! Images that a model can look at, recognised by their content.

/// The size of the largest file that is returned as an image.
pub(super) const MAX_IMAGE_BYTES: u64 = 5_000_000;
/// The number of bytes that [`media_type`] looks at.
pub(super) const HEAD_BYTES: usize = 12;

/// Returns the media type of an image by its first bytes, if it has one of the formats that models
/// accept.
pub(super) fn media_type(content: &[u8]) -> Option<&'static str> {
    match content {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}
