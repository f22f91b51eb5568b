//! Reports of enforcement on this machine.

use policy::{AllowList, CreationRules, MountPlan};

use super::error::{OpenError, host_error};
use super::filter::{Attributes, UnixSockets};
use super::launch::{Resources, launch};
use super::network::{self, BestCapture};
use super::process::{Setup, StartedInit};
use super::{cgroup, plan, wire};
use crate::sandbox::{CaptureReport, Enforcement, EngineReport, Limits, Tier};

const NATIVE: &str = "native";
const LANDLOCK: &str = "landlock";
/// The version of Landlock that confines signals (Linux 6.12).
pub(super) const SCOPES_SINCE: u32 = 6;

/// Sets up an empty session of this tier and ends it again, in about two milliseconds. Returns a
/// report on each layer.
pub fn probe(tier: &Tier) -> EngineReport {
    let limits = Limits::default();
    match tier {
        Tier::Namespaces => {
            let mounts = MountPlan::read_only();
            let opened = UnixSockets::own().map_err(host_error("read random numbers"));
            let launched = opened.and_then(|sockets| {
                launch(&limits, None, |group| plan::encode(&mounts, &[], &limits, sockets, group))
                    .map(|(init, resources)| EngineReport {
                        capture: capture(&init),
                        ..enforced(sockets, init.setup, &resources)
                    })
            });
            launched.unwrap_or_else(|error| unavailable(NATIVE, &error))
        }
        Tier::Landlock { accepted } => {
            let (list, attributes) = (AllowList::default(), Attributes::of(accepted));
            let rules = CreationRules::default();
            match launch(&limits, None, |group| {
                plan::encode_rules(&list, &rules, &limits, attributes, group)
            }) {
                Ok((init, resources)) => {
                    enforced_by_landlock(&list, attributes, init.setup, &resources)
                }
                Err(error) => unavailable(LANDLOCK, &error),
            }
        }
    }
}

/// Opens the network of an empty session, and returns the report on its capture.
fn capture(init: &StartedInit) -> CaptureReport {
    match network::open(&init.updates, BestCapture::default(), &[]) {
        Ok(listeners) => listeners.report(),
        Err(error) => CaptureReport::none(&format!("cannot open the listeners: {error}")),
    }
}

/// Returns the report of an open sandbox on the namespace tier, which opens with every layer or not
/// at all.
pub(super) fn enforced(
    unix_sockets: UnixSockets,
    setup: Setup,
    resources: &Resources,
) -> EngineReport {
    let mut gaps = Vec::new();
    if let Resources::Processes { why } = resources {
        gaps.extend([without_group(why), UNLIMITED_WITHOUT_GROUP.to_owned()]);
        if rustix::process::geteuid().is_root() && !plan::limits_processes() {
            let gap = "the number of processes is not limited for root before Linux 6.14";
            gaps.push(gap.to_owned());
        }
    }
    for (flag, objects) in [
        (wire::BOUND_INOTIFY, "inotify instances and watches are not limited"),
        (wire::BOUND_IPC, "objects of System V IPC are not limited for this user (Linux 5.19)"),
    ] {
        if setup.unbounded & flag != 0 {
            gaps.push(format!("{objects}, because the kernel denies the settings"));
        }
    }
    EngineReport {
        engine: NATIVE,
        filesystem: Enforcement::Full,
        network: Enforcement::Full,
        capture: CaptureReport::not_open(),
        processes: Enforcement::Full,
        system_calls: match unix_sockets {
            UnixSockets::Denied | UnixSockets::Own(_) => Enforcement::Full,
            UnixSockets::Allowed(_) => weaker(&["the policy allows Unix sockets, and with them \
                                              every socket that the session can see"]),
        },
        resources: if gaps.is_empty() { Enforcement::Full } else { weaker(&gaps) },
    }
}

/// Resources that only a control group bounds; see [`Limits`].
const UNLIMITED_WITHOUT_GROUP: &str = "shared memory, files in memory, buffers of sockets and \
                                       pipes, and memory of the kernel are not limited";
/// Resources that the Landlock tier shares with the other programs of the user.
const SHARED_WITH_USER: &str = "inotify instances and watches are limited together with all \
                                others of the user";

/// Returns the gap of a session without a control group, with the reason and the remedy.
fn without_group(why: &str) -> String {
    format!(
        "memory and processor time are limited for each process, not for a command as a whole \
         ({why}; {})",
        cgroup::REMEDY
    )
}

/// Returns the report of an open sandbox on the Landlock tier.
pub(super) fn enforced_by_landlock(
    list: &AllowList,
    attributes: Attributes,
    setup: Setup,
    resources: &Resources,
) -> EngineReport {
    let mut processes = vec!["process ids of the host can be guessed"];
    if setup.landlock_abi < SCOPES_SINCE {
        processes.push("signals reach every process of the user");
    }
    EngineReport {
        engine: LANDLOCK,
        filesystem: weaker(&filesystem_gaps(list, attributes)),
        network: Enforcement::Full,
        capture: CaptureReport::none(
            "sessions without namespaces have no network; use the engine `native`",
        ),
        processes: weaker(&processes),
        system_calls: Enforcement::Full,
        resources: match resources {
            Resources::Group => {
                weaker(&["temporary files are not limited as a whole", SHARED_WITH_USER])
            }
            Resources::Processes { why } => weaker(&[
                without_group(why).as_str(),
                UNLIMITED_WITHOUT_GROUP,
                "the number of processes is limited together with all others of the user, and not \
                 for root",
                "temporary files are not limited as a whole",
                SHARED_WITH_USER,
            ]),
        },
    }
}

fn filesystem_gaps(list: &AllowList, attributes: Attributes) -> Vec<String> {
    let mut gaps = vec![
        "names, sizes and times of denied files can be probed".to_owned(),
        "files that the policy hides or protects are not covered if they appear later".to_owned(),
    ];
    if let [first, ..] = list.uncovered.as_slice() {
        gaps.push(format!(
            "{} rules inside writable directories are not enforced, such as the one for {}",
            list.uncovered.len(),
            first.display()
        ));
    }
    if !list.unlistable.is_empty() {
        gaps.push("directories that contain a denied file cannot be listed".to_owned());
    }
    if attributes == Attributes::Allowed {
        gaps.push(
            "permissions, times and attributes of every file of the user can be changed".to_owned(),
        );
    }
    gaps
}

fn weaker(gaps: &[impl AsRef<str>]) -> Enforcement {
    let gaps: Vec<&str> = gaps.iter().map(AsRef::as_ref).collect();
    Enforcement::Weaker { why: gaps.join("; ") }
}

/// Returns the report of an engine that cannot open.
fn unavailable(engine: &'static str, error: &OpenError) -> EngineReport {
    let layer =
        || Enforcement::None { why: with_cause(error), remedy: remedy_of(error).to_owned() };
    EngineReport {
        engine,
        filesystem: layer(),
        network: layer(),
        capture: CaptureReport::none("the engine does not open"),
        processes: layer(),
        system_calls: layer(),
        resources: layer(),
    }
}

fn with_cause(error: &OpenError) -> String {
    match error {
        OpenError::LayerUnavailable { step, source, .. } => format!("cannot {step}: {source}"),
        other => match std::error::Error::source(other) {
            Some(source) => format!("{other}: {source}"),
            None => other.to_string(),
        },
    }
}

fn remedy_of(error: &OpenError) -> &str {
    match error {
        OpenError::LayerUnavailable { remedy, .. } => remedy,
        OpenError::Unsupported => "use Linux on x86-64 or AArch64",
        _ => "see the error",
    }
}
