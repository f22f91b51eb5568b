//! Spellings of a character: as it is, or as an escape of URLs, of strings, or of HTML.

mod escape;

/// Maximum length of a spelling.
pub(super) const MAX_SPELLING_BYTES: usize = 32;
/// The characters that begin an escape: of URLs, of strings (JSON, and the languages and shells
/// that have its escapes), and of HTML.
pub(super) const INTRODUCERS: [u8; 3] = [b'%', b'\\', b'&'];
/// Number of times that a text is unescaped. A JSON string inside another one needs two.
const LAYERS: u8 = 2;

/// The number of times that escapes with each introducer are read.
///
/// Programs that write such escapes escape the introducer too. So its number is the same in the
/// whole text, and each of the possible numbers is a form of a secret that has the introducer. A
/// secret without it needs the highest number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Levels([u8; INTRODUCERS.len()]);

/// A character of a text, or a byte of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Character {
    bytes: [u8; 4],
    len: u8,
    /// The place in the text after the spelling.
    pub(super) end: usize,
}

impl Levels {
    /// Every character stands for itself.
    pub(super) const NONE: Self = Self([0; INTRODUCERS.len()]);
    pub(super) const ALL: Self = Self([LAYERS; INTRODUCERS.len()]);

    /// Returns the numbers that a secret with these bytes needs.
    pub(super) fn of(has: &[bool; 256]) -> Vec<Self> {
        let mut all = vec![Self::ALL];
        for (at, introducer) in INTRODUCERS.iter().enumerate() {
            if has[usize::from(*introducer)] {
                let fewer = all.clone();
                all.extend((0..LAYERS).flat_map(|number| {
                    fewer.iter().map(move |levels| {
                        let mut levels = *levels;
                        levels.0[at] = number;
                        levels
                    })
                }));
            }
        }
        all
    }

    /// Returns each of these numbers once, without those that read no escape.
    pub(super) fn distinct(all: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut distinct = Vec::new();
        for levels in all.filter(|levels| *levels != Self::NONE) {
            if !distinct.contains(&levels) {
                distinct.push(levels);
            }
        }
        distinct
    }

    /// Returns whether escapes with an introducer are read at a layer.
    fn reads(self, introducer: u8, layer: u8) -> bool {
        let at = INTRODUCERS.iter().position(|own| *own == introducer);
        at.is_some_and(|at| self.0[at] >= layer)
    }
}

impl Character {
    fn new(text: &[u8], end: usize) -> Self {
        let mut bytes = [0; 4];
        bytes[..text.len()].copy_from_slice(text);
        Self { bytes, len: text.len() as u8, end }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the byte, if it is one.
    fn single(&self) -> Option<u8> {
        (self.len == 1).then_some(self.bytes[0])
    }
}

/// Returns whether a byte may begin an escape.
pub(super) fn is_introducer(byte: u8) -> bool {
    INTRODUCERS.contains(&byte)
}

/// Reads the character at a place. The result is `None` if more text decides. A later text never
/// changes another result.
pub(super) fn read(text: &[u8], at: usize, levels: Levels) -> Option<Character> {
    let byte = *text.get(at)?;
    if is_introducer(byte) {
        return read_layer(text, at, levels, LAYERS);
    }
    Some(Character { bytes: [byte, 0, 0, 0], len: 1, end: at + 1 })
}

fn read_layer(text: &[u8], at: usize, levels: Levels, layer: u8) -> Option<Character> {
    if layer == 0 {
        return Some(Character::new(&[*text.get(at)?], at + 1));
    }
    let first = read_layer(text, at, levels, layer - 1)?;
    let introducer = match first.single() {
        Some(byte) if levels.reads(byte, layer) => byte,
        _ => return Some(first),
    };
    let mut rest = Rest { text, start: at, at: first.end, levels, layer: layer - 1 };
    match escape::read(introducer, &mut rest) {
        Ok(escape::Meaning { bytes, len }) => Some(Character { bytes, len, end: rest.at }),
        Err(Stop::NoEscape) => Some(first),
        Err(Stop::Open) => None,
    }
}

/// Reason not to return the meaning of an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The introducer stands for itself.
    NoEscape,
    /// The text ends first.
    Open,
}

/// The characters after an introducer.
struct Rest<'t> {
    text: &'t [u8],
    /// The place of the introducer.
    start: usize,
    at: usize,
    levels: Levels,
    layer: u8,
}

impl Rest<'_> {
    /// Reads the next character, which is one byte in every escape.
    fn next(&mut self) -> Result<u8, Stop> {
        let most = self.start + MAX_SPELLING_BYTES;
        if self.at >= most {
            return Err(Stop::NoEscape);
        }
        let next = read_layer(self.text, self.at, self.levels, self.layer).ok_or(Stop::Open)?;
        if next.end > most {
            return Err(Stop::NoEscape);
        }
        self.at = next.end;
        next.single().ok_or(Stop::NoEscape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(character) = read(text.as_bytes(), at, Levels::ALL) {
            out.extend_from_slice(character.bytes());
            at = character.end;
        }
        assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
    }

    #[test]
    fn escapes_are_read_in_every_mixture() {
        check("a%2Bb%2f%C3%a9", "a+b/é");
        check(r#"\"\/\u003d\u00E9\ud83d\ude00\x41\u{1F600}\U0001F600\303\251"#, "\"/=é😀A😀😀é");
        check("&amp;&#43;&#x2b;&#X002B;&quot;&plus;&NewLine;", "&+++\"+\n");
        check(r"\\u003d \\\/ %252B &amp;#43; \u0026#43; %5Cu003d &#37;41", "= / + + + = A");
        check("100% &c &x; &#; %zz \\q \\ud83dx", "100% &c &x; &#; %zz \\q \\ud83dx");
        let long = format!("&#{}43;x", "0".repeat(40));
        check(&long, &long);
    }

    #[test]
    fn a_text_that_ends_in_an_escape_is_open() {
        for text in ["%", "%4", "\\", "\\u00", "\\ud83d", "&", "&am", "&#x2", "%25", "\\\\"] {
            assert_eq!(read(text.as_bytes(), 0, Levels::ALL), None, "{text}");
            let literal = read(text.as_bytes(), 0, Levels::NONE).unwrap();
            assert_eq!(literal.bytes(), &text.as_bytes()[..1]);
        }
    }
}
