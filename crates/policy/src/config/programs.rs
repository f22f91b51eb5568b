//! Settings of helper programs, of Windows and of git.

use serde::{Deserialize, Serialize};

/// The `rg` program that srt searches with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct RipgrepConfig {
    /// Name or path of the program.
    pub command: String,
    /// Arguments that precede those of srt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Name that the program receives as `argv[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
}

impl RipgrepConfig {
    /// Creates the settings of a program.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), args: None, argv0: None }
    }
}

/// The seccomp helper of srt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SeccompConfig {
    /// Path of the helper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_path: Option<String>,
    /// Name that the helper receives as `argv[0]`; requires `apply_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
}

/// Settings for Windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct WindowsConfig {
    /// Component that enforces the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<WindowsBackend>,
    /// User that runs the commands, 1 to 20 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 20)))]
    pub sandbox_user: Option<String>,
    /// UUID of the filter sublayer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sublayer_guid: Option<String>,
    /// UUID of the sublayer in the Windows Filtering Platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wfp_sublayer_guid: Option<String>,
    /// First and last port of the proxy, at most 64 apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_port_range: Option<(u16, u16)>,
    /// The helper program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt_win: Option<SrtWinConfig>,
}

/// Component that enforces the settings on Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WindowsBackend {
    /// The component of the system.
    Mxc,
    /// The helper program of srt.
    SrtWin,
}

/// The helper program on Windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SrtWinConfig {
    /// Path of the helper.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: String,
}

impl SrtWinConfig {
    /// Creates the settings of a helper program.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into() }
    }
}

/// Settings for git.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct GitConfig {
    /// Directories in which git skips its check of the owner.
    #[serde(default)]
    pub safe_directories: Vec<String>,
}
