//! A kernel-sandboxed session for every conversation of an LLM agent.
//!
//! A session has a directory, skills, a policy that the kernel enforces, variables, and the tools
//! `bash`, `readFile` and `writeFile`. Its files are mirrored to object storage and come back as
//! links.
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
//! assert_eq!(result.command_stdout(), "hello\n");
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
//! It runs no model. It gives commands no network but the hosts of a [`NetworkSpec`] and of the
//! policy. Sessions share nothing but the skills and variables that the embedder gives to both.
//!
//! # Several processes
//! Processes with one home share its sessions, and so do several [`Sessions`] of one process. The
//! first one that opens a session serves the others over a socket in its state directory. Sandboxed
//! commands reach neither the socket nor its token. The others must have the same user, policy,
//! network, engine, store and variables. After the first one has ended, the next call of another
//! one takes over. A call that runs at a kill fails with [`ErrorKind::ServerLost`]; it is never
//! repeated. Calls of other processes run on the tokio runtime that opened the session, so that
//! runtime must outlive the session. Ignore rules, links and skills are those of the first process.
//!
//! # Several machines
//! Machines that share a store own a session in turns ([`Ownership`]). A service that ends calls
//! [`Sessions::drain`].
//!
//! # Limits
//! The limits of [`sandbox_core`] apply to commands, those of [`artifact_sync`] to files. A result
//! shows 30,000 UTF-16 units of each stream and 50 artifacts. `readFile` returns at most 32 MiB
//! at once, and 30,000 units to a model; larger files are read by ranges.
//!
//! # Features
//! | feature | default | adds |
//! |---|---|---|
//! | `fs` | yes | stores on the local disk: `file://` |
//! | `s3`, `gcs`, `azure` | no | cloud stores: `s3://`, `gs://`, `az://` |
//! | `sqlite` | yes | variables from `sqlite:` URLs |
//! | `postgres` | no | variables from `postgres://` URLs |
//! | `mcp` | yes | the MCP server on standard input and output |
//! | `cli` | yes | the command `agent-tools`, with `fs`, `mcp` and `sqlite` |
//! | `full` | no | all of them |
//!
//! Stores in memory (`memory://`) need no feature. A library wants `default-features = false` and
//! the features it uses.
//!
//! # Errors
//! Opening a session returns [`SessionError`], a tool call [`ToolError`], an exchange with the
//! store [`TransferError`], and closing [`CloseError`]. Each has `kind()` with an [`ErrorKind`],
//! and `is_retryable()`. [`with_causes`] renders an error and its causes as one line.

#![forbid(unsafe_code)]

mod boxed;
mod call_journal;
mod complaints;
mod denials;
mod echo;
mod engine;
mod environment;
mod error_kind;
mod files;
mod hints;
mod home;
mod host_lists;
mod journal_file;
mod log_redaction;
#[cfg(feature = "mcp")]
pub mod mcp;
mod network;
mod output;
mod printable;
mod process;
mod redaction;
mod remedies;
mod restrictions;
mod rules;
mod runtimes;
mod session;
mod sessions;
mod sharing;
mod storage;
mod times;
mod tool_error;
mod tools;
mod workspace;

pub use artifact_sync::internal::with_causes;
pub use artifact_sync::{
    ChangeSourceReport, CloseMode, Direction, Durability, GarbageOptions, GarbageReport,
    HistoryChange, HistoryEntry, HistoryKind, HistoryObject, HistoryOrigin, IgnoreRules,
    LinkTarget, Linker, LogView, LoggedFile, MAX_QUEUED_BYTES, OwnerReport, PatternError, Pending,
    Progress, RestoreReport, RestoredVersion, SkipReason, Skipped, StoreCapabilities, StoreError,
    SyncError, SyncErrorKind, SyncReport, Takeover, Undelete, UndeleteReport,
};
pub use egress::{self, Answer, Ask};
pub use policy;
pub use sandbox_core::{
    CapturedStream, Cgroups, CommandOutput, CommandSpec, CommandStatus, Enforcement, EngineReport,
    ExecError, FileKind, FileStat, IdError, Limits, OpenError, RelativePath, Sandbox, SessionId,
    TerminalSize, Tier, UnknownWeakness, UserId, Weakness, probe,
};
pub use secrets::{self, VariableSource};
pub use skill_store::{self, InstalledSkill, SkillError, SkillId, SkillRef, SkillStore};

pub use call_journal::CallRecord;
pub use denials::Denial;
pub use engine::SandboxFactory;
pub use error_kind::ErrorKind;
pub use files::{
    DirectoryPage, FileBytes, ListOptions, ListedEntry, MAX_RANGE_BYTES, TarLimits, TarReport,
};
pub use home::{Home, ListedSession, LocalState, StateError};
pub use host_lists::HostLists;
pub use log_redaction::RedactedWriter;
pub use network::{
    ConnectionOutcome, Exposed, InvalidDestination, NetworkError, NetworkEvent, NetworkPreset,
    NetworkSpec, PresetError, Resolved, SandboxGate, SandboxNetwork, explain_host,
};
pub use output::{Artifact, ConflictNote, FileNote, OutputTail, PendingGroup, shortened_stream};
pub use printable::{printable, printable_lines};
pub use process::{
    InputFrom, Lifetime, OutputTo, Process, ProcessControl, ProcessInput, ProcessOutput,
    ProcessSummary, Spawn,
};
pub use remedies::{remedy_option, remedy_setting};
pub use restrictions::Restrictions;
pub use rules::Rules;
pub use runtimes::{HostRuntimes, UnreachableRuntime};
pub use session::{DrainReport, Session, VariableSelection};
pub use sessions::{
    Ownership, PruneOptions, PruneReport, SessionError, SessionFiles, SessionOverview,
    SessionOwner, SessionSpec, SessionStatus, SessionSummary, Sessions, SessionsBuilder,
};
pub use sharing::{Departure, Difference, SharingError};
pub use storage::Storage;
pub use tool_error::ToolError;
pub use tools::bash::{BashOptions, BashOutput, NAME as BASH};
pub use tools::edit_file::{Edit, EditFileOutput, NAME as EDIT_FILE, Occurrences};
pub use tools::grep::{FoundLine, FoundLines, GrepOptions, NAME as GREP};
pub use tools::list_files::{FindOptions, FindOrder, FoundFile, FoundFiles, NAME as LIST_FILES};
pub use tools::read_file::{
    ByteRange, FilePart, LineRange, NAME as READ_FILE, ReadFileOutput, ReadOptions,
};
pub use tools::write_file::{NAME as WRITE_FILE, WriteFileOutput};
pub use tools::{
    CallOptions, Effects, OptionalTool, Tool, ToolContent, ToolResult, ToolSelection, Toolset,
    UnknownOptionalTool,
};
pub use workspace::{
    CloseError, CloseReport, IgnoredContent, RemovalMode, TransferError, WorkspaceError,
};

/// Compiles and runs the example of the README.
#[cfg(all(doctest, feature = "fs"))]
#[doc = include_str!("../README.md")]
struct Readme;
