//! Signals that end the command, and the end of a session that other processes use.

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::{DrainReport, PendingGroup, Session, with_causes};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::output::{self, errln};

/// The exit code of a shell after SIGINT.
const INTERRUPTED: u8 = 130;
/// The exit code of a shell after SIGTERM.
const TERMINATED: u8 = 143;
/// The time in which the answers of the last calls are written.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Treatment of the use of a session after SIGINT or SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// Kills the command. SIGTERM also stores its changes; after SIGINT, the next use of the
    /// session does that. Calls of other processes go on.
    Kill,
    /// Begins no call, and gives those that run some time. Then kills commands, stores all changes
    /// and releases the session.
    Drain { grace: Duration },
}

/// Opens a session, uses it, and releases it after the calls that other processes run in it. A
/// second signal ends this process at once.
pub(crate) async fn use_session(
    on_signal: OnSignal,
    open: impl Future<Output = Result<Arc<Session>, Failure>>,
    work: impl AsyncFnOnce(&Arc<Session>) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new().map_err(Failure::not_run)?;
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
                drop(work);
                if received == Received::Interrupt {
                    session.release().await;
                } else {
                    report(&session.drain(Duration::MAX).await);
                }
            }
            OnSignal::Drain { grace } => {
                let drained = async {
                    let drained = session.drain(grace).await;
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
        _ = signals.next() => {}
    }
    output::flush();
    Ok(received.into())
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
enum Received {
    Interrupt,
    Terminate,
}

/// Returns the exit code of a shell after the signal.
impl From<Received> for ExitCode {
    fn from(received: Received) -> Self {
        Self::from(match received {
            Received::Interrupt => INTERRUPTED,
            Received::Terminate => TERMINATED,
        })
    }
}

/// SIGINT and SIGTERM, which no longer end this process at once.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.terminate.recv() => Received::Terminate,
        }
    }
}
