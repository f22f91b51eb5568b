//! Sessions end to end: the library, the command, the MCP server, and a store that speaks S3.

mod cli;
mod closing;
mod explaining;
mod file_tools;
mod files;
mod frameworks;
mod keeping;
mod kills;
mod limits;
mod listing;
mod live_skills;
mod mcp;
mod network;
mod ownership;
mod private_files;
#[cfg(feature = "s3")]
mod s3;
mod sandbox;
mod session;
mod sharing;
#[cfg(feature = "s3")]
mod silent_store;
mod skills;
mod terminal;
mod variables;
