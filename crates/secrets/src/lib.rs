//! Secrets of an agent's session: decryption of `crypto-js` values, sets of environment variables,
//! their sources, and redaction of their values in the output of commands.
//!
//! ```
//! use secrets::{DotenvSource, Redactor, SecretString, VariableSource as _, Variables, cryptojs};
//!
//! let stored = cryptojs::encrypt("sk-live-123456", "the application's passphrase")?;
//! let value: SecretString = cryptojs::decrypt(&stored, "the application's passphrase")?;
//!
//! let mut variables = Variables::new();
//! variables.insert("API_KEY", value)?;
//! assert!(variables.insert("LD_PRELOAD", SecretString::from("/tmp/x.so")).is_err());
//!
//! let redactor = Redactor::new(&variables);
//! assert_eq!(redactor.redact("key: sk-live-123456"), "key: [redacted:API_KEY]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! - It does not compose an environment. The caller sets `PATH`, `HOME` and similar variables, and
//!   these override the variables of the set.
//! - The `crypto-js` format is for existing values. It has no integrity check and a weak key
//!   derivation. A passphrase must be long and random.
//! - A [`Redactor`] keeps secrets out of logs by accident. It does not stop a program that reveals
//!   them deliberately.
//! - It cannot wipe copies in a database driver or in the environment of a process.
//!
//! # Limits
//!
//! A name and its value have at most 131,070 bytes together, which is the limit of the kernel. A
//! dotenv file has at most 4 MiB. A value shorter than [`Redactor::MIN_SECRET_BYTES`] is not
//! redacted. An operation on a database fails after 5 seconds.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `postgres` | no | `sql::VariableStore` on `postgres:` URLs |
//! | `sqlite` | no | `sql::VariableStore` on `sqlite:` URLs, with SQLite built in |
//! | `sql` | no | both |
//!
//! Without these features, the crate needs no async runtime.
//!
//! # Errors
//!
//! [`cryptojs::DecryptError`] and [`cryptojs::EncryptError`] for single values, [`DotenvError`] for
//! a dotenv text, and [`SourceError`] for whole sources. [`SkipReason`] is data: a skipped variable
//! does not stop the others. [`MaskError`] for masks. Each has an [`ErrorKind`]. No error contains
//! a value, a passphrase or a password.

#![forbid(unsafe_code)]

pub mod cryptojs;
mod dotenv;
mod error_kind;
mod map;
mod mask;
mod name;
mod redactor;
mod revision;
mod source;
mod source_error;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod sql;
mod variables;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::dotenv::{DotenvError, DotenvSource};
pub use self::error_kind::ErrorKind;
pub use self::map::MapSource;
pub use self::mask::{
    Mask, MaskError, MaskSpec, Masks, RequestPart, Substitution, SubstitutionStream,
};
pub use self::name::{SkipReason, check_name};
pub use self::redactor::{Found, RedactionStream, Redactor, Segment};
pub use self::revision::{Changed, Revision};
pub use self::source::{RELOAD_AFTER, VariableSource};
pub use self::source_error::SourceError;
pub use self::variables::{LoadedVariables, SkippedVariable, Variables};
