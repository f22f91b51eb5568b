//! Local state: the log as the working copy follows it, and facts about this machine.

mod boot;
mod entry;
mod former;
mod journal;
mod ledger;
mod lock;
mod version;

pub(crate) use boot::Boot;
pub(crate) use entry::{Failure, Remains, Stage};
pub(crate) use former::{FormerFile, FormerIndex, FormerRecord};
pub(crate) use ledger::{Batch, KnownObject, Ledger, Objects, USUAL_DIRECTORY_MODE};
pub(crate) use lock::StateLock;
pub(crate) use version::Version;
