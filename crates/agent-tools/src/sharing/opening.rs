//! The decision whether this process serves a session or is a client.

use std::time::{Duration, Instant};

use sandbox_core::SessionId;
use sandbox_core::internal::LocalListener;

use super::SOCKET;
use super::client::{Attempt, Client, Patience};
use super::error::SharingError;
use super::greeting::Wish;
use super::token::Token;
use crate::home::{Home, SessionState, StateDir, StateError};
use crate::workspace::WorkspaceError;

/// The time that opening waits for a process that holds the session and does not answer.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which the process for which a caller waits is named.
pub(super) const ANNOUNCED_AFTER: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The maximum number of servers that may end while this process tries to connect, and the time.
const MAX_ENDED: usize = 1000;
const ENDED_TIMEOUT: Duration = Duration::from_secs(600);

/// A locked session. Clients can connect, and wait for the welcome.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) state: SessionState,
    pub(crate) door: Door,
}

/// The socket of a locked session and its token. Dropping it sends the waiting clients away.
#[derive(Debug)]
pub(crate) struct Door {
    pub(super) listener: LocalListener,
    pub(super) token: Token,
}

/// The role of this process.
pub(crate) enum Entered {
    /// This process holds the session.
    Owner(Claim),
    /// Another process, or another `Sessions` of this one, serves the session.
    Client(Box<Client>),
}

impl Claim {
    /// Locks a session and listens for clients. Returns `None` if the session is locked.
    pub(crate) fn try_new(
        home: &Home,
        session: &SessionId,
    ) -> Result<Option<Self>, WorkspaceError> {
        let Some(state) = SessionState::try_lock(home, session)? else { return Ok(None) };
        let io = |operation, name: &str| {
            let path = state.dir().path().join(name);
            move |source| SharingError::Io { operation, path, source }
        };
        // A client that connects finds the token of this server.
        let token = Token::create(state.dir().path()).map_err(io("write", super::TOKEN))?;
        let listener = LocalListener::bind(state.dir(), SOCKET).map_err(io("listen on", SOCKET))?;
        Ok(Some(Self { state, door: Door { listener, token } }))
    }
}

/// Locks a session, or connects to the process that holds it.
///
/// # Cancel safety
/// Nothing is held after the caller has dropped the future.
pub(crate) async fn enter(
    home: &Home,
    session: &SessionId,
    wish: &Wish<'_>,
) -> Result<Entered, WorkspaceError> {
    let first = Instant::now();
    let (mut begun, mut ended, mut is_announced) = (first, 0, false);
    loop {
        if let Some(claim) = Claim::try_new(home, session)? {
            return Ok(Entered::Owner(claim));
        }
        // A process that closes the session deletes its state.
        let dir = StateDir::create(home, session)?;
        match Client::connect(&dir, session, wish, Patience::Long).await? {
            Attempt::Welcome(client) => return Ok(Entered::Client(client)),
            // Its lock is free in a moment.
            Attempt::Ended if ended < MAX_ENDED && first.elapsed() < ENDED_TIMEOUT => {
                ended += 1;
                begun = Instant::now();
            }
            Attempt::Absent if begun.elapsed() < HOLDER_TIMEOUT => {
                if !is_announced && begun.elapsed() > ANNOUNCED_AFTER {
                    announce(session, dir.holder());
                    is_announced = true;
                }
            }
            Attempt::Ended | Attempt::Absent => {
                return Err(StateError::in_use(session, dir.holder()).into());
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Names the process for which a caller waits. The command shows this.
pub(super) fn announce(session: &SessionId, holder: Option<u32>) {
    let holder =
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    tracing::warn!(
        target: "agent_tools::waiting",
        "waiting for {holder}, which has session {session} open and does not answer"
    );
}

/// Connects to the process that serves a session. Returns `None` without such a process, or if it
/// does not answer at once.
pub(crate) async fn visit(
    dir: &StateDir,
    session: &SessionId,
) -> Result<Option<Box<Client>>, WorkspaceError> {
    match Client::connect(dir, session, &Wish::Files, Patience::Short).await {
        Ok(Attempt::Welcome(client)) => Ok(Some(client)),
        Ok(Attempt::Absent | Attempt::Ended) => Ok(None),
        Err(WorkspaceError::State { source: StateError::InUse { .. } }) => Ok(None),
        Err(error) => Err(error),
    }
}
