//! Types of the reports.

use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scan::Skipped;

/// Result of one synchronisation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SyncReport {
    /// Files that were created or modified since the last report, by path.
    pub changed: Vec<ChangedFile>,
    /// Files that were deleted since the last report, by path.
    pub deleted: Vec<RelativePath>,
    /// Changes that the store does not have yet. The next synchronisation retries them.
    pub pending: Vec<Pending>,
    /// Files that cannot be mirrored. Each is reported once.
    pub skipped: Vec<Skipped>,
    /// Deleted files whose objects were kept, because so many files vanished at once that it may be
    /// a mistake. [`Mirror::sync_with_removals`](crate::Mirror::sync_with_removals) removes the
    /// objects.
    pub held_back: Vec<RelativePath>,
    /// Files that had also changed in the store.
    pub conflicts: Vec<ConflictCopy>,
}

/// File that both sides had changed. The path keeps the version of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConflictCopy {
    /// Path of the file.
    pub path: RelativePath,
    /// Path of the store's version, in the directory and in the store.
    pub kept_as: RelativePath,
}

/// File that was created or modified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChangedFile {
    /// Path in the directory.
    pub path: RelativePath,
    /// Object key; `None` until the file is stored.
    #[serde(serialize_with = "serialize_key", deserialize_with = "deserialize_key")]
    pub key: Option<Key>,
    /// Link to the object; `None` until the file is stored, or if no link can be created.
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

/// Result of a restore.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreReport {
    /// Files that were fetched, by path.
    pub restored: Vec<RelativePath>,
    /// Objects that could not be fetched, by key.
    pub failed: Vec<RestoreFailure>,
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
    /// Returns one sentence for each object that was not fetched.
    pub fn problems(&self) -> Vec<String> {
        self.failed
            .iter()
            .map(|failed| format!("{:?} was not restored: {}", failed.key, failed.reason))
            .collect()
    }
}

fn serialize_key<S: Serializer>(key: &Option<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(Key::as_ref).serialize(serializer)
}

fn deserialize_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Key>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Key::parse(text).map_err(serde::de::Error::custom)).transpose()
}
