//! The plan that a session's init carries out, encoded for it.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::{AllowList, BindAccess, CreationRules, DeniedPath, MountOp, MountPlan};
use rustix::process::{Resource, getrlimit};

use super::cgroup::SessionGroup;
use super::filter::{self, Attributes, UnixSockets};
use super::wire;
use crate::sandbox::Limits;

/// Fewer than this the kernel does not take as the highest process id: it keeps the first 300 for
/// itself.
const MIN_PROCESSES: u32 = 320;
/// How long after `SIGXCPU` a process that ignores it is killed.
const CPU_GRACE_SECONDS: u64 = 5;

/// The directories that every session has for itself, where the host has them.
pub(super) fn private_directories() -> Vec<PathBuf> {
    ["/tmp", "/var/tmp"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

/// Limits, filters and mounts, by the layout of `wire`; `group` is the session's control group, if
/// it has one.
pub(super) fn encode(
    mounts: &MountPlan,
    limits: &Limits,
    unix_sockets: UnixSockets,
    group: Option<&SessionGroup>,
) -> Vec<u8> {
    let max_pid =
        if limits_processes() && group.is_none() { limits.processes.max(MIN_PROCESSES) } else { 0 };
    let bypass_tag = bypass_tag(&mounts.creation_rules);
    let filters = Filters {
        bypass_tag,
        of_init: filter::session_program(unix_sockets, bypass_tag),
        of_workers: filter::worker_program(),
    };
    let mut plan = head(wire::TIER_NAMESPACES, max_pid, limits, &filters, group);
    plan.operations(&mounts.ops, limits);
    plan.creation_rules(&mounts.creation_rules);
    plan.0
}

/// What comes to a plan later, by the layout of `wire`.
pub(super) fn encode_additions(ops: &[MountOp], rules: &CreationRules) -> Vec<u8> {
    let mut plan = Encoder::default();
    plan.operations(ops, &Limits::default());
    plan.creation_rules(rules);
    plan.0
}

/// What every command may use beside the files of its policy: devices without a state, and what the
/// kernel tells of the machine as a whole.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
const FACTS: [&str; 9] = [
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

/// Limits, filters and rules of Landlock, in the same way.
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
        of_init,
        of_workers: filter::worker_program_without_namespaces(attributes),
    };
    let mut plan = head(wire::TIER_LANDLOCK, 0, limits, &filters, group);
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

/// The filter that init loads, by which it may be asked, and that of slots.
struct Filters {
    bypass_tag: Option<u32>,
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
    let resources = resources(limits, group);
    plan.count(resources.len());
    for (resource, soft, hard) in resources {
        plan.u32(resource);
        plan.u64(soft);
        plan.u64(hard);
    }
    plan.u32(filters.bypass_tag.unwrap_or(0));
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

/// Whether `kernel.pid_max` belongs to the process namespace (Linux 6.14). Before that it is the
/// whole machine's, and nobody's to change here.
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

/// `RLIMIT_…` numbers of x86-64 (`asm-generic/resource.h`) with their soft and hard values; none
/// above the host's own.
fn resources(limits: &Limits, group: Option<&SessionGroup>) -> Vec<(u32, u64, u64)> {
    let within = |resource, wanted: u64| {
        getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted))
    };
    let same = |number, resource, wanted| {
        let limit = within(resource, wanted);
        (number, limit, limit)
    };
    let mut resources = vec![
        same(1, Resource::Fsize, limits.file_bytes),
        same(2, Resource::Data, limits.memory_bytes),
        (4, 0, 0),
        same(7, Resource::Nofile, limits.open_files),
    ];
    // A group counts those of one command; this would count all of the user.
    if group.is_none() {
        resources.push(same(6, Resource::Nproc, limits.processes.max(MIN_PROCESSES).into()));
    }
    if let Some(time) = limits.cpu_time {
        // Zero would be taken for a second anyway.
        let soft = time.as_secs().max(1);
        let hard = within(Resource::Cpu, soft + CPU_GRACE_SECONDS);
        resources.push((0, soft.min(hard), hard));
    }
    resources
}

/// A number that commands do not know, where there is something to ask about. Who knew it would not
/// be asked; what a command has made is looked at all the same.
fn bypass_tag(rules: &CreationRules) -> Option<u32> {
    if rules.is_empty() {
        return None;
    }
    let mut random = [0; 4];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    Some(u32::from_ne_bytes(random) | 1)
}

/// Writes the layout that `wire` describes.
#[derive(Debug, Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("far fewer than four thousand million of anything"));
    }

    fn operations(&mut self, ops: &[MountOp], limits: &Limits) {
        self.count(ops.len());
        for op in ops {
            let access = |access: &BindAccess| match access {
                BindAccess::ReadOnly => wire::READ_ONLY,
                BindAccess::ReadWrite => wire::READ_WRITE,
            };
            let (operation, argument) = match op {
                MountOp::Root => (wire::OP_ROOT, wire::READ_ONLY),
                MountOp::RootWritable => (wire::OP_ROOT, wire::READ_WRITE),
                MountOp::Private { .. } => (wire::OP_PRIVATE, limits.tmp_mib),
                MountOp::HideDirectory { contains_mounts: false, .. } => {
                    (wire::OP_HIDE_DIRECTORY, 0)
                }
                MountOp::HideDirectory { contains_mounts: true, .. } => (wire::OP_HIDE_AROUND, 0),
                MountOp::HideFile { .. } => (wire::OP_HIDE_FILE, 0),
                MountOp::Bind { access: how, .. } => (wire::OP_BIND, access(how)),
                // Init refuses an operation that it does not know.
                _ => (u32::MAX, 0),
            };
            self.u32(operation);
            self.u32(argument);
            self.text(op.path().unwrap_or(Path::new("/")).as_os_str().as_bytes());
        }
    }

    fn filter(&mut self, filter: &[u8]) {
        self.count(filter.len() / 8);
        self.0.extend_from_slice(filter);
    }

    /// Writes the rules that init applies when a command creates a path.
    pub(super) fn creation_rules(&mut self, rules: &CreationRules) {
        let names = rules.intercepted_names();
        let paths: Vec<PathBuf> = rules.denied_paths.iter().map(DeniedPath::path).collect();
        self.texts(rules.watched_names.iter().map(String::as_bytes));
        self.texts(names.iter().map(Vec::as_slice));
        self.texts(paths.iter().map(|path| path.as_os_str().as_bytes()));
        self.texts(rules.denied_patterns.iter().map(String::as_bytes));
    }

    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t [u8]>) {
        self.count(texts.len());
        texts.for_each(|text| self.text(text));
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_have_the_limit_are_asked_for_it() {
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
