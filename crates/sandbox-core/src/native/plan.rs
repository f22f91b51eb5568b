//! The plan of a session's setup, encoded for init.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::{AllowList, BindAccess, CreationRules, MountOp, MountPlan};
use rustix::process::{Resource, getrlimit};

use super::cgroup::SessionGroup;
use super::encoder::Encoder;
use super::filter::{self, Attributes, UnixSockets};
use super::overlay::Overlay;
use super::settings;
use super::tree::SessionDirectories;
use super::wire;
use crate::sandbox::Limits;

/// The smallest limit that the kernel accepts as the highest process id. It reserves the first 300.
const MIN_PROCESSES: u32 = 320;
/// Time between `SIGXCPU` and `SIGKILL` for a process that ignores the former.
const CPU_GRACE_SECONDS: u64 = 5;

/// Returns the directories that are private to every session, if they exist on the host.
pub(super) fn private_directories() -> Vec<PathBuf> {
    ["/tmp", "/var/tmp"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

/// Returns the directories that a session on the namespaces tier has instead of the host's.
pub(super) fn session_directories() -> SessionDirectories {
    let own = vec!["/dev".into(), "/proc".into()];
    SessionDirectories { private: private_directories(), own }
}

/// Encodes limits, filters, mounts and overlays in the layout of `wire`. `group` is the session's
/// control group, if it has one.
pub(super) fn encode(
    mounts: &MountPlan,
    overlays: &[Overlay],
    limits: &Limits,
    unix_sockets: UnixSockets,
    group: Option<&SessionGroup>,
) -> Vec<u8> {
    let max_pid =
        if limits_processes() && group.is_none() { limits.processes.max(MIN_PROCESSES) } else { 0 };
    let bypass_tag = bypass_tag(&mounts.creation_rules);
    let filters = Filters {
        bypass_tag,
        secret: unix_sockets.secret(),
        of_init: filter::session_program(unix_sockets, bypass_tag),
        of_workers: filter::worker_program(),
    };
    let mut plan = head(wire::TIER_NAMESPACES, max_pid, limits, &filters, group);
    settings::encode(&mut plan, limits);
    plan.operations(&mounts.ops, overlays, limits);
    plan.creation_rules(&mounts.creation_rules);
    plan.0
}

/// Encodes an update of the mounts and the creation rules in the layout of `wire`.
pub(super) fn encode_additions(ops: &[MountOp], rules: &CreationRules) -> Vec<u8> {
    let mut plan = Encoder::default();
    plan.operations(ops, &[], &Limits::default());
    plan.creation_rules(rules);
    plan.0
}

/// Stateless devices that every command may use on the Landlock tier.
pub(super) const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// Facts about the whole machine that every command may read on the Landlock tier.
pub(super) const FACTS: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
];

/// Encodes limits, filters and Landlock rules in the layout of `wire`.
pub(super) fn encode_rules(
    list: &AllowList,
    rules: &CreationRules,
    limits: &Limits,
    attributes: Attributes,
    group: Option<&SessionGroup>,
) -> Vec<u8> {
    let bypass_tag = bypass_tag(rules);
    let of_init = filter::session_program(UnixSockets::Denied, bypass_tag);
    let filters = Filters {
        bypass_tag,
        secret: UnixSockets::Denied.secret(),
        of_init,
        of_workers: filter::worker_program_without_namespaces(attributes),
    };
    let mut plan = head(wire::TIER_LANDLOCK, 0, limits, &filters, group);
    // The settings of the host are not the session's.
    plan.count(0);
    plan.count(list.rules.len() + DEVICES.len() + FACTS.len());
    let mut rule = |argument, path: &Path| {
        plan.u32(wire::OP_ALLOW);
        plan.u32(argument);
        plan.text(path.as_os_str().as_bytes());
    };
    for allowed in &list.rules {
        let argument = match allowed.access {
            BindAccess::ReadOnly => wire::READ_ONLY,
            BindAccess::ReadWrite => wire::READ_WRITE,
        };
        rule(argument, &allowed.path);
    }
    DEVICES.iter().for_each(|path| rule(wire::DEVICE, path.as_ref()));
    FACTS.iter().for_each(|path| rule(wire::READ_ONLY, path.as_ref()));
    plan.creation_rules(rules);
    plan.0
}

/// The system call filters of init and of its workers.
struct Filters {
    /// Tag that exempts init's own calls from notification; `None` without notification.
    bypass_tag: Option<u32>,
    /// Marks the calls with which init connects sockets; zero if it connects none.
    secret: [u64; 2],
    of_init: Vec<u8>,
    of_workers: Vec<u8>,
}

fn head(
    tier: u32,
    max_pid: u32,
    limits: &Limits,
    filters: &Filters,
    group: Option<&SessionGroup>,
) -> Encoder {
    let mut plan = Encoder::default();
    plan.u32(tier);
    plan.u32(max_pid);
    // The root of a private directory is a file too, and 0 would mean no limit.
    plan.u32(limits.tmp_files.saturating_add(1));
    let resources = resources(limits, group);
    plan.count(resources.len());
    for (resource, soft, hard) in resources {
        plan.u32(resource);
        plan.u64(soft);
        plan.u64(hard);
    }
    plan.u32(filters.bypass_tag.unwrap_or(0));
    filters.secret.into_iter().for_each(|number| plan.u64(number));
    plan.filter(&filters.of_init);
    plan.filter(&filters.of_workers);
    plan.text(group.map_or(&b""[..], |group| group.path().as_os_str().as_bytes()));
    plan.u64(limits.command_memory_bytes);
    plan.u32(limits.processes);
    plan.u64(
        limits
            .cpu_time
            .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)),
    );
    plan
}

/// Returns whether `kernel.pid_max` belongs to the process namespace (Linux 6.14). On older kernels
/// it belongs to the whole machine, so the engine does not change it.
pub(super) fn limits_processes() -> bool {
    has_limit(rustix::system::uname().release())
}

fn has_limit(release: &CStr) -> bool {
    let mut numbers = release
        .to_str()
        .unwrap_or_default()
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

/// Part of a limit of the user that the commands of one session can take.
const SHARE: u64 = 4;
/// Limit that is divided if the user has none.
const DEFAULT_SHARED: u64 = 1 << 20;

/// Returns `RLIMIT_…` numbers (`asm-generic/resource.h`) with their soft and hard values, none
/// above the host's.
fn resources(limits: &Limits, group: Option<&SessionGroup>) -> Vec<(u32, u64, u64)> {
    let within = |resource, wanted: u64| {
        getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted))
    };
    let same = |number, resource, wanted| {
        let limit = within(resource, wanted);
        (number, limit, limit)
    };
    // The kernel counts these for all programs of a user together.
    let part = |number, resource| {
        let all = getrlimit(resource).current.unwrap_or(DEFAULT_SHARED);
        (number, all / SHARE, all / SHARE)
    };
    let mut resources = vec![
        same(1, Resource::Fsize, limits.file_bytes),
        same(2, Resource::Data, limits.memory_bytes),
        (4, 0, 0),
        same(7, Resource::Nofile, limits.open_files),
        // Timers (`timer_create(2)`) and signals that wait, and the bytes of POSIX queues.
        part(11, Resource::Sigpending),
        part(12, Resource::Msgqueue),
    ];
    // A control group counts the processes of one command. This limit counts all of the user.
    if group.is_none() {
        resources.push(same(6, Resource::Nproc, limits.processes.max(MIN_PROCESSES).into()));
    }
    if let Some(time) = limits.cpu_time {
        // The kernel treats zero as one second.
        let soft = time.as_secs().max(1);
        let hard = within(Resource::Cpu, soft + CPU_GRACE_SECONDS);
        resources.push((0, soft.min(hard), hard));
    }
    resources
}

/// Returns a random tag that exempts init's own `mkdirat` calls from notification, or `None` if
/// there are no creation rules.
///
/// A command that guessed it would skip the early denial but not the check after it exits.
fn bypass_tag(rules: &CreationRules) -> Option<u32> {
    if rules.is_empty() {
        return None;
    }
    let mut random = [0; 4];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    Some(u32::from_ne_bytes(random) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_14_have_no_limit_per_namespace() {
        for (release, expected) in [
            (c"6.14.0", true),
            (c"6.18.5-generic", true),
            (c"7.0-rc1", true),
            (c"6.13.12", false),
            (c"5.15.0-91-generic", false),
            (c"6.1", false),
            (c"odd", false),
        ] {
            assert_eq!(has_limit(release), expected, "{release:?}");
        }
    }
}
