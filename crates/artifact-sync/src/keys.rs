//! Mapping between paths and object keys.

use object_store::path::Path as Key;
use sandbox_core::{RelativePath, SessionId, UserId};

/// Longest key that S3 and GCS accept, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// Prefixes of a session's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionKeys {
    /// Prefix of the projection, the current files: `user_<user>/sessions/<session>`.
    pub projection: Key,
    /// Prefix of the log and the blobs: `logs/user_<user>/<session>`.
    pub log: Key,
}

impl SessionKeys {
    /// Returns the prefixes of a session under a general prefix.
    pub fn new(general: &Key, user: &UserId, session: &SessionId) -> Self {
        // Ids consist of `[A-Za-z0-9._-]`, so nothing is encoded here.
        let user = format!("user_{user}");
        Self {
            projection: general.clone().join(&*user).join("sessions").join(session.as_str()),
            log: general.clone().join("logs").join(user).join(session.as_str()),
        }
    }

    /// Returns prefixes that the caller chose. Neither may be below the other.
    pub fn at(projection: Key, log: Key) -> Self {
        Self { projection, log }
    }
}

/// Returns the key of a file. Below the prefix, it equals the path byte for byte.
///
/// # Errors
/// Returns an explanation if no store could accept the key.
pub fn key_for(prefix: &Key, path: &RelativePath) -> Result<Key, &'static str> {
    key(prefix, path.as_str())
}

/// Like [`key_for`], for a path that was not parsed.
pub(crate) fn key(prefix: &Key, path: &str) -> Result<Key, &'static str> {
    let text =
        if prefix.as_ref().is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
    if text.len() > MAX_KEY_BYTES {
        return Err("its object key would be longer than 1,024 bytes");
    }
    // `Path::from` would encode some characters and so return another key.
    match Key::parse(&text) {
        Ok(key) if key.as_ref() == text => Ok(key),
        _ => Err("its name has a character that object keys cannot have"),
    }
}

/// Strips `prefix` from `key`. Returns `None` if `key` is not below `prefix`.
pub fn strip_prefix<'k>(prefix: &Key, key: &'k Key) -> Option<&'k str> {
    let key = key.as_ref();
    if prefix.as_ref().is_empty() {
        return Some(key);
    }
    key.strip_prefix(prefix.as_ref())?.strip_prefix('/')
}

/// Parses a path that is safe to write to: not absolute, without `..`, empty components and NUL.
pub(crate) fn safe_path(below: &str) -> Result<RelativePath, String> {
    RelativePath::parse(below).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_equal_paths_byte_for_byte() {
        let prefix = Key::from("general/user_1/sessions/s");
        for path in ["a", "d/a b", "é🎉 %20#?.txt", "a%2Fb", "~x/{y}*"] {
            let key = key(&prefix, path).unwrap();
            assert_eq!(key.as_ref(), format!("general/user_1/sessions/s/{path}"));
            assert_eq!(strip_prefix(&prefix, &key), Some(path));
        }
        assert_eq!(key(&Key::default(), "a").unwrap().as_ref(), "a");
        for invalid in ["tab\there", "new\nline", "del\u{7f}"] {
            assert!(key(&prefix, invalid).is_err(), "{invalid:?}");
        }
        assert!(key(&prefix, &"x".repeat(1024)).is_err());
    }

    #[test]
    fn a_prefix_matches_whole_components_only() {
        let prefix = Key::from("user_1/sessions/s");
        assert_eq!(strip_prefix(&prefix, &Key::from("user_1/sessions/s2/a")), None);
        assert_eq!(strip_prefix(&prefix, &Key::from("user_1/sessions/s")), None);
    }

    #[test]
    fn a_session_has_the_prefix_of_the_reference() {
        let (user, session) = (UserId::parse("7").unwrap(), SessionId::parse("s.1").unwrap());
        assert_eq!(
            SessionKeys::new(&Key::default(), &user, &session).projection.as_ref(),
            "user_7/sessions/s.1"
        );
        assert_eq!(
            SessionKeys::new(&Key::from("a/b"), &user, &session).projection.as_ref(),
            "a/b/user_7/sessions/s.1"
        );
    }
}
