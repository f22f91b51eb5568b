//! Ownership of sessions in a store that several homes share.
//!
//! The home that wrote the last `own` line of a session log may append. Its heartbeat tells other
//! homes that it is alive. Only the log proves ownership, so a wrong guess costs a session its
//! owner, but no file.

mod heartbeat;
mod home;
mod listing;
mod timings;
mod watch;

pub use heartbeat::Heartbeat;
pub use home::HomeId;
pub use listing::{OwnerReport, owners};
pub use timings::Timings;

pub(crate) use heartbeat::Hold;
pub(crate) use watch::{Verdict, Watch};

/// Directory of the heartbeats below the application's prefix.
const DIRECTORY: &str = "owners";
/// Version of the format of heartbeats.
const FORMAT: u32 = 1;

/// Content of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Beat {
    format: u32,
    /// Address of the home for other homes, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Text that each beat chooses anew.
    beat: String,
}

/// Returns the key of a home's heartbeat.
fn key(general: &object_store::path::Path, home: &str) -> object_store::path::Path {
    general.clone().join(DIRECTORY).join(home)
}
