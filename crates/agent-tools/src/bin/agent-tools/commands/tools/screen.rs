//! The state of a terminal that a killed program leaves behind.

/// The modes of a terminal's screen after what was printed.
#[derive(Debug, Default)]
pub(super) struct Screen {
    is_alternate: bool,
    is_cursor_hidden: bool,
    /// The beginning of a sequence whose end was not printed yet.
    unfinished: Vec<u8>,
}

/// The maximum length of a sequence that sets modes.
const MAX_SEQUENCE_BYTES: usize = 32;

impl Screen {
    /// Notes what a program prints.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let joined = [&std::mem::take(&mut self.unfinished)[..], bytes].concat();
        let mut rest = &joined[..];
        while let Some(at) = rest.iter().position(|byte| *byte == 0x1b) {
            rest = &rest[at..];
            let is_of_modes = |byte: &u8| byte.is_ascii_digit() || b"[?;".contains(byte);
            let Some(end) = rest.iter().skip(1).position(|byte| !is_of_modes(byte)) else {
                if rest.len() < MAX_SEQUENCE_BYTES {
                    self.unfinished = rest.to_vec();
                }
                return;
            };
            let (sequence, last) = (&rest[1..=end], rest[end + 1]);
            if let (Some(modes), b'h' | b'l') = (sequence.strip_prefix(b"[?"), last) {
                modes.split(|byte| *byte == b';').for_each(|mode| self.set(mode, last == b'h'));
            }
            rest = &rest[end + 1..];
        }
    }

    fn set(&mut self, mode: &[u8], is_on: bool) {
        match mode {
            b"47" | b"1047" | b"1049" => self.is_alternate = is_on,
            b"25" => self.is_cursor_hidden = !is_on,
            _ => {}
        }
    }

    /// Returns what restores the screen that the program found.
    pub(super) fn restoring(&self) -> Vec<u8> {
        let leave: &[u8] = if self.is_alternate { b"\x1b[?1049l" } else { b"" };
        let show: &[u8] = if self.is_cursor_hidden { b"\x1b[?25h" } else { b"" };
        [leave, show].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], expected: &[u8]) {
        let mut screen = Screen::default();
        pieces.iter().for_each(|piece| screen.note(piece));
        assert_eq!(screen.restoring(), expected, "{pieces:?}");
    }

    #[test]
    fn a_screen_is_restored_only_if_the_program_has_not_done_so() {
        check(&[b"text \x1b[1m\x1b[2J"], b"");
        check(&[b"\x1b[?1049h\x1b[22;0;0t\x1b[?25l"], b"\x1b[?1049l\x1b[?25h");
        check(&[b"\x1b[?1049", b"h"], b"\x1b[?1049l");
        check(&[b"\x1b", b"[?1;25", b"l~"], b"\x1b[?25h");
        check(&[b"\x1b[?1049h~", b"\x1b[?1049l"], b"");
        check(&[b"\x1b\x1b[?47h"], b"\x1b[?1049l");
    }
}
