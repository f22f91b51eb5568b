//! Keeps a directory in an object store through a session log, so that no acknowledged change of a
//! file is lost and no removed file returns.
//!
//! ```
//! use std::sync::Arc;
//! use artifact_sync::{CloseMode, Mirror, SessionKeys};
//! use object_store::memory::InMemory;
//! use object_store::path::Path as Key;
//! use sandbox_core::{SessionId, UserId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let dir = root.path().join("s1");
//! let keys = SessionKeys::new(&Key::default(), &UserId::parse("7")?, &SessionId::parse("s1")?);
//! let mirror = Mirror::builder(&dir, Arc::new(InMemory::new()), keys)
//!     .state_dir(root.path().join("state/s1"))
//!     .open()
//!     .await?;
//!
//! std::fs::write(dir.join("report.md"), "# May")?;
//! let report = mirror.sync().await?;
//! assert_eq!(report.changed[0].key.as_ref().unwrap().as_ref(), "user_7/sessions/s1/report.md");
//! assert!(report.is_complete());
//!
//! mirror.close(CloseMode::KeepPending).await?;
//! assert!(!dir.exists());
//! # Ok(())
//! # }
//! ```
//!
//! The store has three kinds of objects. The *log* is the truth: each change appends an immutable
//! entry. *Blobs* hold contents under names that are never reused. The *projection* is a copy of
//! the current files for people, other programs and links; it is repaired from the log. Files that
//! other programs write there are adopted at opening and by [`Mirror::refresh`].
//!
//! # What it does not do
//! It knows nothing of agents, skills or tools. It does not act when something changes: the next
//! call finds the change, by kernel events or by a walk ([`ChangeSource`]). It does not mirror
//! devices, sockets, and names that are not UTF-8; the report names them.
//!
//! # Limits
//! Events need one inotify watch per mirrored directory, out of a limited number per user
//! (`fs.inotify.max_user_watches`). Without watches or without `/proc`, each call walks, and
//! [`Mirror::change_source`] reports the reason.
//!
//! Some changes raise no event. The next walk finds them, within a minute of calls or by
//! [`Mirror::flush`]:
//! - a write through a hard link in an ignored tree;
//! - a write through a name that existed only between two calls;
//! - a change by another machine in a shared file system.
//!
//! Files have at most 5 GiB, and directories are nested at most 256 deep. Of modes, the nine
//! permission bits are kept. A file whose name no key can represent is stored, but has no object in
//! the projection. A directory has one mirror at a time. Homes that share a store own a session in
//! turns ([`MirrorBuilder::heartbeat`]), if the store creates objects on the condition that they
//! are absent; [`Mirror::warnings`] tells if it does not.
//!
//! If another program and the directory changed a file, both versions are kept. An object that
//! another program removed before a cold opening is put again. Objects of more than 8 MiB, and
//! stores without conditional requests, are checked right before they are replaced; in between,
//! another program's version can be lost from the projection.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `conformance` | a test suite for implementations of `ObjectStore` |
//! | `fs` | `file:///…`: a directory of the local disk as the store |
//! | `s3`, `gcs`, `azure` | `s3://…`, `gs://…`, `az://…`, each with presigned links |
//!
//! Without features, a mirror works on any [`ObjectStore`](object_store::ObjectStore) that the
//! application passes in.
//!
//! # Errors
//! [`StoreError`] for a URL or a setting, [`SyncError`] for a mirror, [`PatternError`] for ignore
//! rules, [`LinkError`] for links. Each has `kind()` and `is_retryable()`. Synchronisation itself
//! does not fail: the [`SyncReport`] names pending changes and the reasons.

#![forbid(unsafe_code)]

mod builder;
#[cfg(feature = "conformance")]
pub mod conformance;
mod durability;
mod error;
mod keys;
mod limits;
mod log;
mod mirror;
mod owners;
mod paths;
mod report;
mod scan;
mod state;
mod transfer;

pub use builder::{MAX_QUEUED_BYTES, MirrorBuilder, Takeover};
pub use durability::Durability;
pub use error::{SyncError, SyncErrorKind};
pub use keys::SessionKeys;
pub use log::ReadError;
pub use mirror::{
    CallGuard, CloseError, CloseMode, CloseReport, GarbageOptions, GarbageReport, HistoryChange,
    HistoryEntry, HistoryKind, HistoryObject, HistoryOrigin, LocalStatus, LogView, LoggedFile,
    Mirror, RestoredVersion, SessionOwner, Undelete, UndeleteReport,
};
pub use owners::{Heartbeat, HomeId, OwnerReport, owners};
pub use report::{
    ChangedFile, ConflictCopy, Direction, Pending, Progress, RestoreFailure, RestoreReport,
    SyncReport,
};
pub use scan::{
    ChangeSource, ChangeSourceReport, IgnoreReason, IgnoreRules, Ignored, PatternError,
    PatternErrorKind, SkipReason, Skipped,
};
#[cfg(feature = "_cloud")]
pub use transfer::PresignedDelete;
pub use transfer::{
    ConditionalDelete, ConditionalDeletion, LinkError, LinkErrorKind, LinkTarget, Linker,
    OpenedStore, StoreCapabilities, StoreError, StoreErrorKind, StoreProbe, open_directory,
    open_store,
};

/// Items that the crates of this workspace share. Not covered by semantic versioning.
#[doc(hidden)]
pub mod internal {
    pub use crate::error::with_causes;
    pub use crate::keys::{key_for, strip_prefix};
    pub use crate::mirror::{Inventory, remove_rest};
    pub use crate::owners::Timings;
    pub use crate::scan::is_editor_file;
    pub use crate::transfer::{
        FreshUploadError, FreshUploads, KeyLimits, Listed, Listing, MemoryBudget, Object, OnStep,
        PartRecord, UploadRecord, UploadStep, Uploaded, is_executable, list_pages, list_tree,
        projection_key_problem, put_object, store_directory, sweep_local,
    };
}
