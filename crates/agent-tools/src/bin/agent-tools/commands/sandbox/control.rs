//! The option `--control-fd`: settings that reach a running command, as under srt.
//!
//! Each line is a whole file of settings. Only its lists of hosts and addresses have an effect,
//! because the mounts of a running command stay.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use agent_tools::policy::{NetworkConfig, SandboxRuntimeConfig};
use agent_tools::{NetworkSpec, SandboxNetwork, Tier, with_causes};
use sandbox_core::{inherited_descriptor, wait_until_readable};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Failure;
use crate::output::errln;
use crate::settings::with_absolute_paths;

/// The size of the longest line.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Lines that are read ahead.
const READ_AHEAD: usize = 4;
/// The first descriptor beyond the standard streams.
const FIRST: u32 = 3;

/// Parses the number of a descriptor.
pub(super) fn number(text: &str) -> Result<u32, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_plain && *number >= FIRST);
    number.ok_or_else(|| "expected the number of a descriptor, 3 or above".to_owned())
}

/// A descriptor of the caller with settings, one file a line.
#[derive(Debug)]
pub(super) struct Control {
    number: u32,
    /// The descriptor, until it is read.
    source: Option<File>,
    messages: Option<Receiver<Message>>,
    has_delivered: bool,
    has_warned: bool,
    /// The settings of the start, without the options of the command line.
    start: SandboxRuntimeConfig,
    options: NetworkSpec,
}

/// A message of the thread that reads the descriptor.
#[derive(Debug)]
pub(super) enum Message {
    Line(Vec<u8>),
    TooLong,
    Failed(io::Error),
}

/// The end of a channel that failed before its first line.
#[derive(Debug)]
pub(super) struct NeverWorked;

impl Control {
    /// Takes the descriptor. Nothing is read from it yet.
    pub(super) fn open(
        number: u32,
        tier: &Tier,
        start: &SandboxRuntimeConfig,
    ) -> Result<Self, Failure> {
        if *tier != Tier::Namespaces {
            return Err(Failure::not_run_text(
                "--control-fd changes the network of a command, which has none with the engine \
                 `landlock`; use the engine `native`",
            ));
        }
        let source = inherited_descriptor(number).map_err(|error| {
            Failure::not_run_text(format!("--control-fd {number} cannot be used: {error}"))
        })?;
        Ok(Self {
            number,
            source: Some(source.into()),
            messages: None,
            has_delivered: false,
            has_warned: false,
            start: start.clone(),
            options: NetworkSpec::default(),
        })
    }

    /// Begins to read. The hosts of `options` stay in the lists, whatever the lines say.
    pub(super) fn begin(&mut self, options: &NetworkSpec) {
        self.options = options.clone();
        let Some(source) = self.source.take() else { return };
        let (sender, receiver) = channel(READ_AHEAD);
        // A read can take as long as the command, and the thread ends with this process.
        std::thread::spawn(move || read(source, &sender));
        self.messages = Some(receiver);
    }

    /// Returns the next message. At the end of the input, it waits forever.
    pub(super) async fn next(&mut self) -> Message {
        if let Some(messages) = &mut self.messages
            && let Some(message) = messages.recv().await
        {
            return message;
        }
        self.messages = None;
        std::future::pending().await
    }

    /// Applies a message. An invalid line changes nothing.
    pub(super) fn apply(
        &mut self,
        message: &Message,
        network: Option<&SandboxNetwork>,
    ) -> Result<(), NeverWorked> {
        let number = self.number;
        let line = match message {
            Message::Failed(error) if self.has_delivered => {
                errln!(
                    "agent-tools: cannot read control fd {number}: {error}; no further settings \
                     follow, and the last ones stay"
                );
                return Ok(());
            }
            Message::Failed(error) => {
                errln!(
                    "agent-tools: control fd {number} failed before its first line: {error}; the \
                     command is ended"
                );
                return Err(NeverWorked);
            }
            Message::TooLong => Err(format!("the line is longer than {MAX_LINE_BYTES} bytes")),
            Message::Line(line) => std::str::from_utf8(line).map_err(|error| error.to_string()),
        };
        self.has_delivered = true;
        let applied = line.and_then(|line| match line.trim() {
            "" => Ok(()),
            line => self.set(line, network),
        });
        if let Err(problem) = applied {
            errln!(
                "agent-tools: invalid settings on control fd {number}: {problem}; the line is \
                 ignored, and the last settings stay"
            );
        }
        Ok(())
    }

    fn set(&mut self, line: &str, network: Option<&SandboxNetwork>) -> Result<(), String> {
        let with_causes = |error: &(dyn std::error::Error + 'static)| with_causes(error);
        let config = SandboxRuntimeConfig::from_json(line).map_err(|error| with_causes(&error))?;
        config.validate().map_err(|error| with_causes(&error))?;
        // The settings of the start have absolute paths.
        let mut fixed = with_absolute_paths(Path::new("--control-fd"), config.clone())
            .map_err(|failure| failure.message().into_owned())?;
        fixed.network.take_lists(&self.start.network);
        if fixed != self.start && !std::mem::replace(&mut self.has_warned, true) {
            errln!(
                "agent-tools: warning: control fd {}: only the lists of hosts and addresses apply \
                 to a running command, so other changed settings have no effect",
                self.number
            );
        }
        let mut lists: NetworkConfig = config.network;
        self.options.add_to_settings(&mut lists);
        tracing::debug!(allowed = ?lists.allowed_domains, denied = ?lists.denied_domains, "lists");
        // Without a network, a project leaves none, and the user has been told.
        network.map_or(Ok(()), |network| {
            network.set_lists(&lists).map_err(|error| with_causes(&error))
        })
    }
}

/// Sends the lines of a file until its end, or until no one receives them.
fn read(source: File, sender: &Sender<Message>) {
    let mut reader = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        let ended = match read_line(&mut reader, &mut line) {
            Ok(Line::Whole) => sender.blocking_send(Message::Line(line)).is_err(),
            Ok(Line::TooLong) => sender.blocking_send(Message::TooLong).is_err(),
            Ok(Line::End) => true,
            // The caller may have made the descriptor non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                let _ = sender.blocking_send(Message::Failed(error));
                true
            }
        };
        if ended {
            return;
        }
    }
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads up to the end of a line. Of a line that is too long, only the end is found.
fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<Line> {
    let mut is_too_long = false;
    loop {
        let limit = u64::try_from(MAX_LINE_BYTES + 1 - line.len()).unwrap_or(0);
        let read = match reader.by_ref().take(limit).read_until(b'\n', line) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_until_readable(reader.get_ref())?;
                continue;
            }
            read => read?,
        };
        let is_whole = line.last() == Some(&b'\n');
        if read == 0 || is_whole {
            return Ok(match (is_too_long, line.is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Whole,
            });
        }
        if line.len() > MAX_LINE_BYTES {
            is_too_long = true;
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_descriptor_is_a_plain_number_above_those_of_the_streams() {
        assert_eq!((number("3"), number("20")), (Ok(3), Ok(20)));
        for text in ["", "2", "-3", "+3", "0x10", "3e0", " 5 ", "99999999999"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_whole_also_at_the_end_and_long_ones_are_dropped() {
        let mut file = tempfile::tempfile().unwrap();
        let long = vec![b'x'; 2 * MAX_LINE_BYTES + 10];
        file.write_all(&[b"a\n\n", &long[..], b"\nlast"].concat()).unwrap();
        file.rewind().unwrap();
        let (sender, mut receiver) = channel(10);
        read(file, &sender);
        drop(sender);
        let mut found = Vec::new();
        while let Ok(message) = receiver.try_recv() {
            found.push(match message {
                Message::Line(line) => String::from_utf8(line).unwrap(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(found, ["a\n", "\n", "TooLong", "last"]);
    }
}
