//! The settings of sandbox-runtime 0.0.83, field for field.

mod credentials;
mod filesystem;
mod network;
mod paths;
mod programs;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use credentials::{
    AwsPair, CredentialDecoding, CredentialFile, CredentialMode, CredentialVariable,
    CredentialsConfig, OnExtractNoMatch, Sigv4Action, Sigv4Config,
};
pub use filesystem::FilesystemConfig;
pub use network::{
    AmbiguousRequestTarget, MitmProxyConfig, NetworkConfig, ParentProxyConfig, TlsTerminateConfig,
};
pub use paths::PathEntry;
pub use programs::{
    GitConfig, RipgrepConfig, SeccompConfig, SrtWinConfig, WindowsBackend, WindowsConfig,
};

/// Place of the key `$schema`, by which editors find the schema of a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "String")]
pub(crate) struct SchemaAddress;

impl From<String> for SchemaAddress {
    fn from(_: String) -> Self {
        Self
    }
}

/// A whole settings file (`srt --settings`). An unknown key is an error; srt itself ignores it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SandboxRuntimeConfig {
    /// Address of the JSON Schema for editors, which is not kept. srt ignores it.
    #[serde(rename = "$schema", skip_serializing, default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(crate) schema: SchemaAddress,
    /// Hosts and sockets that commands may connect to.
    pub network: NetworkConfig,
    /// Files that commands may read and write.
    pub filesystem: FilesystemConfig,
    /// Credentials that commands do not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsConfig>,
    /// Violations that srt does not report, by command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_violations: Option<BTreeMap<String, Vec<String>>>,
    /// Binds the outer `/proc` instead of mounting a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_weaker_nested_sandbox: Option<bool>,
    /// Lets commands create user namespaces. The native engine never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_nested_user_namespaces: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_weaker_network_isolation: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_apple_events: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_pty: Option<bool>,
    /// The `rg` program that srt searches with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ripgrep: Option<RipgrepConfig>,
    /// Depth of the search for repositories, 1 to 10 directories. By default srt searches three
    /// levels, and this crate searches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10)))]
    pub mandatory_deny_search_depth: Option<u8>,
    /// The seccomp helper of srt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompConfig>,
    /// Absolute path of `bwrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub bwrap_path: Option<String>,
    /// Absolute path of `socat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub socat_path: Option<String>,
    /// Absolute path of srt's Java agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub java_agent_jar_path: Option<String>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsConfig>,
    /// Settings for git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitConfig>,
}
