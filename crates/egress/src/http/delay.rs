//! A delay of answers, and the sizes of their pieces. Without it, the time at which a text arrives
//! and the places at which it is cut show whether it can begin the value of a secret, and so the
//! value, letter by letter.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hyper::header::CONTENT_TYPE;
use hyper::{Response, Version};

/// Types whose parts are lines. A program waits for each.
const OF_LINES: [&str; 4] =
    ["text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-seq"];
/// Type of answers in messages, for each of which a program may wait before it goes on.
const OF_MESSAGES: &str = "application/grpc";

/// The parts of an answer after which everything so far is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The answer is one part.
    Whole,
    Lines,
    Messages(Messages),
}

impl Parts {
    /// Returns the parts of an answer as its server has sent it. gRPC has HTTP/2.
    pub(crate) fn of<B>(answer: &Response<B>) -> Self {
        let text = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let text = text.unwrap_or_default().to_ascii_lowercase();
        let name = text.split(';').next().unwrap_or_default().trim();
        let is_grpc = |name: &str| name.split('+').next() == Some(OF_MESSAGES);
        match () {
            () if is_grpc(name) && answer.version() == Version::HTTP_2 => {
                Self::Messages(Messages::default())
            }
            () if OF_LINES.contains(&name) => Self::Lines,
            () => Self::Whole,
        }
    }

    /// Returns the length of the whole parts at the start of the next piece, or `None` if no part
    /// ends in it.
    fn ends(&mut self, piece: &[u8]) -> Option<usize> {
        match self {
            Self::Whole => None,
            Self::Lines => piece.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1),
            Self::Messages(messages) => messages.ends(piece),
        }
    }
}

/// The place in a series of messages. Each has a flag, the length of its content as a big-endian
/// number in four bytes, and the content (gRPC over HTTP/2, `Length-Prefixed-Message`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    prefix: Vec<u8>,
    /// Bytes of the content that are to come.
    content: usize,
}

impl Messages {
    const PREFIX_BYTES: usize = 5;

    fn ends(&mut self, piece: &[u8]) -> Option<usize> {
        let (mut rest, mut end) = (piece, None);
        while !rest.is_empty() {
            let missing = Self::PREFIX_BYTES - self.prefix.len();
            if missing > 0 {
                let (prefix, content) = rest.split_at(missing.min(rest.len()));
                self.prefix.extend_from_slice(prefix);
                rest = content;
                let &[_, a, b, c, d] = &self.prefix[..] else { return end };
                self.content = u32::from_be_bytes([a, b, c, d]) as usize;
            }
            let content = self.content.min(rest.len());
            rest = &rest[content..];
            self.content -= content;
            if self.content == 0 {
                self.prefix.clear();
                end = Some(piece.len() - rest.len());
            }
        }
        end
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
    /// Lengths of the pieces that were read and did not pass yet. What passes is cut as it came, at
    /// the lines and by the delay, and never where the redactor has cut it.
    cuts: VecDeque<usize>,
    waiting: VecDeque<Bytes>,
}

impl Delay {
    pub(crate) fn new(parts: Parts, length: usize) -> Self {
        let (cuts, waiting) = (VecDeque::new(), VecDeque::new());
        Self { parts, length, read: 0, passed: 0, cuts, waiting }
    }

    /// Returns the length of the parts that end in the next piece, after which all can pass.
    pub(crate) fn ends(&mut self, piece: &[u8]) -> Option<usize> {
        self.parts.ends(piece)
    }

    /// Returns the place for redacted text.
    pub(crate) fn waiting(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.waiting
    }

    /// Passes on what has waited for long enough, after `bytes` more were read.
    pub(crate) fn pass(&mut self, bytes: usize, passed: &mut VecDeque<Bytes>) {
        self.note(bytes);
        self.pass_bytes(self.read.saturating_sub(self.length), passed);
    }

    /// Passes on everything, after `bytes` more were read.
    pub(crate) fn pass_all(&mut self, bytes: usize, passed: &mut VecDeque<Bytes>) {
        self.note(bytes);
        self.pass_bytes(self.read, passed);
    }

    fn note(&mut self, bytes: usize) {
        self.read += bytes;
        if bytes > 0 {
            self.cuts.push_back(bytes);
        }
    }

    /// Passes on what is before a place of the whole text.
    fn pass_bytes(&mut self, until: usize, passed: &mut VecDeque<Bytes>) {
        while let Some(cut) = self.cuts.front_mut() {
            let part = take(&mut self.waiting, until.saturating_sub(self.passed).min(*cut));
            if part.is_empty() {
                return;
            }
            *cut -= part.len();
            self.passed += part.len();
            if *cut == 0 {
                self.cuts.pop_front();
            }
            passed.push_back(part);
        }
    }
}

/// Takes this many bytes from the front as one piece, or all if there are fewer.
fn take(waiting: &mut VecDeque<Bytes>, bytes: usize) -> Bytes {
    while waiting.front().is_some_and(Bytes::is_empty) {
        waiting.pop_front();
    }
    match waiting.front_mut() {
        Some(first) if first.len() >= bytes => return first.split_to(bytes),
        _ => {}
    }
    let mut taken = BytesMut::with_capacity(bytes);
    while taken.len() < bytes
        && let Some(mut first) = waiting.pop_front()
    {
        taken.extend_from_slice(&first.split_to(first.len().min(bytes - taken.len())));
        if !first.is_empty() {
            waiting.push_front(first);
        }
    }
    taken.freeze()
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
        assert_eq!(passed.drain(..).collect::<Vec<_>>(), ["fgh"]);
    }

    #[test]
    fn the_cuts_of_the_redactor_do_not_show() {
        let sizes = |pieces: &[&'static str]| {
            let mut delay = Delay::new(Parts::Whole, 4);
            let mut passed = VecDeque::new();
            delay.waiting().extend(pieces.iter().map(|piece| Bytes::from(*piece)));
            delay.pass(6, &mut passed);
            delay.pass(5, &mut passed);
            assert_eq!(passed.iter().flatten().copied().collect::<Vec<_>>(), b"abcdefg");
            passed.iter().map(Bytes::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&["abcdef", "ghijk"]), [2, 4, 1]);
        assert_eq!(sizes(&["a", "bcdefgh", "", "ij", "k"]), [2, 4, 1]);
    }

    #[test]
    fn the_type_of_an_answer_has_its_parts() {
        let messages = || Parts::Messages(Messages::default());
        for (text, version, expected) in [
            ("text/event-stream; charset=utf-8", Version::HTTP_11, Parts::Lines),
            ("Application/gRPC+proto", Version::HTTP_2, messages()),
            ("application/grpc", Version::HTTP_2, messages()),
            ("application/grpc", Version::HTTP_11, Parts::Whole),
            ("application/grpc-web", Version::HTTP_2, Parts::Whole),
            ("application/json", Version::HTTP_2, Parts::Whole),
        ] {
            let answer = Response::builder().version(version).header(CONTENT_TYPE, text);
            assert_eq!(Parts::of(&answer.body(()).unwrap()), expected, "{text}");
        }
        assert_eq!(Parts::Lines.ends(b"a\nb\nc"), Some(4));
        assert_eq!(Parts::Whole.ends(b"a\n"), None);
    }

    #[test]
    fn a_message_ends_where_its_length_says_however_it_is_cut() {
        let text = b"\0\0\0\0\x02ab\0\0\0\0\0\x01\0\0\0\x01c\0\0";
        let mut whole = Messages::default();
        assert_eq!(whole.ends(text), Some(18));
        let mut parts = Messages::default();
        let ends = (0..text.len()).filter(|at| parts.ends(&text[*at..=*at]).is_some());
        assert_eq!(ends.collect::<Vec<_>>(), [6, 11, 17]);
    }
}
