//! The session's control group (`cgroups(7)`, version 2), where the host has one: the kernel counts
//! and limits each worker, and so each command, as a whole.
//!
//! ```text
//! <the session's group>      made by the host, hands the controllers on, holds no process
//! ├── init                   init
//! └── worker-<index>           a worker and the command that it runs; has the limits
//! ```
//!
//! Everybody is started in its group (`CLONE_INTO_CGROUP`), so nothing is ever outside, and nobody
//! is moved: the kernel may take milliseconds for that.
//!
//! A worker shares the group of its commands, which cost nothing more for that. Therefore the group
//! is not killed as one when memory runs out (`memory.oom.group`): the kernel kills the largest
//! process, which is never the worker while there is a shell, and the worker, which hears of it, kills
//! the rest.

use core::cell::Cell;

use crate::pool::WorkerIndex;
use crate::reader::Reader;
use crate::sys::{self, CStr, Errno, Fd, Poll, Result, c};
use crate::tier::Tier;
use crate::wire;

/// How often the processor time of a command is looked at, where it is limited.
const LOOK_AT_TIME_MS: i32 = 50;
/// The kernel takes no higher limit (`PID_MAX_LIMIT`, `linux/threads.h`).
const MAX_PROCESSES: u64 = 1 << 22;
/// In `memory.events`: how many processes were killed because memory had run out, that of the group
/// or all of the machine's.
const KILLED: &[u8] = b"oom_kill ";

/// What the plan says about the group.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Empty where there is none.
    path: CStr<'static>,
    max_memory_bytes: u64,
    max_processes: u32,
    /// 0 where it is not limited.
    max_processor_us: u64,
}

impl Spec {
    pub fn read(reader: &mut Reader<'static>) -> Result<Self> {
        Ok(Self {
            path: reader.text()?,
            max_memory_bytes: reader.u64()?,
            max_processes: reader.u32()?,
            max_processor_us: reader.u64()?,
        })
    }

    /// Opens the group while its path can still be seen.
    pub fn open(self) -> Result<Option<Group>> {
        if self.path.bytes().is_empty() {
            return Ok(None);
        }
        let dir = sys::open(sys::AT_FDCWD, self.path, sys::O_PATH | sys::O_DIRECTORY, 0)?;
        Ok(Some(Group { dir, spec: self }))
    }
}

/// The session's group, as init has it.
#[derive(Clone, Copy)]
pub struct Group {
    dir: Fd,
    spec: Spec,
}

impl Group {
    /// Forks a process into the group of init.
    pub fn fork_init(&self, flags: usize) -> Result<i32> {
        fork_into(self.dir, c(b"init\0"), flags)
    }

    /// Forks a process into a new group with the limits of a command; `bypass_tag` is that of the supervisor.
    pub fn fork_worker(&self, index: WorkerIndex, flags: usize, bypass_tag: usize) -> Result<i32> {
        let mut buffer = [0; PATH_BYTES];
        // Of a worker that is dead; what its commands have left in memory, such as files in /tmp,
        // must not count for the next.
        let _ = sys::remove_directory(self.dir, path(&mut buffer, index, b"")?);
        sys::make_directory(self.dir, path(&mut buffer, index, b"")?, 0o755 | bypass_tag)?;
        let mut digits = [0; 20];
        self.set(index, b"/memory.max", sys::decimal(&mut digits, self.spec.max_memory_bytes))?;
        // The worker counts too.
        let max_processes = (u64::from(self.spec.max_processes) + 1).min(MAX_PROCESSES);
        self.set(index, b"/pids.max", sys::decimal(&mut digits, max_processes))?;
        match self.set(index, b"/memory.swap.max", b"0") {
            // The kernel has no swap, or does not count it.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        fork_into(self.dir, path(&mut buffer, index, b"")?, flags)
    }

    /// Removes the group of a worker that is dead. One that cannot be removed yet is removed before
    /// the next is made.
    pub fn remove_worker(&self, index: WorkerIndex) {
        let mut buffer = [0; PATH_BYTES];
        if let Ok(path) = path(&mut buffer, index, b"") {
            let _ = sys::remove_directory(self.dir, path);
        }
    }

    fn set(&self, index: WorkerIndex, file: &[u8], value: &[u8]) -> Result<()> {
        let mut buffer = [0; PATH_BYTES];
        let file = sys::open(self.dir, path(&mut buffer, index, file)?, sys::O_WRONLY, 0)?;
        let written = sys::write(file, value);
        sys::close(file);
        written.map(drop)
    }

    fn open_in(&self, index: WorkerIndex, file: &[u8]) -> Result<Fd> {
        let mut buffer = [0; PATH_BYTES];
        sys::open(self.dir, path(&mut buffer, index, file)?, 0, 0)
    }
}

fn fork_into(dir: Fd, name: CStr<'_>, flags: usize) -> Result<i32> {
    let group = sys::open(dir, name, sys::O_PATH | sys::O_DIRECTORY, 0)?;
    let forked = sys::fork_into(flags, group);
    sys::close(group);
    forked
}

/// How a worker hears what its commands use. Without a group it hears nothing.
pub struct Watch {
    memory: Fd,
    held: Fd,
    processes: Fd,
    processor: Fd,
    max_memory_bytes: u64,
    max_processor_us: u64,
    /// What was counted before the current command.
    killed: Cell<u64>,
    refused: Cell<u64>,
    used_us: Cell<u64>,
}

impl Watch {
    /// In the worker's process, which from then on has no way to the group but these files, to be
    /// read.
    pub fn new(group: Option<&Group>, index: WorkerIndex, tier: &Tier) -> Result<Self> {
        let zero = || Cell::new(0);
        let mut watch = Self {
            memory: -1,
            held: -1,
            processes: -1,
            processor: -1,
            max_memory_bytes: 0,
            max_processor_us: 0,
            killed: zero(),
            refused: zero(),
            used_us: zero(),
        };
        let Some(group) = group else { return Ok(watch) };
        watch.memory = group.open_in(index, b"/memory.events")?;
        watch.held = group.open_in(index, b"/memory.current")?;
        watch.max_memory_bytes = group.spec.max_memory_bytes;
        watch.processes = group.open_in(index, b"/pids.events")?;
        if group.spec.max_processor_us > 0 {
            watch.max_processor_us = group.spec.max_processor_us;
            watch.processor = group.open_in(index, b"/cpu.stat")?;
        }
        sys::close(group.dir);
        tier.enter_group()?;
        // Until it is read once, such a file counts as changed.
        watch.killed.set(count(watch.memory, KILLED));
        Ok(watch)
    }

    /// A command begins.
    pub fn begin(&self) {
        self.used_us.set(self.processor_us());
    }

    /// Becomes ready when the kernel has killed a process for its memory, and at other events.
    pub fn poll(&self) -> Poll {
        Poll { fd: self.memory, events: sys::POLL_PRI, found: 0 }
    }

    /// How long to wait before looking at a command again, for `poll`.
    pub fn look_again_ms(&self) -> i32 {
        if self.processor < 0 { -1 } else { LOOK_AT_TIME_MS }
    }

    /// Whether the command has to end; `memory` is what waiting has found.
    pub fn is_exceeded(&self, memory: &Poll) -> bool {
        let is_killed = memory.found != 0 && count(self.memory, KILLED) > self.killed.get();
        is_killed || self.is_over_time()
    }

    fn is_over_time(&self) -> bool {
        self.processor >= 0
            && self.processor_us().saturating_sub(self.used_us.get()) >= self.max_processor_us
    }

    fn processor_us(&self) -> u64 {
        count(self.processor, b"usage_usec ")
    }

    /// Whether so much memory is held when everything of a command is dead that the next one would
    /// have to do with less: files in `/tmp`, and what the kernel keeps of other files. A new group
    /// begins with none, and only this one is forgotten.
    pub fn is_much_held(&self) -> bool {
        self.held >= 0 && count(self.held, b"") > self.max_memory_bytes / 4
    }

    /// The limit that the command has run into, as `LIMIT_…`, when everything of it is dead. The
    /// next one begins with nothing against it.
    pub fn limit(&self) -> u32 {
        let is_over_time = self.is_over_time();
        let more = |before: &Cell<u64>, now| before.replace(now) < now;
        let is_killed = more(&self.killed, count(self.memory, KILLED));
        let is_refused = more(&self.refused, count(self.processes, b"max "));
        match (is_killed, is_over_time, is_refused) {
            (true, ..) => wire::LIMIT_MEMORY,
            (_, true, _) => wire::LIMIT_PROCESSOR_TIME,
            (.., true) => wire::LIMIT_PROCESSES,
            _ => wire::LIMIT_NONE,
        }
    }
}

/// The number behind a key at the beginning of a line; 0 where there is none, or no file.
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
