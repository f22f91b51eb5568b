//! A delay of answers. Without it, the time at which a text arrives shows whether it can begin the
//! value of a secret, and so the value, letter by letter.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

/// Types whose parts are lines. A program waits for each.
const OF_LINES: [&str; 4] =
    ["text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-seq"];
/// The beginning of types whose client may wait for an answer before it goes on.
const OF_FRAMES: &str = "application/grpc";

/// The parts of an answer after which everything so far is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The answer is one part.
    Whole,
    Lines,
    /// The text that the redactor has decided is one part.
    Frames,
}

impl Parts {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let text = text.unwrap_or_default().to_ascii_lowercase();
        let name = text.split(';').next().unwrap_or_default().trim();
        match () {
            () if name.starts_with(OF_FRAMES) => Self::Frames,
            () if OF_LINES.contains(&name) => Self::Lines,
            () => Self::Whole,
        }
    }
}

/// Redacted text on its way, which is as long as what was read.
#[derive(Debug)]
pub(crate) struct Delay {
    parts: Parts,
    /// The number of bytes at the end that wait.
    length: usize,
    read: usize,
    passed: usize,
    waiting: VecDeque<Bytes>,
}

impl Delay {
    pub(crate) fn new(parts: Parts, length: usize) -> Self {
        let length = if parts == Parts::Frames { 0 } else { length };
        Self { parts, length, read: 0, passed: 0, waiting: VecDeque::new() }
    }

    /// Returns the length of the lines in a piece, after which all can pass.
    pub(crate) fn lines(&self, piece: &[u8]) -> Option<usize> {
        let last = || piece.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        if self.parts == Parts::Lines { last() } else { None }
    }

    /// Returns the place for redacted text.
    pub(crate) fn waiting(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.waiting
    }

    /// Passes on what has waited for long enough, after `bytes` more were read.
    pub(crate) fn pass(&mut self, bytes: usize, passed: &mut VecDeque<Bytes>) {
        self.read += bytes;
        let mut due = self.read.saturating_sub(self.length).saturating_sub(self.passed);
        while due > 0
            && let Some(first) = self.waiting.front_mut()
        {
            let part = first.split_to(first.len().min(due));
            if first.is_empty() {
                self.waiting.pop_front();
            }
            due -= part.len();
            self.passed += part.len();
            passed.push_back(part);
        }
    }

    /// Passes on everything, after `bytes` more were read.
    pub(crate) fn pass_all(&mut self, bytes: usize, passed: &mut VecDeque<Bytes>) {
        self.read += bytes;
        self.passed = self.read;
        passed.extend(self.waiting.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_waits_whatever_it_is() {
        let mut delay = Delay::new(Parts::Whole, 4);
        let mut passed = VecDeque::new();
        delay.waiting().push_back("abc".into());
        delay.pass(3, &mut passed);
        assert!(passed.is_empty());
        // The redactor holds one byte back.
        delay.waiting().extend(["def".into(), "gh".into()]);
        delay.pass(6, &mut passed);
        assert_eq!(passed.drain(..).collect::<Vec<_>>(), ["abc", "de"]);
        delay.pass_all(0, &mut passed);
        assert_eq!(passed.drain(..).collect::<Vec<_>>(), ["f", "gh"]);
    }

    #[test]
    fn the_type_of_an_answer_has_its_parts() {
        for (text, expected) in [
            ("text/event-stream; charset=utf-8", Parts::Lines),
            ("Application/gRPC+proto", Parts::Frames),
            ("application/json", Parts::Whole),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())]);
            assert_eq!(Parts::of(&headers), expected, "{text}");
        }
        assert_eq!(Delay::new(Parts::Lines, 9).lines(b"a\nb\nc"), Some(4));
        assert_eq!(Delay::new(Parts::Whole, 9).lines(b"a\n"), None);
    }
}
