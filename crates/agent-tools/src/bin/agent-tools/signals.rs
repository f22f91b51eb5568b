//! Signals that end the command, and the end of a session that other processes use.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use agent_tools::Session;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::output;

/// The exit code of a shell after SIGINT.
const INTERRUPTED: u8 = 130;
/// The exit code of a shell after SIGTERM.
const TERMINATED: u8 = 143;

/// Opens a session, uses it, and releases it after the calls that other processes run in it.
///
/// SIGINT and SIGTERM end the use: a running command is killed, and the next use of the session
/// mirrors its changes. A further signal ends the wait for other processes.
pub(crate) async fn use_session(
    open: impl Future<Output = Result<Arc<Session>, Failure>>,
    work: impl AsyncFnOnce(&Arc<Session>) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new().map_err(Failure::not_run)?;
    let session = tokio::select! {
        session = open => session?,
        code = signals.next() => return Ok(code),
    };
    let result = tokio::select! {
        result = work(&session) => result,
        code = signals.next() => Ok(code),
    };
    output::flush();
    tokio::select! {
        () = session.release() => result,
        code = signals.next() => result.and(Ok(code)),
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

    /// Waits for the next signal and returns its exit code.
    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(INTERRUPTED),
            _ = self.terminate.recv() => ExitCode::from(TERMINATED),
        }
    }
}
