//! Messages and files between the host and a session's init. Both sides compile this file.
//!
//! All numbers are little-endian. A *text* is `u32` its length, its bytes, and a NUL. A *list* is
//! `u32` a count, and that number of elements.
//!
//! # The plan
//! Init maps it as a file in memory:
//!
//! | type | content |
//! |---|---|
//! | `u32` | `TIER_…` |
//! | `u32` | highest process id in a command's namespace; 0 before Linux 6.14 |
//! | `u32` | maximum number of files in a private directory |
//! | list | limits (`setrlimit(2)`): `u32` resource, `u64` soft limit, `u64` hard limit |
//! | `u32` | tag that exempts init's own calls from notification; 0 without notifications |
//! | 2 × `u64` | secret with which init connects sockets; 0 without Unix sockets of the session |
//! | list | init's filter (`seccomp(2)`): 8 bytes of `struct sock_filter` |
//! | list | the filter that workers load over it |
//! | text | path of the session's control group; empty without one |
//! | `u64` | memory of a command in bytes |
//! | `u32` | processes of a command |
//! | `u64` | processor time of a command in µs; 0 without a limit |
//! | list | settings of the namespaces: `u32` `BOUND_…`, text file below `/proc`, text value |
//! | list | operations: `u32` `OP_…`, `u32` argument, text |
//! | list | texts: patterns of the names that the host watches for |
//! | list | texts: patterns of the names in the next two lists |
//! | list | texts: denied paths |
//! | list | texts: patterns of denied paths |
//! | list | texts: `ZONE_…` in one byte, and the path of a directory; the deepest first |
//!
//! The first message on the socket for updates is 4 bytes with a descriptor of the host process
//! (`pidfd_open(2)`).
//!
//! An *update* of the plan is one message on a socket for updates, with a file in memory. The file
//! has the part of the plan that starts with the operations. The answer is `i32` an errno, or 0.
//! The operations of an update can only hide and protect. Its lists replace the previous lists.
//!
//! # The network
//! A message on the socket for updates without a file is `u32` `REQUEST_…`, and:
//!
//! | request | content | answer |
//! |---|---|---|
//! | [`REQUEST_NETWORK`] | `u32` the best `CAPTURE_…`; for each port `u32` | see below |
//! | [`REQUEST_CREATIONS`] | | `i32` 0; `u32` the number of watched creations |
//! | [`REQUEST_DIAL`] | `u32` a port, `u32` `DIAL_…` | `i32` an errno, or 0 and a socket |
//!
//! The answer about the network is `i32` an errno, or 0; `u32` `CAPTURE_…`; `u32` `NETWORK_…`
//! flags; `u32` `CAPTURE_STEP_…` that failed, or 0; `i32` its errno; for each captured port `u32`.
//! Its descriptors are the listener of the proxy, then, unless the capture is
//! [`CAPTURE_VARIABLES`], the socket for DNS, and one listener for all ports or one for each.
//!
//! # Commands
//! A *command* is one message on the control socket, with the descriptors standard input, output
//! and error, and the command's own channel. The message is the body. A body that is too long for a
//! message is in a file in memory, which is the fifth descriptor:
//!
//! | type | content |
//! |---|---|
//! | `u32` | `COMMAND_…` flags |
//! | text | shell |
//! | text | working directory |
//! | text | command |
//! | list | variables: text `NAME=value` |
//!
//! A command *in a terminal* ([`COMMAND_IN_TERMINAL`]) has a pseudo-terminal, whose other end stays
//! with the host, as one or more of its standard streams. It becomes the controlling terminal.
//!
//! A *deferred* command ([`COMMAND_DEFERRED`]) has an empty text. The shell starts at once, and
//! waits for the text on the command's channel.
//!
//! The client of a *wrapped command* sends the command's number in decimal digits, with its
//! standard input, output and error. It receives the command's channel, with `i32` the timeout of
//! the command and `i32` the time for processes that outlive the shell, in milliseconds. When the
//! command has exited, the client sends the report, and receives a *notice*: `i32` an exit code
//! that replaces 0, and a text for standard error. A notice instead of the channel is a refusal.

#![expect(dead_code, reason = "each side uses its own half")]

/// Message that replaces a body in a file.
pub const BODY_IN_FILE: u32 = 0;
/// Maximum length of a message on the control socket. A longer body is in a file in memory.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Number of variables in the environment of a command for which the worker has room. More take
/// memory of their own.
pub const USUAL_VARIABLES: usize = 512;

/// Flag: the command follows on the channel.
pub const COMMAND_DEFERRED: u32 = 1;
/// Flag: the worker reports that the shell was stopped.
pub const COMMAND_REPORTS_STOPS: u32 = 1 << 1;
/// Flag: a standard stream of the command is its terminal.
pub const COMMAND_IN_TERMINAL: u32 = 1 << 2;
/// Flag: the shell starts in the foreground of its terminal.
pub const COMMAND_IN_FOREGROUND: u32 = 1 << 3;
/// Flag: processes may outlive the shell ([`RESULT_LINGERS`]).
pub const COMMAND_MAY_LINGER: u32 = 1 << 4;
/// Maximum length of a deferred command in bytes, without its NUL.
pub const MAX_DEFERRED_BYTES: usize = 16 * 1024 - 1;

/// Request for the listeners of the session's network. Init answers it once.
pub const REQUEST_NETWORK: u32 = 1;
/// Request for a connection to a port of the session's loopback.
pub const REQUEST_DIAL: u32 = 2;
/// Request for the number of calls that may have created a watched name.
pub const REQUEST_CREATIONS: u32 = 3;
/// Connect to `127.0.0.1`.
pub const DIAL_IPV4: u32 = 1;
/// Connect to `::1`.
pub const DIAL_IPV6: u32 = 2;
/// Maximum number of ports in a request for the network.
pub const MAX_PORTS: usize = 64;
/// Length of the answer about the network, without its ports.
pub const NETWORK_ANSWER_BYTES: usize = 20;

/// No connection is captured. Programs that follow the proxy variables reach the proxy.
pub const CAPTURE_VARIABLES: u32 = 1;
/// Connections to some ports are captured, and queries for names.
pub const CAPTURE_PORTS: u32 = 2;
/// Connections to every port are captured, and queries for names.
pub const CAPTURE_EVERY_PORT: u32 = 3;
/// Flag: the capture includes IPv6.
pub const NETWORK_HAS_IPV6: u32 = 1;

/// Add an address. This and the following are the steps of the capture.
pub const CAPTURE_STEP_ADDRESS: u32 = 1;
/// Route every address to the loopback.
pub const CAPTURE_STEP_ROUTES: u32 = 2;
/// Open the socket for DNS.
pub const CAPTURE_STEP_DNS: u32 = 3;
/// Open a listener for captured connections.
pub const CAPTURE_STEP_LISTENER: u32 = 4;
/// Add the rules of the packet filter.
pub const CAPTURE_STEP_RULES: u32 = 5;

/// Port of the proxy, unless a command has taken it.
pub const PROXY_PORT: u16 = 3128;
/// Port of the listener for all captured connections. Commands cannot bind a port below 1024.
pub const TRANSPARENT_PORT: u16 = 1;

/// The session has its own namespaces, and the operations are mounts.
pub const TIER_NAMESPACES: u32 = 1;
/// The session shares the host's namespaces, and commands can open only what the operations allow.
pub const TIER_LANDLOCK: u32 = 2;
/// First version of Landlock that can keep a command from truncating files (Linux 6.2).
pub const MIN_LANDLOCK_ABI: u32 = 3;

/// The host's whole tree. The argument is [`READ_ONLY`] or [`READ_WRITE`].
pub const OP_ROOT: u32 = 1;
/// A new, empty, writable directory in memory. The argument is its size limit in MiB.
pub const OP_PRIVATE: u32 = 2;
/// An empty, read-only directory.
pub const OP_HIDE_DIRECTORY: u32 = 3;
/// Like [`OP_HIDE_DIRECTORY`], for a directory with mount points of later operations.
pub const OP_HIDE_AROUND: u32 = 4;
/// A file that cannot be opened.
pub const OP_HIDE_FILE: u32 = 5;
/// The host's file or directory at the same path. The argument is [`READ_ONLY`] or [`READ_WRITE`].
pub const OP_BIND: u32 = 6;

/// A symlink of the host, bound onto itself so that it stays.
pub const OP_PIN_LINK: u32 = 8;

/// The file of the host that the next [`OP_OVERLAY`] shows.
pub const OP_SOURCE: u32 = 9;
/// The file of the last [`OP_SOURCE`], read-only over another one.
pub const OP_OVERLAY: u32 = 10;

/// A directory below which no name can be created that makes its directory a git repository.
pub const ZONE_NO_REPOSITORIES: u32 = 1;
/// A directory below which no symlink can be created.
pub const ZONE_GIT_DIRECTORY: u32 = 2;
/// A directory with the rules of both.
pub const ZONE_GIT_CONTAINER: u32 = 3;
/// A directory below which any name can be created.
pub const ZONE_FREE: u32 = 4;

/// Access to a path and everything below it, with Landlock. The argument is [`READ_ONLY`],
/// [`READ_WRITE`] or [`DEVICE`].
pub const OP_ALLOW: u32 = 7;

/// Argument of [`OP_ROOT`], [`OP_BIND`] and [`OP_ALLOW`].
pub const READ_ONLY: u32 = 0;
/// Argument of [`OP_ROOT`], [`OP_BIND`] and [`OP_ALLOW`].
pub const READ_WRITE: u32 = 1;
/// Argument of [`OP_ALLOW`]: reads, writes, and the calls of a device (`ioctl(2)`).
pub const DEVICE: u32 = 2;

/// Message of the launcher with the process id of init: `u32` [`MSG_INIT`], `u32` pid.
pub const MSG_INIT: u32 = 1;
/// Message of init that the session accepts commands: `u32` [`MSG_READY`], `u32` version of
/// Landlock, 0 without it, and `u32` the `BOUND_…` flags of the settings that the kernel denies.
pub const MSG_READY: u32 = 2;
/// Message of init with a descriptor of the session's own `/tmp`: `u32` [`MSG_TMP`]. It comes
/// before [`MSG_READY`], and only if the session has such a mount.
pub const MSG_TMP: u32 = 4;
/// Flag of the settings that bound inotify.
pub const BOUND_INOTIFY: u32 = 1;
/// Flag of the settings that bound the objects of System V IPC and POSIX message queues.
pub const BOUND_IPC: u32 = 1 << 1;
/// Message of init that the setup failed: `u32` [`MSG_FAILED`], `u32` `STEP_…`, `u32` errno, and
/// the path of the step.
pub const MSG_FAILED: u32 = 3;

/// The shell has exited, and the value is its exit code.
///
/// A report of a worker on a command's channel is `u32` `RESULT_…`, `u32` value, `u32` `LIMIT_…`,
/// `u32` the number of connections of this session without a route while the command ran, and `u32`
/// the number of calls in this session that may have created a watched name. The host can send
/// `u32` the number of a signal for the shell's process group on the same channel, or
/// [`TO_FOREGROUND`] or [`TO_BACKGROUND`].
pub const RESULT_EXITED: u32 = 1;
/// The value is the signal that killed the shell.
pub const RESULT_SIGNALED: u32 = 2;
/// The working directory cannot be entered. The value is the errno.
pub const RESULT_NO_DIRECTORY: u32 = 3;
/// The shell cannot be executed. The value is the errno.
pub const RESULT_NO_SHELL: u32 = 4;
/// The request is invalid. The value is the errno.
pub const RESULT_BAD_REQUEST: u32 = 5;

/// The shell was stopped, and is alive. The value is the signal. This report is not the last one.
pub const RESULT_STOPPED: u32 = 6;

/// The shell has exited, and other processes of the command are alive. They may run until the host
/// closes its sending side of the channel. This report is not the last one.
pub const RESULT_LINGERS: u32 = 7;
/// The worker has killed processes that outlived the shell. The value is the length of their names,
/// each with a NUL, which follow. This report is not the last one.
pub const RESULT_KILLED: u32 = 8;
/// Maximum length of these names together.
pub const MAX_NAMES_BYTES: usize = 1024;

/// Instead of a signal: the shell's process group becomes the foreground of its terminal.
pub const TO_FOREGROUND: u32 = 1 << 16;
/// Instead of a signal: the shell's process group leaves the foreground of its terminal.
pub const TO_BACKGROUND: u32 = 1 << 17;

/// Maximum length of a notice to the client of a wrapped command.
pub const MAX_NOTICE_BYTES: usize = 2048;
/// Length of a report.
pub const REPORT_BYTES: usize = 20;
/// The command reached no limit of its control group, or has no group.
pub const LIMIT_NONE: u32 = 0;
/// The kernel killed a process because memory had run out.
pub const LIMIT_MEMORY: u32 = 1;
/// The kernel denied a new process.
pub const LIMIT_PROCESSES: u32 = 2;
/// The processor time was used up.
pub const LIMIT_PROCESSOR_TIME: u32 = 3;

/// Read the plan. This and the following are the steps of the setup, for [`MSG_FAILED`].
pub const STEP_PLAN: u32 = 1;
/// Create the user namespace.
pub const STEP_USER_NAMESPACE: u32 = 2;
/// Map the caller's user and group into it.
pub const STEP_ID_MAP: u32 = 3;
/// Create the other namespaces.
pub const STEP_NAMESPACES: u32 = 4;
/// Start the init process in them.
pub const STEP_FORK: u32 = 5;
/// Copy the host's tree.
pub const STEP_ROOT: u32 = 6;
/// Apply one operation of the plan.
pub const STEP_MOUNT: u32 = 7;
/// Create `/dev`.
pub const STEP_DEV: u32 = 8;
/// Mount `/proc`.
pub const STEP_PROC: u32 = 9;
/// Change the root.
pub const STEP_PIVOT: u32 = 10;
/// Drop privileges and load the filter.
pub const STEP_PRIVILEGES: u32 = 11;
/// Create the Landlock ruleset. The errno is 0 if the kernel's version is too old.
pub const STEP_LANDLOCK: u32 = 12;
/// Add the rule for one path.
pub const STEP_ALLOW: u32 = 13;
/// Become the parent of orphans of commands.
pub const STEP_ORPHANS: u32 = 14;
/// Start the session's processes in its control group.
pub const STEP_GROUP: u32 = 15;
