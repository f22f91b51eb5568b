//! The session's control group (`cgroups(7)`, version 2), if the host has one. The kernel counts
//! and limits each worker, and so each command, as a whole.
//!
//! ```text
//! <the session's group>      created by the host, delegates the controllers, has no process
//! ├── init                   init
//! └── worker-<index>         a worker and the command that it runs; has the limits
//! ```
//!
//! Every process starts in its group (`CLONE_INTO_CGROUP`), so none is ever outside. No process is
//! moved to another group, because the kernel may take milliseconds for that.
//!
//! A worker shares the group of its commands, which saves them the cost of a group. Therefore the
//! group is not killed as a whole when memory runs out (`memory.oom.group`). The kernel kills the
//! largest process, which is hardly ever the worker while the shell runs. The worker notices, and
//! kills the rest. Files in `/tmp` stay, so the memory may still be used up when no other process
//! is left to kill. Messages and open files of the worker count too, so it first makes room for
//! itself.

use core::cell::Cell;

use crate::plan::GroupSpec;
use crate::pool::WorkerIndex;
use crate::sys::{self, CStr, Errno, Fd, Poll, Result, c};
use crate::tier::Tier;
use crate::wire;

/// Interval of the check for used processor time, if the time is limited.
const TIME_CHECK_MS: i32 = 50;
/// Memory that a worker has for itself after a command has used up its own: many times what it
/// needs to kill the processes and to report.
const ROOM_BYTES: u64 = 1 << 20;
/// Highest limit that the kernel accepts (`PID_MAX_LIMIT`, `linux/threads.h`).
const MAX_PROCESSES: u64 = 1 << 22;
/// Key in `memory.events`: the number of processes that were killed because the memory of the group
/// or of the machine had run out.
const KILLED: &[u8] = b"oom_kill ";

/// The session's group, as init uses it.
#[derive(Clone, Copy)]
pub struct Group {
    dir: Fd,
    spec: GroupSpec<'static>,
}

impl Group {
    /// Opens the group, while its path is still visible. Returns `None` if the session has none.
    pub fn open(spec: GroupSpec<'static>) -> Result<Option<Self>> {
        if spec.path.bytes().is_empty() {
            return Ok(None);
        }
        let dir = sys::open(sys::AT_FDCWD, spec.path, sys::O_PATH | sys::O_DIRECTORY, 0)?;
        Ok(Some(Self { dir, spec }))
    }

    /// Forks a process into the group of init.
    pub fn fork_init(&self, flags: usize) -> Result<i32> {
        fork_into(self.dir, c(b"init\0"), flags)
    }

    /// Forks a process into a new group with the limits of a command. `bypass_tag` is that of the
    /// supervisor.
    pub fn fork_worker(&self, index: WorkerIndex, flags: usize, bypass_tag: usize) -> Result<i32> {
        let mut buffer = [0; PATH_BYTES];
        // The group of a dead worker. Memory of its commands, such as files in /tmp, must not count
        // for the next worker.
        let _ = sys::remove_directory(self.dir, path(&mut buffer, index, b"")?);
        sys::make_directory(self.dir, path(&mut buffer, index, b"")?, 0o755 | bypass_tag)?;
        let mut digits = [0; 20];
        self.set(index, b"/memory.max", sys::decimal(&mut digits, self.spec.max_memory_bytes))?;
        // The worker is one of the processes.
        let max_processes = (u64::from(self.spec.max_processes) + 1).min(MAX_PROCESSES);
        self.set(index, b"/pids.max", sys::decimal(&mut digits, max_processes))?;
        match self.set(index, b"/memory.swap.max", b"0") {
            // The kernel has no swap, or does not account for it.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        fork_into(self.dir, path(&mut buffer, index, b"")?, flags)
    }

    /// Removes the group of a dead worker. If that is not possible yet, the next worker with the
    /// index removes the group.
    pub fn remove_worker(&self, index: WorkerIndex) {
        let mut buffer = [0; PATH_BYTES];
        if let Ok(path) = path(&mut buffer, index, b"") {
            let _ = sys::remove_directory(self.dir, path);
        }
    }

    fn set(&self, index: WorkerIndex, file: &[u8], value: &[u8]) -> Result<()> {
        let file = self.open_in(index, file, sys::O_WRONLY)?;
        let written = sys::write(file, value);
        sys::close(file);
        written.map(drop)
    }

    fn open_in(&self, index: WorkerIndex, file: &[u8], flags: usize) -> Result<Fd> {
        let mut buffer = [0; PATH_BYTES];
        sys::open(self.dir, path(&mut buffer, index, file)?, flags, 0)
    }
}

fn fork_into(dir: Fd, name: CStr<'_>, flags: usize) -> Result<i32> {
    let group = sys::open(dir, name, sys::O_PATH | sys::O_DIRECTORY, 0)?;
    let forked = sys::fork_into(flags, group);
    sys::close(group);
    forked
}

/// A worker's view of the resources that its commands use. Without a group it reports nothing.
pub struct Watch {
    memory: Fd,
    held: Fd,
    /// The limit, open for writing.
    limit: Fd,
    processes: Fd,
    processor: Fd,
    max_memory_bytes: u64,
    max_processor_us: u64,
    /// Counts before the current command.
    killed: Cell<u64>,
    denied: Cell<u64>,
    used_us: Cell<u64>,
    has_room: Cell<bool>,
}

impl Watch {
    /// Opens the files of the group for reading, and closes the worker's other access to the group.
    pub fn new(group: Option<&Group>, index: WorkerIndex, tier: &Tier) -> Result<Self> {
        let zero = || Cell::new(0);
        let mut watch = Self {
            memory: -1,
            held: -1,
            limit: -1,
            processes: -1,
            processor: -1,
            max_memory_bytes: 0,
            max_processor_us: 0,
            killed: zero(),
            denied: zero(),
            used_us: zero(),
            has_room: Cell::new(false),
        };
        let Some(group) = group else { return Ok(watch) };
        watch.memory = group.open_in(index, b"/memory.events", 0)?;
        watch.held = group.open_in(index, b"/memory.current", 0)?;
        watch.limit = group.open_in(index, b"/memory.max", sys::O_WRONLY)?;
        watch.max_memory_bytes = group.spec.max_memory_bytes;
        watch.processes = group.open_in(index, b"/pids.events", 0)?;
        if group.spec.max_processor_us > 0 {
            watch.max_processor_us = group.spec.max_processor_us;
            watch.processor = group.open_in(index, b"/cpu.stat", 0)?;
        }
        sys::close(group.dir);
        tier.enter_group()?;
        // What takes memory at first use is used now, while there is enough: the stack, and the
        // buffers of these files. Also, before the first read the kernel reports such a file as
        // changed.
        sys::touch_stack();
        watch.killed.set(count(watch.memory, KILLED));
        watch.held_bytes();
        Ok(watch)
    }

    /// Notes the counts at the start of a command.
    pub fn begin(&self) {
        self.used_us.set(self.processor_us());
    }

    /// Returns an entry for `poll` that is ready after the kernel has killed a process for its
    /// memory, and at other events.
    pub fn poll(&self) -> Poll {
        Poll { fd: self.memory, events: sys::POLL_PRI, found: 0 }
    }

    /// Returns the time until the next check, for `poll`.
    pub fn next_check_ms(&self) -> i32 {
        if self.processor < 0 { -1 } else { TIME_CHECK_MS }
    }

    /// Returns whether the command must end. `memory` is the entry for `poll` after the wait.
    pub fn is_exceeded(&self, memory: &Poll) -> bool {
        let is_killed = memory.found != 0 && self.has_seen_kill();
        is_killed || self.is_over_time()
    }

    fn has_seen_kill(&self) -> bool {
        count(self.memory, KILLED) > self.killed.get()
    }

    /// Raises the limit of the group if the memory is used up, so that the worker can go on. Until
    /// then it takes no memory, because the kernel would kill it. No other process of the command
    /// is needed any more.
    pub fn make_room(&self) {
        let held = self.held_bytes();
        let is_short = held > self.max_memory_bytes.saturating_sub(ROOM_BYTES);
        if self.limit >= 0 && (is_short || self.has_seen_kill()) {
            let most = held.max(self.max_memory_bytes).saturating_add(ROOM_BYTES);
            let mut digits = [0; 20];
            self.has_room.set(sys::write(self.limit, sys::decimal(&mut digits, most)).is_ok());
        }
    }

    fn is_over_time(&self) -> bool {
        self.processor >= 0
            && self.processor_us().saturating_sub(self.used_us.get()) >= self.max_processor_us
    }

    fn processor_us(&self) -> u64 {
        count(self.processor, b"usage_usec ")
    }

    /// Returns whether the next command needs a new group. This one has another limit now, or it
    /// still holds so much memory after the end of a command that the next one would lack it: files
    /// in `/tmp`, and cached content of other files.
    pub fn is_used_up(&self) -> bool {
        self.has_room.get() || self.held_bytes() > self.max_memory_bytes / 4
    }

    /// Returns 0 without a group.
    fn held_bytes(&self) -> u64 {
        count(self.held, b"")
    }

    /// Returns the limit that the command has reached, as `LIMIT_…`. No process of the command is
    /// alive. Resets the counts for the next command.
    pub fn limit(&self) -> u32 {
        let is_over_time = self.is_over_time();
        let more = |before: &Cell<u64>, now| before.replace(now) < now;
        let is_killed = more(&self.killed, count(self.memory, KILLED));
        let is_denied = more(&self.denied, count(self.processes, b"max "));
        match (is_killed, is_over_time, is_denied) {
            (true, ..) => wire::LIMIT_MEMORY,
            (_, true, _) => wire::LIMIT_PROCESSOR_TIME,
            (.., true) => wire::LIMIT_PROCESSES,
            _ => wire::LIMIT_NONE,
        }
    }
}

/// Returns the number after a key at the beginning of a line, or 0 without such a line or file.
fn count(file: Fd, key: &[u8]) -> u64 {
    if file < 0 {
        return 0;
    }
    let mut content = [0; 1024];
    let len = sys::read_from_start(file, &mut content).unwrap_or(0);
    let mut lines = content[..len].split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key)).unwrap_or(b"");
    value.iter().fold(0, |number: u64, digit| {
        number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

const PATH_BYTES: usize = 64;

/// `worker-<index><file>`.
fn path<'b>(buffer: &'b mut [u8; PATH_BYTES], index: WorkerIndex, file: &[u8]) -> Result<CStr<'b>> {
    let mut digits = [0; 20];
    let mut at = 0;
    for part in [b"worker-".as_slice(), sys::decimal(&mut digits, index.number()), file, b"\0"] {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    CStr::new(&buffer[..at]).ok_or(Errno::INVAL)
}
