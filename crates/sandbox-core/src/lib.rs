//! Sessions of LLM agents: ids, paths from an agent, files inside a session directory, and a
//! sandbox for the session's commands.
//!
//! Without features, this crate handles names and files:
//!
//! ```
//! use sandbox_core::{SessionDir, SessionPath};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let session = SessionDir::create(&root.path().join("s1"))?;
//! // Three spellings of one path. `../x` is an error whose text helps a model to correct it.
//! let path = SessionPath::resolve(session.path(), "/notes/may.txt")?;
//! assert_eq!(path, SessionPath::resolve(session.path(), "notes//./may.txt")?);
//!
//! let file = path.relative().expect("not the session directory itself");
//! session.write(file, b"atomic, and never through a symlink that leads out")?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `native`, commands run in a kernel sandbox:
//!
#![cfg_attr(feature = "native", doc = "```")]
#![cfg_attr(not(feature = "native"), doc = "```ignore")]
//! use policy::Policy;
//! use sandbox_core::{CommandSpec, CommandStatus, NativeSandbox, Sandbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let session_dir = dir.path().canonicalize()?;
//! let policy = Policy::session(&session_dir).home("/root".as_ref()).build()?;
//! let sandbox = NativeSandbox::builder(&policy, &session_dir).open()?;
//! let output = sandbox.exec(CommandSpec::new("echo hello > f && cat f")).await?;
//! assert_eq!(output.status, CommandStatus::Exited(0));
//! assert_eq!(output.stdout.bytes, b"hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It knows nothing of agents, tools or storage. It resolves no path outside a session directory.
//! It never runs a command without a sandbox: if the kernel denies a layer, opening fails with the
//! cause and the remedy.
//!
//! # Limits
//! - Linux only. The native engine needs x86-64 or AArch64, Linux 5.12 or newer, and user
//!   namespaces. `Tier::Landlock` is a weaker tier without user namespaces, on Linux 6.2 or newer.
//! - Memory, processes and processor time are limited for a command as a whole if the host process
//!   has a delegated control group. Otherwise they are limited for each process (see `Limits`).
//! - A sandbox has no network unless `NativeSandbox::open_network` opens one. It captures every TCP
//!   port if the kernel has `nft_tproxy`, and UDP only for names. The Landlock tier has none.
//! - Symlinks at paths that a policy denies are resolved when the sandbox opens.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `sandbox` | the trait `Sandbox` and its types |
//! | `native` | the native engine, on kernel namespaces and seccomp |
//! | `srt` | the engine that runs the program `srt`, for comparison |
//! | `serde` | relative paths as texts in serde's data model |
//!
//! # Errors
//! - [`IdError`]: a text is not an id.
//! - [`PathError`]: a path from an agent is invalid.
//! - [`FileError`]: a file cannot be accessed.
//! - `OpenError` and `SrtError`: a sandbox cannot be opened.
//! - `ExecError`: a command cannot be run.
//! - `NetworkError`: the network of a session cannot be opened, or a port of it not be reached.
//!
//! Each has `kind()`, and `is_retryable()`.

#![forbid(unsafe_code)]

mod causes;
mod files;
mod id;
#[doc(hidden)]
pub mod internal;
#[cfg(feature = "native")]
mod local;
mod path;
#[cfg(feature = "serde")]
mod serialized;
mod transient;

pub use causes::with_causes;
pub use files::{
    EntryPlace, FileError, FileErrorKind, FileKind, FileStat, Found, FoundEntry, Replaced,
    STAGED_PREFIX, SessionDir, StagedFile,
};
pub use id::{IdError, IdErrorKind, SessionId, UserId};
pub use path::{PathError, PathErrorKind, RelativePath, SessionPath};
#[cfg(feature = "native")]
mod native;
#[cfg(feature = "sandbox")]
mod sandbox;
#[cfg(feature = "srt")]
mod srt;

#[cfg(feature = "native")]
pub use native::{
    AttachedCommand, AttachedEvent, AttachedOutcome, HostTree, NativeSandbox, NativeSandboxBuilder,
    NetworkError, NetworkErrorKind, NetworkListeners, OpenError, OpenErrorKind, Overlay,
    PseudoTerminal, RawTerminal, TerminalSize, WrappedEnd, discard_input, inherited_descriptor,
    probe, read_terminal, wait_until_readable,
};
#[cfg(feature = "sandbox")]
pub use sandbox::{
    Capture, CaptureReport, CapturedStream, Cgroups, CommandOutput, CommandSpec, CommandStatus,
    Enforcement, EngineReport, ExecError, ExecErrorKind, Limit, Limits, QuarantineOutcome,
    Quarantined, Sandbox, Tier, UnknownWeakness, UnknownWeaknessKind, Weakness,
};
#[cfg(feature = "srt")]
pub use srt::{SrtError, SrtErrorKind, SrtSandbox};
