//! The client of a session that another process serves.

use std::io;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandbox_core::SessionId;
use sandbox_core::internal::{LocalStream, PeerError, lock};
use tokio::time::timeout;

use super::error::SharingError;
use super::frame::{Channel, Frame};
use super::gate::{Departure, NotAdmitted};
use super::greeting::{HELLO, Hello, SessionFacts, Welcome, Wish};
use super::methods::{Call, STOP};
use super::opening::{ANNOUNCED_AFTER, announce};
use super::token::Token;
use super::wire::{Failure, Rejection, answer};
use super::{SOCKET, TOKEN};
use crate::home::{StateDir, StateError};
use crate::session::Stop;
use crate::workspace::WorkspaceError;

/// The time that a client waits for a server that still opens the session.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(120);
/// The number of checks after which a server counts as stopped.
const STOPPED_CHECKS: u32 = 3;
/// The time that a client waits for a server that ends. Its last calls have time limits.
const END_TIMEOUT: Duration = Duration::from_secs(600);
/// The maximum number of connections that wait for the next call.
const MAX_IDLE: usize = 4;

/// The connections to the server of a session.
#[derive(Debug)]
pub(crate) struct Client {
    state: StateDir,
    session: SessionId,
    pid: u32,
    hello: Hello,
    /// Connections without a call.
    idle: Mutex<Vec<Channel>>,
    calls: AtomicU64,
    facts: SessionFacts,
}

/// The result of an attempt to connect.
pub(super) enum Attempt {
    Welcome(Box<Client>),
    /// No process listens.
    Absent,
    /// The server has ended.
    Ended,
}

/// The reason for which a call has no output.
pub(crate) enum CallError<E> {
    /// The call did not begin, because the server has ended.
    NotStarted,
    /// The call did not begin, because the session has left this machine.
    Left(Departure),
    Failed(E),
}

impl Client {
    /// Connects to the server of a session.
    pub(super) async fn connect(
        state: &StateDir,
        session: &SessionId,
        wish: &Wish<'_>,
        patience: Patience,
    ) -> Result<Attempt, WorkspaceError> {
        let Some((channel, pid)) = dial(state, session)? else { return Ok(Attempt::Absent) };
        // The server has written the token before it listened. Without one, the next server has
        // removed it.
        let token = match Token::read(state.path()) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                return Ok(Attempt::Ended);
            }
            read => read.map_err(|source| SharingError::Io {
                operation: "read",
                path: state.path().join(TOKEN),
                source,
            })?,
        };
        let hello = Hello::new(&token, wish);
        Ok(match greet(channel, session, pid, &hello, patience).await? {
            None => Attempt::Ended,
            Some((channel, welcome)) => Attempt::Welcome(Box::new(Self {
                state: state.try_clone()?,
                session: session.clone(),
                pid,
                hello,
                idle: Mutex::new(vec![channel]),
                calls: AtomicU64::new(0),
                facts: welcome.into(),
            })),
        })
    }

    /// Returns the facts from opening the session.
    pub(crate) fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// Calls a method of the session.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, and the server cancels the call.
    pub(crate) async fn call<C: Call>(&self, call: &C) -> Result<C::Output, CallError<C::Error>> {
        let failed = |error: SharingError| CallError::Failed(C::Error::from(error));
        let rejected = |reason: &str| failed(self.rejected(reason));
        let id = self.next_id();
        let mut frame =
            Frame::new(C::METHOD, id, call).map_err(|error| rejected(&error.to_string()))?;
        frame.descriptors = call.descriptors().map_err(|error| rejected(&error.to_string()))?;
        let channel = self.begin(&frame).await?;
        let (last, is_reusable) = self.wait(&channel, id, call.stop()).await;
        let Ok(Some(last)) = last else { return Err(failed(self.lost())) };
        let output = match last.method {
            _ if last.id != id => return Err(rejected("it has answered another call")),
            answer::DONE => last.parse().map_err(|error| rejected(&error.to_string())),
            answer::FAILED => {
                let failure: Failure =
                    last.parse().map_err(|error| rejected(&error.to_string()))?;
                Err(failed(failure.into()))
            }
            _ => return Err(rejected("its answer is not one of this version")),
        };
        let mut idle = lock(&self.idle);
        if is_reusable && idle.len() < MAX_IDLE {
            idle.push(channel);
        }
        output
    }

    pub(super) fn next_id(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for a call. Returns its connection once the server has begun the call.
    pub(super) async fn begin<E: From<SharingError>>(
        &self,
        frame: &Frame,
    ) -> Result<Channel, CallError<E>> {
        let failed = |error: SharingError| CallError::Failed(E::from(error));
        let rejected = |reason: &str| failed(self.rejected(reason));
        let Some(channel) = self.channel().await.map_err(failed)? else {
            return Err(CallError::NotStarted);
        };
        match channel.send(frame).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(rejected(&error.to_string()));
            }
            Err(_) => return Err(CallError::NotStarted),
        }
        let first = match channel.receive().await {
            Ok(Some(first)) => first,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(rejected(&error.to_string()));
            }
            Ok(None) | Err(_) => return Err(CallError::NotStarted),
        };
        match first.method {
            answer::ACCEPTED if first.id == frame.id => Ok(channel),
            answer::REFUSED => {
                match first.parse().map_err(|error| rejected(&error.to_string()))? {
                    Rejection::Gate(NotAdmitted::Draining) => {
                        wait_for_end(&channel).await;
                        Err(CallError::NotStarted)
                    }
                    Rejection::Gate(NotAdmitted::Left(departure)) => {
                        Err(CallError::Left(departure))
                    }
                    Rejection::Invalid(reason) => Err(rejected(&reason)),
                    _ => Err(rejected("it does not know this call")),
                }
            }
            _ => Err(rejected("its answer is not one of this version")),
        }
    }

    /// Returns the error of a call whose server has ended.
    pub(super) fn lost(&self) -> SharingError {
        SharingError::ServerLost { session: self.session.clone(), pid: self.pid }
    }

    /// Waits for the output of a call. Sends the request to end it early. Also returns whether the
    /// connection can be used again: the server may not have read the whole request.
    async fn wait(
        &self,
        channel: &Channel,
        id: u64,
        stop: Stop,
    ) -> (io::Result<Option<Frame>>, bool) {
        let mut last = pin!(channel.receive());
        tokio::select! {
            last = &mut last => return (last, true),
            () = stop.requested() => {}
        }
        let sent = async { channel.send(&Frame::new(STOP, id, &())?).await };
        match sent.await {
            Ok(()) => (last.await, false),
            Err(error) => (Err(error), false),
        }
    }

    /// Returns a connection without a call; `None` if the server has ended.
    async fn channel(&self) -> Result<Option<Channel>, SharingError> {
        let idle = lock(&self.idle).pop();
        if idle.is_some() {
            return Ok(idle);
        }
        let Ok(Some((channel, pid))) = dial(&self.state, &self.session) else { return Ok(None) };
        if pid != self.pid {
            return Ok(None);
        }
        match greet(channel, &self.session, pid, &self.hello, Patience::Long).await {
            Ok(greeted) => Ok(greeted.map(|(channel, _)| channel)),
            Err(WorkspaceError::Sharing { source }) => Err(source),
            // Another server of this process has another token.
            Err(_) => Ok(None),
        }
    }

    pub(super) fn rejected(&self, reason: &str) -> SharingError {
        SharingError::Rejected {
            session: self.session.clone(),
            pid: self.pid,
            reason: reason.to_owned(),
        }
    }
}

/// The time that a client waits for a welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the server has opened the session.
    Long,
    /// A moment.
    Short,
}

/// Connects, and checks the server's process. Returns `None` if no process listens.
fn dial(state: &StateDir, session: &SessionId) -> Result<Option<(Channel, u32)>, SharingError> {
    let stream = match LocalStream::connect(state, SOCKET) {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(SharingError::Io {
                    operation: "connect to",
                    path: state.path().join(SOCKET),
                    source: error,
                }),
            };
        }
    };
    match stream.peer() {
        Ok(peer) => Ok(Some((Channel::new(stream), peer.pid()))),
        Err(PeerError::Gone) => Ok(None),
        Err(error) => {
            let pid = match &error {
                PeerError::OtherUser { pid } | PeerError::OtherNamespace { pid } => *pid,
                _ => 0,
            };
            let reason = sandbox_core::with_causes(&error);
            Err(SharingError::Rejected { session: session.clone(), pid, reason })
        }
    }
}

/// Sends the hello and waits for the welcome. Returns `None` if the server has ended.
async fn greet(
    channel: Channel,
    session: &SessionId,
    pid: u32,
    hello: &Hello,
    patience: Patience,
) -> Result<Option<(Channel, Welcome)>, WorkspaceError> {
    let rejected = |reason: String| {
        WorkspaceError::from(SharingError::Rejected { session: session.clone(), pid, reason })
    };
    let frame = Frame::new(HELLO, 0, hello).map_err(|error| rejected(error.to_string()))?;
    if channel.send(&frame).await.is_err() {
        return Ok(None);
    }
    let limit = match patience {
        Patience::Long => WELCOME_TIMEOUT,
        Patience::Short => Duration::from_secs(2),
    };
    let answer = tokio::select! {
        answer = timeout(limit, channel.receive()) => answer,
        () = stopped(session, pid) => {
            let reason = format!("it is stopped; `kill -CONT {pid}` lets it go on");
            return Err(rejected(reason));
        }
    };
    let answer = match answer {
        Ok(Ok(Some(answer))) => answer,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(rejected(error.to_string()));
        }
        Ok(_) => return Ok(None),
        Err(_) => return Err(StateError::in_use(session, Some(pid)).into()),
    };
    let invalid = |error: io::Error| rejected(error.to_string());
    match answer.method {
        answer::WELCOME => Ok(Some((channel, answer.parse().map_err(invalid)?))),
        answer::REFUSED => match answer.parse().map_err(invalid)? {
            Rejection::Gate(_) => {
                if patience == Patience::Long {
                    wait_for_end(&channel).await;
                }
                Ok(None)
            }
            Rejection::Differs(what) => {
                Err(SharingError::Differs { session: session.clone(), pid, what }.into())
            }
            Rejection::WrongUser => Err(StateError::WrongUser { session: session.clone() }.into()),
            Rejection::Peer(reason) | Rejection::Invalid(reason) => Err(rejected(reason)),
            Rejection::UnknownMethod(_) => Err(rejected("it does not know the hello".to_owned())),
        },
        _ => Err(rejected("its answer is not one of this version".to_owned())),
    }
}

/// Waits until a server has been stopped for some time, for example by Ctrl-Z. Names it meanwhile.
async fn stopped(session: &SessionId, pid: u32) {
    tokio::time::sleep(ANNOUNCED_AFTER).await;
    announce(session, Some(pid));
    let mut checks = 0;
    while checks < STOPPED_CHECKS {
        tokio::time::sleep(ANNOUNCED_AFTER).await;
        checks = if is_stopped(pid) { checks + 1 } else { 0 };
    }
}

/// Returns whether a process is stopped (`proc_pid_stat(5)`).
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program can contain anything.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['T', 't']))
}

/// Waits until a server that admits no calls has ended.
async fn wait_for_end(channel: &Channel) {
    let _ = timeout(END_TIMEOUT, channel.receive()).await;
}
