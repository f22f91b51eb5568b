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

/// Returns the media type of a file that has the least structure of an image: a size, and an end.
///
/// The service of a model may refuse another image, such as one whose download was cut. It then
/// refuses every later request too, because the image is in the history.
pub(super) fn whole_media_type(content: &[u8]) -> Option<&'static str> {
    let media_type = media_type(content)?;
    let is_whole = match media_type {
        "image/png" => is_whole_png(content),
        "image/jpeg" => is_whole_jpeg(content),
        "image/gif" => is_whole_gif(content),
        _ => is_whole_webp(content),
    };
    is_whole?.then_some(media_type)
}

/// Returns whether the chunks go from a header with a size to the end of the image.
fn is_whole_png(content: &[u8]) -> Option<bool> {
    let has_header = content.get(12..16)? == b"IHDR";
    let is_sized = number(content, 16, 4)? > 0 && number(content, 20, 4)? > 0;
    let mut at = 8;
    loop {
        // A chunk is its length, its name, the data and a checksum.
        let end = at + 12 + number(content, at, 4)?;
        if end > content.len() {
            return None;
        }
        if content.get(at + 4..at + 8)? == b"IEND" {
            return Some(has_header && is_sized);
        }
        at = end;
    }
}

/// Returns whether the segments go to the header of a frame with a size, and an end follows.
fn is_whole_jpeg(content: &[u8]) -> Option<bool> {
    let mut at = 2;
    loop {
        match (number(content, at, 1)?, number(content, at + 1, 1)?) {
            // A byte that fills up.
            (0xff, 0xff) => at += 1,
            // Tables and extensions whose markers are among those of frames.
            (0xff, marker @ 0xc0..=0xcf) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let is_sized = number(content, at + 5, 2)? > 0 && number(content, at + 7, 2)? > 0;
                let mut rest = content[at..].windows(2);
                return Some(is_sized && rest.any(|pair| pair == [0xff, 0xd9]));
            }
            (0xff, _) => at += 2 + number(content, at + 2, 2)?,
            _ => return None,
        }
    }
}

/// Returns whether there is a size, and the last byte is the trailer, with zeros behind at most.
fn is_whole_gif(content: &[u8]) -> Option<bool> {
    let is_sized = content.get(6..8)? != [0, 0] && content.get(8..10)? != [0, 0];
    let last = content.get(13..)?.iter().rfind(|byte| **byte != 0);
    Some(is_sized && last == Some(&b';'))
}

/// Returns whether the file has all its bytes, and begins with a chunk of an image.
fn is_whole_webp(content: &[u8]) -> Option<bool> {
    let size = u32::from_le_bytes(content.get(4..8)?.try_into().ok()?);
    let is_image = [b"VP8 ", b"VP8L", b"VP8X"].contains(&content.get(12..16)?.try_into().ok()?);
    // The size counts from byte 8, and the header of the first chunk ends at byte 20.
    Some(is_image && size > 12 && content.len() as u64 >= u64::from(size) + 8)
}

/// Returns a number of some bytes, the most significant one first.
fn number(content: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = content.get(at..at + length)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Small files with the structure of images.
    pub(in super::super) const WHOLE: [(&[u8], &str); 4] = [
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0cccc\
              \0\0\0\x01IDATxcccc\0\0\0\0IENDcccc",
            "image/png",
        ),
        (
            b"\xff\xd8\xff\xe0\0\x06\xff\xd9xx\xff\xff\xc4\0\x02\xff\xc0\0\x0b\x08\0\x01\0\x01\
              \x01\x01\x11\0\xff\xda\0\x02x\xff\xd9",
            "image/jpeg",
        ),
        (b"GIF89a\x01\0\x01\0\0\0\0,\xff;", "image/gif"),
        (b"RIFF\x0e\0\0\0WEBPVP8L\x01\0\0\0\xffx", "image/webp"),
    ];

    #[test]
    fn an_image_has_a_size_and_an_end() {
        for (image, kind) in WHOLE {
            assert_eq!(whole_media_type(image), Some(kind));
            assert_eq!(whole_media_type(&[image, &[0; 5]].concat()), Some(kind));
            for end in 0..image.len() {
                assert_eq!(whole_media_type(&image[..end]), None, "{kind}: {end}");
            }
        }
        let mut unsized_png = WHOLE[0].0.to_vec();
        unsized_png[19] = 0;
        assert_eq!(whole_media_type(&unsized_png), None);
        let endless = [&b"\xff\xd8\xff\xe0\0\0"[..], &[0; 9]].concat();
        assert_eq!(whole_media_type(&endless), None);
    }
}
