//! Tests against data, programs and databases from elsewhere.

#[cfg(feature = "sqlite")]
mod cancellation;
mod crypto_js;
#[cfg(feature = "postgres")]
mod postgres;
mod redaction;
#[cfg(feature = "sqlite")]
mod sqlite;
mod vectors;
