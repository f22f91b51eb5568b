//! The init process of one session.
//!
//! The host starts this program once per session: control socket on descriptor 0, setup plan on
//! descriptor 1, plan-update socket on descriptor 2. The first message on the latter brings a
//! descriptor of the host process. It creates the namespaces, forks the session's init into them,
//! and exits. In the Landlock tier it creates no namespaces, and Landlock rules confine the
//! commands.
//!
//! Init keeps a worker ready (see `worker`). It runs until the host closes the control socket or
//! exits. A child of the host may hold the socket longer than the host. When init exits, the kernel
//! kills every process of the session.
//!
//! Started with arguments, the program is the client of a wrapped command instead (see `client`).
//!
//! The program has no C library, no allocator and no dependency. It is a few kilobytes, and starts
//! in a tenth of a millisecond. These files show everything that it does.

#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

mod arch;
mod body;
mod cgroup;
mod client;
mod copies;
mod creation;
mod devices;
mod glob;
mod landlock;
mod memory;
mod modes;
mod mounts;
mod namespaces;
mod network;
mod overlays;
mod plan;
mod pool;
mod prestart;
mod reader;
mod reply;
mod settings;
mod shell;
mod sockets;
mod supervisor;
mod sys;
mod terminal;
mod tier;
mod unreachable;
mod updates;
mod wire;
mod worker;

use cgroup::Group;
use mounts::Failure;
use network::Network;
use plan::Head;
use pool::Pool;
use reader::Reader;
use reply::{report_failure, report_init, report_tmp};
use supervisor::Supervisor;
use sys::{Errno, Fd, Mapping, Poll, Result, c};
use tier::Tier;
use worker::{Announce, Session};

const CONTROL: Fd = 0;
const PLAN: Fd = 1;
/// Socket for updates of the plan.
const UPDATES: Fd = 2;
/// Number of workers that may fail in succession before the session ends.
const MAX_FAILURES: u32 = 3;
/// Pause after a fork that failed because the machine is short of memory or processes.
const FORK_PAUSE_MS: i32 = 10;

/// The child becomes a sibling of the caller, so the host process is its parent.
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

/// Creates the namespaces, forks init into them, and reports its process id to the host.
fn open() -> core::result::Result<(), Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    let plan = sys::map_file(PLAN).map_err(at(wire::STEP_PLAN))?;
    sys::close_from(3).map_err(at(wire::STEP_PLAN))?;
    let host = receive_host().map_err(at(wire::STEP_PLAN))?;
    sys::new_session_keyring();
    // Only root is allowed to drop groups. The groups of another user lose their meaning in the
    // user namespace, where they have no names.
    let _ = sys::drop_groups();
    let head = Head::read(&mut Reader(plan)).map_err(at(wire::STEP_PLAN))?;
    let group = Group::open(head.group).map_err(at(wire::STEP_GROUP))?;
    if head.tier == wire::TIER_NAMESPACES {
        namespaces::make(group.is_some())?;
    } else {
        sys::drop_capabilities().map_err(at(wire::STEP_PRIVILEGES))?;
    }
    let forked = match &group {
        Some(group) => group.fork_init(CLONE_PARENT).map_err(at(wire::STEP_GROUP)),
        None => sys::fork(CLONE_PARENT).map_err(at(wire::STEP_FORK)),
    };
    match forked? {
        0 => serve(plan, group, host),
        pid => report_init(CONTROL, pid).map_err(at(wire::STEP_FORK)),
    }
}

/// Receives a descriptor of the host process, which becomes readable when the host exits.
fn receive_host() -> Result<Fd> {
    let (mut buffer, mut fds) = ([0; 4], [-1; sys::MAX_FDS]);
    match sys::receive(UPDATES, &mut buffer, &mut fds)? {
        (4, 1) => Ok(fds[0]),
        _ => Err(Errno::INVAL),
    }
}

/// Sets up the session and runs it until the host closes it.
fn serve(plan: &'static [u8], group: Option<Group>, host: Fd) -> ! {
    // Signals from the terminal of the host, and to its process group, are not for the session.
    sys::new_terminal_session();
    sys::set_process_name(c(b"session-init\0"));
    match set_up(plan, group, host) {
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
    host: Fd,
) -> core::result::Result<Session, Failure<'static>> {
    let at = |step| move |errno| Failure { step, errno, path: b"" };
    // Other processes of the same user cannot read the memory, environment and descriptors of a
    // process that is not dumpable.
    sys::prctl(sys::PR_SET_DUMPABLE, 0).map_err(at(wire::STEP_PRIVILEGES))?;
    let mut reader = Reader(plan);
    let Head {
        tier,
        max_pid,
        private_files,
        limits,
        bypass_tag,
        secret,
        init_filter,
        worker_filter,
        settings,
        ..
    } = Head::read(&mut reader).map_err(at(wire::STEP_PLAN))?;
    let tier = if tier == wire::TIER_NAMESPACES {
        sys::set_umask(0);
        let view = mounts::build(&mut reader, private_files, settings)?;
        if view.has_own_tmp {
            send_tmp().map_err(at(wire::STEP_MOUNT))?;
        }
        // The host's `/etc/hosts` has this name, so programs resolve it without a name server.
        sys::set_host_name(b"localhost").map_err(at(wire::STEP_NAMESPACES))?;
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
    // Workers inherit this setup, so it adds no cost to a command. Init never executes a program.
    // So it keeps the capabilities that workers need to mount their /proc, while no process can
    // regain a capability that it has dropped.
    sys::reset_signals();
    sys::drop_bounding_set().map_err(at(wire::STEP_PRIVILEGES))?;
    let pool = Pool::new().map_err(at(wire::STEP_PLAN))?;
    // The filter denies the socket that this opens.
    let network = Network::prepare(&tier);
    sys::set_receive_timeout(CONTROL, worker::WAKE_INTERVAL_SECONDS)
        .map_err(at(wire::STEP_PLAN))?;
    let supervisor = if bypass_tag == 0 && secret == [0; 2] {
        sys::load_filter(init_filter).map(|()| None)
    } else {
        let begin = plan.len() - reader.0.len();
        Mapping::of(PLAN)
            .and_then(|rules| Supervisor::start(rules, begin, init_filter, bypass_tag, secret))
            .map(Some)
    };
    let supervisor = supervisor.map_err(at(wire::STEP_PRIVILEGES))?;
    let control = CONTROL;
    let filter = worker_filter;
    Ok(Session { control, host, taken, pool, filter, limits, tier, group, supervisor, network })
}

/// Sends the host a descriptor of the session's `/tmp`. No command has begun, so `/tmp` is the
/// mount of the plan.
fn send_tmp() -> Result<()> {
    let directory = sys::open(sys::AT_FDCWD, mounts::TMP, sys::O_PATH | sys::O_DIRECTORY, 0)?;
    let sent = report_tmp(CONTROL, directory);
    sys::close(directory);
    sent
}

/// Keeps a worker idle while the session is in use.
///
/// Workers receive their commands from the control socket directly. When the last idle worker has
/// taken a command, init starts another while that command runs. Init polls the socket only if no
/// worker is idle.
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
            && !session.pool.has_idle()
            && let Some(index) = started.free_index()
        {
            session.pool.add_idle(index);
            match session.fork_worker(index) {
                Ok(0) => worker::run(session, index, announce),
                Ok(pid) => started.put(index, pid),
                // The host can start the session without the group, so it need not wait.
                Err(errno) if announce == Announce::Yes && session.group.is_some() => {
                    report_failure(session.control, wire::STEP_GROUP, errno, b"");
                    sys::exit(1);
                }
                Err(_) => {
                    session.pool.remove_idle(index);
                    pause = FORK_PAUSE_MS;
                }
            }
            announce = Announce::No;
        }
        let polls_control = pause < 0 && !session.pool.has_idle() && started.free_index().is_some();
        let mut fds = [
            Poll {
                fd: session.control,
                events: if polls_control { sys::POLL_IN } else { 0 },
                found: 0,
            },
            Poll { fd: events, events: sys::POLL_IN, found: 0 },
            Poll { fd: session.taken, events: sys::POLL_IN, found: 0 },
            Poll { fd: UPDATES, events: sys::POLL_IN, found: 0 },
            Poll {
                fd: session.supervisor.as_ref().map_or(-1, Supervisor::listener),
                events: sys::POLL_IN,
                found: 0,
            },
            Poll { fd: session.host, events: sys::POLL_IN, found: 0 },
        ];
        // A shorter wait for the next connection ends the pause early, which is harmless.
        let wait = session.supervisor.as_ref().and_then(Supervisor::retry_ms).unwrap_or(pause);
        let found = sys::poll(&mut fds, wait);
        if fds[5].found != 0 {
            // For the workers it is as if the host had closed the socket.
            sys::shut_down(session.control);
            end(session);
        }
        if fds[0].found & !sys::POLL_IN != 0 {
            end(session);
        }
        if let Some(supervisor) = &mut session.supervisor {
            supervisor.retry(&session.pool);
            if fds[4].found & sys::POLL_IN != 0 {
                supervisor.answer(&session.pool);
            }
        }
        if fds[3].found & sys::POLL_IN != 0 {
            updates::answer(UPDATES, session);
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
                    session.pool.remove_idle(index);
                    session.remove_group(index);
                }
                session.tier.kill_strays(&started);
                // A superfluous worker exits with 0. A killed worker is no sign that the next one
                // will fail.
                let is_failure = status & 0x7f == 0 && status != 0;
                failures += u32::from(is_failure);
            }
        }
        if failures >= MAX_FAILURES {
            sys::exit(1);
        }
    }
}

/// Ends the session, which the host has closed or left.
fn end(session: &Session) -> ! {
    if let Tier::Landlock(_) = session.tier {
        // Workers notice too, and kill their commands before they exit.
        while sys::wait(true).is_ok() {}
    }
    sys::exit(0)
}
