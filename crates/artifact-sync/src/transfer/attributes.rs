//! Attributes of objects: media type, executable bit, hash, and the marker of the session log.

use std::fmt::Write;
use std::path::Path;

use object_store::{Attribute, Attributes};

use crate::log::{FileVersion, Hash, Token};
use crate::paths::name;

/// Metadata keys. All clouds accept lower-case letters as keys and visible ASCII as values.
const EXECUTABLE: &str = "executable";
const HASH: &str = "blake3";
const MARKER: &str = "sessionlog";
const YES: &str = "1";
/// Hexadecimal digits of the hash of a path in a marker.
const PATH_DIGITS: usize = 16;

/// Media types that `mime_guess` lacks or assigns differently.
const MEDIA_TYPES: [(&str, &str); 9] = [
    ("cts", "text/typescript"),
    ("ipynb", "application/json"),
    ("jsonl", "application/jsonl"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("mts", "text/typescript"),
    ("parquet", "application/vnd.apache.parquet"),
    ("ts", "text/typescript"),
    ("tsx", "text/typescript"),
];

/// Mark of an object that the log describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Number of the entry that introduced the token.
    pub(crate) number: u64,
    pub(crate) token: Token,
}

/// Returns the media type for a file name, or `application/octet-stream` if the name implies none.
pub(crate) fn media_type(path: &str) -> &'static str {
    let extension =
        Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match MEDIA_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) {
        Some((_, media_type)) => media_type,
        None => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// Returns the attributes of an object without a log.
pub(crate) fn attributes(path: &str, executable: bool) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, media_type(path).into());
    if executable {
        attributes.insert(Attribute::Metadata(EXECUTABLE.into()), YES.into());
    }
    attributes
}

/// Returns the attributes of the object of a file version in the projection.
pub(crate) fn projected(path: &str, file: &FileVersion) -> Attributes {
    let mut attributes = attributes(path, file.mode & 0o100 != 0);
    let (number, token) = (file.number, file.token);
    let marker = format!("{number} {token} {}", digest(path));
    attributes.insert(Attribute::Metadata(MARKER.into()), marker.into());
    attributes.insert(Attribute::Metadata(HASH.into()), file.hash.to_string().into());
    attributes
}

/// Returns the attributes of a content that a link opens: browsers show it like the file, and save
/// it under the file's name.
pub(crate) fn linked(path: &str) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, media_type(path).into());
    let name = encoded(name(path));
    let disposition = format!("inline; filename*=UTF-8''{name}");
    attributes.insert(Attribute::ContentDisposition, disposition.into());
    attributes
}

/// Encodes a name for a header, like RFC 8187 does.
fn encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns whether the attributes of an object say that its file is executable.
pub fn is_executable(attributes: &Attributes) -> bool {
    value(attributes, EXECUTABLE) == Some(YES)
}

/// Returns the marker for this path. An object that was copied from another path has none.
pub(crate) fn marker(path: &str, attributes: &Attributes) -> Option<Marker> {
    let mut fields = value(attributes, MARKER)?.split(' ');
    let number = fields.next()?.parse().ok()?;
    let token = Token::parse(fields.next()?)?;
    (fields.next()? == digest(path)).then_some(Marker { number, token })
}

fn digest(path: &str) -> String {
    let mut digest = Hash::of(path.as_bytes()).to_string();
    digest.truncate(PATH_DIGITS);
    digest
}

fn value<'a>(attributes: &'a Attributes, key: &'static str) -> Option<&'a str> {
    attributes.get(&Attribute::Metadata(key.into())).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Content, Origin};

    #[test]
    fn media_types_follow_from_names() {
        for (path, expected) in [
            ("a/b.txt", "text/plain"),
            ("a.HTML", "text/html"),
            ("a.png", "image/png"),
            ("a.ts", "text/typescript"),
            ("a.json", "application/json"),
            ("Makefile", "application/octet-stream"),
            (".hidden", "application/octet-stream"),
        ] {
            assert_eq!(media_type(path), expected, "{path}");
        }
    }

    #[test]
    fn a_linked_content_has_the_type_and_the_name_of_its_file() {
        let attributes = linked("d/Bericht é 1.md");
        assert_eq!(attributes.get(&Attribute::ContentType).unwrap().as_ref(), "text/markdown");
        assert_eq!(
            attributes.get(&Attribute::ContentDisposition).unwrap().as_ref(),
            "inline; filename*=UTF-8''Bericht%20%C3%A9%201.md"
        );
    }

    #[test]
    fn a_marker_belongs_to_its_path() {
        let token = Token::random();
        let file = FileVersion {
            size: 1,
            hash: Hash::of(b"a"),
            mode: 0o755,
            modified: (0, 0),
            token,
            number: 7,
            content: Content::Blob(token),
            origin: Origin::Agent,
            adopted: None,
        };
        let attributes = projected("é.sh", &file);
        assert!(is_executable(&attributes));
        assert_eq!(marker("é.sh", &attributes), Some(Marker { number: 7, token }));
        assert_eq!(marker("other", &attributes), None);
        assert_eq!(marker("é.sh", &Attributes::new()), None);
    }
}
