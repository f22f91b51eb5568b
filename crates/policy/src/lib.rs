//! Sandbox policies as types: parse, build and validate the settings of Anthropic's sandbox-runtime
//! (srt), explain decisions, and compile to mounts.
//!
//! ```
//! use std::path::Path;
//! use policy::{Access, Policy, SandboxRuntimeConfig};
//!
//! let policy = Policy::session(Path::new("/srv/agents/s1")).home(Path::new("/home/ann")).build()?;
//! assert!(policy.explain(Path::new("/srv/agents/s1/notes.txt"), Access::Write).allowed);
//!
//! let verdict = policy.explain(Path::new("/srv/agents/s2/notes.txt"), Access::Read);
//! assert!(!verdict.allowed);
//! assert_eq!(verdict.rule.to_string(), "denyRead has /srv");
//!
//! // `srt --settings` accepts this JSON. The parser reports keys that srt silently ignores.
//! let json = policy.config().to_json();
//! let error = SandboxRuntimeConfig::from_json(&json.replace("denyRead", "denyReed")).unwrap_err();
//! assert_eq!(error.to_string(), "filesystem.denyReed: unknown key; did you mean \"denyRead\"?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//! It enforces nothing. It accesses files only through the [`Tree`] that the caller passes in.
//!
//! # Features
//! - `idna`: names of hosts beyond ASCII. Without it, [`Host::parse`] and
//!   [`NetworkPolicy::compile`] reject them.
//! - `regexp`: `extract` of credentials, a regular expression of JavaScript. Without it,
//!   [`SandboxRuntimeConfig::validate`] rejects them.
//! - `schema`: `SandboxRuntimeConfig::json_schema`, for editors.
//!
//! # Limits
//! Settings are those of srt 0.0.83. Its `filterRequest` is a function and has no JSON form. A path
//! rule is absolute or begins with `~/`; srt would resolve a relative one against the directory of
//! its own process. Mounts cover the files that exist when they are compiled. [`CreationRules`]
//! deny the creation of others, and [`MountPlan::unenforced`] lists the remaining rules.
//!
//! # Errors
//! - [`ParseError`]: the text is not a settings file.
//! - [`ValidationError`]: srt would reject the settings.
//! - [`PolicyError`] and [`RuleError`]: the settings are not a policy.
//! - [`HostError`]: a text is no host. [`AddressClass`]: a name leads to a refused address.
//! - [`MountError`]: the policy cannot be compiled.
//!
//! Each has `kind()` with an [`ErrorKind`], and `is_retryable()`. [`Policy::lint`] returns settings
//! that srt accepts and does not enforce.

#![forbid(unsafe_code)]

mod absent;
mod address;
mod canonical;
mod compile;
mod config;
mod creation;
mod domain;
mod error;
mod explain;
mod git;
mod git_config;
pub mod git_index;
mod git_leads;
#[expect(unreachable_pub, reason = "the init program of an engine includes this file")]
mod glob;
mod host;
mod host_list;
mod identity;
pub mod import;
mod json;
mod landlock;
mod links;
mod lint;
mod listed;
mod location;
mod mandatory;
mod merge;
mod network;
mod on_disk;
mod order;
mod parse;
mod plan;
mod policy;
mod presets;
mod protect;
mod reason;
mod recover;
mod regexp;
mod remedy;
mod repositories;
mod request_rules;
mod rules;
#[cfg(feature = "schema")]
mod schema;
mod sealed;
mod setting_path;
mod tree;
mod validate;
mod web_host;

pub use address::AddressClass;
pub use config::{
    AmbiguousRequestTarget, AwsPair, CredentialDecoding, CredentialFile, CredentialMode,
    CredentialVariable, CredentialsConfig, FilesystemConfig, GitConfig, MitmProxyConfig,
    NetworkConfig, OnExtractNoMatch, ParentProxyConfig, PathEntry, RipgrepConfig,
    SandboxRuntimeConfig, SeccompConfig, Sigv4Action, Sigv4Config, SrtWinConfig,
    TlsTerminateConfig, WindowsBackend, WindowsConfig,
};
pub use creation::{CreationRules, DeniedPath, Zone, ZoneKind};
pub use error::ErrorKind;
pub use explain::{Access, Verdict};
pub use host::{Host, HostError};
pub use landlock::{AllowList, AllowRule};
pub use lint::{Lint, LintCode};
pub use location::Location;
pub use merge::Override;
pub use network::{Decision, NetworkPolicy, Tls};
pub use parse::ParseError;
pub use plan::{
    BindAccess, LaterFiles, MountError, MountOp, MountOptions, MountPlan, Unenforced,
    UnenforcedReason,
};
pub use policy::{Policy, PolicyError};
pub use presets::PolicyBuilder;
pub use reason::Rule;
pub use recover::Recovered;
pub use remedy::Remedy;
pub use request_rules::RequestRules;
pub use rules::RuleError;
pub use setting_path::SettingPath;
pub use tree::{NodeKind, Tree};
pub use validate::ValidationError;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
