//! Secrets of an agent's session: values that `crypto-js` encrypted, sets of environment variables
//! and where they come from, and the removal of their values from what commands print.
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
//! - It does not compose an environment: `PATH`, `HOME` and the like are the caller's to set over
//!   the variables.
//! - The `crypto-js` format is for values that exist already. It has no integrity check and a weak
//!   key derivation; a passphrase should be long and random.
//! - A [`Redactor`] keeps secrets out of logs by accident. A program that wants to tell one will.
//! - It cannot wipe the copies that a database driver or the environment of a process makes.
//!
//! # Limits
//!
//! A name and its value have at most 131,070 bytes together (the kernel's limit), a dotenv file 4
//! MiB, a redacted value at least [`Redactor::MIN_SECRET_BYTES`]. A database is given 5 seconds to
//! answer.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `postgres` | no | `sql::VariableStore` on `postgres:` URLs |
//! | `sqlite` | no | `sql::VariableStore` on `sqlite:` URLs, with SQLite built in |
//! | `sql` | no | both |
//!
//! Without them the crate needs no async runtime.
//!
//! # Errors
//!
//! [`cryptojs::DecryptError`] and [`cryptojs::EncryptError`] for single values, [`SkipReason`] for
//! single variables, which is data and stops nothing, and [`SourceError`] for whole sources. None
//! carries a value, a passphrase or a password.
#![forbid(unsafe_code)]

pub mod cryptojs;
mod name;
mod redactor;
mod source;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod sql;
mod variables;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::name::{SkipReason, check_name};
pub use self::redactor::{RedactionStream, Redactor};
pub use self::source::{DotenvSource, MapSource, SourceError, SourceErrorKind, VariableSource};
pub use self::variables::{LoadedVariables, SkippedVariable, Variables};
