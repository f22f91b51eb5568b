//! The refresh of an open sandbox: what its policy covers by now, and did not when it was opened.
//!
//! 1. Init counts what is made under a name that may concern the policy: a repository, a name that
//!    is always protected, what a pattern hides. A command's report brings the count, and when it
//!    has grown, the policy is compiled again before the result is given out. So what a command has
//!    brought is covered from the next one on.
//! 2. Only what hides and protects is carried out, on the session's mounts as they are; commands
//!    that run meanwhile see it too, but for one whose working directory lies below it. What the
//!    policy allows, and was absent, opens when the sandbox is opened next.
//! 3. On the tier without namespaces nothing can be taken back, so there only what must not come
//!    into being is brought up to date.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use policy::MountOptions;

use super::{Inner, OpenError, plan, tree};

/// Compiles the policy again if something was made since that may concern it.
pub(super) async fn after_command(sandbox: &Arc<Inner>, arrivals: u32) {
    // A shell that could not be started has no count to tell.
    if arrivals == 0 || sandbox.compiled_at.load(Ordering::Relaxed) == arrivals {
        return;
    }
    let again = Arc::clone(sandbox);
    let refreshed = tokio::task::spawn_blocking(move || refresh(&again)).await;
    match refreshed {
        Ok(Ok(())) => sandbox.compiled_at.store(arrivals, Ordering::Relaxed),
        // The next command tries again.
        Ok(Err(error)) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the policy could not be refreshed"
        ),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the refresh was interrupted");
        }
    }
}

/// Compiles the policy against the files as they are now, and hides and protects what is new.
/// Blocks for some milliseconds.
pub(super) fn refresh(sandbox: &Inner) -> Result<(), OpenError> {
    // One at a time, or an older look could take the place of a newer one.
    let _one = sandbox.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
    let options = MountOptions { private: sandbox.private.clone() };
    let mut fresh = sandbox
        .policy
        .mounts(&tree::HostTree, &options)
        .map_err(|source| OpenError::Policy { source: Box::new(source) })?;
    let old = sandbox.mounts();
    let ops = if sandbox.has_namespaces { fresh.restrictions_beyond(&old) } else { Vec::new() };
    if ops.is_empty() && fresh.creation_rules == old.creation_rules {
        return Ok(());
    }
    let host = |source: io::Error| OpenError::Host { operation: "refresh the mounts", source };
    sandbox.init.add(&plan::encode_additions(&ops, &fresh.creation_rules)).map_err(host)?;
    // What is open stays open, and what was closed stays closed: the mounts are those of before,
    // with the new ones over them.
    fresh.ops = old.ops.iter().cloned().chain(ops).collect();
    sandbox.set_mounts(fresh);
    Ok(())
}
