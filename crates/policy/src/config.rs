//! The settings of sandbox-runtime 0.0.83, field for field.

mod credentials;
mod filesystem;
mod network;
mod paths;
mod programs;
mod setting;

use std::collections::BTreeMap;

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
use setting::object;
pub(crate) use setting::{GIVEN_TWICE, Setting};

use crate::json::{Mismatch, Node};

/// Place of the key `$schema`, by which editors find the schema of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SchemaAddress;

impl Setting for SchemaAddress {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        String::read(node).map(|_| Self)
    }

    fn write(&self) -> Option<Node> {
        None
    }

    fn absent() -> Option<Self> {
        Some(Self)
    }
}

/// A whole settings file (`srt --settings`). An unknown key is an error; srt itself ignores it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SandboxRuntimeConfig {
    /// Address of the JSON Schema for editors, which is not kept. srt ignores it.
    #[cfg_attr(feature = "schema", schemars(rename = "$schema", with = "Option<String>"))]
    pub(crate) schema: SchemaAddress,
    /// Hosts and sockets that commands may connect to.
    pub network: NetworkConfig,
    /// Files that commands may read and write.
    pub filesystem: FilesystemConfig,
    /// Credentials that commands do not see.
    pub credentials: Option<CredentialsConfig>,
    /// Violations that srt does not report, by command.
    pub ignore_violations: Option<BTreeMap<String, Vec<String>>>,
    /// Binds the outer `/proc` instead of mounting a new one.
    pub enable_weaker_nested_sandbox: Option<bool>,
    /// Lets commands create user namespaces. The native engine never does.
    pub allow_nested_user_namespaces: Option<bool>,
    /// macOS only.
    pub enable_weaker_network_isolation: Option<bool>,
    /// macOS only.
    pub allow_apple_events: Option<bool>,
    /// macOS only.
    pub allow_pty: Option<bool>,
    /// The `rg` program that srt searches with.
    pub ripgrep: Option<RipgrepConfig>,
    /// Depth of the search for repositories, 1 to 10 directories. By default srt searches three
    /// levels, and this crate searches all.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10)))]
    pub mandatory_deny_search_depth: Option<u8>,
    /// The seccomp helper of srt.
    pub seccomp: Option<SeccompConfig>,
    /// Absolute path of `bwrap`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub bwrap_path: Option<String>,
    /// Absolute path of `socat`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub socat_path: Option<String>,
    /// Absolute path of srt's Java agent.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^/")))]
    pub java_agent_jar_path: Option<String>,
    /// Windows only.
    pub windows: Option<WindowsConfig>,
    /// Settings for git.
    pub git: Option<GitConfig>,
}

object!(SandboxRuntimeConfig {
    "$schema" => schema,
    "network" => network,
    "filesystem" => filesystem,
    "credentials" => credentials,
    "ignoreViolations" => ignore_violations,
    "enableWeakerNestedSandbox" => enable_weaker_nested_sandbox,
    "allowNestedUserNamespaces" => allow_nested_user_namespaces,
    "enableWeakerNetworkIsolation" => enable_weaker_network_isolation,
    "allowAppleEvents" => allow_apple_events,
    "allowPty" => allow_pty,
    "ripgrep" => ripgrep,
    "mandatoryDenySearchDepth" => mandatory_deny_search_depth,
    "seccomp" => seccomp,
    "bwrapPath" => bwrap_path,
    "socatPath" => socat_path,
    "javaAgentJarPath" => java_agent_jar_path,
    "windows" => windows,
    "git" => git,
});
