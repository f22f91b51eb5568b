//! What travels beside an object's content, where the store has room for it.

use std::path::Path;

use object_store::{Attribute, Attributes};

use crate::index::Origin;

/// Metadata keys: all clouds take lower-case letters, and values of visible ASCII.
const EXECUTABLE: &str = "executable";
const ORIGIN: &str = "origin";
const HASH: &str = "blake3";
const YES: &str = "1";
const FROM_SESSION: &str = "session";

/// Media types that the table of extensions lacks or gives to something else.
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

/// The media type that a file's name stands for; `application/octet-stream` where it says nothing.
pub(crate) fn media_type(path: &str) -> &'static str {
    let extension =
        Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match MEDIA_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) {
        Some((_, media_type)) => media_type,
        None => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// The attributes of a file that this side stores.
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

/// Adds the hash of the content, in hexadecimal, for whoever compares without fetching.
pub(crate) fn with_hash(mut attributes: Attributes, hash: &str) -> Attributes {
    attributes.insert(Attribute::Metadata(HASH.into()), hash.to_owned().into());
    attributes
}

pub(crate) fn is_executable(attributes: &Attributes) -> bool {
    has(attributes, EXECUTABLE, YES)
}

/// Who made the object, as far as its attributes tell.
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
    fn names_tell_the_media_type() {
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
    fn what_is_written_is_read_again() {
        let attributes = attributes("run.sh", true, Origin::Local);
        assert!(is_executable(&attributes));
        assert_eq!(origin(&attributes), Origin::Local);
        assert_eq!(origin(&Attributes::new()), Origin::Remote);
        assert!(has(&with_hash(attributes, "0af1"), HASH, "0af1"));
    }
}
