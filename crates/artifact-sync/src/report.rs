//! Results of synchronisations and restores, as data.

mod builder;
mod progress;
mod types;

pub use progress::{Direction, Progress};
pub use types::{ChangedFile, ConflictCopy, Pending, RestoreFailure, RestoreReport, SyncReport};

pub(crate) use builder::{Outcome, ReportBuilder, ReportedState};
pub(crate) use progress::ProgressCounter;
