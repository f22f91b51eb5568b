//! A slow and obvious redaction, for comparison. The fuzz target uses it too.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A form of a value: its characters, whether line breaks can be anywhere in it, and the places
/// where blanks can be.
struct Form {
    text: Vec<u8>,
    is_foldable: bool,
    blanks: Vec<usize>,
}

/// Replaces the values of variables, which are sorted by name and have at most one value each.
pub(crate) fn redact(variables: &[(String, String)], text: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
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
                for start in 0..text.len() {
                    let end = end_of(form, text, start);
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

fn end_of(form: &Form, text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for (index, expected) in form.text.iter().enumerate() {
        if index > 0 && form.is_foldable {
            let blanks: Vec<u8> =
                text[at..].iter().copied().take_while(|byte| b" \t\r\n".contains(byte)).collect();
            let has_break = blanks.iter().any(|byte| b"\r\n".contains(byte));
            let is_allowed = blanks.is_empty() || has_break || form.blanks.contains(&index);
            if blanks.len() > 128 || !is_allowed {
                return None;
            }
            at += blanks.len();
        }
        if text.get(at) != Some(expected) {
            return None;
        }
        at += 1;
    }
    Some(at)
}

fn forms(secret: &str) -> Vec<Form> {
    let mut texts = vec![secret.to_owned()];
    for literal in ["-._~", "-._~/", "-._~!*'()", "-._~!*'();/?:@&=+$,#", "-._*+"] {
        for is_upper in [false, true] {
            texts.push(url_encoded(secret, literal, is_upper));
        }
    }
    for choice in 0..16 {
        texts.push(json_escaped(secret, choice));
    }
    texts.push(json_escaped_by_dotnet(secret));
    let plain = |text: String| Form { text: text.into_bytes(), is_foldable: false, blanks: vec![] };
    let mut forms: Vec<Form> = texts.into_iter().map(plain).collect();
    let foldable =
        |text: String| Form { text: text.into_bytes(), is_foldable: true, blanks: vec![] };
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
    let escaped = |is_special: fn(char) -> bool| -> String {
        let escape = |c| if is_special(c) { format!("\\{c}") } else { c.to_string() };
        secret.chars().map(escape).collect()
    };
    let ansi_c = |text: &str, is_ascii: bool| -> String {
        let octal = |c: char| c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect();
        let escape = |c: char| match "\x07a\x08b\x1bE\x0cf\nn\rr\tt\x0bv\\\\''".find(c) {
            Some(at) if at.is_multiple_of(2) => {
                let letter = "abEfnrtv\\'".chars().nth(at / 2).unwrap();
                format!("\\{letter}")
            }
            _ if c.is_ascii_control() || is_ascii && !c.is_ascii() => octal(c),
            _ => c.to_string(),
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
                true => text += &format!("'$'{}''", ansi_c(&piece, true)),
                false => text += &piece.replace('\'', "'\\''"),
            }
        }
        let text = text.strip_prefix("'$'").unwrap_or(&text);
        let is_open = characters.last().is_some_and(is_odd);
        text.strip_suffix("''").filter(|_| is_open).unwrap_or(text).to_owned()
    };
    let texts = [
        pieces(),
        ansi_c(secret, false),
        ansi_c(secret, true),
        escaped(|c| "$`\"\\".contains(c)),
        escaped(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_@%+=:,./-".contains(c)),
        secret.split('\'').collect::<Vec<_>>().join("'\\''"),
    ];
    let plain = |text: String| Form { text: text.into_bytes(), is_foldable: false, blanks: vec![] };
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

fn url_encoded(secret: &str, literal: &str, is_upper: bool) -> String {
    let is_form = literal == "-._*+";
    let encode = |byte: u8| match byte {
        b' ' if is_form => "+".to_owned(),
        b'+' if is_form => "%2B".replace('B', if is_upper { "B" } else { "b" }),
        _ if byte.is_ascii_alphanumeric() || literal.as_bytes().contains(&byte) => {
            char::from(byte).to_string()
        }
        _ if is_upper => format!("%{byte:02X}"),
        _ => format!("%{byte:02x}"),
    };
    secret.bytes().map(encode).collect()
}

/// The bits of `choice` select what is escaped, and the case of the digits.
fn json_escaped(secret: &str, choice: u8) -> String {
    let escape = |character: char| {
        let mut units = [0; 2];
        let units = character.encode_utf16(&mut units).iter();
        units
            .map(|unit| match choice & 1 {
                0 => format!("\\u{unit:04x}"),
                _ => format!("\\u{unit:04X}"),
            })
            .collect()
    };
    let encode = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '/' if choice & 2 > 0 => "\\/".to_owned(),
        '<' | '>' | '&' if choice & 4 > 0 => escape(character),
        _ if character < ' ' => escape(character),
        _ if !character.is_ascii() && choice & 8 > 0 => escape(character),
        _ => character.to_string(),
    };
    secret.chars().map(encode).collect()
}

fn folded(secret: &str) -> Option<Form> {
    let is_blank = |character: char| " \t\r\n".contains(character);
    let word = secret.split(is_blank).find(|word| word.len() >= 10)?;
    let from = word.as_ptr() as usize - secret.as_ptr() as usize;
    let mut form = Form { text: Vec::new(), is_foldable: true, blanks: Vec::new() };
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

fn json_escaped_by_dotnet(secret: &str) -> String {
    let encode = |character: char| match character {
        '\'' | '`' | '+' | '"' => format!("\\u{:04X}", u32::from(character)),
        // Escapes of everything outside ASCII and of HTML, with digits in upper case.
        _ => json_escaped(&character.to_string(), 1 | 4 | 8),
    };
    secret.chars().map(encode).collect()
}
