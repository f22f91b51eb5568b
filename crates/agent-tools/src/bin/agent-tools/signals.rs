//! Signals that end the command, and the end of a session that other processes use.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_tools::{
    DrainReport, PendingGroup, Session, SessionFiles, SessionId, Sessions, with_causes,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::output::{self, errln};
use crate::similar;

/// The time that calls have to end after a signal.
const GRACE: Duration = Duration::from_secs(10);
/// The time in which the answers of the last calls are written.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// `SIGXFSZ` (`signal(7)`).
const FILE_SIZE_LIMIT: i32 = 25;

/// Makes a write beyond the file size limit of this process (`ulimit -f`) an error of that file.
/// Without a handler, the signal would kill this process. Commands have the default action.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays when its stream is dropped.
    signal(SignalKind::from_raw(FILE_SIZE_LIMIT)).map(drop)
}

/// Ends this process after a signal if its output is stuck, which blocks the thread that would end
/// it. The output of a command has no part in this. `has_keys` tells that Ctrl-C is for the
/// command.
fn end_stuck_output(has_keys: bool) -> io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let received = loop {
            let received = signals.next().await;
            if received != Received::Interrupt || !has_keys {
                break received;
            }
        };
        output::stuck().await;
        std::process::exit(received.code().into());
    });
    Ok(())
}

/// Treatment of the calls that this process has begun in a session, after a signal that ends it.
/// Then the command stores all changes and releases the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// Kills the command at once, and prints its output.
    Kill,
    /// Begins no call, and gives those that run some time.
    Drain,
}

/// Opens a session, uses it, and releases it after the calls that other processes run in it. A
/// second signal ends this process at once. [`Messages`] change nothing.
pub(crate) async fn use_session(
    on_signal: OnSignal,
    open: impl Future<Output = Result<Arc<Session>, Failure>>,
    work: impl AsyncFnOnce(&Arc<Session>) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new().map_err(Failure::not_run)?;
    end_stuck_output(false).map_err(Failure::not_run)?;
    // Without handlers, they would kill this process and leave the session to its lease.
    let _ignored = Messages::new().map_err(Failure::not_run)?;
    let session = tokio::select! {
        session = open => session?,
        received = signals.next() => return Ok(received.into()),
    };
    let mut work = Box::pin(work(&session));
    let received = tokio::select! {
        result = &mut work => {
            output::flush();
            return tokio::select! {
                () = session.release() => result,
                received = signals.next() => result.and(Ok(received.into())),
            };
        }
        received = signals.next() => received,
    };
    let ending = async {
        match on_signal {
            OnSignal::Kill => {
                session.stop_commands();
                if let Ok(Err(failure)) = timeout(GRACE, work).await {
                    failure.report();
                }
                output::flush();
                report(&session.drain(GRACE).await);
            }
            OnSignal::Drain => {
                let drained = async {
                    let drained = session.drain(GRACE).await;
                    tokio::time::sleep(LAST_ANSWERS).await;
                    drained
                };
                let answering = async {
                    let _ = work.await;
                    std::future::pending::<Infallible>().await
                };
                tokio::select! {
                    drained = drained => report(&drained),
                    never = answering => match never {},
                }
            }
        }
    };
    tokio::select! {
        () = ending => {}
        () = signals.another(received) => {}
    }
    output::flush();
    Ok(received.into())
}

/// Opens a session, uses it, and releases it like [`use_session`]. The work gets the signals.
pub(crate) async fn use_session_with_attention(
    open: impl Future<Output = Result<Arc<Session>, Failure>>,
    work: impl AsyncFnOnce(&Arc<Session>, &mut Attention) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let mut attention = Attention::new().map_err(Failure::not_run)?;
    let session = tokio::select! {
        session = open => session?,
        received = attention.next() => return Ok(received.into()),
    };
    let result = work(&session, &mut attention).await;
    output::flush();
    if attention.since.is_some() {
        // A command that was killed has had its time.
        let time = if attention.is_impatient { LAST_ANSWERS } else { GRACE };
        report(&session.drain(time).await);
        return result;
    }
    tokio::select! {
        () = session.release() => result,
        received = attention.next() => result.and(Ok(received.into())),
    }
}

/// The signals of this process while a command runs, which gets them.
#[derive(Debug)]
pub(crate) struct Attention {
    signals: Signals,
    messages: Messages,
    /// True if a person can press Ctrl-C again.
    has_keys: bool,
    /// The time of the first signal that asks this process to end.
    since: Option<Instant>,
    /// Set once the command is killed, because it does not end after such a signal.
    is_impatient: bool,
    last: Option<Received>,
}

impl Attention {
    fn new() -> io::Result<Self> {
        let (signals, messages) = (Signals::new()?, Messages::new()?);
        let has_keys = io::stdin().is_terminal();
        end_stuck_output(has_keys)?;
        Ok(Self { signals, messages, has_keys, since: None, is_impatient: false, last: None })
    }

    /// Waits for the next signal that ends this process.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(crate) async fn next(&mut self) -> Received {
        let received = self.signals.next().await;
        self.note(received);
        received
    }

    /// Waits for the next signal and returns its number, or until a command that was asked to end
    /// has had its time. Returns `None` in the latter case.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(crate) async fn next_or_late(&mut self) -> Option<i32> {
        let late = self.since.filter(|_| !self.is_impatient).map(|since| since + GRACE);
        let is_late = async {
            match late {
                Some(late) => tokio::time::sleep_until(late.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = self.signals.next() => {
                self.note(received);
                Some(received.number())
            }
            number = self.messages.next() => Some(number),
            () = is_late => {
                self.is_impatient = true;
                None
            }
        }
    }

    fn note(&mut self, received: Received) {
        // A command may handle the key and go on.
        if received == Received::Interrupt && self.has_keys {
            return;
        }
        // The end of a terminal sends SIGHUP twice.
        let again = self.last == Some(received) && received != Received::Hangup;
        let now = Instant::now();
        let since = if again { now.checked_sub(GRACE).unwrap_or(now) } else { now };
        self.since = Some(self.since.map_or(since, |earlier| earlier.min(since)));
        self.last = Some(received);
    }

    /// Returns the exit code if a signal has ended the command against its will.
    pub(crate) fn code(&self) -> Option<u8> {
        self.last.filter(|_| self.is_impatient).map(Received::code)
    }
}

/// Opens the files of a session, uses them, stores what is pending, and releases the session for
/// other machines. A signal ends the use, and a second one ends this process at once.
pub(crate) async fn use_files<T>(
    sessions: &Sessions,
    id: &SessionId,
    work: impl AsyncFnOnce(&SessionFiles) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut signals = Signals::new().map_err(Failure::not_run)?;
    end_stuck_output(false).map_err(Failure::not_run)?;
    let files = tokio::select! {
        files = sessions.files(id) => similar::found(sessions.home(), id, files)?,
        received = signals.next() => return Err(received.into()),
    };
    let received = tokio::select! {
        result = work(&files) => {
            return tokio::select! {
                () = files.release() => result,
                // The result is printed, although other machines may have to wait.
                _ = signals.next() => result,
            };
        }
        received = signals.next() => received,
    };
    tokio::select! {
        () = files.release() => {}
        () = signals.another(received) => {}
    }
    Err(received.into())
}

/// Does work that a signal ends, before it ends this process.
pub(crate) async fn until_signal<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    end_stuck_output(false).map_err(Failure::failed)?;
    tokio::select! {
        result = work => result,
        received = signals.next() => Err(received.into()),
    }
}

/// Prints the changes that a session could not store before the end.
fn report(drained: &DrainReport) {
    match &drained.result {
        Ok(report) => {
            for group in PendingGroup::group(&report.pending) {
                errln!("agent-tools: pending: {group}");
            }
        }
        Err(error) => errln!("agent-tools: {}", with_causes(error)),
    }
}

/// A signal that ends the use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
}

impl Received {
    /// Returns the number of the signal (`signal(7)`).
    fn number(self) -> i32 {
        i32::from(self.code()) - 128
    }

    /// Returns the exit code of a shell after the signal: 128 + its number.
    fn code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
        }
    }
}

impl From<Received> for ExitCode {
    fn from(received: Received) -> Self {
        Self::from(received.code())
    }
}

impl From<Received> for Failure {
    fn from(received: Received) -> Self {
        Self::ended(received.code())
    }
}

/// The signals that no longer end this process at once.
#[derive(Debug)]
struct Signals {
    /// `None` if this process shall outlive its terminal, as with `nohup`.
    hangup: Option<Signal>,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let hangup = SignalKind::hangup();
        Ok(Self {
            hangup: if is_ignored(hangup) { None } else { Some(signal(hangup)?) },
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> Received {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => {
                // Nothing can be printed on the terminal any more.
                output::ignore_failures();
                Received::Hangup
            }
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.quit.recv() => Received::Quit,
            _ = self.terminate.recv() => Received::Terminate,
        }
    }

    /// Waits for another signal after the first one. The end of a terminal sends SIGHUP twice.
    async fn another(&mut self, first: Received) {
        while self.next().await == Received::Hangup && first == Received::Hangup {}
    }
}

/// The signals that mean something to some programs, and end nothing here.
#[derive(Debug)]
pub(crate) struct Messages {
    alarm: Signal,
    first: Signal,
    second: Signal,
}

impl Messages {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            alarm: signal(SignalKind::alarm())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal and returns its number.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.alarm.recv() => SignalKind::alarm().as_raw_value(),
            _ = self.first.recv() => SignalKind::user_defined1().as_raw_value(),
            _ = self.second.recv() => SignalKind::user_defined2().as_raw_value(),
        }
    }
}

/// Returns whether the parent process has made this one ignore a signal (`proc_pid_status(5)`).
pub(crate) fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or_default();
    mask >> bit & 1 == 1
}
