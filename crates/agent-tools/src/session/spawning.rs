//! The start of processes, here or in the program that serves the session.

use super::{Link, MAX_SERVERS, Session};
use crate::boxed::boxed;
use crate::process::{Process, Spawn, SpawnProcess};
use crate::sharing::{CallError, NotAdmitted};
use crate::tool_error::ToolError;

impl Session {
    /// Starts a process in the sandbox, with streams, signals and a lifetime of its own.
    ///
    /// ```no_run
    /// # use agent_tools::{Session, Spawn};
    /// # use tokio::io::AsyncReadExt;
    /// # async fn example(session: &Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut process = session.spawn(Spawn::command("make 2>&1")).await?;
    /// let mut output = process.take_stdout().expect("a pipe");
    /// let mut buffer = [0; 4096];
    /// while let count @ 1.. = output.read(&mut buffer).await? {
    ///     print!("{}", String::from_utf8_lossy(&buffer[..count]));
    /// }
    /// println!("exit code {}", process.wait().await?.exit_code);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The process obeys the limits of the session. While it runs, the paths that the policy
    /// refuses are checked every second, changed files are stored every few seconds, and the
    /// session is not released as idle. It is killed with the session, before that is closed,
    /// drained or given to another machine, and with the program that serves the session.
    /// [`Session::stop_commands`] kills it too.
    ///
    /// # Errors
    /// Like [`Session::bash`]. A process that cannot be started, for example because its directory
    /// is absent, is an error of [`Process::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future kills a process that was started.
    #[tracing::instrument(
        name = "spawn_process",
        skip_all,
        fields(gen_ai.conversation.id = %self.id())
    )]
    pub async fn spawn(&self, spawn: Spawn) -> Result<Process, ToolError> {
        let linger = spawn.linger.unwrap_or(self.settings.linger);
        let (mut request, streams, ends) = SpawnProcess::new(spawn, linger, self.settings.redact)?;
        request.required = self.required_variables();
        for _ in 0..MAX_SERVERS {
            let link = self.link();
            match &link {
                Link::Serving(session) => match session.gate.begin() {
                    Ok(guard) => {
                        let redact = request.redact;
                        let started = session.start_process(request, streams, guard, self.stop());
                        let started = boxed(|| started).await;
                        let started = started.map_err(|error| session.redacted(error, redact))?;
                        return Process::new(started, ends);
                    }
                    Err(NotAdmitted::Left(departure)) => {
                        return Err(self.left(departure).into());
                    }
                    Err(NotAdmitted::Draining) => {}
                },
                Link::Connected(client) => {
                    let descriptors = streams.copies()?;
                    match boxed(|| client.spawn(&request, descriptors, self.stop())).await {
                        Ok(started) => return Process::new(started, ends),
                        Err(CallError::Failed(error)) => return Err(error),
                        Err(CallError::Left(departure)) => {
                            return Err(self.left(departure).into());
                        }
                        Err(CallError::NotStarted) => {}
                    }
                }
                unserved => self.check_reopening(unserved)?,
            }
            boxed(|| self.reopen(&link)).await?;
        }
        Err(self.no_server().into())
    }
}
