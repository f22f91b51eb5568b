//! Explicit-state model of the session log.
//!
//! Two machines share a store. The search tries every interleaving of their steps with late
//! requests, lost answers, crashes, takeovers, external writers and garbage collection. With all
//! rules it finds no violation; with any one rule broken it finds a trace that loses a file or
//! revives a removed one. `LOG_MODEL_STATES` raises the number of states of each search.
//!
//! `lease` models the heartbeat alone. The model does not cover idle releases, modes and times,
//! symlinks, renames, partial reads, mass deletion, racy signatures, and the names of files that
//! are kept beside a path.

mod actions;
mod breaks;
mod holds;
mod lease;
mod log;
mod properties;
mod rules;
mod search;
mod settings;
mod state;
mod store;
