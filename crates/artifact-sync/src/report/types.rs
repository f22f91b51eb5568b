//! Types of the reports.

use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scan::Skipped;

/// Most paths that one sentence names.
const MAX_SHOWN: usize = 5;

/// Result of one synchronisation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SyncReport {
    /// Files that were created or modified since the last report, by path.
    pub changed: Vec<ChangedFile>,
    /// Files that were removed from the session since the last report, by path. Their objects are
    /// deleted, and the session log keeps their versions for the retention time.
    pub deleted: Vec<RelativePath>,
    /// Changes that the store does not have yet, and that no earlier report has named with this
    /// reason. The next synchronisation retries them.
    pub pending: Vec<Pending>,
    /// Number of further pending changes, which earlier reports have named.
    pub still_pending: usize,
    /// Files that cannot be mirrored. Each is reported once.
    pub skipped: Vec<Skipped>,
    /// Files that another writer had changed too.
    pub conflicts: Vec<ConflictCopy>,
    /// Number of the last entry of the session log that this mirror knows.
    pub entry: u64,
}

impl SyncReport {
    /// Returns whether the store has every change.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.still_pending == 0
    }
}

/// File that two writers had changed. Both versions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConflictCopy {
    /// Path of the file.
    pub path: RelativePath,
    /// Path of the version that the other one replaced.
    pub kept_as: RelativePath,
}

/// File that was created or modified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChangedFile {
    /// Path in the directory.
    pub path: RelativePath,
    /// Number of the entry of the session log that holds the version; `None` until the file is
    /// stored.
    pub entry: Option<u64>,
    /// Key of the object in the projection; `None` until the object exists.
    #[serde(serialize_with = "serialize_key", deserialize_with = "deserialize_key")]
    pub key: Option<Key>,
    /// Link to the object, or to the content of this version
    /// ([`LinkTarget`](crate::LinkTarget)). `None` until it exists, or if no link can be created.
    pub url: Option<String>,
}

/// Change that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Pending {
    /// Path of the file, which may have been deleted.
    pub path: RelativePath,
    /// Explanation for a user.
    pub reason: String,
}

/// Result of a restore or of a refresh.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreReport {
    /// Files that were fetched, by path.
    pub restored: Vec<RelativePath>,
    /// Files that were removed here because they were removed elsewhere, by path.
    pub removed: Vec<RelativePath>,
    /// Objects that could not be fetched, by key.
    pub failed: Vec<RestoreFailure>,
    /// Files that were changed on both sides.
    pub conflicts: Vec<ConflictCopy>,
    /// Files whose objects vanished from the store, so many at once that it may be a mistake.
    /// [`Mirror::refresh_with_removals`](crate::Mirror::refresh_with_removals) removes them.
    pub held_back: Vec<RelativePath>,
    /// Reason why the store could not be asked.
    pub unavailable: Option<String>,
    /// Files of this machine that were lost or cut off when it stopped, and were fetched again.
    pub recovered: Vec<RelativePath>,
    /// Numbers of entries of the session log that a loss of power has cut off. No call was
    /// acknowledged with them, and they count as empty.
    pub torn_entries: Vec<u64>,
}

/// Object that could not be fetched, or must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreFailure {
    /// Key of the object, or of a directory of keys that could not be listed.
    pub key: String,
    /// Explanation for a user.
    pub reason: String,
}

impl RestoreReport {
    /// Returns one sentence for each problem.
    pub fn problems(&self) -> Vec<String> {
        let unavailable = self.unavailable.iter();
        let unavailable =
            unavailable.map(|cause| format!("nothing could be fetched from the store: {cause}"));
        let failed = self
            .failed
            .iter()
            .map(|failed| format!("{:?} was not restored: {}", failed.key, failed.reason));
        let held_back = (!self.held_back.is_empty()).then(|| {
            let count = self.held_back.len();
            format!(
                "{count} files vanished from the store at once; they stay here until their removal \
                 is confirmed"
            )
        });
        let torn = self.torn_entries.iter().map(|number| {
            format!(
                "entry {number} of the session log was cut off by a loss of power; its call was \
                 never acknowledged"
            )
        });
        let recovered = (!self.recovered.is_empty()).then(|| {
            let count = self.recovered.len();
            let shown = self.recovered.iter().take(MAX_SHOWN);
            let shown: Vec<String> = shown.map(|path| format!("{:?}", path.as_str())).collect();
            let more = count.saturating_sub(MAX_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "restored from the store, because this machine had lost them: \
                 {}{more}",
                shown.join(", ")
            )
        });
        unavailable.chain(failed).chain(held_back).chain(recovered).chain(torn).collect()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        let Self {
            restored,
            removed,
            failed,
            conflicts,
            held_back,
            unavailable,
            recovered,
            torn_entries,
        } = other;
        self.restored.extend(restored);
        self.removed.extend(removed);
        self.failed.extend(failed);
        self.conflicts.extend(conflicts);
        self.held_back.extend(held_back);
        self.recovered.extend(recovered);
        self.torn_entries.extend(torn_entries);
        self.unavailable = self.unavailable.take().or(unavailable);
    }
}

fn serialize_key<S: Serializer>(key: &Option<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(Key::as_ref).serialize(serializer)
}

fn deserialize_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Key>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Key::parse(text).map_err(serde::de::Error::custom)).transpose()
}
