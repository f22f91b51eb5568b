//! Processes that another call, or another program, finds again by their ids.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

use super::Process;
use super::handle::{CallerEnds, End, Order, Started, lost};
use crate::session::{Link, LocalSession, Session};
use crate::sharing::{CallError, ListProcesses};
use crate::times::milliseconds_since_1970;
use crate::tool_error::ToolError;
use crate::tools::bash::BashOutput;

/// The maximum number of processes that have ended and are still found.
const MAX_ENDED: usize = 32;

/// A process of a session, as a list has it. See [`Session::processes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProcessSummary {
    /// The id, by which [`Session::process`] finds the process.
    pub id: String,
    /// The script for bash.
    pub command: String,
    /// The time of the start, in JSON in milliseconds since 1970.
    #[serde(with = "milliseconds_since_1970")]
    pub started: SystemTime,
    /// The exit code of a process that has ended and has a result.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// True until the process has ended.
    pub is_running: bool,
}

/// The processes that can be found, by number.
pub(super) type Findable = BTreeMap<u64, FindableProcess>;

/// A process that can be found.
#[derive(Clone, Debug)]
pub(super) struct FindableProcess {
    command: String,
    started: SystemTime,
    orders: UnboundedSender<Order>,
    end: watch::Receiver<Option<End>>,
}

/// Publishes the end of a process. Dropping it ends the process without a result.
#[derive(Debug)]
pub(super) struct Publisher(watch::Sender<Option<End>>);

impl Publisher {
    pub(super) fn publish(&self, ended: &Result<BashOutput, ToolError>) {
        self.0.send_replace(Some(End::of(ended)));
    }
}

impl FindableProcess {
    pub(super) fn new(command: &str, orders: &UnboundedSender<Order>) -> (Self, Publisher) {
        let (sender, end) = watch::channel(None);
        let (command, orders) = (command.to_owned(), orders.clone());
        (Self { command, started: SystemTime::now(), orders, end }, Publisher(sender))
    }

    fn is_running(&self) -> bool {
        self.end.has_changed().is_ok() && self.end.borrow().is_none()
    }

    fn summary(&self, number: u64) -> ProcessSummary {
        let exit_code = match &*self.end.borrow() {
            Some(End::With(output)) => Some(output.exit_code),
            _ => None,
        };
        ProcessSummary {
            id: id(number),
            command: self.command.clone(),
            started: self.started,
            exit_code,
            is_running: self.is_running(),
        }
    }

    /// Returns the process as its first caller got it, but without a terminal.
    fn started(&self, number: u64) -> Started {
        let (sender, ended) = oneshot::channel();
        let mut end = self.end.clone();
        tokio::spawn(async move {
            let published = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
            let _ = sender.send(published.map_or_else(|| Err(lost()), End::into_result));
        });
        Started { id: id(number), orders: self.orders.clone(), ended, terminal: None }
    }
}

/// Returns the id of a process by its number in the session.
pub(super) fn id(number: u64) -> String {
    format!("p{number}")
}

/// Removes the oldest processes that have ended, if there are too many.
pub(super) fn forget_ended(processes: &mut Findable) {
    let ended = processes.iter().filter(|(_, process)| !process.is_running());
    let ended: Vec<u64> = ended.map(|(number, _)| *number).collect();
    for number in ended.iter().take(ended.len().saturating_sub(MAX_ENDED)) {
        processes.remove(number);
    }
}

impl LocalSession {
    pub(crate) fn list_processes(&self, redact: bool) -> Vec<ProcessSummary> {
        let mut processes = self.processes.with_findable(|processes| {
            processes.iter().map(|(number, process)| process.summary(*number)).collect::<Vec<_>>()
        });
        if redact {
            for process in &mut processes {
                process.command = self.redact(&process.command);
            }
        }
        processes
    }

    pub(crate) fn find_process(&self, name: &str) -> Option<Started> {
        self.processes.with_findable(|processes| {
            let mut processes = processes.iter();
            let (number, process) = processes.find(|(number, _)| id(**number) == name)?;
            Some(process.started(*number))
        })
    }
}

impl Session {
    /// Lists the processes with the lifetime of the session, whichever program has started them:
    /// those that run, and the last 32 that have ended. The oldest comes first.
    ///
    /// # Errors
    /// Returns [`ToolError::Sharing`] if the process that serves the session fails.
    pub async fn processes(&self) -> Result<Vec<ProcessSummary>, ToolError> {
        self.run(ListProcesses { redact: self.settings.redact }).await
    }

    /// Finds a process with the lifetime of the session by its id ([`Process::id`]), also after the
    /// handle that started it was dropped. Returns `None` if the session has no such process any
    /// more.
    ///
    /// The new handle signals the process, kills it, and waits for its result. It has no pipes and
    /// no terminal: those stay with the handle that started the process.
    ///
    /// ```no_run
    /// # use agent_tools::{InputFrom, Lifetime, OutputTo, Session, Spawn};
    /// # async fn example(session: &Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut server = Spawn::command("exec python3 -m http.server > server.log 2>&1");
    /// server.lifetime = Lifetime::Session;
    /// let id = session.spawn(server).await?.id().to_owned();
    /// // In another call, or in another program with the same session:
    /// if let Some(mut server) = session.process(&id).await? {
    ///     server.kill();
    ///     println!("exit code {}", server.wait().await?.exit_code);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`ToolError::Sharing`] if the process that serves the session fails.
    pub async fn process(&self, id: &str) -> Result<Option<Process>, ToolError> {
        let found = match self.link() {
            Link::Serving(session) => session.find_process(id),
            Link::Connected(client) => match client.find_process(id, self.stop()).await {
                Ok(found) => found,
                Err(CallError::Failed(error)) => return Err(error),
                // No process outlives its server.
                Err(CallError::NotStarted | CallError::Left(_)) => None,
            },
            Link::Released | Link::Ended | Link::Left(_) => None,
        };
        found.map(|started| Process::new(started, CallerEnds::default())).transpose()
    }
}
