//! Paths of settings, and their places in the text of a file.

use std::fmt;

use crate::location::{self, Location};

/// Number of characters of a key or value that an error repeats.
const SHOWN_CHARACTERS: usize = 64;

/// Path of a setting, such as `filesystem.denyRead[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SettingPath {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

impl SettingPath {
    /// Returns the path of the whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns the path of a key in this object.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// Returns the path of an entry of this list, counted from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.segments.clone();
        segments.push(segment);
        Self { segments }
    }

    /// Returns the path as a JSON pointer (RFC 6901), such as `/filesystem/denyRead/2`.
    pub fn pointer(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Key(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Index(index) => format!("/{index}"),
        });
        segments.collect()
    }

    /// Returns the keys up to the first list.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map_while(|segment| match segment {
            Segment::Key(key) => Some(&**key),
            Segment::Index(_) => None,
        })
    }

    /// Returns whether another path is this one, or is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.keys().count() >= self.keys().count()
            && self.keys().zip(other.keys()).all(|(own, other)| own == other)
    }

    /// Finds the setting in the JSON text of a file: its key, or an entry of a list.
    ///
    /// If the text lacks the setting, such as a default, the nearest one above is returned. Of a
    /// key that is given twice, the last one is returned.
    pub fn find_in(&self, text: &str) -> Location {
        self.find_earlier_in(text, 0)
    }

    /// Like [`Self::find_in`], but for a key that is given several times, this many before the
    /// last one.
    pub(crate) fn find_earlier_in(&self, text: &str, before_last: usize) -> Location {
        location::find(text, &self.segments, before_last)
    }
}

impl FromIterator<Segment> for SettingPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self { segments: segments.into_iter().collect() }
    }
}

impl From<&str> for SettingPath {
    /// Reads keys separated by dots. A key with other characters needs [`SettingPath::key`].
    fn from(keys: &str) -> Self {
        let keys = keys.split('.').filter(|key| !key.is_empty());
        keys.map(|key| Segment::Key(key.to_owned())).collect()
    }
}

impl fmt::Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) => {
                    write!(f, "{}{}", if at > 0 { "." } else { "" }, shortened(key))?;
                }
                Segment::Key(key) => write!(f, "[{:?}]", shortened(key))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the beginning of a text that an error repeats. A file can hold megabytes in one text.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_with_dots_and_brackets_and_as_pointers() {
        let path = SettingPath::from("network.deniedDomainReasons").key("*.a/b~c").index(3);
        assert_eq!(path.to_string(), r#"network.deniedDomainReasons["*.a/b~c"][3]"#);
        assert_eq!(path.pointer(), "/network/deniedDomainReasons/*.a~1b~0c/3");
        assert_eq!(SettingPath::root().pointer(), "");
        assert_eq!(SettingPath::from(""), SettingPath::root());
    }

    #[test]
    fn a_long_key_is_shortened() {
        let path = SettingPath::root().key("é".repeat(3_000_000));
        assert!(path.to_string().len() < 200);
        assert!(path.pointer().len() > 3_000_000);
    }
}
