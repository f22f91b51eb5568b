//! Tests of compiled mounts: their exact form on a model of a host, and their agreement with
//! `explain` and a simple oracle.

mod absent;
mod construction;
mod golden;
mod model;
mod properties;
#[cfg(feature = "schema")]
mod schema;
mod sealed;
mod srt;
mod unresolved;
