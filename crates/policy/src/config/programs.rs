//! Settings of helper programs, of Windows and of git.

use super::setting::{choice, object};

/// The `rg` program that srt searches with.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RipgrepConfig {
    /// Name or path of the program.
    pub command: String,
    /// Arguments that precede those of srt.
    pub args: Option<Vec<String>>,
    /// Name that the program receives as `argv[0]`.
    pub argv0: Option<String>,
}

object!(RipgrepConfig {
    "command" => command,
    "args" => args,
    "argv0" => argv0,
});

impl RipgrepConfig {
    /// Creates the settings of a program.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), args: None, argv0: None }
    }
}

/// The seccomp helper of srt.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SeccompConfig {
    /// Path of the helper.
    pub apply_path: Option<String>,
    /// Name that the helper receives as `argv[0]`; requires `apply_path`.
    pub argv0: Option<String>,
}

object!(SeccompConfig {
    "applyPath" => apply_path,
    "argv0" => argv0,
});

/// Settings for Windows.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct WindowsConfig {
    /// Component that enforces the settings.
    pub backend: Option<WindowsBackend>,
    /// User that runs the commands, 1 to 20 characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 20)))]
    pub sandbox_user: Option<String>,
    /// UUID of the filter sublayer.
    pub sublayer_guid: Option<String>,
    /// UUID of the sublayer in the Windows Filtering Platform.
    pub wfp_sublayer_guid: Option<String>,
    /// First and last port of the proxy, at most 64 apart.
    pub proxy_port_range: Option<(u16, u16)>,
    /// The helper program.
    pub srt_win: Option<SrtWinConfig>,
}

object!(WindowsConfig {
    "backend" => backend,
    "sandboxUser" => sandbox_user,
    "sublayerGuid" => sublayer_guid,
    "wfpSublayerGuid" => wfp_sublayer_guid,
    "proxyPortRange" => proxy_port_range,
    "srtWin" => srt_win,
});

/// Component that enforces the settings on Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WindowsBackend {
    /// The component of the system.
    Mxc,
    /// The helper program of srt.
    SrtWin,
}

choice!(WindowsBackend {
    "mxc" => Mxc,
    "srt-win" => SrtWin,
});

/// The helper program on Windows.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SrtWinConfig {
    /// Path of the helper.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: String,
}

object!(SrtWinConfig {
    "path" => path,
});

impl SrtWinConfig {
    /// Creates the settings of a helper program.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into() }
    }
}

/// Settings for git.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct GitConfig {
    /// Directories in which git skips its check of the owner.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub safe_directories: Vec<String>,
}

object!(GitConfig {
    "safeDirectories" => safe_directories or Vec::new(),
});
