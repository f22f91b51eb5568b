//! The last line of a running command's output, as a sign of its progress.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use sandbox_core::internal::lock;
use secrets::Redactor;

use crate::redaction::whole_end;

/// The number of bytes of output in which the last line is searched.
const TAIL_BYTES: usize = 8 * 1024;
/// The maximum length of a line in characters.
const MAX_LINE_CHARS: usize = 200;

/// The end of a running command's output. Clones share it.
///
/// Only complete lines are shown: the beginning of a value cannot be recognised. If another process
/// serves the session, there are no lines.
#[derive(Clone, Debug, Default)]
pub struct OutputTail {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    /// True if `bytes` has the beginning of the output.
    is_whole: bool,
    redactor: Option<Redactor>,
}

impl OutputTail {
    /// Creates the tail of a command that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last complete line that is not blank, with the values of variables replaced; at
    /// most 200 characters. `None` before the first one.
    pub fn last_line(&self) -> Option<String> {
        let state = lock(&self.state);
        let mut bytes: Vec<u8> = state.bytes.iter().copied().collect();
        // A terminal's progress bar ends its lines with carriage returns.
        let end = bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'))?;
        bytes.truncate(end);
        let text = match &state.redactor {
            Some(redactor) => redactor.redact_bytes(&bytes).into_owned(),
            None => bytes,
        };
        let text = String::from_utf8_lossy(&text);
        let (_, text) = match state.is_whole {
            true => ("", &*text),
            // The beginning of the first line is missing.
            false => text.split_once(['\n', '\r'])?,
        };
        let line = text.split(['\n', '\r']).rfind(|line| !line.trim().is_empty())?;
        let cut = line.char_indices().nth(MAX_LINE_CHARS).map_or(line.len(), |(cut, _)| cut);
        Some(line[..whole_end(line.as_bytes(), cut)].to_owned())
    }

    /// Begins a command. Without a redactor, values of variables are shown.
    pub(crate) fn begin(&self, redactor: Option<Redactor>) {
        *lock(&self.state) = State { is_whole: true, redactor, ..State::default() };
    }

    pub(crate) fn push(&self, output: &[u8]) {
        let mut state = lock(&self.state);
        let kept = &output[output.len().saturating_sub(TAIL_BYTES)..];
        state.bytes.extend(kept);
        let excess = state.bytes.len().saturating_sub(TAIL_BYTES);
        if excess > 0 || kept.len() < output.len() {
            state.bytes.drain(..excess);
            state.is_whole = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use secrets::Variables;

    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], expected: Option<&str>) {
        let mut variables = Variables::new();
        variables.insert("TOKEN", "hunter2!".to_owned().into()).unwrap();
        let tail = OutputTail::new();
        tail.begin(Some(Redactor::new(&variables)));
        pieces.iter().for_each(|piece| tail.push(piece.as_bytes()));
        assert_eq!(tail.last_line().as_deref(), expected);
    }

    #[test]
    fn the_last_complete_line_is_shown_without_values() {
        check(&[], None);
        check(&["begin", "ning"], None);
        check(&["one\n", "two\nthr"], Some("two"));
        check(&["10%\r20%\r", "\n\n"], Some("20%"));
        check(&["a hunt", "er2! b\n", "hunt"], Some("a [redacted:TOKEN] b"));
        check(&[&"é".repeat(300), "\n"], Some(&"é".repeat(200)));
        let long = "x".repeat(2 * TAIL_BYTES);
        check(&[&long, "\n"], None);
        check(&[&long, "\nlast\n"], Some("last"));
    }
}
