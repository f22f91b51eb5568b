//! Variables in a table `variables(name, value, encrypted, …)` of PostgreSQL or SQLite.
//!
//! In PostgreSQL, the table belongs to another application. This crate neither creates nor alters
//! it, and ignores other columns. An SQLite file is created if it is absent, with its directory,
//! and only its owner can access it.

mod connection_pool;
mod driver_error;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod table;
mod url;

pub use self::store::VariableStore;
pub use self::table::{Encryption, VariableSummary};
