//! The settings of Anthropic's sandbox-runtime (srt) as types: parse strictly, build, validate,
//! explain, and compile to the mounts of an engine.
//!
//! ```
//! use std::path::Path;
//! use policy::{Access, Policy, SandboxRuntimeConfig};
//!
//! let policy = Policy::session(Path::new("/srv/agents/s1")).home(Path::new("/home/ann")).build()?;
//! assert!(policy.explain(Path::new("/srv/agents/s1/notes.txt"), Access::Write).allowed);
//!
//! let verdict = policy.explain(Path::new("/srv/agents/s2/notes.txt"), Access::Read);
//! assert_eq!((verdict.allowed, verdict.rule.to_string()), (false, "denyRead has /srv".to_owned()));
//!
//! // What `srt --settings` takes, and a parser that refuses what srt silently ignores.
//! let json = policy.config().to_json();
//! let error = SandboxRuntimeConfig::from_json(&json.replace("denyRead", "denyReed")).unwrap_err();
//! assert_eq!(error.to_string(), "filesystem.denyReed: unknown key; did you mean \"denyRead\"?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//! It enforces nothing, and looks at no file but through the [`Tree`] that a caller hands in.
//!
//! # Limits
//! Settings are those of srt 0.0.78. `filterRequest` is a function there and cannot stand in JSON.
//! A path rule is absolute or begins with `~/`; srt would resolve a relative one against the
//! directory of its own process. Mounts cover what exists when they are compiled; [`CreationRules`] says
//! what must not come into being, and [`MountPlan::unenforced`] names the rest.
//!
//! # Errors
//! [`ParseError`] for text, [`ValidationError`] for what srt would refuse, [`PolicyError`] for settings
//! that are no policy, and [`MountError`] for a policy that cannot be compiled. [`Policy::lint`]
//! says what is taken and not enforced.

#![forbid(unsafe_code)]

mod absent;
mod compile;
mod config;
mod creation;
mod domain;
mod explain;
#[expect(unreachable_pub, reason = "an engine compiles the file into its init program too")]
mod glob;
mod landlock;
mod lint;
mod mandatory;
mod merge;
mod order;
mod plan;
mod policy;
mod repositories;
mod rules;
mod tree;
mod validate;

pub use config::{
    AwsPair, CredentialDecoding, CredentialFile, CredentialMode, CredentialVariable,
    CredentialsConfig, FilesystemConfig, GitConfig, MitmProxyConfig, NetworkConfig,
    OnExtractNoMatch, ParentProxyConfig, ParseError, RipgrepConfig, SandboxRuntimeConfig,
    SeccompConfig, Sigv4Action, Sigv4Config, SrtWinConfig, TlsTerminateConfig, WindowsConfig,
};
pub use creation::{CreationRules, DeniedPath};
pub use explain::{Access, Rule, Verdict};
pub use landlock::{AllowList, AllowRule};
pub use lint::Lint;
pub use merge::Override;
pub use plan::{
    BindAccess, MountError, MountOp, MountOptions, MountPlan, Unenforced, UnenforcedReason,
};
pub use policy::{Policy, PolicyBuilder, PolicyError};
pub use rules::RuleError;
pub use tree::{NodeKind, Tree};
pub use validate::ValidationError;
