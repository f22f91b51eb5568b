//! The streams of a process: descriptors of the caller, or pipes to them through a filter.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use sandbox_core::{CommandSpec, ExecError};
use tokio::sync::Notify;

use super::pump::{Filter, Pumped, Tail, pump};
use super::request::{Streams, is_passed_on};
use crate::engine::{Engine, RunningCommand};
use crate::redaction::OutputRedactor;
use crate::tool_error::ToolError;

/// The way of a process' output to the caller.
pub(super) struct Outputs<'o> {
    pub(super) redactor: Option<&'o OutputRedactor>,
    pub(super) tail: &'o Tail,
    pub(super) activity: &'o Arc<Notify>,
}

impl Outputs<'_> {
    pub(super) fn filter(&self, tail: Option<&Tail>) -> Filter {
        let redaction = self.redactor.map(OutputRedactor::redaction);
        Filter::new(redaction, tail.cloned(), Arc::clone(self.activity))
    }

    /// Starts the command on these streams.
    pub(super) async fn start(
        &self,
        sandbox: &dyn Engine,
        spec: &CommandSpec,
        streams: Streams,
    ) -> Result<(Box<dyn RunningCommand>, Vec<(&'static str, Pumped)>), ToolError> {
        let Streams { stdin, stdout, stderr } = streams;
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => File::open("/dev/null").map_err(pipe)?.into(),
        };
        let mut pumps = Vec::new();
        let tail = stderr.is_none().then_some(self.tail);
        let stdout = self.output("standard output", stdout, tail, &mut pumps).map_err(pipe)?;
        let stderr = match stderr {
            Some(stderr) => {
                let tail = Some(self.tail);
                self.output("standard error", stderr, tail, &mut pumps).map_err(pipe)?
            }
            None => stdout.try_clone().map_err(pipe)?,
        };
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let command = sandbox.start(spec, streams).await.map_err(exec)?;
        Ok((command, pumps))
    }

    /// Returns the end of a stream for the command: the descriptor itself, or a pipe to it.
    fn output(
        &self,
        name: &'static str,
        descriptor: OwnedFd,
        tail: Option<&Tail>,
        pumps: &mut Vec<(&'static str, Pumped)>,
    ) -> io::Result<OwnedFd> {
        if self.redactor.is_none() && tail.is_none() && is_passed_on(&descriptor)? {
            return Ok(descriptor);
        }
        let (reader, writer) = io::pipe()?;
        pumps.push((name, pump(reader.into(), descriptor, self.filter(tail))?));
        Ok(writer.into())
    }
}

pub(super) fn exec(source: ExecError) -> ToolError {
    ToolError::Exec { source }
}

pub(super) fn pipe(source: io::Error) -> ToolError {
    ToolError::Exec { source: ExecError::Host { operation: "prepare the streams", source } }
}
