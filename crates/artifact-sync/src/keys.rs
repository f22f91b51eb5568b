//! How paths and object keys correspond.

use object_store::path::Path as Key;
use sandbox_core::{RelativePath, SessionId, UserId};

/// The longest key that S3 and GCS take, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// `user_<user>/sessions/<session>` under a general prefix: where the objects of one session stand.
pub fn session_prefix(general: &Key, user: &UserId, session: &SessionId) -> Key {
    // Ids are of `[A-Za-z0-9._-]`, so nothing is encoded here.
    general.clone().join(format!("user_{user}")).join("sessions").join(session.as_str())
}

/// The key of a file, byte for byte its path below the prefix.
///
/// # Errors
/// Why no store could take it.
pub fn key_for(prefix: &Key, path: &RelativePath) -> Result<Key, &'static str> {
    key(prefix, path.as_str())
}

/// As [`key_for`].
pub(crate) fn key(prefix: &Key, path: &str) -> Result<Key, &'static str> {
    let text =
        if prefix.as_ref().is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
    if text.len() > MAX_KEY_BYTES {
        return Err("its object key would be longer than 1,024 bytes");
    }
    // `Path::from` would encode what it does not like, and make another key of it.
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

/// A path that is safe to write to: no `..`, no empty component, nothing absolute, no NUL.
pub(crate) fn safe_path(below: &str) -> Result<RelativePath, String> {
    RelativePath::parse(below).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_paths_byte_for_byte() {
        let prefix = Key::from("general/user_1/sessions/s");
        for path in ["a", "d/a b", "é🎉 %20#?.txt", "a%2Fb", "~x/{y}*"] {
            let key = key(&prefix, path).unwrap();
            assert_eq!(key.as_ref(), format!("general/user_1/sessions/s/{path}"));
            assert_eq!(strip_prefix(&prefix, &key), Some(path));
        }
        assert_eq!(key(&Key::default(), "a").unwrap().as_ref(), "a");
        for refused in ["tab\there", "new\nline", "del\u{7f}"] {
            assert!(key(&prefix, refused).is_err(), "{refused:?}");
        }
        assert!(key(&prefix, &"x".repeat(1024)).is_err());
    }

    #[test]
    fn only_whole_components_count_as_a_prefix() {
        let prefix = Key::from("user_1/sessions/s");
        assert_eq!(strip_prefix(&prefix, &Key::from("user_1/sessions/s2/a")), None);
        assert_eq!(strip_prefix(&prefix, &Key::from("user_1/sessions/s")), None);
    }

    #[test]
    fn a_session_has_the_references_prefix() {
        let (user, session) = (UserId::parse("7").unwrap(), SessionId::parse("s.1").unwrap());
        assert_eq!(
            session_prefix(&Key::default(), &user, &session).as_ref(),
            "user_7/sessions/s.1"
        );
        assert_eq!(
            session_prefix(&Key::from("a/b"), &user, &session).as_ref(),
            "a/b/user_7/sessions/s.1"
        );
    }
}
