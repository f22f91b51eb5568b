//! The init process of one session.
//!
//! The host starts this program once when it opens a session, with the control socket as descriptor
//! 0, the plan as descriptor 1, and a socket for what comes to the plan later as descriptor 2. It
//! makes the session's namespaces, forks into them and goes; the fork is the session's init. Where
//! the plan says so it makes no namespaces, and its commands are kept to rules of Landlock. Init
//! keeps a worker ready (see `worker`), and lives until the host closes the control socket, also by
//! dying. When init ends, the kernel ends every process of the session with it.
//!
//! Started with arguments it is the client of a wrapped command instead (see `client`).
//!
//! The program has no C library, no allocator and no dependency: it is a few kilobytes, starts in a
//! tenth of a millisecond, and what it does can be read in these files.

#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

mod arch;
mod cgroup;
mod client;
mod glob;
mod landlock;
mod memory;
mod mounts;
mod notify;
mod pool;
mod prestart;
mod reader;
mod reply;
mod shell;
mod sys;
mod tier;
mod wire;
mod worker;

use cgroup::Group;
use mounts::Failure;
use notify::CreationSupervisor;
use pool::Pool;
use reader::Reader;
use sys::{Errno, Fd, Mapping, Poll, Result, c};
use tier::Tier;
use worker::{Announce, Session};

const CONTROL: Fd = 0;
const PLAN: Fd = 1;
/// On which the host brings what the policy covers beyond the plan.
const ADDITIONS: Fd = 2;
/// How many workers may fail one after another before the session is given up.
const MAX_FAILURES: u32 = 3;
/// How long to wait after a fork that the machine had no room for.
const FORK_PAUSE_MS: i32 = 10;

const CLONE_NEWUTS: usize = 0x400_0000;
const CLONE_NEWIPC: usize = 0x800_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;
/// The child becomes the caller's sibling: the host process is its parent.
const CLONE_PARENT: usize = 0x8000;

fn start(arguments: sys::Arguments) -> ! {
    if let [_, Some(socket), Some(number)] = arguments.first() {
        client::run(socket, number);
    }
    if let Err(failure) = open() {
        report_failure(CONTROL, failure.step, failure.errno, failure.path);
        sys::exit(1);
    }
    sys::exit(0)
}

/// Makes the namespaces, forks init into them, and tells the host its process id.
fn open() -> core::result::Result<(), Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    let plan = sys::map_file(PLAN).map_err(at(wire::STEP_PLAN))?;
    sys::close_from(3).map_err(at(wire::STEP_PLAN))?;
    sys::new_session_keyring();
    // Only root may, and only root has groups that the namespace would not turn into nobody's.
    let _ = sys::drop_groups();
    let head = read_head(&mut Reader(plan)).map_err(at(wire::STEP_PLAN))?;
    let group = head.group.open().map_err(at(wire::STEP_GROUP))?;
    if head.tier == wire::TIER_NAMESPACES {
        make_namespaces(group.is_some())?;
    } else {
        sys::drop_capabilities().map_err(at(wire::STEP_PRIVILEGES))?;
    }
    let forked = match &group {
        Some(group) => group.fork_init(CLONE_PARENT).map_err(at(wire::STEP_GROUP)),
        None => sys::fork(CLONE_PARENT).map_err(at(wire::STEP_FORK)),
    };
    match forked? {
        0 => serve(plan, group),
        pid => {
            let mut message = [0; 8];
            message[..4].copy_from_slice(&wire::MSG_INIT.to_le_bytes());
            message[4..].copy_from_slice(&(pid as u32).to_le_bytes());
            sys::send(CONTROL, &message).map_err(at(wire::STEP_FORK))
        }
    }
}

fn make_namespaces(has_group: bool) -> core::result::Result<(), Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    let (user, group) = sys::user_and_group();
    sys::unshare(CLONE_NEWUSER).map_err(at(wire::STEP_USER_NAMESPACE))?;
    map_ids(user, group).map_err(at(wire::STEP_ID_MAP))?;
    let others =
        tier::CLONE_NEWNS | tier::CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    // What is below a namespace of control groups can reach only groups below it; so with a group
    // of its own each worker makes its own.
    let groups = if has_group { 0 } else { tier::CLONE_NEWCGROUP };
    sys::unshare(others | groups).map_err(at(wire::STEP_NAMESPACES))
}

/// Maps the caller's own user and group, and nobody else's, to themselves (`user_namespaces(7)`).
fn map_ids(user: u32, group: u32) -> Result<()> {
    let write = |path, text: &[u8]| {
        let file = sys::open(sys::AT_FDCWD, path, sys::O_WRONLY, 0)?;
        let written = sys::write(file, text);
        sys::close(file);
        written.map(drop)
    };
    write(c(b"/proc/self/setgroups\0"), b"deny")?;
    let mut line = [0; 32];
    write(c(b"/proc/self/uid_map\0"), map_line(&mut line, user))?;
    write(c(b"/proc/self/gid_map\0"), map_line(&mut line, group))
}

/// `<id> <id> 1`.
fn map_line(line: &mut [u8; 32], id: u32) -> &[u8] {
    let mut digits = [0; 10];
    let digits = sys::decimal(&mut digits, id);
    let mut at = 0;
    for part in [digits, b" ", digits, b" 1"] {
        line[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    &line[..at]
}

/// Sets the session up and keeps it until the host is gone.
fn serve(plan: &'static [u8], group: Option<Group>) -> ! {
    match set_up(plan, group) {
        Ok(mut session) => keep(&mut session),
        Err(failure) => {
            report_failure(CONTROL, failure.step, failure.errno, failure.path);
            sys::exit(1)
        }
    }
}

fn set_up(
    plan: &'static [u8],
    group: Option<Group>,
) -> core::result::Result<Session, Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    // Undumpable: its memory, environment and descriptors are closed to every process of the same
    // user.
    sys::prctl(sys::PR_SET_DUMPABLE, 0).map_err(at(wire::STEP_PRIVILEGES))?;
    let mut reader = Reader(plan);
    let Head { tier, max_pid, limits, bypass_tag, own_filter, filter, .. } =
        read_head(&mut reader).map_err(at(wire::STEP_PLAN))?;
    let tier = if tier == wire::TIER_NAMESPACES {
        sys::set_umask(0);
        let view = mounts::build(&mut reader)?;
        sys::set_host_name(b"sandbox").map_err(at(wire::STEP_NAMESPACES))?;
        sys::loopback_up().map_err(at(wire::STEP_NAMESPACES))?;
        Tier::Namespaces { max_pid, view }
    } else {
        sys::adopt_orphans()
            .and_then(|()| sys::each_child(|_| ()))
            .map_err(at(wire::STEP_ORPHANS))?;
        Tier::Landlock(landlock::build(&mut reader)?)
    };
    sys::set_umask(0o022);
    let taken = sys::event_counter().map_err(at(wire::STEP_PLAN))?;
    // What workers inherit costs no command anything. Init never executes a program, so it keeps the
    // capabilities that workers need to mount their /proc, though nothing could ever gain them again.
    sys::reset_signals();
    sys::drop_bounding_set().map_err(at(wire::STEP_PRIVILEGES))?;
    let pool = Pool::new().map_err(at(wire::STEP_PLAN))?;
    sys::set_receive_timeout(CONTROL, worker::LOOK_UP_SECONDS).map_err(at(wire::STEP_PLAN))?;
    let supervisor = if bypass_tag == 0 {
        sys::load_filter(own_filter).map(|()| None)
    } else {
        let begin = plan.len() - reader.0.len();
        Mapping::of(PLAN)
            .and_then(|rules| CreationSupervisor::start(rules, begin, own_filter, bypass_tag))
            .map(Some)
    };
    let supervisor = supervisor.map_err(at(wire::STEP_PRIVILEGES))?;
    Ok(Session { control: CONTROL, taken, pool, filter, limits, tier, group, supervisor })
}

/// The beginning of the plan.
struct Head {
    tier: u32,
    max_pid: u32,
    limits: &'static [u8],
    bypass_tag: u32,
    own_filter: &'static [u8],
    /// That of workers.
    filter: &'static [u8],
    group: cgroup::Spec,
}

fn read_head(reader: &mut Reader<'static>) -> Result<Head> {
    let (tier, max_pid) = (reader.u32()?, reader.u32()?);
    let count = reader.u32()? as usize;
    let limits = reader.bytes(count * 20)?;
    let bypass_tag = reader.u32()?;
    let count = reader.u32()? as usize;
    let own_filter = reader.bytes(count * 8)?;
    let count = reader.u32()? as usize;
    let filter = reader.bytes(count * 8)?;
    let group = cgroup::Spec::read(reader)?;
    Ok(Head { tier, max_pid, limits, bypass_tag, own_filter, filter, group })
}

/// Keeps a worker waiting while the session is in use. Workers take their commands from the control
/// socket themselves; when the last one that waited has taken its command, the next is made while
/// that command runs. Init looks at the socket only while no worker waits.
fn keep(session: &mut Session) -> ! {
    let (Ok(events), Ok(mut started)) = (sys::child_events(), pool::Started::new()) else {
        sys::exit(1)
    };
    let mut failures = 0;
    let mut announce = Announce::Yes;
    let mut start = true;
    loop {
        let mut pause = -1;
        if start
            && !session.pool.has_waiting()
            && let Some(index) = started.free_index()
        {
            session.pool.expect(index);
            match session.fork_worker(index) {
                Ok(0) => worker::run(session, index, announce),
                Ok(pid) => started.put(index, pid),
                // Without the group there is another way, so the host is not kept waiting.
                Err(errno) if announce == Announce::Yes && session.group.is_some() => {
                    report_failure(session.control, wire::STEP_GROUP, errno, b"");
                    sys::exit(1);
                }
                Err(_) => {
                    session.pool.forget(index);
                    pause = FORK_PAUSE_MS;
                }
            }
            announce = Announce::No;
        }
        let look = pause < 0 && !session.pool.has_waiting() && started.free_index().is_some();
        let mut fds = [
            Poll { fd: session.control, events: if look { sys::POLL_IN } else { 0 }, found: 0 },
            Poll { fd: events, events: sys::POLL_IN, found: 0 },
            Poll { fd: session.taken, events: sys::POLL_IN, found: 0 },
            Poll { fd: ADDITIONS, events: sys::POLL_IN, found: 0 },
            Poll {
                fd: session.supervisor.as_ref().map_or(-1, CreationSupervisor::listener),
                events: sys::POLL_IN,
                found: 0,
            },
        ];
        let found = sys::poll(&mut fds, pause);
        if fds[0].found & !sys::POLL_IN != 0 {
            end(session);
        }
        if let Some(supervisor) = &session.supervisor
            && fds[4].found & sys::POLL_IN != 0
        {
            supervisor.answer(&session.pool);
        }
        if fds[3].found & sys::POLL_IN != 0 {
            add(session);
        }
        start = found == Ok(0) || fds[0].found & sys::POLL_IN != 0;
        if fds[2].found != 0 {
            sys::drain(session.taken);
            failures = 0;
            start = true;
        }
        if fds[1].found != 0 {
            sys::drain(events);
            while let Ok((pid @ 1.., status)) = sys::wait(false) {
                if let Some(index) = started.take(pid) {
                    session.pool.forget(index);
                    session.remove_group(index);
                }
                session.tier.kill_strays(&started);
                // A worker that nobody needs any more goes in peace, and one that somebody killed
                // says nothing about the next.
                let is_failure = status & 0x7f == 0 && status != 0;
                failures += u32::from(is_failure);
            }
        }
        if failures >= MAX_FAILURES {
            sys::exit(1);
        }
    }
}

/// Takes over what the host brings, and says what came of it.
fn add(session: &mut Session) {
    let (mut buffer, mut fds) = ([0; 4], [-1; sys::MAX_FDS]);
    let Ok((4, 1)) = sys::receive(ADDITIONS, &mut buffer, &mut fds) else { return };
    let mut take = || {
        let file = Mapping::of(fds[0])?;
        let mut reader = Reader(file.bytes());
        session.tier.add(&mut reader)?;
        let at = file.bytes().len() - reader.0.len();
        match &mut session.supervisor {
            Some(supervisor) => supervisor.replace(file, at),
            None => Ok(()),
        }
    };
    let errno = take().err().map_or(0, |Errno(errno)| errno);
    sys::close(fds[0]);
    let _ = sys::send(ADDITIONS, &errno.to_le_bytes());
}

/// The host has closed the session.
fn end(session: &Session) -> ! {
    if let Tier::Landlock(_) = session.tier {
        // Workers see it too, and end their commands before they go.
        while sys::wait(true).is_ok() {}
    }
    sys::exit(0)
}

/// Tells the host why the session cannot be set up.
fn report_failure(control: Fd, step: u32, errno: Errno, path: &[u8]) {
    let mut message = [0; 512];
    let path = &path[..path.len().min(500)];
    message[..4].copy_from_slice(&wire::MSG_FAILED.to_le_bytes());
    message[4..8].copy_from_slice(&step.to_le_bytes());
    message[8..12].copy_from_slice(&(errno.0 as u32).to_le_bytes());
    message[12..12 + path.len()].copy_from_slice(path);
    let _ = sys::send(control, &message[..12 + path.len()]);
}
