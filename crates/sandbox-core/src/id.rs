//! Ids of sessions and users, safe as one path component and in an object key.

use std::fmt;

/// Maximum length of an id in bytes.
const MAX_ID_BYTES: usize = 128;

/// Error returned for a text that is not a valid id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "{id_type} {input:?} {kind}; an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -, not `.` \
     or `..`, and does not start with `-`"
)]
pub struct IdError {
    /// The type of the id, such as `session id`.
    pub id_type: &'static str,
    /// At most 160 characters of the invalid text.
    pub input: String,
    kind: IdErrorKind,
}

impl IdError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> IdErrorKind {
        self.kind
    }

    /// Returns `false`: the same text never becomes valid.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Kinds of [`IdError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdErrorKind {
    /// The text is empty.
    Empty,
    /// The text has more than 128 bytes.
    TooLong,
    /// The text is `.` or `..`.
    DirectoryName,
    /// The text starts with `-`.
    LeadingHyphen,
    /// The text has a character outside `[A-Za-z0-9._-]`.
    ForbiddenCharacter,
}

impl fmt::Display for IdErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is too long",
            Self::DirectoryName => "names a directory",
            Self::LeadingHyphen => "starts with `-`",
            Self::ForbiddenCharacter => "has a character that is not allowed",
        })
    }
}

/// Checks the rule that session, user and skill ids share.
///
/// `id_type` names the type of the id in the error, such as `session id`.
///
/// # Errors
/// Returns [`IdError`] if the text breaks the rule.
pub fn check_id(id_type: &'static str, input: &str) -> Result<(), IdError> {
    let kind = if input.is_empty() {
        IdErrorKind::Empty
    } else if input.len() > MAX_ID_BYTES {
        IdErrorKind::TooLong
    } else if input == "." || input == ".." {
        IdErrorKind::DirectoryName
    } else if input.starts_with('-') {
        IdErrorKind::LeadingHyphen
    } else if !input.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        IdErrorKind::ForbiddenCharacter
    } else {
        return Ok(());
    };
    Err(IdError { id_type, input: input.chars().take(160).collect(), kind })
}

/// Defines a string type that follows the rule of [`check_id`].
#[doc(hidden)]
#[macro_export]
macro_rules! string_id {
    ($(#[$attribute:meta])* pub struct $name:ident($kind:literal);) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses a text: 1–128 of `[A-Za-z0-9._-]`, not `.` or `..`, not starting with `-`.
            ///
            /// # Errors
            /// Returns [`IdError`]($crate::IdError) if the text breaks this rule.
            pub fn parse(input: &str) -> Result<Self, $crate::IdError> {
                $crate::internal::check_id($kind, input).map(|()| Self(input.to_owned()))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::IdError;

            fn from_str(input: &str) -> Result<Self, $crate::IdError> {
                Self::parse(input)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::IdError;

            fn try_from(input: String) -> Result<Self, $crate::IdError> {
                $crate::internal::check_id($kind, &input).map(|()| Self(input))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

string_id! {
    /// The id of one session.
    pub struct SessionId("session id");
}

string_id! {
    /// The id of one user.
    pub struct UserId("user id");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ids_are_accepted() {
        for id in ["a", "default", "user-1", "0190f3c2-7d1e", "a.b_c", ".hidden", &"x".repeat(128)]
        {
            assert_eq!(SessionId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_lead_to_another_directory_are_rejected() {
        for id in ["", ".", "..", "a/b", "../a", "-rf", "a b", "é", "a\0b", "a\n", &"x".repeat(129)]
        {
            assert!(SessionId::parse(id).is_err(), "{id:?}");
            assert!(UserId::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn the_error_names_the_id_and_the_rule() {
        let text = UserId::parse("a/b").unwrap_err().to_string();
        assert!(text.starts_with("user id \"a/b\" has a character"), "{text}");
        assert_eq!(UserId::parse("..").unwrap_err().kind(), IdErrorKind::DirectoryName);
    }
}
