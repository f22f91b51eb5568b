//! The control group of a session (`cgroups(7)`, version 2): choice of its parent, creation, and
//! removal. `init/cgroup.rs` describes its content.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use policy::{BindAccess, MountOp, MountPlan};
use rustix::fs::{Access, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::OpenError;
use crate::internal::lock;
use crate::sandbox::{Cgroups, Limits};

/// Prefix of the names of such groups. The host's process id and a random number follow.
const PREFIX: &str = "agent-sandbox-";
/// Controllers that limit commands. The kernel counts processor time without a controller.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// Name of the group of a session's init.
const INIT: &str = "init";
const MODE: u32 = 0o755;

/// Number of names tried if another process removes each new group as a leftover.
const MAX_NAMES: usize = 5;
/// Number of attempts to remove a group.
const MAX_REMOVALS: usize = 100;
/// Failed attempts after which the processes in the group are killed.
const KILL_AFTER: usize = 5;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// Advice to an operator if no group is available.
pub(super) const REMEDY: &str = "delegate a control group to this process; with systemd, \
                                 `Delegate=memory pids` and `DelegateSubgroup=host` in its unit";

/// The group of one session. Drop this value, which removes the group, after the session's
/// processes have exited.
#[derive(Debug)]
pub(super) struct SessionGroup {
    path: PathBuf,
    /// Keeps other processes from removing the group as a leftover until a process runs in it.
    lock: Option<File>,
}

/// Result of choosing a control group for a session.
#[derive(Debug)]
pub(super) enum GroupChoice {
    Created(SessionGroup),
    Unavailable {
        /// The reason.
        why: String,
    },
}

impl SessionGroup {
    /// Creates the control group of a new session. `veto` is a reason not to use a control group.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the caller named a parent group that is not usable.
    pub(super) fn choose(limits: &Limits, veto: Option<&str>) -> Result<GroupChoice, OpenError> {
        let unavailable = |why: &str| Ok(GroupChoice::Unavailable { why: why.to_owned() });
        match &limits.cgroups {
            Cgroups::Off => unavailable("control groups are turned off"),
            Cgroups::Automatic => match veto {
                Some(why) => unavailable(why),
                None => match Self::find_and_create() {
                    Ok(group) => Ok(GroupChoice::Created(group)),
                    Err(why) => Ok(GroupChoice::Unavailable { why }),
                },
            },
            Cgroups::At(parent) => Self::create_at(parent, veto).map(GroupChoice::Created),
        }
    }

    fn find_and_create() -> Result<Self, String> {
        let parent = find()?;
        Self::below(&parent)
            .map_err(|source| format!("no group can be created in {}: {source}", parent.display()))
    }

    fn create_at(parent: &Path, veto: Option<&str>) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::LayerUnavailable {
            step: format!("create a control group in {}", parent.display()),
            remedy: REMEDY.to_owned(),
            source,
        };
        veto.map_or_else(|| usable(parent), |why| Err(why.to_owned()))
            .map_err(|why| failed(io::Error::other(why)))?;
        Self::below(parent).map_err(failed)
    }

    fn below(parent: &Path) -> io::Result<Self> {
        sweep_once(parent);
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_below(parent) {
                // Another process removed it as a leftover.
                Err(error)
                    if tries < MAX_NAMES
                        && matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
                        ) => {}
                other => return other,
            }
        }
    }

    fn try_below(parent: &Path) -> io::Result<Self> {
        let mut random = [0u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("{PREFIX}{}-{:016x}", std::process::id(), u64::from_le_bytes(random));
        let mut group = Self { path: parent.join(name), lock: None };
        DirBuilder::new().mode(MODE).create(&group.path)?;
        let lock = open(&group.path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        group.lock = Some(lock);
        enable(&group.path)?;
        DirBuilder::new().mode(MODE).create(group.path.join(INIT))?;
        Ok(group)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the lock. Init now runs in the group, which protects it from removal.
    pub(super) fn unlock(&mut self) {
        self.lock = None;
    }
}

impl Drop for SessionGroup {
    fn drop(&mut self) {
        for attempt in 0..MAX_REMOVALS {
            match remove(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => {}
            }
            // Dead processes count for a moment. Others are alive only if init was killed.
            if attempt == KILL_AFTER {
                let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// Adds a mount that denies commands write access to the files of control groups, so that they
/// cannot lift their limits.
pub(super) fn protected(mounts: &MountPlan) -> Cow<'_, MountPlan> {
    let mut mounts = Cow::Borrowed(mounts);
    if let Some(mount) = mount().filter(|_| is_open_to_commands(&mounts)) {
        mounts
            .to_mut()
            .ops
            .push(MountOp::Bind { path: mount.point.clone(), access: BindAccess::ReadOnly });
    }
    mounts
}

/// Returns whether a policy lets commands write to the files of control groups.
pub(super) fn is_open_to_commands(mounts: &MountPlan) -> bool {
    mount().is_some_and(|mount| {
        let is_below = |op: &MountOp| match op {
            MountOp::Bind { path, access: BindAccess::ReadWrite } => path.starts_with(&mount.point),
            _ => false,
        };
        mounts.allows(&mount.point, policy::Access::Write) || mounts.ops.iter().any(is_below)
    })
}

/// Removes a group and the groups in it. The kernel keeps a group that contains a process.
fn remove(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    std::fs::remove_dir(path)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Removes the groups that killed processes left below `parent`. Each process does so only once,
/// because a check of many sessions takes long.
fn sweep_once(parent: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if lock(&SWEPT).insert(parent.to_owned()) {
        sweep(parent);
    }
}

fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    {
        let path = entry.path();
        let Ok(group) = open(&path) else { continue };
        let is_unlocked =
            rustix::fs::flock(&group, FlockOperation::NonBlockingLockExclusive).is_ok();
        let is_empty = std::fs::read_to_string(path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 0"));
        if is_unlocked && is_empty {
            let _ = remove(&path);
        }
    }
}

/// Returns the group below which this process may create groups: its own or its parent, which
/// systemd's `DelegateSubgroup=` delegates. Returns the reason if no location is usable.
fn find() -> Result<PathBuf, String> {
    let not_mounted = || "control groups of version 2 are not mounted".to_owned();
    let mount = mount().ok_or_else(not_mounted)?;
    let own = mount
        .group(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
        .ok_or_else(not_mounted)?;
    let top = Some(mount.point.as_path());
    let mut reasons = Vec::new();
    for group in
        [Some(own.as_path()), own.parent().filter(|_| top != Some(&own))].into_iter().flatten()
    {
        // Root may write to every group, so write access proves nothing. Root needs a delegated
        // group, or the topmost one.
        let usability = if rustix::process::geteuid().is_root()
            && top != Some(group)
            && !is_marked_delegated(group)
        {
            Err("it is not delegated".to_owned())
        } else {
            usable(group)
        };
        match usability {
            Ok(()) => return Ok(group.to_owned()),
            Err(why) => reasons.push(format!("{}: {why}", group.display())),
        }
    }
    Err(reasons.join(", "))
}

/// Returns the mount of this process. The result is cached.
fn mount() -> Option<&'static Mount> {
    static MOUNT: OnceLock<Option<Mount>> = OnceLock::new();
    let find = || Mount::of(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    MOUNT.get_or_init(find).as_ref()
}

/// The mount of the cgroup file system.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that the mount shows as its root.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Finds the mount in the content of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
    fn of(mounts: &str) -> Option<Self> {
        mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            // Special characters are escaped as octal numbers. In practice, no path of this mount
            // contains one.
            kind.starts_with("cgroup2 ").then(|| Self { root: root.into(), point: point.into() })
        })
    }

    /// Returns the directory of a process's group from the content of `/proc/PID/cgroup`.
    fn group(&self, groups: &str) -> Option<PathBuf> {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        // `join` with an empty path would append a slash.
        let directory =
            if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) };
        directory.is_dir().then_some(directory)
    }
}

/// Returns whether systemd has marked a group as delegated.
fn is_marked_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(group, name, &mut value[..]).is_ok_and(|len| &value[..len] == b"1")
    })
}

/// Checks whether groups with the limits of commands can be created below `group`. Returns the
/// reason if not.
fn usable(group: &Path) -> Result<(), String> {
    let listed = std::fs::read_to_string(group.join("cgroup.controllers"))
        .map_err(|_| "it is no control group of version 2".to_owned())?;
    let missing: Vec<_> = CONTROLLERS.into_iter().filter(|name| !has(&listed, name)).collect();
    if !missing.is_empty() {
        return Err(format!("it has no controller of {}", missing.join(" and ")));
    }
    for file in [".", "cgroup.procs", "cgroup.subtree_control"] {
        rustix::fs::access(group.join(file), Access::WRITE_OK)
            .map_err(|_| "this user may not write to it".to_owned())?;
    }
    enable(group).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => {
            "it contains processes, so it cannot delegate its controllers".to_owned()
        }
        _ => format!("it does not delegate its controllers: {error}"),
    })
}

fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|listed| listed == name)
}

/// Enables the controllers for the groups below `group`.
fn enable(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&file)?;
    if CONTROLLERS.into_iter().all(|name| has(&enabled, name)) {
        return Ok(());
    }
    std::fs::write(file, CONTROLLERS.map(|name| format!("+{name}")).join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "30 22 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                          31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - \
                          cgroup2 cgroup2 rw,nsdelegate\n";
    const CONTAINER: &str = "40 22 0:26 /docker/1 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";

    #[test]
    fn the_mount_is_found_by_its_file_system_type() {
        let mount = |mounts| Mount::of(mounts).map(|mount| (mount.root, mount.point));
        assert_eq!(mount(HYBRID), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(mount(CONTAINER), Some(("/docker/1".into(), "/sys/fs/cgroup".into())));
        assert_eq!(mount("30 22 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n"), None);
    }

    #[test]
    fn the_group_of_a_process_is_below_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let mount = Mount { root: "/docker/1".into(), point: dir.path().to_owned() };
        assert_eq!(mount.group("3:cpu:/x\n0::/docker/1/a/b\n"), Some(dir.path().join("a/b")));
        assert_eq!(mount.group("0::/docker/1\n"), Some(dir.path().to_owned()));
        for unchecked in ["0::/docker/2\n", "0::/docker/1/none\n", "3:cpu:/docker/1\n", ""] {
            assert_eq!(mount.group(unchecked), None, "{unchecked}");
        }
    }

    #[test]
    fn a_directory_that_is_not_a_group_is_rejected_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(usable(dir.path()).unwrap_err(), "it is no control group of version 2");
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(usable(dir.path()).unwrap_err(), "it has no controller of pids");
    }
}
