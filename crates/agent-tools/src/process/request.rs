//! A request for a process as the program that serves the session gets it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_core::{CommandSpec, TerminalSize};
use serde::{Deserialize, Serialize};

use super::handle::CallerEnds;
use super::{InputFrom, Lifetime, OutputTo, SPAWN, Spawn};
use crate::session::LocalSession;
use crate::tool_error::ToolError;

/// A request without its descriptors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpawnProcess<'c> {
    pub(crate) command: Cow<'c, str>,
    pub(crate) cwd: Option<Cow<'c, str>>,
    pub(crate) env: Variables<'c>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) redact: bool,
    /// The variables without which it is not started.
    pub(crate) required: Vec<String>,
    /// Rows and columns.
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) lifetime: Lifetime,
    /// True if the first descriptor is the standard input.
    pub(crate) has_stdin: bool,
    /// True if the last descriptor is standard error. Otherwise it is standard output too.
    pub(crate) has_stderr: bool,
}

/// Further variables of one command. Their values are never shown.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Variables<'c>(pub(crate) Cow<'c, [(String, String)]>);

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The streams of a process: descriptors of the caller, or ends of pipes that it has created.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    /// `None` if standard error goes to `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
}

impl<'c> SpawnProcess<'c> {
    /// Divides a request into its parts: the settings, the streams of the process, and the ends of
    /// its pipes that the caller keeps.
    pub(crate) fn new(
        spawn: Spawn,
        linger: Duration,
        redact: bool,
    ) -> Result<(Self, Streams, CallerEnds), ToolError> {
        let Spawn { command, cwd, env, stdin, stdout, stderr, terminal, lifetime, timeout, .. } =
            spawn;
        let failed = |source| ToolError::Write { path: "a pipe".to_owned(), source };
        let mut ends = CallerEnds::default();
        let in_terminal = terminal.is_some();
        let stdin = match stdin {
            _ if in_terminal => None,
            InputFrom::Nothing => None,
            InputFrom::Pipe => {
                let (reader, writer) = io::pipe().map_err(failed)?;
                ends.stdin = Some(writer.into());
                Some(OwnedFd::from(reader))
            }
            InputFrom::Descriptor(descriptor) if descriptor.is_terminal() => {
                let problem = "the standard input is a terminal; give the process a terminal of \
                               its own, or a pipe";
                return Err(ToolError::Failed { tool: SPAWN, problem: problem.to_owned() });
            }
            InputFrom::Descriptor(descriptor) => Some(descriptor),
        };
        let pipe = |end: &mut Option<OwnedFd>| -> Result<OwnedFd, ToolError> {
            let (reader, writer) = io::pipe().map_err(failed)?;
            *end = Some(reader.into());
            Ok(writer.into())
        };
        let stdout = match stdout {
            OutputTo::Descriptor(descriptor) if !in_terminal => descriptor,
            _ => pipe(&mut ends.stdout)?,
        };
        let stderr = match stderr {
            OutputTo::Stdout => None,
            _ if in_terminal => None,
            OutputTo::Pipe => Some(pipe(&mut ends.stderr)?),
            OutputTo::Descriptor(descriptor) => Some(descriptor),
        };
        let request = Self {
            command: command.into(),
            cwd: cwd.map(Cow::Owned),
            env: Variables(env.into()),
            timeout,
            linger,
            redact,
            required: Vec::new(),
            terminal: terminal.map(|TerminalSize { rows, columns }| (rows, columns)),
            lifetime,
            has_stdin: stdin.is_some(),
            has_stderr: stderr.is_some(),
        };
        Ok((request, Streams { stdin, stdout, stderr }, ends))
    }
}

impl Streams {
    /// Returns copies of the descriptors, in their order on the wire.
    pub(crate) fn copies(&self) -> Result<Vec<OwnedFd>, ToolError> {
        let all = self.stdin.iter().chain([&self.stdout]).chain(&self.stderr);
        let copies: io::Result<_> = all.map(OwnedFd::try_clone).collect();
        copies.map_err(|source| ToolError::Write { path: "a pipe".to_owned(), source })
    }

    /// Takes the descriptors that came with a request; `None` if they are not those it names.
    pub(crate) fn of(request: &SpawnProcess<'_>, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let stdin = if request.has_stdin { Some(descriptors.next()?) } else { None };
        let stdout = descriptors.next()?;
        let stderr = if request.has_stderr { Some(descriptors.next()?) } else { None };
        let is_terminal = stdin.as_ref().is_some_and(|stdin| stdin.is_terminal());
        (descriptors.next().is_none() && !is_terminal).then_some(Self { stdin, stdout, stderr })
    }
}

/// Returns whether a command can have the caller's descriptor itself: a pipe or a device. A
/// terminal would give it the caller's keys, and the errors of a file are for the caller.
pub(super) fn is_passed_on(descriptor: &OwnedFd) -> io::Result<bool> {
    let file = File::from(descriptor.try_clone()?);
    let kind = file.metadata()?.file_type();
    Ok(kind.is_fifo() || (kind.is_char_device() && !descriptor.is_terminal()))
}

impl LocalSession {
    /// Gives a command another working directory and further variables.
    pub(crate) fn adjust(
        &self,
        tool: &'static str,
        spec: &mut CommandSpec,
        cwd: Option<&str>,
        env: &Variables<'_>,
    ) -> Result<(), ToolError> {
        // The kernel decides whether the command may enter it.
        spec.cwd = cwd.map(|cwd| -> PathBuf { self.dir().join(cwd) });
        for (name, value) in env.0.iter() {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let problem = format!("{name:?} cannot be the name of a variable with this value");
                return Err(ToolError::Failed { tool, problem });
            }
            spec.env.retain(|(known, _)| known != name.as_str());
            spec.env.push((name.into(), value.into()));
        }
        Ok(())
    }
}
