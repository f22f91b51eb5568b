//! The subcommand `mcp`: one session's tools over the Model Context Protocol.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::mcp::{McpError, ServerOptions, serve_stdio_with};
use agent_tools::{PendingGroup, Session, SessionId, SessionSummary, SessionsBuilder};
use clap::Args;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tools::seconds;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::origins;
use crate::output::errln;
use crate::signals::{OnSignal, use_session};
use crate::toolset_args::ToolsetArgs;

/// The time in which requests get the reason if the session cannot be opened.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The problem of a server without a client.
const NO_CLIENT: &str = "standard input ended before a request; this command is for clients of the \
                         Model Context Protocol, which start it";

/// The time limit of commands without another one.
const USUAL_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Args, Debug)]
pub(crate) struct McpArgs {
    #[command(flatten)]
    tools: ToolsetArgs,
    /// Time limit of commands whose call names none, in seconds [default: 120, or --max-timeout if
    /// that is less].
    #[arg(long, value_name = "SECS", value_parser = seconds, env = "AGENT_TOOLS_TIMEOUT")]
    timeout: Option<Duration>,
    /// Maximum time limit that a call may name, in seconds [default: none].
    #[arg(long, value_name = "SECS", value_parser = seconds, env = "AGENT_TOOLS_MAX_TIMEOUT")]
    max_timeout: Option<Duration>,
    /// Maximum length of each output stream in a result, in UTF-16 units. Of a longer one, the
    /// beginning and the end are shown, and a file in the sandbox has all of it.
    #[arg(long, value_name = "UNITS", default_value_t = 30_000, env = "AGENT_TOOLS_MAX_OUTPUT")]
    max_output: usize,
    #[command(flatten)]
    session: SessionArgs,
}

/// An open session, or the reason for which it cannot be opened.
type OpeningResult = Result<Arc<Session>, String>;

/// The server, whose first requests may come before the session is open.
struct Server {
    task: Mutex<JoinHandle<Result<(), McpError>>>,
    /// The first words of a client.
    begun: Cell<Option<oneshot::Receiver<()>>>,
    announce: Cell<Option<oneshot::Sender<OpeningResult>>>,
}

pub(crate) async fn run(context: &Context, args: McpArgs) -> Result<ExitCode, Failure> {
    if let (Some(timeout), Some(max)) = (args.timeout, args.max_timeout)
        && timeout > max
    {
        let (timeout, max) = (timeout.as_secs_f64(), max.as_secs_f64());
        let (usual, most) = (origins::name("--timeout"), origins::name("--max-timeout"));
        let problem = format!("{usual} {timeout} is above {most} {max}");
        return Err(Failure::usage(problem));
    }
    let mut options = ServerOptions::default();
    options.max_timeout = args.max_timeout;
    let server = Server::start(options);
    let tools = args.tools.selection();
    let settings = |builder: SessionsBuilder| {
        let timeout = args.timeout.unwrap_or(USUAL_TIMEOUT);
        builder.timeout(timeout).max_output(args.max_output).tools(tools)
    };
    let open = server.open(context.open_with(&args.session, settings));
    let code = use_session(OnSignal::Drain, open, async |session| {
        server.announce(Ok(Arc::clone(session)));
        server.ended().await?;
        Ok(ExitCode::SUCCESS)
    })
    .await?;
    // After a signal, the changes that could not be stored were named.
    if code == ExitCode::SUCCESS {
        report_pending(context, &args.session.session).await;
    }
    Ok(code)
}

impl Server {
    fn start(options: ServerOptions) -> Self {
        let (announce, opened) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let opening = async {
            let _ = begin.send(());
            opened.await.unwrap_or_else(|_| Err("the server ends".to_owned()))
        };
        let task = tokio::spawn(serve_stdio_with(opening, options));
        let task = Mutex::new(task);
        Self { task, begun: Cell::new(Some(begun)), announce: Cell::new(Some(announce)) }
    }

    /// Tells the server that the session is open, or why it cannot be opened.
    fn announce(&self, opened: OpeningResult) {
        if let Some(announce) = self.announce.take() {
            let _ = announce.send(opened);
        }
    }

    /// Waits until the client has closed standard input.
    async fn ended(&self) -> Result<(), Failure> {
        let ended = (&mut *self.task.lock().await).await;
        ended.map_err(Failure::failed)?.map_err(Failure::failed)
    }

    /// Opens the session while the client is there.
    async fn open(
        &self,
        opening: impl Future<Output = Result<Arc<Session>, Failure>>,
    ) -> Result<Arc<Session>, Failure> {
        // A client that never asks for anything gets no session.
        if let Some(begun) = self.begun.take()
            && begun.await.is_err()
        {
            return Err(match self.ended().await {
                Ok(()) => Failure::ended(0),
                Err(_) => Failure::failed_text(NO_CLIENT),
            });
        }
        let opened = tokio::select! {
            opened = opening => opened,
            ended = self.ended() => return Err(ended.err().unwrap_or_else(|| Failure::ended(0))),
        };
        if let Err(failure) = &opened {
            self.announce(Err(failure.message().into_owned()));
            let _ = timeout(LAST_ANSWERS, self.ended()).await;
        }
        opened
    }
}

/// Names the changes that the end of the client has left behind.
async fn report_pending(context: &Context, id: &SessionId) {
    let Ok(sessions) = context.local_sessions() else { return };
    let Ok(SessionSummary { status: Some(status), .. }) = sessions.summary(id).await else {
        return;
    };
    for group in PendingGroup::group(&status.pending) {
        errln!("agent-tools: pending: {group}");
    }
}
