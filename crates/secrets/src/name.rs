//! Names and values that are allowed as environment variables of an agent's commands.

use crate::cryptojs::DecryptError;
use crate::error_kind::ErrorKind;

mod hijacking;

/// Maximum length of `NAME=value` with its closing NUL (`MAX_ARG_STRLEN` of Linux). A longer entry
/// makes `execve` fail.
const MAX_ENTRY_BYTES: usize = 131_072;

/// Reasons to skip a variable.
///
/// The texts continue "the variable X was skipped: …". No reason contains a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// The name is empty.
    #[error("its name is empty")]
    EmptyName,
    /// The name contains a NUL character, which an environment cannot contain.
    #[error("its name contains a NUL character")]
    NulInName,
    /// The name contains `=`, which ends a name in an environment.
    #[error("its name contains `=`")]
    EqualsSign,
    /// The name starts with `_`, which marks a variable as not meant for commands.
    #[error("its name starts with `_`")]
    LeadingUnderscore,
    /// The name lets the value choose code or commands that a program runs.
    #[error("its name could hijack {target}")]
    Hijack {
        /// The part of the program that the value would control.
        target: &'static str,
    },
    /// The value contains a NUL character, which an environment cannot contain.
    #[error("its value contains a NUL character")]
    NulInValue,
    /// Name and value together exceed the limit of the kernel.
    #[error(
        "name and value have {bytes} bytes, more than the {max_bytes} that a command can be given"
    )]
    TooLong {
        /// The length of name and value together.
        bytes: usize,
        /// The maximum length.
        max_bytes: usize,
    },
    /// The source has no value for the name.
    #[error("it has no value")]
    NoValue,
    /// The value is not UTF-8 text.
    #[error("its value is not text")]
    NotText,
    /// Another entry of the same source has the same name, and its value is used.
    #[error("another entry has the same name")]
    Duplicate,
    /// The source does not say in a known spelling whether the value is encrypted.
    #[error("its column `encrypted` is neither true nor false, but must be one of them")]
    UnknownEncryption,
    /// The source says that the value is plain, but it has the form of an encrypted one.
    #[error("its column `encrypted` is false, but the value is encrypted; correct the column")]
    LooksEncrypted,
    /// The value is the ciphertext of a ciphertext.
    #[error("it is encrypted twice")]
    EncryptedTwice,
    /// The source does not say in a known form which hosts receive the value.
    #[error("its column `hosts` is not a list of hosts")]
    InvalidHosts,
    /// The variable is to be masked, and its value is so short that answers could not be redacted.
    #[error("its value is too short to be masked")]
    TooShortToMask,
    /// The value is encrypted, and the source has no passphrase.
    #[error("it is encrypted and no passphrase was given")]
    NoPassphrase,
    /// The value is encrypted and cannot be decrypted.
    #[error(transparent)]
    Undecryptable(#[from] DecryptError),
}

impl SkipReason {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Undecryptable(error) => error.kind(),
            _ => ErrorKind::InvalidInput,
        }
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

/// Checks the name of an environment variable. It must not be empty, contain `=` or NUL, begin with
/// `_`, or control a program.
///
/// Everything else is allowed, also lower case and characters that a shell cannot name.
///
/// # Errors
///
/// Returns the [`SkipReason`] of the first rule that the name breaks.
///
/// ```
/// # use secrets::{SkipReason, check_name};
/// assert!(check_name("OPENAI_API_KEY").is_ok());
/// let hijack = SkipReason::Hijack { target: "the dynamic loader" };
/// assert_eq!(check_name("LD_PRELOAD"), Err(hijack));
/// ```
pub fn check_name(name: &str) -> Result<(), SkipReason> {
    if name.is_empty() {
        return Err(SkipReason::EmptyName);
    }
    if name.contains('\0') {
        return Err(SkipReason::NulInName);
    }
    if name.contains('=') {
        return Err(SkipReason::EqualsSign);
    }
    if name.starts_with('_') {
        return Err(SkipReason::LeadingUnderscore);
    }
    hijacking::target(name).map_or(Ok(()), |target| Err(SkipReason::Hijack { target }))
}

/// Checks the value of an environment variable with this name.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), SkipReason> {
    if value.contains('\0') {
        return Err(SkipReason::NulInValue);
    }
    // The `=` and the closing NUL count too.
    let max_bytes = MAX_ENTRY_BYTES - 2;
    let bytes = name.len() + value.len();
    if bytes > max_bytes {
        return Err(SkipReason::TooLong { bytes, max_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<SkipReason>) {
        assert_eq!(check_name(name).err(), expected, "{name:?}");
    }

    #[test]
    fn ordinary_names_are_allowed() {
        for name in [
            "A",
            "openai_key",
            "a-b",
            "é",
            "A_",
            "1",
            "LDAP_URL",
            "ENVIRONMENT",
            "GITHUB_TOKEN",
            "IFSX",
            "PATH_PREFIX",
            "GIT_TOKEN",
            "GIT_AUTHOR_NAME",
            "NPM_CONFIG_REGISTRY",
            "npm_config__auth",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_TARGET_DIR",
            "NODE_ENV",
            "PHP_ENV",
            "OPENSSL_KEY",
            "EDITOR_KEY",
        ] {
            check(name, None);
        }
    }

    #[test]
    fn malformed_names_are_skipped_with_their_reason() {
        check("", Some(SkipReason::EmptyName));
        check("A=B", Some(SkipReason::EqualsSign));
        check("=", Some(SkipReason::EqualsSign));
        check("A\0B", Some(SkipReason::NulInName));
        check("_A", Some(SkipReason::LeadingUnderscore));
        check("_", Some(SkipReason::LeadingUnderscore));
    }

    #[test]
    fn a_value_that_exceeds_the_limit_of_the_kernel_is_skipped() {
        assert_eq!(check_value("A", &"x".repeat(131_069)), Ok(()));
        let too_long = Err(SkipReason::TooLong { bytes: 131_071, max_bytes: 131_070 });
        assert_eq!(check_value("A", &"x".repeat(131_070)), too_long);
    }
}
