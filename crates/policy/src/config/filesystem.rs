//! The `filesystem` section of the settings.

use serde::{Deserialize, Serialize};

use super::paths::PathEntry;

/// Files that commands may read and write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct FilesystemConfig {
    /// Disables every rule for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Hidden paths.
    pub deny_read: Vec<PathEntry>,
    /// Readable paths inside hidden ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_read: Option<Vec<PathEntry>>,
    /// Writable paths; all others are read-only.
    pub allow_write: Vec<PathEntry>,
    /// Read-only paths; they take precedence over `allow_write`.
    pub deny_write: Vec<PathEntry>,
    /// Makes `.git/config` writable. The other protected names stay read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_git_config: Option<bool>,
}
