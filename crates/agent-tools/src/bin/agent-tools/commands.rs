//! The subcommands, one file each.

pub(crate) mod doctor;
pub(crate) mod files;
pub(crate) mod logs;
pub(crate) mod manual;
pub(crate) mod mcp;
pub(crate) mod owners;
pub(crate) mod policy;
pub(crate) mod prune;
pub(crate) mod sandbox;
pub(crate) mod session;
pub(crate) mod skill;
pub(crate) mod tool_list;
pub(crate) mod tools;
pub(crate) mod variable;
pub(crate) mod wrap;
