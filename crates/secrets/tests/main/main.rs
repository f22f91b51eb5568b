//! The crate against data, programs and databases that are not its own.

mod crypto_js;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod vectors;
