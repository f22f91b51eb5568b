//! Kernel settings of a session's own namespaces, most of which bound objects
//! (`proc_sys_kernel(5)`, `namespaces(7)`).

use super::encoder::Encoder;
use super::wire;
use crate::sandbox::Limits;

/// Size and number of the objects of System V IPC and of POSIX message queues.
///
/// They bound semaphores to about 4 MiB of kernel memory, and messages to about 32 MiB. A segment
/// is removed when its last process has exited.
const IPC: [(&str, &str); 7] = [
    ("sys/kernel/shm_rmid_forced", "1"),
    ("sys/kernel/shmmni", "1024"),
    ("sys/kernel/msgmni", "32"),
    ("sys/kernel/msgmnb", "16384"),
    ("sys/kernel/msgmax", "8192"),
    // Semaphores per set, in all sets, per call, and sets.
    ("sys/kernel/sem", "32000 32000 500 128"),
    ("sys/fs/mqueue/queues_max", "32"),
];

/// Congestion control of connections within the session, which lose no packets. That of the host
/// may be made for networks: BBR paces its packets, so it passes on a quarter as much. The kernel
/// always has Reno (`tcp(7)`).
const CONGESTION: (&str, &str) = ("sys/net/ipv4/tcp_congestion_control", "reno");
/// No bound is missing if the kernel refuses a setting.
const NO_BOUND: u32 = 0;

/// Encodes the settings of a session with namespaces.
pub(super) fn encode(plan: &mut Encoder, limits: &Limits) {
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let shared_pages = (u64::from(limits.shared_memory_mib) << 20) / page_bytes;
    let from_limits = [
        (wire::BOUND_INOTIFY, "sys/user/max_inotify_instances", limits.inotify_instances.into()),
        (wire::BOUND_INOTIFY, "sys/user/max_inotify_watches", limits.inotify_watches.into()),
        (wire::BOUND_IPC, "sys/kernel/shmall", shared_pages),
    ];
    plan.count(from_limits.len() + IPC.len() + 1);
    let mut setting = |flag, path: &str, value: &str| {
        plan.u32(flag);
        plan.text(path.as_bytes());
        plan.text(value.as_bytes());
    };
    for (flag, path, value) in from_limits {
        setting(flag, path, &value.to_string());
    }
    IPC.into_iter().for_each(|(path, value)| setting(wire::BOUND_IPC, path, value));
    setting(NO_BOUND, CONGESTION.0, CONGESTION.1);
}
