//! Failed steps of the setup as errors, with advice to the operator of the host.

use std::io;

use rustix::io::Errno;

use super::error::OpenError;
use super::{cgroup, wire};

/// Failed step of the setup if only the control group is unavailable.
pub(super) const GROUP_STEP: &str = "start the session in its control group";

/// Converts a failure to create the init program into an error.
pub(super) fn program_error(source: io::Error) -> OpenError {
    let remedy = match Errno::from_io_error(&source) {
        // With the value 2 the kernel creates no executable file in memory (`sysctl/vm`).
        Some(Errno::ACCESS) => "allow that with `sysctl -w vm.memfd_noexec=1`",
        _ => "this needs some memory and a free descriptor",
    };
    let step = "create an executable file in memory".to_owned();
    OpenError::LayerUnavailable { step, remedy: remedy.to_owned(), source }
}

/// Converts a failure that init reports into an error. `path` is the path of the step, or empty.
pub(super) fn setup_error(step: u32, source: io::Error, path: &[u8]) -> OpenError {
    let step_name = step_name(step, &String::from_utf8_lossy(path));
    let sysctl = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/{name}"))
            .ok()
            .map(|value| value.trim().to_owned())
    };
    let mut remedy = remedy(step, &source, sysctl);
    let mut source = source;
    if needs_user_namespaces(step) {
        // The kernel's text for this number is about a full disk.
        if Errno::from_io_error(&source) == Some(Errno::NOSPC) {
            source = io::Error::new(source.kind(), "the limit on namespaces is reached");
        }
        remedy += "; or use the weaker engine: `--engine landlock`, in Rust `Tier::Landlock`";
    }
    OpenError::LayerUnavailable { remedy, step: step_name, source }
}

fn step_name(step: u32, path: &str) -> String {
    let name = match step {
        wire::STEP_USER_NAMESPACE => "create a user namespace",
        wire::STEP_ID_MAP => "map the current user into the user namespace",
        wire::STEP_NAMESPACES => "create the session's namespaces",
        wire::STEP_FORK => "start the session's init",
        wire::STEP_ROOT => "copy the host's mounts",
        wire::STEP_MOUNT => return format!("mount {path}"),
        wire::STEP_DEV => "create /dev",
        wire::STEP_PROC => "mount /proc",
        wire::STEP_PIVOT => "change the root",
        wire::STEP_PRIVILEGES => "drop privileges and load the filter",
        wire::STEP_LANDLOCK => "restrict files with Landlock",
        wire::STEP_ALLOW => return format!("allow {path} with Landlock"),
        wire::STEP_ORPHANS => "find the orphans of commands",
        wire::STEP_GROUP => GROUP_STEP,
        _ => "read the plan",
    };
    name.to_owned()
}

fn needs_user_namespaces(step: u32) -> bool {
    matches!(step, wire::STEP_USER_NAMESPACE | wire::STEP_ID_MAP | wire::STEP_NAMESPACES)
}

/// Returns advice to an operator about a failed step. `sysctl` reads a kernel setting.
fn remedy(step: u32, source: &io::Error, sysctl: impl Fn(&str) -> Option<String>) -> String {
    let errno = Errno::from_io_error(source);
    let is_denied =
        matches!(errno, Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS));
    let remedy = match step {
        step if needs_user_namespaces(step) && is_denied => namespace_remedy(errno, sysctl),
        wire::STEP_LANDLOCK => {
            "this needs Linux 6.2 or newer, with `landlock` among the security modules (`lsm=` on \
             the kernel's command line)"
        }
        wire::STEP_GROUP => cgroup::REMEDY,
        wire::STEP_ORPHANS => "this needs /proc, and a kernel with CONFIG_PROC_CHILDREN",
        wire::STEP_PROC => {
            "the surrounding container hides parts of /proc: run it with unmasked system paths \
             (for Docker `--security-opt systempaths=unconfined`)"
        }
        _ if errno == Some(Errno::NOSYS) => "this needs Linux 5.12 or newer",
        _ => "check that the path exists and that no component of it is a symlink",
    };
    remedy.to_owned()
}

/// Returns advice for a host that denies user namespaces.
fn namespace_remedy(errno: Option<Errno>, sysctl: impl Fn(&str) -> Option<String>) -> &'static str {
    let is_set = |name: &str, value: &str| sysctl(name).as_deref() == Some(value);
    if is_set("kernel/unprivileged_userns_clone", "0") {
        "allow user namespaces with `sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if is_set("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor restricts user namespaces: allow this program `userns,` in an AppArmor profile, \
         or run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    } else if is_set("user/max_user_namespaces", "0") {
        "allow user namespaces with `sysctl -w user.max_user_namespaces=15000`"
    } else if errno == Some(Errno::NOSPC) {
        "too many namespaces are in use: raise user.max_user_namespaces, or close sessions"
    } else {
        "the surrounding container or service denies user namespaces: allow unshare(2), mount(2) \
         and pivot_root(2) in its seccomp profile (for Docker `--security-opt seccomp=… \
         --security-opt systempaths=unconfined`)"
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
    fn each_setting_that_denies_user_namespaces_has_a_remedy() {
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
