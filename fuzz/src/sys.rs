//! The types of init's system calls, without the calls.

#[path = "../../crates/sandbox-core/init/sys/types.rs"]
mod types;

pub use types::*;
