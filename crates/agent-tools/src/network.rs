//! The network of a session: the hosts that its policy allows, and a record of its connections.
//!
//! A session without allowed hosts has none of this, and no network. Otherwise the sandbox hands
//! over the listeners of its network namespace, and the one gate of a
//! [`Sessions`](crate::Sessions) judges each connection (crate `egress`).

mod decision;
mod denied;
mod error;
mod event;
mod fixed;
mod journal;
mod notes;
mod parent;
pub(crate) mod patience;
mod preset;
mod rules;
mod sandbox;
mod session;
mod spec;
mod trust;

pub use self::decision::explain_host;
pub use self::error::NetworkError;
pub use self::event::{ConnectionOutcome, NetworkEvent};
pub(crate) use self::event::{domain_change, domain_option, host_remedy};
pub use self::fixed::{Exposed, InvalidDestination, Resolved};
pub(crate) use self::journal::{Journal, read as read_journal};
pub use self::preset::{NetworkPreset, PresetError};
pub(crate) use self::rules::NetworkRules;
pub use self::sandbox::{SandboxGate, SandboxNetwork};
pub(crate) use self::session::{Observed, SessionNetwork, SharedGate};
pub use self::spec::NetworkSpec;
