//! Variables in a table `variables(name, value, encrypted, hosts, …)` of PostgreSQL or SQLite.
//!
//! In PostgreSQL, the table belongs to another application. This crate neither creates nor alters
//! it, and ignores other columns. An SQLite file can belong to another application too. It is then
//! treated alike. Our own SQLite files are created by [`VariableStore::connect_or_create`], and
//! have the `application_id` 0x41475456. A load opens a file for reading only.
//!
//! The column `encrypted` can be a truth value, an integer or a text: true, t, yes, y, on and 1, or
//! false, f, no, n, off and 0, in any case. A row with anything else is skipped.
//!
//! The column `hosts` is optional. It has a list of hosts in JSON, or an object `{"hosts": […],
//! "in": ["headers", "query", "body"], "masked": true, "plaintext": false, "sharedDomains": false}`
//! whose other keys are optional. Such a variable is masked ([`LoadedVariables::masks`]), unless
//! `masked` is false.
//!
//! [`LoadedVariables::masks`]: crate::LoadedVariables::masks
//!
//! Of several usable rows with one name, the one with the smallest value in byte order is used, and
//! the others are reported.

mod connection_pool;
mod driver_error;
mod hosts;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod table;
mod url;

pub use self::hosts::VariableHosts;
pub use self::store::VariableStore;
pub use self::table::{Encryption, VariableSummary};
