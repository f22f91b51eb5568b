//! Helpers that the crates of this workspace share. Not covered by semantic versioning.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::files::{
    EntryKind, ModeRecords, PASSES, ReadableDirectory, RemovalError, Subtree, Walk, WalkEntry,
    is_opened_by_grant, is_own_staged_name, is_staged_name, link_path, link_problem,
    mount_points_below, read_open, real_path, remove_tree, without_symlinks,
};
pub use crate::id::check_id;
#[cfg(all(feature = "native", target_os = "linux"))]
pub use crate::local::{LocalListener, LocalStream, MAX_DESCRIPTORS, Peer, PeerError};
#[cfg(all(feature = "native", target_os = "linux"))]
pub use crate::native::{BestCapture, unsupported_network_key};

/// Creates a sealed file in memory with this content.
///
/// # Errors
/// Returns the error of the system call.
#[cfg(all(feature = "native", target_os = "linux"))]
pub fn memory_file(name: &str, content: &[u8]) -> std::io::Result<std::os::fd::OwnedFd> {
    Ok(crate::native::memory_file(name, content, rustix::fs::MemfdFlags::NOEXEC_SEAL)?)
}

/// Sends a signal to a child of this process that was not waited for.
///
/// # Errors
/// Returns the error of the system call.
#[cfg(all(feature = "native", target_os = "linux"))]
pub fn signal_child(id: u32, number: i32) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(invalid)?;
    let signal = Signal::from_named_raw(number).ok_or_else(invalid)?;
    Ok(kill_process(id, signal)?)
}

/// Returns a report that another process made, with the layers in the order of
/// [`EngineReport::layers`](crate::EngineReport::layers).
#[cfg(feature = "sandbox")]
pub fn engine_report(engine: &'static str, layers: [crate::Enforcement; 5]) -> crate::EngineReport {
    let [filesystem, network, processes, system_calls, resources] = layers;
    // Only the process of the session uses its listeners.
    let capture = crate::CaptureReport::none("the session belongs to another process");
    crate::EngineReport { engine, filesystem, network, capture, processes, system_calls, resources }
}

/// Waits until a pipe has bytes or its other end is closed. Returns false if the time is over
/// before.
///
/// # Errors
/// Returns the error of the system call.
#[cfg(all(feature = "native", target_os = "linux"))]
pub fn is_readable_within(
    pipe: std::os::fd::BorrowedFd<'_>,
    time: std::time::Duration,
) -> std::io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let time = Timespec::try_from(time).map_err(std::io::Error::other)?;
    match poll(&mut [PollFd::from_borrowed_fd(pipe, PollFlags::IN)], Some(&time)) {
        // A read is interrupted too, or waits.
        Err(rustix::io::Errno::INTR) => Ok(true),
        ready => Ok(ready? > 0),
    }
}

/// Returns the space that a tree takes, in bytes, and the number of its entries. The directory
/// itself may deny listing to its owner.
///
/// # Errors
/// Returns the error of the system if the directory cannot be read.
#[cfg(all(feature = "native", target_os = "linux"))]
pub fn tree_usage(dir: &std::path::Path) -> std::io::Result<(u64, u64)> {
    let crate::files::Usage { bytes, files } = crate::files::usage(dir)?;
    Ok((bytes, files))
}

/// Locks a mutex. Ignores poisoning: its data must be valid after a panic at any point.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work in a thread of the tokio runtime and resumes its panic in the caller.
///
/// # Cancel safety
/// The work continues if the caller drops the future.
#[cfg(feature = "_blocking")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
