//! What this machine lets the engine enforce, and what to do where it does not.

use std::io;

use rustix::io::Errno;

use policy::{AllowList, CreationRules};

use super::filter::{Attributes, UnixSockets};
use super::{OpenError, Resources, cgroup, plan, start, wire};
use crate::sandbox::{Enforcement, EngineReport, Limits, Tier};

/// Tries on this machine what a session on this tier needs, in about two milliseconds, and reports
/// each layer.
pub fn probe(tier: &Tier) -> EngineReport {
    let limits = Limits::default();
    match tier {
        Tier::Namespaces => {
            let mounts = policy::MountPlan::read_only();
            match start(&limits, None, |group| {
                plan::encode(&mounts, &limits, UnixSockets::Denied, group)
            }) {
                Ok((_, resources)) => enforced(UnixSockets::Denied, &resources),
                Err(error) => refused(NATIVE, &error),
            }
        }
        Tier::Landlock { accepted } => {
            let (list, attributes) = (AllowList::default(), Attributes::of(accepted));
            let encoded = |group: Option<&_>| {
                plan::encode_rules(&list, &CreationRules::default(), &limits, attributes, group)
            };
            match start(&limits, None, encoded) {
                Ok((init, resources)) => {
                    enforced_by_landlock(&list, attributes, init.landlock_abi(), &resources)
                }
                Err(error) => refused(LANDLOCK, &error),
            }
        }
    }
}

const NATIVE: &str = "native";
const LANDLOCK: &str = "native without namespaces";
/// What init could not do where only the control group is missing.
pub(super) const GROUP_STEP: &str = "start the session in its control group";
/// The version of Landlock that keeps signals inside (Linux 6.12).
pub(super) const SCOPES_SINCE: u32 = 6;

/// The report of an open sandbox: it opens with every layer or not at all.
pub(super) fn enforced(unix_sockets: UnixSockets, resources: &Resources) -> EngineReport {
    EngineReport {
        engine: NATIVE,
        filesystem: Enforcement::Full,
        network: Enforcement::Full,
        processes: Enforcement::Full,
        system_calls: match unix_sockets {
            UnixSockets::Denied => Enforcement::Full,
            UnixSockets::Allowed => Enforcement::Weaker {
                why: "the policy allows Unix sockets, and with them every socket that the session can see".to_owned(),
            },
        },
        resources: match resources {
            Resources::Group => Enforcement::Full,
            Resources::Processes { why } => {
                let mut gaps = vec![without_group(why)];
                if rustix::process::geteuid().is_root() && !plan::limits_processes() {
                    gaps.push("the number of processes is not limited for root before Linux 6.14".to_owned());
                }
                Enforcement::Weaker { why: gaps.join("; ") }
            }
        },
    }
}

/// The gap that is there without a control group, why there is none, and how to get one.
fn without_group(why: &str) -> String {
    format!(
        "memory and processor time are limited for each process, not for a command as a whole ({why}; {})",
        cgroup::REMEDY
    )
}

/// The report of a sandbox without namespaces.
pub(super) fn enforced_by_landlock(
    list: &AllowList,
    attributes: Attributes,
    abi: u32,
    resources: &Resources,
) -> EngineReport {
    let weaker = |why: &[&str]| Enforcement::Weaker { why: why.join("; ") };
    let mut files = vec![
        "names, sizes and times of what is denied can be looked for",
        "what the policy hides or protects and appears later is not covered",
    ];
    let uncovered = match list.uncovered.as_slice() {
        [] => String::new(),
        [first, ..] => format!(
            "{} rules inside writable directories do not hold, such as the one for {}",
            list.uncovered.len(),
            first.display()
        ),
    };
    files.extend(Some(uncovered.as_str()).filter(|text| !text.is_empty()));
    if !list.unlistable.is_empty() {
        files.push("directories that hold something denied cannot be listed");
    }
    if attributes == Attributes::Allowed {
        files.push("permissions, times and attributes of every file of the user can be changed");
    }
    let mut processes = vec!["ids of the host's processes can be guessed"];
    if abi < SCOPES_SINCE {
        processes.push("signals reach every process of the user");
    }
    EngineReport {
        engine: LANDLOCK,
        filesystem: weaker(&files),
        network: Enforcement::Full,
        processes: weaker(&processes),
        system_calls: Enforcement::Full,
        resources: match resources {
            Resources::Group => weaker(&["temporary files are not limited as a whole"]),
            Resources::Processes { why } => weaker(&[
                &without_group(why),
                "the number of processes is limited together with all others of the user, and not for root",
                "temporary files are not limited as a whole",
            ]),
        },
    }
}

fn refused(engine: &'static str, error: &OpenError) -> EngineReport {
    let layer = || Enforcement::None { why: chain(error), remedy: remedy_of(error).to_owned() };
    EngineReport {
        engine,
        filesystem: layer(),
        network: layer(),
        processes: layer(),
        system_calls: layer(),
        resources: layer(),
    }
}

fn chain(error: &OpenError) -> String {
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
        OpenError::Unsupported => "use Linux on x86-64",
        _ => "see the error",
    }
}

/// Makes an error of what init reports; `path` is the path in question, or empty.
pub(super) fn refusal(step: u32, source: io::Error, path: &[u8]) -> OpenError {
    let path = String::from_utf8_lossy(path);
    let step_text = match step {
        wire::STEP_USER_NAMESPACE => "make a user namespace".to_owned(),
        wire::STEP_ID_MAP => "map the own user into the user namespace".to_owned(),
        wire::STEP_NAMESPACES => "make the session's namespaces".to_owned(),
        wire::STEP_FORK => "start the session's init".to_owned(),
        wire::STEP_ROOT => "take over the host's mounts".to_owned(),
        wire::STEP_MOUNT => format!("mount {path}"),
        wire::STEP_DEV => "make /dev".to_owned(),
        wire::STEP_PROC => "mount /proc".to_owned(),
        wire::STEP_PIVOT => "change the root".to_owned(),
        wire::STEP_PRIVILEGES => "give up privileges and load the filter".to_owned(),
        wire::STEP_LANDLOCK => "restrict files with Landlock".to_owned(),
        wire::STEP_ALLOW => format!("allow {path} with Landlock"),
        wire::STEP_ORPHANS => "find the orphans of commands".to_owned(),
        wire::STEP_GROUP => GROUP_STEP.to_owned(),
        _ => "read the plan".to_owned(),
    };
    let sysctl = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/{name}"))
            .ok()
            .map(|value| value.trim().to_owned())
    };
    let mut remedy = remedy(step, &source, sysctl);
    if matches!(step, wire::STEP_USER_NAMESPACE | wire::STEP_ID_MAP | wire::STEP_NAMESPACES) {
        remedy += "; or choose the weaker tier, Landlock, by name";
    }
    OpenError::LayerUnavailable { remedy, step: step_text, source }
}

/// What an operator can do about a refused step; `sysctl` reads a kernel setting.
fn remedy(step: u32, source: &io::Error, sysctl: impl Fn(&str) -> Option<String>) -> String {
    let refused = matches!(
        Errno::from_io_error(source),
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS)
    );
    let user_namespace =
        matches!(step, wire::STEP_USER_NAMESPACE | wire::STEP_ID_MAP | wire::STEP_NAMESPACES);
    if user_namespace && refused {
        if sysctl("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
            return "allow user namespaces with `sysctl -w kernel.unprivileged_userns_clone=1`"
                .to_owned();
        }
        if sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
            return "AppArmor restricts user namespaces: allow this program `userns,` in an AppArmor profile, or run \
                    `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
                .to_owned();
        }
        if sysctl("user/max_user_namespaces").as_deref() == Some("0") {
            return "allow user namespaces with `sysctl -w user.max_user_namespaces=15000`"
                .to_owned();
        }
        if Errno::from_io_error(source) == Some(Errno::NOSPC) {
            return "too many namespaces are in use: raise user.max_user_namespaces, or close sessions".to_owned();
        }
        return "the surrounding container or service refuses user namespaces: allow unshare(2), mount(2) and pivot_root(2) in \
                its seccomp profile (for Docker `--security-opt seccomp=… --security-opt systempaths=unconfined`)"
            .to_owned();
    }
    if step == wire::STEP_LANDLOCK {
        return "this needs Linux 6.2 or newer, with `landlock` among the security modules (`lsm=` on the kernel's command line)".to_owned();
    }
    if step == wire::STEP_GROUP {
        return cgroup::REMEDY.to_owned();
    }
    if step == wire::STEP_ORPHANS {
        return "this needs /proc, and a kernel with CONFIG_PROC_CHILDREN".to_owned();
    }
    if step == wire::STEP_PROC {
        return "the surrounding container hides parts of /proc: run it with unmasked system paths (for Docker \
                `--security-opt systempaths=unconfined`)"
            .to_owned();
    }
    match Errno::from_io_error(source) {
        Some(Errno::NOSYS) => "this needs Linux 5.12 or newer".to_owned(),
        _ => "check that the path exists and that no symlink stands on the way to it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(step: u32, errno: Errno, setting: Option<(&str, &str)>, expected: &str) {
        let sysctl =
            |name: &str| setting.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        let found = remedy(step, &errno.into(), sysctl);
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn each_way_to_forbid_user_namespaces_has_its_own_remedy() {
        let step = wire::STEP_USER_NAMESPACE;
        check(
            step,
            Errno::PERM,
            Some(("kernel/unprivileged_userns_clone", "0")),
            "unprivileged_userns_clone=1",
        );
        check(
            wire::STEP_ID_MAP,
            Errno::ACCESS,
            Some(("kernel/apparmor_restrict_unprivileged_userns", "1")),
            "AppArmor",
        );
        check(
            step,
            Errno::NOSPC,
            Some(("user/max_user_namespaces", "0")),
            "user.max_user_namespaces=15000",
        );
        check(step, Errno::NOSPC, None, "close sessions");
        check(step, Errno::PERM, None, "seccomp profile");
        check(wire::STEP_PROC, Errno::PERM, None, "systempaths");
        check(wire::STEP_LANDLOCK, Errno::NOSYS, None, "Linux 6.2");
        check(wire::STEP_ORPHANS, Errno::NOENT, None, "CONFIG_PROC_CHILDREN");
        check(wire::STEP_ROOT, Errno::NOSYS, None, "Linux 5.12");
    }
}
