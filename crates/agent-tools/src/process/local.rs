//! A process in the program that serves its session: its start, its supervision and its result.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use artifact_sync::SyncError;
use policy::Access;
use sandbox_core::internal::lock;
use sandbox_core::{
    AttachedEvent, AttachedOutcome, CommandStatus, ExecError, ExecErrorKind, Quarantined,
    TerminalSize,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::handle::{Order, Orders, Started, lost};
use super::pump::{Pumped, Tail, pump_terminal};
use super::registry::Registration;
use super::request::{SpawnProcess, Streams};
use super::streams::{Outputs, exec, pipe};
use super::{Lifetime, SPAWN};
use crate::call_journal::ProcessRecord;
use crate::denials;
use crate::engine::{Engine, RunningCommand};
use crate::network::Observed;
use crate::output::MirrorNotes;
use crate::redaction::Redaction;
use crate::session::{Failures, LocalSession, Stop};
use crate::sharing::CallGuard;
use crate::tool_error::ToolError;
use crate::tools::bash::{BashOutput, MAX_KILLED, limit_key};
use crate::workspace::Turn;

/// Interval at which the refused paths of a running process are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The number of checks after which the changes of a running process are stored.
const CHECKS_PER_SYNC: u32 = 3;
/// The time that output of a killed process has to reach its reader.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// The hint of a process that ended with its session.
const WITH_SESSION: &str = "the process was killed because its session was closed, or the program \
                            that served the session has ended; /tmp is empty since then";
/// Signal numbers (`signal(7)`).
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// The process itself, until all that it has started is dead.
struct Running {
    command: Box<dyn RunningCommand>,
    orders: Orders,
    lifetime: Lifetime,
    stop: Stop,
    timeout: Option<Duration>,
    activity: Arc<Notify>,
    pumps: Vec<(&'static str, Pumped)>,
    registration: Registration,
}

/// The rest that the result of a process is made of.
struct Conclusion {
    session: Weak<LocalSession>,
    sandbox: Arc<dyn Engine>,
    text: String,
    redact: bool,
    tail: Tail,
    /// Files that were quarantined while the process ran.
    quarantined: Arc<Mutex<Vec<Quarantined>>>,
    connections: Observed,
    turn: Turn,
    /// `None` for a process that the session does not wait for.
    _guard: Option<CallGuard>,
}

/// The end of a process.
struct Ended {
    outcome: Result<AttachedOutcome, ExecError>,
    /// The time limit that the process exceeded.
    exceeded: Option<Duration>,
    /// The session ends, and stores all changes itself.
    with_session: bool,
    written: Result<(), (&'static str, io::Error)>,
}

impl LocalSession {
    /// Starts a process, and looks after it in a task.
    ///
    /// # Cancel safety
    /// A process that has been started is killed.
    pub(crate) async fn start_process(
        self: &Arc<Self>,
        request: SpawnProcess<'_>,
        streams: Streams,
        guard: CallGuard,
        stop: Stop,
    ) -> Result<Started, ToolError> {
        let record = ProcessRecord::begin(&request.command);
        let turn = self.begin().await?;
        self.follow_variables().await;
        self.check_variables(&request.required)?;
        let sandbox = self.sandbox();
        let mut spec = self.command_spec(&request.command, &*sandbox);
        self.adjust(SPAWN, &mut spec, request.cwd.as_deref(), &request.env)?;
        spec.linger = request.linger;
        let loadout = self.variables.current();
        let redactor = Some(&*loadout.output).filter(|it| request.redact && !it.is_empty());
        let (tail, activity) = (Tail::default(), Arc::<Notify>::default());
        let (orders, received) = Started::channel();
        let registration = self.processes.register();
        let id = registration.id();
        let outputs = Outputs { redactor, tail: &tail, activity: &activity };
        let connections = self.network.observe();
        let (command, terminal, pumps) = match request.terminal {
            Some((rows, columns)) => {
                let size = TerminalSize { rows, columns };
                let (command, terminal) =
                    sandbox.start_in_terminal(&spec, size).await.map_err(exec)?;
                let filter = outputs.filter(None);
                let shown = pump_terminal(&terminal, streams.stdout, filter).map_err(pipe)?;
                (command, Some(terminal), vec![("the output", shown)])
            }
            None => {
                let (command, pumps) = outputs.start(&*sandbox, &spec, streams).await?;
                (command, None, pumps)
            }
        };
        let publisher = self.processes.publish(&registration, &request, &orders);
        let running = Running {
            command,
            orders: received,
            lifetime: request.lifetime,
            stop,
            timeout: request.timeout,
            activity,
            pumps,
            registration,
        };
        let conclusion = Conclusion {
            session: Arc::downgrade(self),
            sandbox,
            text: request.command.into_owned(),
            redact: request.redact,
            tail,
            quarantined: Arc::default(),
            connections,
            turn,
            _guard: (request.lifetime == Lifetime::Call).then_some(guard),
        };
        let (sender, ended) = oneshot::channel();
        let session = Arc::downgrade(self);
        tokio::spawn(async move {
            let output = look_after(running, conclusion).await;
            if let Some(session) = session.upgrade() {
                record.end(&session, &output);
            }
            publisher.inspect(|publisher| publisher.publish(&output));
            let _ = sender.send(output);
        });
        Ok(Started { id, orders, ended, terminal })
    }

    /// Composes the result of a process that has ended.
    async fn conclude(&self, ended: Ended, rest: &Conclusion) -> Result<BashOutput, ToolError> {
        let closed = self.closed_during_call(&rest.sandbox).filter(|_| ended.with_session);
        if let Some(closed) = closed {
            return Err(closed.into());
        }
        if self.workspace.is_lost() {
            return Err(self.workspace.lost_during_call(SyncError::LeaseLost));
        }
        let ran = match ended.outcome {
            Ok(ran) => ran,
            Err(source) => {
                if source.kind() == ExecErrorKind::Ended {
                    if let Some(closed) = self.closed_during_call(&rest.sandbox) {
                        return Err(closed.into());
                    }
                    if !ended.with_session {
                        self.reopen_sandbox(&rest.sandbox).await;
                    }
                }
                return Err(ToolError::Exec { source });
            }
        };
        let loadout = self.variables.current();
        let mut redaction = Redaction::new(rest.redact.then_some(&*loadout.redactor));
        let unredacted = rest.tail.text();
        let refused = rest.connections.refusals();
        let mut denied = refused.denials;
        let earlier = std::mem::take(&mut *lock(&rest.quarantined));
        denied.extend(earlier.iter().chain(&ran.quarantined).map(|quarantined| {
            let reason = self.denial_reason(&quarantined.path, Access::Write);
            denials::from_quarantined(quarantined, reason)
        }));
        let mut output = BashOutput::default();
        if let Some(reason) = ran.sandbox_ended {
            output.stderr = format!("sandbox: every process of the session was ended: {reason}\n");
            self.reopen_sandbox(&rest.sandbox).await;
        }
        output.exit_code = ran.exit_code();
        output.timed_out = ended.exceeded.is_some();
        output.time_limit_ms =
            ended.exceeded.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        output.limit_reached = ran.limit_reached().and_then(limit_key);
        output.hint = {
            let Conclusion { text: command, connections, .. } = rest;
            let (stderr, denied, unroutable) = (&unredacted, &denied, ran.unroutable);
            let failures = Failures { stderr, command, unroutable, connections, denied };
            let hint = self.hint(&failures, &mut redaction);
            let with_session = ended.with_session.then(|| WITH_SESSION.to_owned());
            let lines: Vec<String> = with_session.into_iter().chain(hint).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        (output.denied, output.denied_omitted) = (denied, refused.omitted);
        output.killed = ran.killed;
        output.killed.truncate(MAX_KILLED);
        if let Some(mirror) = self.workspace.mirror.as_ref().filter(|_| !ended.with_session) {
            match mirror.sync().await.and_then(|report| mirror.check().map(|()| report)) {
                Ok(report) => {
                    let notes = MirrorNotes::new(report, &self.workspace);
                    output.add_mirror_notes(notes, "");
                }
                Err(error) => return Err(self.sync_failed(error).await),
            }
            match rest.turn.confirm().await {
                Ok(reason) => {
                    let is_known = output.still_pending > 0 || !output.pending.is_empty();
                    output.unconfirmed = reason.filter(|_| !is_known);
                }
                Err(error) => return Err(self.sync_failed(error).await),
            }
        }
        // A process has no streams in its result.
        output.stdout.clear();
        output.warnings = self.variables.take_warnings(&loadout);
        output.redact(redaction);
        if let Err((stream, source)) = ended.written {
            return Err(ToolError::Write { path: stream.to_owned(), source });
        }
        Ok(output)
    }

    /// Starts to store what processes have changed. The result of the next call names it.
    async fn store_meanwhile(&self) {
        let Some(mirror) = &self.workspace.mirror else { return };
        if let Err(error) = mirror.store_unreported().await {
            let error = sandbox_core::with_causes(&error);
            tracing::debug!(error, "the changes of a running process are not stored yet");
        }
    }
}

/// Waits for the end of a process, and returns its result.
async fn look_after(running: Running, conclusion: Conclusion) -> Result<BashOutput, ToolError> {
    let care = tokio::spawn(take_care(
        conclusion.session.clone(),
        Arc::clone(&conclusion.sandbox),
        Arc::clone(&conclusion.quarantined),
    ));
    let ended = supervise(running).await;
    care.abort();
    let Some(session) = conclusion.session.upgrade() else { return Err(lost()) };
    let concluded = session.conclude(ended, &conclusion).await;
    concluded.map_err(|error| session.redacted(error, conclusion.redact))
}

/// Checks the refused paths of a process while it runs, and stores what it changes.
async fn take_care(
    session: Weak<LocalSession>,
    sandbox: Arc<dyn Engine>,
    quarantined: Arc<Mutex<Vec<Quarantined>>>,
) {
    let mut checks = interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_u32;
    loop {
        checks.tick().await;
        let found = sandbox.check_running().await;
        lock(&quarantined).extend(found);
        number = number.wrapping_add(1);
        let Some(session) = session.upgrade() else { return };
        if number.is_multiple_of(CHECKS_PER_SYNC) {
            session.store_meanwhile().await;
        }
    }
}

/// Applies the orders to a process until it has ended, and its output has been passed on.
async fn supervise(running: Running) -> Ended {
    let Running { mut command, mut orders, lifetime, stop, activity, pumps, registration, .. } =
        running;
    let deadline = running.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let mut stop = std::pin::pin!(stop.requested());
    let (mut is_wanted, mut is_killed) = (true, false);
    let (mut exceeded, mut with_session) = (None, false);
    let outcome = loop {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = command.next_event() => match event {
                Ok(AttachedEvent::Ended(outcome)) => break Ok(outcome),
                Ok(_) => continue,
                Err(error) => break Err(error),
            },
            order = orders.recv(), if is_wanted => match order {
                Some(Order::Signal(number)) if SIGNALS.contains(&number) => command.signal(number),
                Some(Order::Signal(_)) => {}
                Some(Order::Kill) => is_killed = true,
                None => (is_wanted, is_killed) = (false, is_killed || lifetime == Lifetime::Call),
            },
            () = registration.session_ends() => (is_killed, with_session) = (true, true),
            () = late, if !is_killed => (is_killed, exceeded) = (true, running.timeout),
            () = activity.notified() => command.extend_linger(),
            () = &mut stop, if !is_killed => is_killed = true,
        }
        if is_killed {
            command.kill();
        }
    };
    let outcome = outcome.map(|mut outcome| {
        if exceeded.is_some() {
            outcome.status = CommandStatus::TimedOut;
        }
        outcome
    });
    let mut written = Ok(());
    for (stream, pumped) in pumps {
        // A reader that does not read must not delay the end of a session.
        let pumped = match is_killed {
            true => timeout(REST_TIMEOUT, pumped).await.unwrap_or(Ok(Ok(()))),
            false => pumped.await,
        };
        if let (Ok(Err(error)), Ok(())) = (pumped, &written) {
            written = Err((stream, error));
        }
    }
    Ended { outcome, exceeded, with_session, written }
}
