//! New placeholders.

use zeroize::Zeroizing;

/// Bytes of the shortest placeholder. With digits alone, they have 79 random bits.
const MIN_BYTES: usize = 24;
/// Bytes of the longest placeholder.
const MAX_BYTES: usize = 256;
/// Random bytes behind a prefix.
const MIN_RANDOM_BYTES: usize = 20;

/// Public beginnings of tokens, which programs check. A longer one precedes its own beginning.
const PREFIXES: &[&str] = &[
    "github_pat_",
    "sk-ant-api03-",
    "sk-ant-",
    "sk-proj-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "pk_live_",
    "pk_test_",
    "whsec_",
    "shpat_",
    "dop_v1_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "xapp-",
    "pypi-",
    "npm_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "key-",
    "AKIA",
    "ASIA",
    "AIza",
    "hf_",
    "SG.",
    "sk-",
    "r8_",
];

/// Creates a placeholder for a value.
pub(super) fn mint(value: &str) -> Result<Zeroizing<String>, getrandom::Error> {
    let alphabet = alphabet(value);
    let prefix = PREFIXES.iter().find(|prefix| value.starts_with(**prefix)).unwrap_or(&"");
    let length = value.len().clamp(MIN_BYTES, MAX_BYTES).max(prefix.len() + MIN_RANDOM_BYTES);
    // Enough capacity for the whole text. A reallocation would leave a copy in memory.
    let mut placeholder = Zeroizing::new(String::with_capacity(length));
    placeholder.push_str(prefix);
    // Equal chances for all characters: bytes beyond the last whole multiple are dropped.
    let usable = 256 / alphabet.len() * alphabet.len();
    let mut random = Zeroizing::new([0_u8; 64]);
    while placeholder.len() < length {
        getrandom::fill(&mut *random)?;
        let usable = random.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < usable);
        let left = length - placeholder.len();
        placeholder
            .extend(usable.take(left).map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    Ok(placeholder)
}

/// Returns whether a text has the form of a placeholder.
pub(super) fn is_one(text: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (MIN_BYTES..=MAX_BYTES).contains(&text.len()) && text.bytes().all(is_usual)
}

/// Returns the letters and digits of the kinds that a value has. No encoder of URLs, JSON or
/// shells changes them.
fn alphabet(value: &str) -> Vec<u8> {
    let is_hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has = |is_of_kind: fn(&u8) -> bool| value.bytes().any(|byte| is_of_kind(&byte));
    let (lower, upper) = (has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
    let digits = has(u8::is_ascii_digit);
    let last = if is_hex { b'f' } else { b'z' };
    let mut alphabet = Vec::new();
    if upper {
        alphabet.extend(b'A'..=last.to_ascii_uppercase());
    }
    // A value of other characters only gets letters.
    if lower || !(upper || digits) {
        alphabet.extend(b'a'..=last);
    }
    // Without letters beyond `f`, digits keep the number of random bits high.
    if digits || is_hex {
        alphabet.extend(b'0'..=b'9');
    }
    alphabet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, length: usize, prefix: &str, is_kind: fn(&u8) -> bool) {
        let placeholder = mint(value).unwrap();
        assert_eq!(placeholder.len(), length, "{value}");
        let random = placeholder.strip_prefix(prefix).unwrap();
        assert!(random.bytes().all(|byte| is_kind(&byte)), "{value} {random}");
        assert_ne!(placeholder, mint(value).unwrap());
        assert!(is_one(&placeholder));
    }

    #[test]
    fn a_placeholder_resembles_its_value() {
        let alphanumeric = u8::is_ascii_alphanumeric;
        check("1234567", 24, "", u8::is_ascii_digit);
        check("0123456789abcdef0123456789abcdef", 32, "", |b| {
            b.is_ascii_digit() || (b'a'..=b'f').contains(b)
        });
        check("ghp_0123456789abcdefghijABCDEFGHIJ012345", 40, "ghp_", alphanumeric);
        check("AKIAIOSFODNN7EXAMPLE", 24, "AKIA", |b| b.is_ascii_uppercase() || b.is_ascii_digit());
        check("sk-ant-api03-short1", 33, "sk-ant-api03-", alphanumeric);
        check("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", 40, "", alphanumeric);
        check("!!!!!!!!", 24, "", u8::is_ascii_lowercase);
        check(&"x".repeat(4000), 256, "", u8::is_ascii_lowercase);
    }
}
