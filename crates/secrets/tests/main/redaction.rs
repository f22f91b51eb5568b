//! The redactor, compared with a slow one.

mod oracle;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use secrets::{Redactor, SecretString, Variables};

fn redactor(variables: &[(String, String)]) -> Redactor {
    let mut set = Variables::new();
    for (name, value) in variables {
        set.insert(name, SecretString::from(value.as_str())).unwrap();
    }
    Redactor::new(&set)
}

fn streamed(redactor: &Redactor, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stream = redactor.stream();
    let mut rest = text;
    for cut in cuts.iter().cycle() {
        let (piece, remaining) = rest.split_at((*cut).min(rest.len()));
        stream.push(piece, &mut out);
        rest = remaining;
        if rest.is_empty() {
            break;
        }
    }
    stream.finish(&mut out);
    out
}

/// Encodes a secret in one of several ways, as part of a text.
fn encoded(secret: &str, between: &str, kind: usize) -> String {
    match kind {
        0 => secret.to_owned(),
        1 => STANDARD.encode(format!("{between}{secret}{between}")),
        2 => URL_SAFE_NO_PAD.encode(format!("{between}{secret}")),
        3 => serde_json::to_string(secret).unwrap(),
        4 => secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        5 => secret.replace('\n', "\r\n"),
        6 => secret.replace('\n', "\n  "),
        7 => secret.replace(['\n', ' '], "  "),
        8 => secret.replace('%', "%25").replace(' ', "%20").replace('\n', "%0A"),
        10 => secret.replace("\\n", "\n"),
        11 => secret.split('"').nth(3).unwrap_or(secret).to_owned(),
        12 => secret.replace('\x1b', "\\E").replace('\'', "\\'").replace('\n', "\\n"),
        13..20 => spelled(secret, between, kind),
        _ => secret[..secret.len() / 2].to_owned(),
    }
}

/// Spells the characters of a secret in ways that the text `between` chooses: as they are, as
/// escapes, and as escapes of escapes.
fn spelled(secret: &str, between: &str, kind: usize) -> String {
    let mut choices = between.bytes().chain([kind as u8, 1, 4, 2, 7]).cycle();
    let mut text = secret.to_owned();
    for _ in 0..kind % 3 {
        let introducer = ["%", "\\", "&"][usize::from(choices.next().unwrap()) % 3];
        let spell = |c: char| match (introducer, choices.next().unwrap() % 3) {
            (_, 0) if c.to_string() != introducer => c.to_string(),
            ("%", _) => c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect(),
            ("\\", 1) if c.is_ascii_punctuation() => format!("\\{c}"),
            ("\\", _) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }
            (_, 1) if c == '&' => "&amp;".to_owned(),
            (_, 1) => format!("&#x{:03x};", u32::from(c)),
            _ => format!("&#{};", u32::from(c)),
        };
        text = text.chars().map(spell).collect();
    }
    text
}

/// Breaks a text into lines.
fn folded(text: &str, width: usize, indent: &str) -> String {
    let lines: Vec<String> =
        text.chars().collect::<Vec<_>>().chunks(width).map(|line| line.iter().collect()).collect();
    lines.join(&format!("\n{indent}"))
}

/// Plain values, values on several lines, quoted ones, and those with parts that are secret.
const SECRET: &str = concat!(
    r#"[ab]{6,12}|[ab \n%/"é]{3,14}|[ab%\\&4;]{5,9}|[ab\n]{24,40}|[ab\x1b'\n]{6,9}|"#,
    r#"([ab]{2,5}\\n){1,3}[ab]{3}|"#,
    r#"\{"(key|x)": ?"([ab]|\\n){5,9}","\w":"[ab]{6}"\}"#
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_result_agrees_with_a_slow_search(
        secrets in proptest::collection::vec(SECRET, 1..4),
        pieces in
            proptest::collection::vec((0..20_usize, 0..4_usize, "[ab \n%é\\\\&;]{0,5}"), 0..8),
        width in 1..30_usize,
        indent in " {0,3}",
        cuts in proptest::collection::vec(1..9_usize, 1..5),
    ) {
        let variables: Vec<(String, String)> = secrets
            .iter()
            .enumerate()
            .map(|(at, secret)| (format!("N{at}"), secret.clone()))
            .collect();
        let mut text = String::new();
        for (kind, how, between) in &pieces {
            let secret = &secrets[(kind + how) % secrets.len()];
            // A cut inside a character would end the test.
            let is_cut = *kind == 9 && !secret.is_char_boundary(secret.len() / 2);
            let whole = encoded(secret, between, if is_cut { 0 } else { *kind });
            text += between;
            text += &if *how == 0 { folded(&whole, width, &indent) } else { whole };
        }
        let redactor = redactor(&variables);
        let expected = oracle::redact(&variables, text.as_bytes());
        let whole = redactor.redact_bytes(text.as_bytes());
        prop_assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&expected));
        let streamed = streamed(&redactor, text.as_bytes(), &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&streamed), String::from_utf8_lossy(&expected));
    }
}
