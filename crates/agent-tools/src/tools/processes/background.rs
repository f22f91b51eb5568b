//! The processes of one handle of a session that tools have started, with output that no call has
//! read yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox_core::internal::lock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::process::{
    InputFrom, Lifetime, OutputTo, Process, ProcessControl, ProcessInput, ProcessOutput, Spawn,
};
use crate::redaction::{unfinished_placeholder, whole_end, whole_start};
use crate::session::Session;
use crate::tool_error::ToolError;
use crate::tools::bash::BashOutput;

/// The maximum number of processes, with those that have ended. Of the latter, the oldest are
/// forgotten first.
const MAX_PROCESSES: usize = 32;
/// The maximum size of the output of a process that waits for a call, and of the part that one call
/// gets.
const MAX_WAITING: usize = 1 << 20;
const MAX_PART: usize = 30_000;
/// Time for output that belongs to the first piece.
const GATHERING_TIME: Duration = Duration::from_millis(50);
/// The least time that a process gets to read its input, and to end after it has closed it.
const LEAST_INPUT_TIME: Duration = Duration::from_secs(1);

/// The processes that the tools of one handle have started.
#[derive(Debug, Default)]
pub(crate) struct Background {
    processes: Mutex<BTreeMap<String, Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    control: ProcessControl,
    /// True if another handle has started the process, and has its pipes.
    is_adopted: bool,
    stdin: tokio::sync::Mutex<Option<ProcessInput>>,
    state: Mutex<State>,
    changed: Notify,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    output: VecDeque<u8>,
    omitted_bytes: usize,
    ended: Option<Result<Box<BashOutput>, String>>,
}

/// The condition under which a read returns before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// There is output, or the process has ended.
    Output,
    /// The process has ended.
    End,
}

/// The part of a process' output that a call gets, and the end of the process.
#[derive(Debug)]
pub(super) struct ReadPart {
    pub(super) output: String,
    pub(super) omitted_bytes: usize,
    /// The number of bytes that the next call gets at once.
    pub(super) remaining_bytes: usize,
    /// True if another handle has started the process, and gets its output.
    pub(super) is_adopted: bool,
    pub(super) ended: Option<Result<Box<BashOutput>, String>>,
}

/// A process whose id the caller does not have yet. Dropping it kills the process, because no
/// later call could name it.
#[derive(Debug)]
pub(super) struct Unanswered(Option<ProcessControl>);

impl Unanswered {
    pub(super) fn answer(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.kill();
        }
    }
}

impl Background {
    /// Starts a process. Returns its id, and the guard of a call that is not answered yet.
    pub(super) async fn start(
        &self,
        session: &Session,
        command: String,
        cwd: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<(String, Unanswered), ToolError> {
        self.make_room()?;
        let mut spawn = Spawn::command(command);
        (spawn.cwd, spawn.timeout) = (cwd, timeout);
        (spawn.stdin, spawn.stderr) = (InputFrom::Pipe, OutputTo::Stdout);
        spawn.lifetime = Lifetime::Session;
        let process = session.spawn(spawn).await?;
        let unanswered = Unanswered(Some(process.control()));
        Ok((self.add(process, false), unanswered))
    }

    /// Takes a process of the session that another handle has started, if there is one.
    pub(super) async fn adopt(&self, session: &Session, id: &str) -> Result<(), ToolError> {
        if lock(&self.processes).contains_key(id) {
            return Ok(());
        }
        if let Some(process) = session.process(id).await? {
            self.make_room()?;
            self.add(process, true);
        }
        Ok(())
    }

    fn add(&self, mut process: Process, is_adopted: bool) -> String {
        let id = process.id().to_owned();
        let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
        let entry = Arc::new(Entry {
            control: process.control(),
            is_adopted,
            stdin: tokio::sync::Mutex::new(stdin),
            state: Mutex::default(),
            changed: Notify::new(),
            started: Instant::now(),
        });
        lock(&self.processes).insert(id.clone(), Arc::clone(&entry));
        tokio::spawn(collect(process, stdout, entry));
        id
    }

    /// Forgets a process that has ended if there are too many.
    fn make_room(&self) -> Result<(), ToolError> {
        let mut processes = lock(&self.processes);
        if processes.len() < MAX_PROCESSES {
            return Ok(());
        }
        let ended = processes.iter().filter(|(_, entry)| lock(&entry.state).ended.is_some());
        let oldest = ended.min_by_key(|(_, entry)| entry.started).map(|(id, _)| id.clone());
        let Some(oldest) = oldest else {
            let problem = format!("{MAX_PROCESSES} processes are running; stop one first");
            return Err(super::failed(super::START_NAME, problem));
        };
        processes.remove(&oldest);
        Ok(())
    }

    /// Writes to the standard input of a process until the time is over, and ends it on request.
    pub(super) async fn write(
        &self,
        tool: &'static str,
        id: &str,
        bytes: &[u8],
        ends: bool,
        wait: Duration,
    ) -> Result<(), ToolError> {
        let entry = self.entry(tool, id)?;
        let deadline = Instant::now() + wait.max(LEAST_INPUT_TIME);
        let has_ended = || super::failed(tool, format!("the input of process {id} has ended"));
        let mut stdin = entry.stdin.lock().await;
        if let Some(input) = stdin.as_mut() {
            let mut written = 0;
            while written < bytes.len() {
                match timeout_at(deadline, input.write(&bytes[written..])).await {
                    Ok(Ok(count @ 1..)) => written += count,
                    // The process has ended, which the answer shows, or has closed its input.
                    Ok(_) if entry.ends_before(Instant::now() + LEAST_INPUT_TIME).await => {
                        return Ok(());
                    }
                    Ok(_) => {
                        *stdin = None;
                        return Err(has_ended());
                    }
                    Err(_) => {
                        let problem = format!(
                            "process {id} does not read its input: it got the first {written} of \
                             {} bytes",
                            bytes.len()
                        );
                        return Err(super::failed(tool, problem));
                    }
                }
            }
        } else if !bytes.is_empty() {
            return Err(match entry.is_adopted {
                true => {
                    let problem =
                        format!("only the program that started process {id} has its input");
                    super::failed(tool, problem)
                }
                false => has_ended(),
            });
        }
        if ends {
            *stdin = None;
        }
        Ok(())
    }

    /// Returns the output of a process since the last call. Waits for the condition until the time
    /// is over.
    pub(super) async fn read(
        &self,
        tool: &'static str,
        id: &str,
        until: Until,
        wait: Duration,
    ) -> Result<ReadPart, ToolError> {
        let entry = self.entry(tool, id)?;
        let deadline = Instant::now() + wait;
        loop {
            let changed = entry.changed.notified();
            let (has_output, has_ended) = {
                let mut state = lock(&entry.state);
                (state.complete_bytes() > 0, state.ended.is_some())
            };
            if has_ended {
                break;
            }
            if has_output && until == Until::Output {
                // Output arrives in pieces.
                let gathered = deadline.min(Instant::now() + GATHERING_TIME);
                let _ = timeout_at(gathered, changed).await;
                break;
            }
            if timeout_at(deadline, changed).await.is_err() {
                break;
            }
        }
        let mut seen = lock(&entry.state).take();
        seen.is_adopted = entry.is_adopted;
        Ok(seen)
    }

    /// Sends a signal to a process, and kills it if it goes on.
    pub(super) async fn stop(
        &self,
        tool: &'static str,
        id: &str,
        signal: Option<i32>,
        patience: Duration,
    ) -> Result<(), ToolError> {
        let entry = self.entry(tool, id)?;
        // A program that waits for input ends with it. One that does not read keeps a writer
        // waiting, which must not delay the signal.
        if let Ok(mut stdin) = entry.stdin.try_lock() {
            *stdin = None;
        }
        if let Some(signal) = signal {
            entry.control.signal(signal);
            if entry.ends_before(Instant::now() + patience).await {
                return Ok(());
            }
        }
        entry.control.kill();
        Ok(())
    }

    fn entry(&self, tool: &'static str, id: &str) -> Result<Arc<Entry>, ToolError> {
        let processes = lock(&self.processes);
        processes.get(id).cloned().ok_or_else(|| {
            let id: String = id.chars().take(40).collect();
            let problem = format!(
                "there is no process {id:?}; startProcess returns ids, and a process ends when its \
                 session is closed"
            );
            super::failed(tool, problem)
        })
    }
}

impl Entry {
    /// Waits until the process has ended. Returns false if the time is over before.
    async fn ends_before(&self, deadline: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            if lock(&self.state).ended.is_some() {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }
}

impl State {
    fn push(&mut self, output: &[u8]) {
        self.output.extend(output);
        let excess = self.output.len().saturating_sub(MAX_WAITING);
        let excess = whole_start(self.output.make_contiguous(), excess);
        self.output.drain(..excess);
        self.omitted_bytes += excess;
    }

    /// Takes the next part of the output.
    fn take(&mut self) -> ReadPart {
        let end = self.complete_bytes();
        let output = String::from_utf8_lossy(&self.output.make_contiguous()[..end]).into_owned();
        self.output.drain(..end);
        // The next call gets nothing of an incomplete rest.
        let remaining_bytes = if self.complete_bytes() > 0 { self.output.len() } else { 0 };
        ReadPart {
            output,
            omitted_bytes: std::mem::take(&mut self.omitted_bytes),
            remaining_bytes,
            is_adopted: false,
            ended: self.ended.clone(),
        }
    }

    /// Returns the size of the next part. An incomplete character or placeholder at the end stays
    /// for a later one, unless the process has ended.
    fn complete_bytes(&mut self) -> usize {
        let all = self.output.make_contiguous();
        let part = whole_end(all, all.len().min(MAX_PART));
        let bytes = &all[..part];
        let is_last = part == all.len() && self.ended.is_some();
        match std::str::from_utf8(bytes) {
            _ if is_last => part,
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => unfinished_placeholder(bytes).unwrap_or(part),
        }
    }
}

/// Collects the output of a process until it has ended.
async fn collect(mut process: Process, stdout: Option<ProcessOutput>, entry: Arc<Entry>) {
    if let Some(mut stdout) = stdout {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
            lock(&entry.state).push(&buffer[..count]);
            entry.changed.notify_waiters();
        }
    }
    let ended = process.wait().await;
    let ended = ended.map(Box::new).map_err(|error| error.message());
    lock(&entry.state).ended = Some(ended);
    entry.changed.notify_waiters();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_character_is_no_output_until_it_is_complete_or_the_process_has_ended() {
        let mut state = State::default();
        state.push(b"caf\xc3");
        let part = state.take();
        assert_eq!((part.output.as_str(), part.remaining_bytes), ("caf", 0));
        assert_eq!(state.complete_bytes(), 0);
        state.push(b"\xa9\xc3");
        assert_eq!(state.take().output, "é");
        state.ended = Some(Err(String::new()));
        assert_eq!(state.take().output, "\u{fffd}");
    }

    #[test]
    fn output_beyond_one_part_remains() {
        let mut state = State::default();
        state.push(&[b'x'; MAX_PART + 5]);
        assert_eq!(state.take().remaining_bytes, 5);
        assert_eq!(state.take().remaining_bytes, 0);
    }
}
