//! Processes of a session that another process serves.
//!
//! ```text
//! client                                  server
//! ──────                                  ──────
//! spawn, with the descriptors of the
//! command's streams ────────────────────► accepted
//!                   ◄──────────────────── started, with the outer end of a terminal
//! signal, kill ─────────────────────────►
//!                   ◄──────────────────── done, or failed
//! ```
//!
//! The streams are pipes or files of the client. The server gives them to the command, or replaces
//! the values of variables on the way. Each process has a connection of its own, whose end is the
//! end of the caller's interest.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;

use sandbox_core::PseudoTerminal;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::client::{CallError, Client};
use super::error::SharingError;
use super::frame::{Channel, Frame};
use super::gate::NotAdmitted;
use super::methods::{Call, CallFailure, calls};
use super::server::{CLIENT_TIMEOUT, Server, invalid};
use super::wire::{Failure, Rejection, answer};
use crate::process::{Lifetime, Order, Orders, ProcessSummary, SpawnProcess, Started, Streams};
use crate::session::{LocalSession, Stop};
use crate::tool_error::ToolError;
use crate::tools::bash::BashOutput;

/// The numbers of the frames of a client; see [`Call`](super::Call).
pub(super) const SPAWN_PROCESS: u16 = 50;
const SIGNAL: u16 = 51;
const KILL: u16 = 52;
pub(super) const FIND_PROCESS: u16 = 53;
/// The process was started.
const STARTED: u16 = 0x8005;

/// The body of [`STARTED`] and of [`FIND_PROCESS`].
#[derive(Debug, Serialize, Deserialize)]
struct StartedProcess {
    id: String,
}

/// Lists the processes that can be found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListProcesses {
    pub(crate) redact: bool,
}

calls! {
    54: ListProcesses => Vec<ProcessSummary>, ToolError,
        |call, session| Ok(session.list_processes(call.redact));
}

impl Client {
    /// Starts a process.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, and the server kills the process.
    pub(crate) async fn spawn(
        &self,
        request: &SpawnProcess<'_>,
        descriptors: Vec<OwnedFd>,
        stop: Stop,
    ) -> Result<Started, CallError<ToolError>> {
        let rejected = |reason: &str| CallError::Failed(ToolError::from(self.rejected(reason)));
        let id = self.next_id();
        let frame = Frame::new(SPAWN_PROCESS, id, request);
        let mut frame = frame.map_err(|error| rejected(&error.to_string()))?;
        frame.descriptors = descriptors;
        let channel = self.begin(&frame).await?;
        // The server has them now. The streams end with the process.
        drop(frame);
        let started = self.receive_process(channel, id, stop).await?;
        started.ok_or_else(|| rejected("its answer is not one of this version"))
    }

    /// Finds a process by its id.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(crate) async fn find_process(
        &self,
        name: &str,
        stop: Stop,
    ) -> Result<Option<Started>, CallError<ToolError>> {
        let rejected = |reason: &str| CallError::Failed(ToolError::from(self.rejected(reason)));
        let (id, wanted) = (self.next_id(), StartedProcess { id: name.to_owned() });
        let frame = Frame::new(FIND_PROCESS, id, &wanted);
        let frame = frame.map_err(|error| rejected(&error.to_string()))?;
        let channel = self.begin(&frame).await?;
        self.receive_process(channel, id, stop).await
    }

    /// Receives the process that the server has started or found; `None` if it has found none.
    async fn receive_process(
        &self,
        channel: Channel,
        id: u64,
        stop: Stop,
    ) -> Result<Option<Started>, CallError<ToolError>> {
        let rejected = |reason: &str| CallError::Failed(ToolError::from(self.rejected(reason)));
        let answer = match channel.receive().await {
            Ok(Some(answer)) if answer.id == id => answer,
            _ => return Err(CallError::Failed(self.lost().into())),
        };
        let parsed = |error: io::Error| rejected(&error.to_string());
        let StartedProcess { id: name } = match answer.method {
            STARTED => answer.parse().map_err(parsed)?,
            answer::DONE => return Ok(None),
            answer::FAILED => {
                let failure: Failure = answer.parse().map_err(parsed)?;
                return Err(CallError::Failed(SharingError::from(failure).into()));
            }
            _ => return Err(rejected("its answer is not one of this version")),
        };
        let terminal = answer.descriptors.into_iter().next().map(PseudoTerminal::from);
        let (orders, received) = Started::channel();
        let (sender, ended) = oneshot::channel();
        let lost = self.lost();
        tokio::spawn(async move {
            let ended = follow(&channel, id, received, stop).await;
            let _ = sender.send(ended.unwrap_or_else(|| Err(lost.into())));
        });
        Ok(Some(Started { id: name, orders, ended, terminal }))
    }
}

/// Passes on the orders to a process, and waits for its end. Returns `None` if the server has
/// ended, or if the caller has no interest any more.
async fn follow(
    channel: &Channel,
    id: u64,
    mut orders: Orders,
    stop: Stop,
) -> Option<Result<BashOutput, ToolError>> {
    let mut last = pin!(channel.receive());
    let mut stop = pin!(stop.requested());
    let mut is_stopped = false;
    let last = loop {
        let frame = tokio::select! {
            last = &mut last => break last.ok()??,
            order = orders.recv() => match order? {
                Order::Signal(number) => Frame::new(SIGNAL, id, &number),
                Order::Kill => Frame::new(KILL, id, &()),
            },
            () = &mut stop, if !is_stopped => {
                is_stopped = true;
                Frame::new(KILL, id, &())
            }
        };
        // The end of the connection is noticed where it is read.
        let _ = channel.send(&frame.ok()?).await;
    };
    match last.method {
        _ if last.id != id => None,
        answer::DONE => last.parse().ok().map(Ok),
        answer::FAILED => {
            let failure: Failure = last.parse().ok()?;
            Some(Err(SharingError::from(failure).into()))
        }
        _ => None,
    }
}

impl Server {
    /// Runs a process, and sends its result. If the client closes the connection, a process of the
    /// call is killed, and one of the session goes on.
    pub(super) async fn run_process(
        &self,
        channel: &Channel,
        frame: Frame,
    ) -> io::Result<Option<Rejection>> {
        let id = frame.id;
        let request: SpawnProcess<'static> = match frame.parse() {
            Ok(request) => request,
            Err(error) => return Ok(Some(invalid(&error))),
        };
        let Some(streams) = Streams::of(&request, frame.descriptors) else {
            let reason = "the descriptors are not those of the streams";
            return Ok(Some(Rejection::Invalid(reason.to_owned())));
        };
        let (guard, session) = match self.admit() {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Some(Rejection::Gate(refusal))),
        };
        channel.send(&Frame::new(answer::ACCEPTED, id, &())?).await?;
        let (redact, lifetime) = (request.redact, request.lifetime);
        // This process must not exit before it has sent the answer.
        let _answering = (lifetime == Lifetime::Call).then(|| guard.clone());
        let started = {
            let mut starting =
                pin!(session.start_process(request, streams, guard, Stop::default()));
            tokio::select! {
                started = &mut starting => started,
                // The client sends nothing before the process is started.
                _ = channel.receive() => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        };
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                let failure = session.redacted(error, redact).to_failure();
                let failed = Frame::new(answer::FAILED, id, &failure)?;
                timeout(CLIENT_TIMEOUT, channel.send(&failed)).await??;
                return Ok(None);
            }
        };
        // The process has what it needs. A session that is dropped kills it.
        drop(session);
        pass_on(channel, id, started, lifetime).await
    }

    /// Connects a client to a process that it did not start, like [`Server::run_process`].
    pub(super) async fn show_process(
        &self,
        channel: &Channel,
        frame: Frame,
    ) -> io::Result<Option<Rejection>> {
        let id = frame.id;
        let StartedProcess { id: name } = match frame.parse() {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Some(invalid(&error))),
        };
        let found = match (self.gate.begin(), self.session.upgrade()) {
            (Err(refusal), _) => return Ok(Some(Rejection::Gate(refusal))),
            (Ok(_), None) => return Ok(Some(Rejection::Gate(NotAdmitted::Draining))),
            (Ok(_guard), Some(session)) => session.find_process(&name),
        };
        channel.send(&Frame::new(answer::ACCEPTED, id, &())?).await?;
        match found {
            Some(started) => pass_on(channel, id, started, Lifetime::Session).await,
            None => {
                let none = Frame::new(answer::DONE, id, &())?;
                timeout(CLIENT_TIMEOUT, channel.send(&none)).await??;
                Ok(None)
            }
        }
    }
}

/// Passes on the orders of a client to a process, and its result to the client.
async fn pass_on(
    channel: &Channel,
    id: u64,
    started: Started,
    lifetime: Lifetime,
) -> io::Result<Option<Rejection>> {
    let Started { id: name, orders, mut ended, terminal } = started;
    let mut started = Frame::new(STARTED, id, &StartedProcess { id: name })?;
    started.descriptors.extend(terminal.map(OwnedFd::from));
    timeout(CLIENT_TIMEOUT, channel.send(&started)).await??;
    drop(started);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output,
            received = channel.receive() => {
                let frame = match received {
                    Ok(Some(frame)) => frame,
                    closed if lifetime == Lifetime::Session => return closed.map(|_| None),
                    _ => return Err(io::ErrorKind::ConnectionAborted.into()),
                };
                let order = match frame.method {
                    SIGNAL => frame.parse().map(Order::Signal),
                    KILL => Ok(Order::Kill),
                    unknown => return Ok(Some(Rejection::UnknownMethod(unknown))),
                };
                let _ = orders.send(order?);
            }
        }
    };
    let output = output.unwrap_or_else(|_| Err(crate::process::lost()));
    let answer = match output {
        Ok(output) => Frame::new(answer::DONE, id, &output)?,
        Err(error) => Frame::new(answer::FAILED, id, &error.to_failure())?,
    };
    timeout(CLIENT_TIMEOUT, channel.send(&answer)).await??;
    Ok(None)
}
