//! The native engine: one small init process per session holds all namespaces, and a command is one
//! message to it.
//!
//! ```text
//! host process                init (session)                    worker (one command at a time)
//! ────────────                ──────────────                    ────────────────────────────
//! open ── plan ─────────────► namespaces, mounts
//!                             forks an idle worker ───────────► own process namespace and /proc,
//!      ◄── ready ──────────────────────────────────────────────  no capabilities, filter loaded
//! exec ── command + descriptors ──────────────────────────────► forks, executes bash
//!                             forks another if none is idle     … kills and reaps the rest
//!      ◄── report on the command's own channel ──────────────── and is idle again
//! close: the socket closes ─► exits; the kernel ends every process of the session
//! ```
//!
//! The host process never forks. This crate embeds the init program and starts it with
//! `posix_spawn`, whose cost does not grow with the host's memory. The source of init is in `init/`
//! of this crate.

#![cfg(target_os = "linux")]

mod access;
mod anchors;
mod attached;
mod attached_outcome;
mod builder;
mod cgroup;
mod changes;
mod closed;
mod connection;
mod denied_paths;
mod encoder;
mod engine;
mod error;
mod exchange;
mod exec;
mod filter;
mod indexes;
mod inherited;
#[cfg(test)]
mod init_tests;
mod inner;
mod launch;
mod memory_file;
mod memory_kills;
mod network;
mod outcome;
mod outstanding;
mod overlay;
mod permissions;
mod plan;
mod prestart;
mod probe;
mod process;
mod pseudo_terminal;
mod quarantine;
mod refresh;
mod refs;
mod registry;
mod remedy;
mod request;
mod settings;
mod settlement;
mod shell;
mod size;
mod stdio;
mod streams;
mod support;
mod temporary;
mod terminal;
mod tree;
mod verdict;
#[path = "../init/wire.rs"]
#[expect(unreachable_pub, reason = "the file is compiled into the init program too")]
mod wire;
mod wrapped;
mod zones;

pub use attached::AttachedCommand;
pub use attached_outcome::{AttachedEvent, AttachedOutcome};
pub use builder::NativeSandboxBuilder;
pub use engine::NativeSandbox;
pub use error::{OpenError, OpenErrorKind};
pub use inherited::{inherited_descriptor, wait_until_readable};
pub(crate) use memory_file::memory_file;
pub use network::{BestCapture, NetworkError, NetworkErrorKind, NetworkListeners};
pub use overlay::Overlay;
pub use probe::probe;
pub use pseudo_terminal::{
    PseudoTerminal, RawTerminal, TerminalSize, discard_input, read_terminal,
};
pub use support::unsupported_network_key;
pub use tree::HostTree;
pub use wrapped::WrappedEnd;
