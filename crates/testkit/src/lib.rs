//! Shared test support of this workspace. Crates use it as a dev-dependency only.

#![forbid(unsafe_code)]

#[cfg(feature = "failing-store")]
mod clock_store;
#[cfg(feature = "failing-store")]
mod failing_store;
mod files;
mod in_sight;
#[cfg(feature = "latency-store")]
mod latency_store;
mod rerun;
#[cfg(feature = "s3")]
mod s3;
mod skip;

#[cfg(feature = "failing-store")]
pub use clock_store::ClockStore;
#[cfg(feature = "failing-store")]
pub use failing_store::{Calls, Conditions, FailingStore, Failure, LostUploads};
pub use files::{read_files, write_file};
pub use in_sight::{BASE, NO_DIRECTORY_IN_SIGHT, directory_in_sight};
#[cfg(feature = "latency-store")]
pub use latency_store::{LatencyStore, Requests};
pub use rerun::{
    as_ordinary_user, assert_passed, copy_of_this_program, has_own_mounts, rerun,
    rerun_as_ordinary_user,
};
#[cfg(feature = "s3")]
pub use s3::{S3Server, http_get, s3_environment};
pub use skip::skipped;
