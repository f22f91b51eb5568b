//! A slow and obvious redaction, for comparison. The fuzz target uses it too.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A form of a value: its characters, the number of times that each kind of escape is read, whether
/// line breaks can be anywhere in it, and the places where blanks can be.
struct Form {
    text: Vec<u8>,
    levels: [u8; 3],
    is_foldable: bool,
    blanks: Vec<usize>,
}

const INTRODUCERS: [u8; 3] = [b'%', b'\\', b'&'];
const ALL: [u8; 3] = [2; 3];
const NONE: [u8; 3] = [0; 3];

/// Replaces the values of variables, which are sorted by name and have at most one value each.
pub(crate) fn redact(variables: &[(String, String)], text: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut read: HashMap<[u8; 3], Vec<Option<Character>>> = HashMap::new();
    for (owner, (_, value)) in variables.iter().enumerate() {
        let value = value.trim_ascii();
        let is_known = variables[..owner].iter().any(|(_, other)| other.trim_ascii() == value);
        if value.len() < 6 || is_known {
            continue;
        }
        let decoded = decoded(value);
        let decoded = decoded.iter().map(|text| text.trim_ascii()).filter(|text| text.len() >= 6);
        for secret in [value].into_iter().chain(decoded) {
            let other = if secret.contains("\r\n") {
                secret.replace("\r\n", "\n")
            } else {
                secret.replace('\n', "\r\n")
            };
            let lines = secret.split(['\r', '\n']).map(str::trim);
            let lines = lines.filter(|line| line.len() >= 20 && !line.starts_with("-----"));
            let lines = lines.take(if secret.contains(['\r', '\n']) { 128 } else { 0 });
            let mut all = [forms(secret), forms(&other), quoted(secret)];
            all[2].extend(lines.flat_map(forms));
            for form in all.iter().flatten() {
                let characters =
                    read.entry(form.levels).or_insert_with(|| read_at_all(text, form.levels));
                for start in 0..text.len() {
                    let end = end_of(form, characters, start);
                    found.extend(end.map(|end| (start, std::cmp::Reverse(end), owner)));
                }
            }
        }
    }
    found.sort();
    let (mut redacted, mut at, mut rest) = (Vec::new(), 0, found.into_iter().peekable());
    while let Some((start, std::cmp::Reverse(mut end), owner)) = rest.next() {
        redacted.extend(&text[at..start]);
        redacted.extend(format!("[redacted:{}]", variables[owner].0).bytes());
        while let Some((_, other, _)) = rest.next_if(|(other, ..)| *other < end) {
            end = end.max(other.0);
        }
        at = end;
    }
    redacted.extend(&text[at..]);
    redacted
}

fn end_of(form: &Form, characters: &[Option<Character>], start: usize) -> Option<usize> {
    let (mut at, mut index) = (start, 0);
    while index < form.text.len() {
        if index > 0 && form.is_foldable {
            let (from, mut has_break) = (at, false);
            loop {
                let (bytes, end) = characters.get(at)?.as_ref()?;
                if !matches!(bytes[..], [b' ' | b'\t' | b'\r' | b'\n']) {
                    break;
                }
                has_break |= b"\r\n".contains(&bytes[0]);
                at = *end;
                if at - from > 128 {
                    return None;
                }
            }
            if at > from && !has_break && !form.blanks.contains(&index) {
                return None;
            }
        }
        let (bytes, end) = characters.get(at)?.as_ref()?;
        if !form.text[index..].starts_with(bytes) {
            return None;
        }
        (at, index) = (*end, index + bytes.len());
    }
    Some(at)
}

/// The bytes of a character, and the end of its spelling.
type Character = (Vec<u8>, usize);

/// Reads the character at each place; `None` if the text ends within it.
fn read_at_all(text: &[u8], levels: [u8; 3]) -> Vec<Option<Character>> {
    let bytes = text.iter().enumerate();
    let mut read: Vec<_> = bytes.map(|(at, byte)| Some((vec![*byte], at + 1))).collect();
    for layer in 1..=2 {
        let introduces =
            |at: &usize| read[*at].as_ref().is_some_and(|(bytes, _)| b"%\\&".contains(&bytes[0]));
        let changed: Vec<_> = (0..text.len())
            .filter(introduces)
            .map(|at| (at, unescape(&read, at, levels, layer)))
            .collect();
        changed.into_iter().for_each(|(at, character)| read[at] = character);
    }
    read
}

/// Reads the character at a place whose escapes were read by the layers below.
fn unescape(
    below: &[Option<Character>],
    start: usize,
    levels: [u8; 3],
    layer: u8,
) -> Option<Character> {
    let (first, mut at) = below[start].clone()?;
    let kind = INTRODUCERS.iter().position(|own| first == [*own]);
    if kind.is_none_or(|kind| levels[kind] < layer) {
        return Some((first, at));
    }
    let (literal, mut rest) = (at, String::new());
    loop {
        if let Some(meaning) = meaning(first[0], &rest) {
            return Some((meaning, at));
        }
        if !could_become_escape(first[0], &rest) || at >= start + 32 {
            return Some((first, literal));
        }
        match below.get(at)?.as_ref()? {
            (bytes, end) if bytes.len() == 1 && bytes[0].is_ascii() && *end <= start + 32 => {
                rest.push(char::from(bytes[0]));
                at = *end;
            }
            _ => return Some((first, literal)),
        }
    }
}

/// Returns the meaning of a whole escape.
fn meaning(introducer: u8, rest: &str) -> Option<Vec<u8>> {
    let hex = |text: &str| match text.chars().all(|c| c.is_ascii_hexdigit()) {
        true => u32::from_str_radix(text, 16).ok(),
        false => None,
    };
    let character = |number: u32| char::from_u32(number).map(|c| c.to_string().into_bytes());
    let byte = |number: u32| u8::try_from(number).ok().map(|byte| vec![byte]);
    match introducer {
        b'%' => (rest.len() == 2).then(|| hex(rest)).flatten().and_then(byte),
        b'&' => {
            let name = rest.strip_suffix(';')?;
            if let Some(number) = name.strip_prefix('#') {
                let digits = number.strip_prefix(['x', 'X']);
                let is_decimal = number.chars().all(|c| c.is_ascii_digit());
                return match digits {
                    Some(digits) => character(hex(digits)?),
                    None if is_decimal => character(number.parse().ok()?),
                    None => None,
                };
            }
            let named = NAMES.split(' ').find(|own| own[..own.len() - 1] == *name)?;
            Some(vec![named.as_bytes()[named.len() - 1]])
        }
        _ => match (rest.chars().next()?, rest.len()) {
            ('u', 5) => character(hex(&rest[1..])?),
            ('u', 11) if rest[5..].starts_with("\\u") => {
                let units = [hex(&rest[1..5])? as u16, hex(&rest[7..])? as u16];
                String::from_utf16(&units)
                    .ok()
                    .filter(|text| text.chars().count() == 1)
                    .map(String::into_bytes)
            }
            ('u', 4..) if rest[1..].starts_with('{') => {
                character(hex(rest[2..].strip_suffix('}')?)?)
            }
            ('U', 9) => character(hex(&rest[1..])?),
            ('x', 3) => byte(hex(&rest[1..])?),
            ('0'..='3', 3) => byte(u32::from_str_radix(rest, 8).ok()?),
            (c, 1) => match "abtnvfreE".find(c) {
                Some(at) => Some(vec![b"\x07\x08\t\n\x0b\x0c\r\x1b\x1b"[at]]),
                None => (c == ' ' || c.is_ascii_punctuation()).then(|| vec![c as u8]),
            },
            _ => None,
        },
    }
}

/// Returns whether more characters can make an escape.
fn could_become_escape(introducer: u8, rest: &str) -> bool {
    let is_number = |text: &str, radix| text.chars().all(|c: char| c.is_digit(radix));
    match introducer {
        b'%' => rest.len() < 2 && is_number(rest, 16),
        b'&' => match rest.strip_prefix('#') {
            Some("") => true,
            Some(number) => match number.strip_prefix(['x', 'X']) {
                Some(digits) => is_number(digits, 16),
                None => is_number(number, 10),
            },
            None => rest.len() <= 16 && rest.chars().all(|c| c.is_ascii_alphabetic()),
        },
        _ => match rest.chars().next() {
            None => true,
            Some('x') => rest.len() < 3 && is_number(&rest[1..], 16),
            Some('U') => rest.len() < 9 && is_number(&rest[1..], 16),
            Some('0'..='3') => rest.len() < 3 && is_number(rest, 8),
            Some('u') if rest[1..].starts_with('{') => is_number(&rest[2..], 16),
            Some('u') => {
                let is_high =
                    || matches!(u32::from_str_radix(&rest[1..5], 16), Ok(0xd800..=0xdbff));
                match rest.len() {
                    0..5 => is_number(&rest[1..], 16),
                    5..11 => {
                        is_number(&rest[1..5], 16) && is_high() && {
                            let (pair, digits) = rest[5..].split_at(rest[5..].len().min(2));
                            "\\u".starts_with(pair) && is_number(digits, 16)
                        }
                    }
                    _ => false,
                }
            }
            _ => false,
        },
    }
}

fn forms(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for text in [secret.to_owned(), secret.replace(' ', "+")] {
        for choice in 0..27 {
            let levels = [choice % 3, choice / 3 % 3, choice / 9];
            let is_needed =
                |kind: usize| levels[kind] == 2 || secret.as_bytes().contains(&INTRODUCERS[kind]);
            if (0..3).all(is_needed) {
                let text = text.clone().into_bytes();
                forms.push(Form { text, levels, is_foldable: false, blanks: vec![] });
            }
        }
    }
    let foldable = |text: String| Form {
        text: text.into_bytes(),
        levels: ALL,
        is_foldable: true,
        blanks: vec![],
    };
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.push(foldable(hex.to_uppercase()));
    forms.push(foldable(hex));
    for engine in [STANDARD, URL_SAFE] {
        for shift in 0..3 {
            let bytes = [&[0; 3][..shift], secret.as_bytes()].concat();
            let encoded = engine.encode(&bytes);
            let known = (shift * 8).div_ceil(6)..bytes.len() * 8 / 6;
            forms.push(foldable(encoded[known].to_owned()));
            if shift == 0 {
                forms.push(foldable(encoded.trim_end_matches('=').to_owned()));
                forms.push(foldable(encoded));
            }
        }
    }
    forms.extend(folded(secret));
    forms
}

fn quoted(secret: &str) -> Vec<Form> {
    let ansi_c = |text: &str| -> String {
        let octal = |c: char| c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect();
        let escape = |c: char| match "\x07a\x08b\x1bE\x0cf\nn\rr\tt\x0bv\\\\''".find(c) {
            Some(at) if at.is_multiple_of(2) => {
                let letter = "abEfnrtv".chars().nth(at / 2).unwrap();
                format!("\\{letter}")
            }
            _ => octal(c),
        };
        text.chars().map(escape).collect()
    };
    let pieces = || -> String {
        let is_odd = |c: &char| c.is_ascii_control() || !c.is_ascii();
        let characters: Vec<char> = secret.chars().collect();
        let mut text = String::new();
        for piece in characters.chunk_by(|a, b| is_odd(a) == is_odd(b)) {
            let piece: String = piece.iter().collect();
            match is_odd(&piece.chars().next().unwrap()) {
                true => text += &format!("'$'{}''", ansi_c(&piece)),
                false => text += &piece.replace('\'', "'\\''"),
            }
        }
        let text = text.strip_prefix("'$'").unwrap_or(&text);
        let is_open = characters.last().is_some_and(is_odd);
        text.strip_suffix("''").filter(|_| is_open).unwrap_or(text).to_owned()
    };
    let texts = [pieces(), secret.split('\'').collect::<Vec<_>>().join("'\\''")];
    let plain = |text: String| Form {
        text: text.into_bytes(),
        levels: NONE,
        is_foldable: false,
        blanks: vec![],
    };
    texts.into_iter().map(plain).collect()
}

/// The strings of JSON with telling names, or the text with real line breaks.
fn decoded(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let (mut found, mut name, mut at) = (Vec::new(), String::new(), 0);
    while at < characters.len() && found.len() < 64 {
        if characters[at] == '"' {
            let end = (at + 1..characters.len()).find(|end| {
                let escapes = characters[at + 1..*end].iter().rev().take_while(|c| **c == '\\');
                characters[*end] == '"' && escapes.count() % 2 == 0
            });
            let Some(end) = end else { break };
            // Raw control characters are no JSON, but harmless.
            let quoted: String = characters[at..=end]
                .iter()
                .map(|c| match c {
                    c if *c < ' ' => format!("\\u{:04x}", u32::from(*c)),
                    c => c.to_string(),
                })
                .collect();
            let Ok(string) = serde_json::from_str::<String>(&quoted) else { break };
            at = end + 1;
            while characters.get(at).is_some_and(char::is_ascii_whitespace) {
                at += 1;
            }
            if characters.get(at) == Some(&':') {
                (name, at) = (string.to_ascii_lowercase(), at + 1);
                continue;
            }
            let tells = ["key", "secret", "token", "password", "passphrase", "credential", "auth"];
            let is_told = tells.iter().any(|part| name.contains(part));
            if string.contains("-----BEGIN ") || is_told && !string.starts_with("http") {
                found.push(string);
            }
        } else {
            if ",}".contains(characters[at]) {
                name.clear();
            }
            at += 1;
        }
    }
    if found.is_empty() && text.contains("\\n") {
        found.push(text.replace("\\r\\n", "\n").replace("\\n", "\n"));
    }
    found
}

fn folded(secret: &str) -> Option<Form> {
    let is_blank = |character: char| " \t\r\n".contains(character);
    let word = secret.split(is_blank).find(|word| word.len() >= 10)?;
    let from = word.as_ptr() as usize - secret.as_ptr() as usize;
    let has_introducer = secret.bytes().any(|byte| INTRODUCERS.contains(&byte));
    let levels = if has_introducer { NONE } else { ALL };
    let mut form = Form { text: Vec::new(), levels, is_foldable: true, blanks: Vec::new() };
    for byte in secret[from..].bytes() {
        if is_blank(char::from(byte)) {
            form.blanks.push(form.text.len());
        } else {
            form.text.push(byte);
        }
    }
    let omitted = secret[..from].bytes().filter(|byte| !is_blank(char::from(*byte))).count();
    (form.text.len() >= 16 && form.text.len() >= omitted).then_some(form)
}

/// The names of HTML for characters of ASCII, each with its character.
const NAMES: &str = "AMP& DiacriticalGrave` GT> Hat^ LT< NewLine\n QUOT\" Tab\t UnderBar_ \
    VerticalLine| amp& apos' ast* bsol\\ colon: comma, commat@ dollar$ equals= excl! grave` gt> \
    lbrace{ lbrack[ lcub{ lowbar_ lpar( lsqb[ lt< midast* num# percnt% period. plus+ quest? quot\" \
    rbrace} rbrack] rcub} rpar) rsqb] semi; sol/ verbar| vert|";
