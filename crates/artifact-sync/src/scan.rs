//! Detection of changes in a directory.
//!
//! A scan reads the paths that kernel events name, or walks the whole tree, and compares signatures
//! with a [`Baseline`]. This module knows nothing of object stores.

mod changes;
mod diff;
mod events;
mod ignore;
mod ignored;
mod inspect;
mod markers;
mod queue;
mod signature;
mod skipped;
mod snapshot;
mod walk;
mod walker;

pub use changes::{ChangeSource, ChangeSourceReport};
pub use ignore::{IgnoreRules, PatternError, PatternErrorKind, is_editor_file};
pub use ignored::{IgnoreReason, Ignored};
pub use skipped::{SkipReason, Skipped};

pub(crate) use changes::{ChangeTracker, Scope};
pub(crate) use diff::{Baseline, Changes};
pub(crate) use ignored::ignored;
pub(crate) use inspect::inspect;
pub(crate) use signature::{RecordedSignature, Signature, StampTime, permissions};
pub(crate) use snapshot::{DirectoryEntry, Entry, SymlinkEntry};
pub(crate) use walk::walk;
