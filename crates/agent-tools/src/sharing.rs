//! Sessions that several processes of one home share, and several `Sessions` of one process.
//!
//! ```text
//! first process                               other processes
//! ─────────────                               ───────────────
//! locks state/<id>/lock
//! writes state/<id>/token (0600)
//! listens on state/<id>/socket  ◄── hello ──  connect, and read the token
//! opens the session             ── welcome ─► have the same session
//! runs the call                 ◄── call ───  ask for a call
//!                               ── accepted ► know that it began
//!                               ── done ────►
//! ```
//!
//! 1. The lock decides which process serves. It belongs to an open file, so it also separates two
//!    `Sessions` of one process.
//! 2. The socket exists as long as the lock. A client that connects while the session opens waits
//!    for the welcome. A client without a connection tries the lock again.
//! 3. Both sides check that the other one is in their own user namespace. The client sends the
//!    token, which sandboxed commands cannot read, because every policy hides `state/`.
//! 4. A client with another user, policy, network, engine, store or source of variables is refused.
//! 5. A call that the server has not accepted had no effect, and the client asks the next server.
//!    After that, the end of the server fails the call, and it is never repeated.
//! 6. A server that is released serves new calls while older ones run. Then it refuses them, waits
//!    for the rest, and unlocks the session. A client takes over with its next call.

mod client;
mod error;
mod file_methods;
mod fingerprint;
mod frame;
mod gate;
mod greeting;
mod methods;
mod network_methods;
mod opening;
mod process;
mod server;
mod token;
mod wire;

pub use error::{Difference, SharingError};

pub(crate) use client::{CallError, Client};
pub(crate) use file_methods::{
    CreateDirectory, DeleteDirectory, DeleteFile, ExportTar, ImportTar, InspectFile, ListDirectory,
    ReadRange, RenameFile,
};
pub(crate) use fingerprint::{Settings, VariablesKey};
pub use gate::Departure;
pub(crate) use gate::{CallGuard, Gate, NotAdmitted};
pub(crate) use greeting::{SessionFacts, Wish};
pub(crate) use methods::{
    Bash, Call, Close, CollectGarbage, Delete, EditFile, FindFiles, InstallSkills, Pull, ReadFile,
    ReadHistory, Refresh, ReportStatus, RestoreVersion, SearchFiles, SetNetwork, SyncFiles,
    UndeleteFiles, WrapCommand, WriteFile,
};
pub(crate) use network_methods::DialPort;
pub(crate) use opening::{Claim, Door, Entered, enter, visit};
pub(crate) use process::ListProcesses;
pub(crate) use server::serve;
pub(crate) use wire::{FixedText, owned_bytes, parse_access, parse_encoding, parse_limit};

/// The name of the socket in the state directory of a session.
const SOCKET: &str = "socket";
/// The name of the file with the token.
const TOKEN: &str = "token";
