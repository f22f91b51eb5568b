//! Launch of a session's init, in a control group if one is available.

use super::cgroup::{GroupChoice, SessionGroup};
use super::error::OpenError;
use super::process::{self, StartedInit};
use super::remedy::GROUP_STEP;
use crate::sandbox::{Cgroups, Limits};

/// Mechanism that limits the resources of commands.
pub(super) enum Resources {
    /// A control group of the session.
    Group,
    /// Limits of each process, because the session has no control group.
    Processes {
        /// The reason.
        why: String,
    },
}

/// Starts init in a new control group, or without one if none is available. `veto` is a reason not
/// to use a control group. `plan` encodes the plan for init.
pub(super) fn launch(
    limits: &Limits,
    veto: Option<&str>,
    plan: impl Fn(Option<&SessionGroup>) -> Vec<u8>,
) -> Result<(StartedInit, Resources), OpenError> {
    let why = match SessionGroup::choose(limits, veto)? {
        GroupChoice::Created(group) => {
            let plan = plan(Some(&group));
            match process::start(&plan, Some(group)) {
                Ok(init) => return Ok((init, Resources::Group)),
                Err(OpenError::LayerUnavailable { step, source, .. })
                    if step == GROUP_STEP && limits.cgroups == Cgroups::Automatic =>
                {
                    format!("cannot {step}: {source}")
                }
                Err(error) => return Err(error),
            }
        }
        GroupChoice::Unavailable { why } => why,
    };
    Ok((process::start(&plan(None), None)?, Resources::Processes { why }))
}
