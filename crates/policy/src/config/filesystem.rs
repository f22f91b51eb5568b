//! The `filesystem` section of the settings.

use super::paths::PathEntry;
use super::setting::object;

/// Files that commands may read and write.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct FilesystemConfig {
    /// Disables every rule for files.
    pub disabled: Option<bool>,
    /// Hidden paths.
    pub deny_read: Vec<PathEntry>,
    /// Readable paths inside hidden ones.
    pub allow_read: Option<Vec<PathEntry>>,
    /// Writable paths; all others are read-only.
    pub allow_write: Vec<PathEntry>,
    /// Read-only paths; they take precedence over `allow_write`.
    pub deny_write: Vec<PathEntry>,
    /// Makes `.git/config` writable. The other protected names stay read-only.
    pub allow_git_config: Option<bool>,
}

object!(FilesystemConfig {
    "disabled" => disabled,
    "denyRead" => deny_read,
    "allowRead" => allow_read,
    "allowWrite" => allow_write,
    "denyWrite" => deny_write,
    "allowGitConfig" => allow_git_config,
});
