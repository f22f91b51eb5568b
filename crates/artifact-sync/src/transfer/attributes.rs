//! Attributes of objects: media type, executable bit, origin and hash.

use std::path::Path;

use object_store::{Attribute, Attributes};

use crate::state::Origin;

/// Metadata keys. All clouds accept lower-case letters as keys and visible ASCII as values.
const EXECUTABLE: &str = "executable";
const ORIGIN: &str = "origin";
const HASH: &str = "blake3";
const YES: &str = "1";
const FROM_SESSION: &str = "session";

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

/// Returns the media type for a file name, or `application/octet-stream` if the name implies none.
pub(crate) fn media_type(path: &str) -> &'static str {
    let extension =
        Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match MEDIA_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) {
        Some((_, media_type)) => media_type,
        None => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// Returns the attributes for an upload.
pub(crate) fn attributes(path: &str, executable: bool, origin: Origin) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, media_type(path).into());
    if executable {
        attributes.insert(Attribute::Metadata(EXECUTABLE.into()), YES.into());
    }
    if origin == Origin::Local {
        attributes.insert(Attribute::Metadata(ORIGIN.into()), FROM_SESSION.into());
    }
    attributes
}

/// Adds the hash of the content in hexadecimal, so that clients can compare without fetching.
pub(crate) fn with_hash(mut attributes: Attributes, hash: &str) -> Attributes {
    attributes.insert(Attribute::Metadata(HASH.into()), hash.to_owned().into());
    attributes
}

pub(crate) fn is_executable(attributes: &Attributes) -> bool {
    has(attributes, EXECUTABLE, YES)
}

/// Returns the origin according to the attributes. An object without them is remote.
pub(crate) fn origin(attributes: &Attributes) -> Origin {
    if has(attributes, ORIGIN, FROM_SESSION) { Origin::Local } else { Origin::Remote }
}

fn has(attributes: &Attributes, key: &'static str, value: &str) -> bool {
    attributes.get(&Attribute::Metadata(key.into())).is_some_and(|found| found.as_ref() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn attributes_round_trip() {
        let attributes = attributes("run.sh", true, Origin::Local);
        assert!(is_executable(&attributes));
        assert_eq!(origin(&attributes), Origin::Local);
        assert_eq!(origin(&Attributes::new()), Origin::Remote);
        assert!(has(&with_hash(attributes, "0af1"), HASH, "0af1"));
    }
}
