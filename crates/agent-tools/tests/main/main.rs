//! Sessions end to end: the library, the command, the MCP server, and a store that speaks S3.

mod cli;
mod closing;
mod engine;
mod explaining;
mod file_tools;
mod files;
mod fixture;
mod frameworks;
mod keeping;
mod kills;
mod limits;
mod listing;
mod live_skills;
mod mcp;
mod network;
mod optional_tools;
mod ownership;
mod private_files;
mod processes;
mod reference;
#[cfg(feature = "s3")]
mod s3;
mod sandbox;
mod screens;
mod session;
mod sharing;
mod shell;
#[cfg(feature = "s3")]
mod silent_store;
mod skills;
mod terminal;
mod variables;
