//! A directory and a prefix of an object store, kept equal in both directions.
//!
//! ```
//! use std::sync::Arc;
//! use artifact_sync::{Mirror, session_prefix};
//! use object_store::memory::InMemory;
//! use object_store::path::Path as Key;
//! use sandbox_core::{SessionDir, SessionId, UserId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let dir = Arc::new(SessionDir::create(&root.path().join("sessions/s1"))?);
//! let prefix = session_prefix(&Key::default(), &UserId::parse("7")?, &SessionId::parse("s1")?);
//! let mirror = Mirror::builder(dir.clone(), Arc::new(InMemory::new()), prefix)
//!     .state_dir(root.path().join("state/s1"))
//!     .open()?;
//! mirror.restore().await?;
//!
//! std::fs::write(dir.path().join("report.md"), "# May")?;
//! let report = mirror.sync().await;
//! assert_eq!(report.changed[0].key.as_ref().unwrap().as_ref(), "user_7/sessions/s1/report.md");
//! assert!(report.pending.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It knows nothing of agents, skills or tools. It does nothing by itself when something changes:
//! the next call finds the change, by the kernel's events or by a walk ([`ChangeSource`]). Empty
//! directories are not mirrored, nor are symlinks, devices, and names that are not UTF-8: they are
//! reported.
//!
//! # Limits
//! Events take one inotify watch for each directory that is mirrored, of those that the user may
//! have (`fs.inotify.max_user_watches`); where there are none left, and where `/proc` is not
//! mounted, each call walks, and [`Mirror::change_source`] says why. What no event tells is found
//! by a walk within a minute of calls, and by [`Mirror::flush`]: a write by another name of the
//! same file that lies in an ignored tree, or was there only between two calls; a change that
//! another machine makes in a shared file system.
//!
//! Files up to 5 GiB, directories nested up to 256 deep, keys up to 1,024 bytes. One mirror a
//! directory at a time, on one machine. What changed on both sides is kept twice; a store without
//! conditional puts leaves a moment in which another writer's version can be lost.
//!
//! # Features
//! | feature | brings |
//! |---|---|
//! | `conformance` | the suite of what a mirror needs of a store, for stores of one's own |
//! | `fs` | `file:///…`, a directory of the local disk as the store |
//! | `s3`, `gcs`, `azure` | `s3://…`, `gs://…`, `az://…`, each with presigned links |
//!
//! Without features a mirror works on any [`ObjectStore`](object_store::ObjectStore) that it is
//! given.
//!
//! # Errors
//! [`StoreError`] for a URL or a setting, [`SyncError`] for a mirror. Synchronising has none: what
//! the store does not take is pending in the [`SyncReport`], with the reason.

#![forbid(unsafe_code)]

mod attributes;
mod builder;
mod carry_out;
mod conditional;
mod conflict;
#[cfg(feature = "conformance")]
pub mod conformance;
mod diff;
mod error;
mod events;
mod ignore;
mod index;
mod keys;
mod links;
mod look;
mod mirror;
mod objects;
mod paths;
mod report;
mod restore;
mod signature;
mod snapshot;
mod stores;
mod tally;
mod upload;

pub use crate::ignore::{IgnoreRules, PatternError};
pub use builder::MirrorBuilder;
pub use conditional::StoreProbe;
pub use error::SyncError;
pub use keys::{key_for, session_prefix, strip_prefix};
pub use links::{LinkError, Linker};
pub use look::{ChangeSource, ChangeSourceReport};
pub use mirror::Mirror;
pub use objects::{Listing, Object, get_object, list_tree, put_object};
pub use report::{
    ChangedFile, ConflictCopy, Direction, Pending, Progress, RestoreFailure, RestoreReport,
    SkipReason, Skipped, SyncReport,
};
pub use stores::{OpenedStore, StoreError, open_directory, open_store};
