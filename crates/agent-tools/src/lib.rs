//! A kernel-sandboxed working session for every conversation of an LLM agent: a directory, skills,
//! a policy that the kernel enforces, variables, and the tools `bash`, `readFile` and `writeFile`,
//! whose files are mirrored to object storage and come back as links.
//!
//! ```
//! use agent_tools::{Home, SessionId, SessionSpec, Sessions, Storage, UserId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let home = dir.path().join("home");
//! let sessions = Sessions::builder(Home::new(home)).storage(Storage::open("memory:///")?).build();
//! let spec = SessionSpec::new(SessionId::parse("conversation-1")?).user(UserId::parse("ann")?);
//! let session = sessions.open(spec).await?;
//!
//! let result = session.bash("echo hello > hello.txt; cat hello.txt; cat /etc/shadow").await?;
//! assert_eq!(result.stdout, "hello\n");
//! assert_eq!(result.artifacts[0].relative_path, "hello.txt");
//! assert!(result.stderr.contains("Permission denied"));
//!
//! // For a model loop: the tools by name, with JSON in and out.
//! let output = session.call("readFile", serde_json::json!({ "path": "/hello.txt" })).await?;
//! assert_eq!(output["content"], "hello\n");
//!
//! sessions.close(session.id()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It runs no model, and gives a command no network. It shares nothing between sessions but the
//! skills and variables that the embedder gives to both. One machine at a time writes to a session.
//!
//! # Limits
//! Those of [`sandbox_core`] for commands and of [`artifact_sync`] for files. A result shows 30,000
//! UTF-16 units of each stream and 50 artifacts; `readFile` gives back at most 32 MiB.
//!
//! # Features
//! | feature | brings |
//! |---|---|
//! | `fs`, `s3`, `gcs`, `azure` | stores by URL: `file://`, `s3://`, `gs://`, `az://`; `memory://` is always there |
//! | `sqlite`, `postgres` | variables from a database by URL |
//! | `mcp` | the MCP server on standard input and output |
//! | `cli` | the command `agent-tools` |
//!
//! All are on by default; a library wants `default-features = false` and what it uses.
//!
//! # Errors
//! [`SessionError`] for a session that cannot be opened, [`ToolError`] for a call that failed,
//! [`CloseError`] for a session that cannot be removed without losing something. [`with_causes`]
//! makes one line of any of them.

#![forbid(unsafe_code)]

mod denials;
mod environment;
mod home;
#[cfg(feature = "mcp")]
pub mod mcp;
mod output;
mod runtimes;
mod session;
mod sessions;
mod storage;
mod tool_error;
mod tools;
mod workspace;

pub use artifact_sync::{
    ChangeSourceReport, Direction, IgnoreRules, Linker, PatternError, Pending, Progress,
    RestoreReport, SkipReason, Skipped, StoreError, SyncReport,
};
pub use policy;
pub use sandbox_core::{
    Cgroups, Enforcement, EngineReport, IdError, Limits, SessionId, Tier, UnknownWeakness, UserId,
    Weakness, probe, with_causes,
};
pub use secrets::{self, VariableSource};
pub use skill_store::{InstalledSkill, SkillId, SkillRef};

pub use denials::Denial;
pub use home::{Home, StateError};
pub use output::{Artifact, ConflictNote, FileNote};
pub use runtimes::{HostRuntimes, UnreachableRuntime};
pub use session::Session;
pub use sessions::{SessionError, SessionSpec, Sessions, SessionsBuilder};
pub use storage::Storage;
pub use tool_error::ToolError;
pub use tools::Tool;
pub use tools::bash::{BashOptions, BashOutput, NAME as BASH};
pub use tools::read_file::{LineRange, NAME as READ_FILE, ReadFileOutput};
pub use tools::write_file::{NAME as WRITE_FILE, WriteFileOutput};
pub use workspace::{CloseError, RemovalMode, TransferError, Workspace, WorkspaceError};
