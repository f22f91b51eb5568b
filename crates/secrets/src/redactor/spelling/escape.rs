//! The meaning of one escape.

use super::{Rest, Stop};

/// The character that an escape stands for, or a byte of one.
pub(super) struct Meaning {
    pub(super) bytes: [u8; 4],
    pub(super) len: u8,
}

impl Meaning {
    fn byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], len: 1 }
    }

    fn number(number: u32) -> Result<Self, Stop> {
        let character = char::from_u32(number).ok_or(Stop::NoEscape)?;
        let mut bytes = [0; 4];
        let len = character.encode_utf8(&mut bytes).len() as u8;
        Ok(Self { bytes, len })
    }
}

/// Reads the rest of an escape.
pub(super) fn read(introducer: u8, rest: &mut Rest<'_>) -> Result<Meaning, Stop> {
    match introducer {
        b'%' => Ok(Meaning::byte(digits(rest, 16, 2)? as u8)),
        b'\\' => of_string(rest),
        _ => of_html(rest),
    }
}

/// Reads the rest of an escape in a string of JSON, of other languages (C, JavaScript, Python,
/// Rust), or of a shell, where a backslash quotes the next character.
fn of_string(rest: &mut Rest<'_>) -> Result<Meaning, Stop> {
    let byte = match rest.next()? {
        b'u' => return utf16(rest),
        b'U' => return Meaning::number(digits(rest, 16, 8)?),
        b'x' => digits(rest, 16, 2)? as u8,
        first @ b'0'..=b'3' => (first - b'0') << 6 | digits(rest, 8, 2)? as u8,
        b'a' => 0x07,
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 0x0b,
        b'f' => 0x0c,
        b'r' => b'\r',
        b'e' | b'E' => 0x1b,
        quoted if quoted.is_ascii_punctuation() || quoted == b' ' => quoted,
        _ => return Err(Stop::NoEscape),
    };
    Ok(Meaning::byte(byte))
}

/// Reads the number of a character after `\u`: in braces, or in one or two units of UTF-16.
fn utf16(rest: &mut Rest<'_>) -> Result<Meaning, Stop> {
    let first = rest.next()?;
    if first == b'{' {
        return Meaning::number(number(rest, 16, b'}', None)?);
    }
    let unit = digit(first, 16)? << 12 | digits(rest, 16, 3)?;
    if !(0xd800..0xdc00).contains(&unit) {
        return Meaning::number(unit);
    }
    if rest.next()? != b'\\' || rest.next()? != b'u' {
        return Err(Stop::NoEscape);
    }
    match digits(rest, 16, 4)? {
        low @ 0xdc00..0xe000 => Meaning::number(0x1_0000 + ((unit - 0xd800) << 10) + low - 0xdc00),
        _ => Err(Stop::NoEscape),
    }
}

/// Reads the number or the name of a character in HTML.
fn of_html(rest: &mut Rest<'_>) -> Result<Meaning, Stop> {
    let mut next = rest.next()?;
    if next == b'#' {
        let first = rest.next()?;
        return Meaning::number(match first {
            b'x' | b'X' => number(rest, 16, b';', None)?,
            _ => number(rest, 10, b';', Some(first))?,
        });
    }
    let (mut name, mut len) = ([0; MAX_NAME_BYTES], 0);
    while next != b';' {
        if len == MAX_NAME_BYTES || !next.is_ascii_alphabetic() {
            return Err(Stop::NoEscape);
        }
        name[len] = next;
        len += 1;
        next = rest.next()?;
    }
    let named = NAMES.iter().find(|(own, _)| own.as_bytes() == &name[..len]);
    named.map(|(_, byte)| Meaning::byte(*byte)).ok_or(Stop::NoEscape)
}

fn digit(character: u8, radix: u32) -> Result<u32, Stop> {
    char::from(character).to_digit(radix).ok_or(Stop::NoEscape)
}

/// Reads this many digits.
fn digits(rest: &mut Rest<'_>, radix: u32, count: u32) -> Result<u32, Stop> {
    let mut number = 0;
    for _ in 0..count {
        number = number * radix + digit(rest.next()?, radix)?;
    }
    Ok(number)
}

/// Reads digits up to an end. The first one may be known.
fn number(rest: &mut Rest<'_>, radix: u32, end: u8, first: Option<u8>) -> Result<u32, Stop> {
    let mut next = first.map_or_else(|| rest.next(), Ok)?;
    let (mut number, mut has_digits) = (0_u32, false);
    while next != end || !has_digits {
        number = number.saturating_mul(radix).saturating_add(digit(next, radix)?);
        has_digits = true;
        next = rest.next()?;
    }
    Ok(number)
}

const MAX_NAME_BYTES: usize = 16;

/// The names of HTML for characters of ASCII (HTML Living Standard, named character references).
const NAMES: [(&str, u8); 45] = [
    ("AMP", b'&'),
    ("DiacriticalGrave", b'`'),
    ("GT", b'>'),
    ("Hat", b'^'),
    ("LT", b'<'),
    ("NewLine", b'\n'),
    ("QUOT", b'"'),
    ("Tab", b'\t'),
    ("UnderBar", b'_'),
    ("VerticalLine", b'|'),
    ("amp", b'&'),
    ("apos", b'\''),
    ("ast", b'*'),
    ("bsol", b'\\'),
    ("colon", b':'),
    ("comma", b','),
    ("commat", b'@'),
    ("dollar", b'$'),
    ("equals", b'='),
    ("excl", b'!'),
    ("grave", b'`'),
    ("gt", b'>'),
    ("lbrace", b'{'),
    ("lbrack", b'['),
    ("lcub", b'{'),
    ("lowbar", b'_'),
    ("lpar", b'('),
    ("lsqb", b'['),
    ("lt", b'<'),
    ("midast", b'*'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("period", b'.'),
    ("plus", b'+'),
    ("quest", b'?'),
    ("quot", b'"'),
    ("rbrace", b'}'),
    ("rbrack", b']'),
    ("rcub", b'}'),
    ("rpar", b')'),
    ("rsqb", b']'),
    ("semi", b';'),
    ("sol", b'/'),
    ("verbar", b'|'),
    ("vert", b'|'),
];
