//! The decoders of the session's init, compiled with the standard library.

#[path = "../../crates/sandbox-core/init/body.rs"]
pub mod body;
#[path = "../../crates/sandbox-core/init/plan.rs"]
pub mod plan;
#[path = "../../crates/sandbox-core/init/reader.rs"]
pub mod reader;
#[path = "sys.rs"]
pub mod sys;
