//! What the host process and a session's init say to each other; both sides compile this file.
//!
//! All numbers are little-endian. The *plan* is a file in memory that init maps:
//!
//! ```text
//! u32 TIER_…
//! u32 the highest process id in a command's namespace, or 0 where the kernel has one for all (before 6.14)
//! u32 count, then each limit:      u32 resource, u64 soft, u64 hard        (setrlimit(2))
//! u32 a number by which init's filter knows init's own calls when it has the kernel ask init about what is made; 0: it does not ask
//! u32 count, then each instruction of init's filter: 8 bytes of struct sock_filter   (seccomp(2))
//! u32 count, then each instruction of the filter that workers load over it
//! text the session's control group, empty without one; u64 a command's memory in bytes, u32 its processes, u64 its processor time in µs or 0
//! u32 count, then each operation:  u32 OP_…, u32 argument, text
//! u32 count, then each text: a pattern on names of which the host wants to hear when one is made
//! u32 count, then each text: a pattern on the names in the two lists that follow
//! u32 count, then each text: a path at which nothing may be made
//! u32 count, then each text: a pattern on such paths
//! text = u32 length, the bytes, NUL
//! ```
//!
//! What comes to the plan later is one message on a socket of its own, with a file in memory that
//! holds the part from the operations on; the answer is `i32` an errno, or 0. Operations can only
//! hide and protect then, and the lists take the index of those before.
//!
//! A *command* is one message on the control socket, with the descriptors standard input, output,
//! error and the command's own channel. Its body stands in the message, or, where it is too long,
//! in a file in memory that is passed as fifth descriptor:
//!
//! ```text
//! u32 COMMAND_…, text shell, text working directory, text command, u32 count, each variable: text NAME=value
//! ```
//!
//! The client of a *wrapped command* sends the command's number, in decimal digits, with its
//! standard input, output and error, and gets the command's channel with `i32` how long the command
//! may run in milliseconds.
//!
//! A command that comes later ([`COMMAND_DEFERRED`]) leaves its text empty. The shell is started at
//! once, and waits for `u32 length, the bytes, NUL` on the command's channel.

#![allow(dead_code, reason = "each side uses its own half")]

/// The message that is sent in place of a body, if the body is in a file.
pub const BODY_IN_FILE: u32 = 0;
/// The longest message on the control socket; a longer body travels in a file in memory.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The most variables in one command's environment.
pub const MAX_VARIABLES: usize = 4096;

/// The command stands in the message.
pub const COMMAND_NOW: u32 = 0;
/// The command comes on the channel.
pub const COMMAND_DEFERRED: u32 = 1;
/// The longest command that may come later, in bytes without its NUL.
pub const MAX_DEFERRED_BYTES: usize = 16 * 1024 - 1;

/// Namespaces of the session's own, with the operations as mounts.
pub const TIER_NAMESPACES: u32 = 1;
/// The host's namespaces; what the operations allow is all that commands can open.
pub const TIER_LANDLOCK: u32 = 2;
/// The first version of Landlock that keeps a command from cutting files short (Linux 6.2).
pub const MIN_LANDLOCK_ABI: u32 = 3;

/// The host's whole tree; argument: [`READ_ONLY`] or [`READ_WRITE`].
pub const OP_ROOT: u32 = 1;
/// A fresh, empty, writable directory in memory; argument: its size limit in MiB.
pub const OP_PRIVATE: u32 = 2;
/// An empty directory that nobody can write to.
pub const OP_HIDE_DIRECTORY: u32 = 3;
/// The same, for a directory in which later operations mount something.
pub const OP_HIDE_AROUND: u32 = 4;
/// A file that cannot be opened.
pub const OP_HIDE_FILE: u32 = 5;
/// The host's file or directory of the same path; argument: [`READ_ONLY`] or [`READ_WRITE`].
pub const OP_BIND: u32 = 6;

/// With Landlock: opens a path and everything below it; argument: [`READ_ONLY`], [`READ_WRITE`] or
/// [`DEVICE`].
pub const OP_ALLOW: u32 = 7;

/// Argument of [`OP_ROOT`], [`OP_BIND`] and [`OP_ALLOW`].
pub const READ_ONLY: u32 = 0;
/// Argument of [`OP_ROOT`], [`OP_BIND`] and [`OP_ALLOW`].
pub const READ_WRITE: u32 = 1;
/// Argument of [`OP_ALLOW`]: reading, writing, and the calls of a device (`ioctl(2)`).
pub const DEVICE: u32 = 2;

/// From init: the process id of the session's init, `u32 MSG_INIT, u32 pid`.
pub const MSG_INIT: u32 = 1;
/// From init: the session takes commands, `u32 MSG_READY, u32 version of Landlock`, 0 without it.
pub const MSG_READY: u32 = 2;
/// From init: it cannot be set up, `u32 MSG_FAILED, u32 STEP_…, u32 errno`, then the path in
/// question.
pub const MSG_FAILED: u32 = 3;

/// On a command's channel, from the host: `u32` the number of a signal for the shell's process
/// group. From the worker: `u32 RESULT_…, u32 value, u32 LIMIT_…`, and `u32` how often in this
/// session something was made under a name that the host wants to hear of.
pub const RESULT_EXITED: u32 = 1;
/// The shell was killed by the signal in the value.
pub const RESULT_SIGNALED: u32 = 2;
/// The working directory cannot be entered; the value is the errno.
pub const RESULT_NO_DIRECTORY: u32 = 3;
/// The shell cannot be executed; the value is the errno.
pub const RESULT_NO_SHELL: u32 = 4;
/// The request cannot be carried out as it stands; the value is the errno.
pub const RESULT_BAD_REQUEST: u32 = 5;

/// How long a worker's report is.
pub const REPORT_BYTES: usize = 16;
/// The command ran into no limit that its control group has, or has no group.
pub const LIMIT_NONE: u32 = 0;
/// A process was killed because memory had run out.
pub const LIMIT_MEMORY: u32 = 1;
/// A new process was refused.
pub const LIMIT_PROCESSES: u32 = 2;
/// The processor time was used up.
pub const LIMIT_PROCESSOR_TIME: u32 = 3;

/// Steps of the setup, for [`MSG_FAILED`].
pub const STEP_PLAN: u32 = 1;
/// Making the user namespace.
pub const STEP_USER_NAMESPACE: u32 = 2;
/// Mapping the caller's own user and group into it.
pub const STEP_ID_MAP: u32 = 3;
/// Making the other namespaces.
pub const STEP_NAMESPACES: u32 = 4;
/// Starting the init process in them.
pub const STEP_FORK: u32 = 5;
/// Taking over the host's tree.
pub const STEP_ROOT: u32 = 6;
/// One operation of the plan.
pub const STEP_MOUNT: u32 = 7;
/// Making `/dev`.
pub const STEP_DEV: u32 = 8;
/// Mounting `/proc`.
pub const STEP_PROC: u32 = 9;
/// Leaving the host's tree.
pub const STEP_PIVOT: u32 = 10;
/// Giving up privileges and loading the filter.
pub const STEP_PRIVILEGES: u32 = 11;
/// Making the set of rules of Landlock; the errno is 0 where the kernel's version is too old.
pub const STEP_LANDLOCK: u32 = 12;
/// Opening one path by such a rule.
pub const STEP_ALLOW: u32 = 13;
/// Seeing to it that orphans of commands are found.
pub const STEP_ORPHANS: u32 = 14;
/// Starting the session's processes in its control group.
pub const STEP_GROUP: u32 = 15;
