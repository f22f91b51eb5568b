//! The session log: an append-only list of immutable entries, which is the truth about a session.
//!
//! An entry is one object under `logs/user_<user>/<session>/<number, 20 digits>`, created once on
//! the condition that its number is free. It is a list of checksummed JSON lines. Large contents
//! are blobs beside it, under names that are never reused.

mod clock;
mod entry;
mod ids;
mod line;
mod retained;
#[cfg(test)]
pub(crate) mod samples;
mod state;
mod store;
mod stray;
mod torn;
mod writer;

pub use store::ReadError;

pub(crate) use clock::{Moment, unix_seconds};
pub(crate) use entry::{Entry, append_checksummed, parse};
pub(crate) use ids::{Hash, Token};
pub(crate) use line::{
    Author, Content, FileVersion, Inline, Line, MAX_INLINE_BYTES, MAX_INLINE_BYTES_PER_ENTRY,
    Origin, Owner,
};
pub(crate) use retained::{Numbered, StateAt, unbroken_run};
pub(crate) use state::{LogState, Node, Removal};
pub(crate) use store::{LogStore, StoredEntry, check_chain, is_tombstone};
pub(crate) use writer::{AppendError, Appended, End, LogWriter, Position, end_of};
