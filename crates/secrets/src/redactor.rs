//! Redaction: replacing the values of variables in the output of a program.

mod anchors;
mod attempt;
mod forms;
mod merge;
mod parts;
mod shell;
mod spelling;
mod stream;
#[cfg(test)]
mod tests;
mod work;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use self::anchors::Anchors;
use self::attempt::{Attempt, Verdict};
use self::forms::Form;
use self::merge::{Match, merge};
use self::work::Work;
use crate::variables::Variables;

pub use self::stream::{RedactionStream, Segment};

/// Replaces every occurrence of a variable's value by `[redacted:NAME]`.
///
/// # Forms
///
/// It finds these forms of a value, without the blanks around it:
///
/// - the value itself, also with LF for CRLF and CRLF for LF at all line ends;
/// - the value without regard to its blanks, from its first word of 10 bytes on, if at least 16
///   bytes and half of the value follow there: a key in PEM that is indented or folded differently;
/// - quoted for a shell, if the value has at most 8 KiB: in single quotes, and in pieces as `$'…'`;
/// - with `+` for each space, as in the query of a URL;
/// - hexadecimal, in lower or upper case;
/// - base64, standard and URL-safe, with and without padding, at each of the three alignments
///   inside a longer encoded text.
///
/// The second form, hexadecimal and base64 are also found across line breaks with indentation, of
/// at most 128 bytes each.
///
/// # Spellings
///
/// Each character of these forms may be spelled as an escape instead, in any mixture, with at most
/// 32 bytes. Escapes of escapes count too, to a depth of two:
///
/// - of a URL: `%XX`;
/// - of a string in JSON, in C and languages like it, and in a shell: `\u003d`, also in pairs and
///   as `\u{3d}`, `\U0000003d`, `\x3d`, `\075`, `\n` and its like, and a backslash before a
///   punctuation mark or a space;
/// - of HTML: numbers such as `&#61;` and `&#x3d;`, and the names of characters of ASCII, such as
///   `&equals;`.
///
/// Texts inside a value are found in these forms too:
///
/// - each line of at least 20 bytes, of at most 128 lines, such as those of a key in PEM that a
///   program numbers or filters; not quoted for a shell;
/// - if the value is JSON of at most 64 KiB, its first 64 strings that hold a PEM block or whose
///   name contains `key`, `secret`, `token`, `password`, `passphrase`, `credential` or `auth`;
/// - if the value is another text with `\n` for line breaks, the text with line breaks.
///
/// # Limits
///
/// A redactor keeps secrets out of logs by accident. It does not stop a program that reveals them
/// deliberately: other encodings, such as quoted-printable, and parts of a value remain. Values
/// shorter than [`Redactor::MIN_SECRET_BYTES`] remain too, because every text contains `1` or
/// `true`.
/// [`Redactor::unredacted`] returns their names. If a base64 character encodes bits of the value
/// and of its surroundings, up to four bits of the value can remain.
///
/// The time depends on the length of the text, and not on the number of values. If a text begins
/// values so often that the search would take much longer, such as zeros for a value of zeros, then
/// 32 characters of a form hide as much of the text as the form has.
///
/// # Copies
///
/// Clones share one set of copies, which is wiped when the last of them is dropped:
///
/// - each value, with the other line ends if it has some;
/// - each of its quoted forms, and each text inside it, with the forms above of their own;
/// - pieces of four bytes from the first bytes of each form, in a table of the search, and one-way
///   marks of them.
///
/// An index of the first byte of each form is not wiped. All other forms are computed where they
/// are compared, and never stored. A [`RedactionStream`] also holds the end of its text that may
/// begin a value, and wipes it.
///
/// ```
/// # use secrets::{Redactor, SecretString, Variables};
/// let mut variables = Variables::new();
/// variables.insert("TOKEN", SecretString::from("hunter2!")).unwrap();
/// let redactor = Redactor::new(&variables);
/// assert_eq!(
///     redactor.redact("Bearer hunter2!; ?t=hunter2%21"),
///     "Bearer [redacted:TOKEN]; ?t=[redacted:TOKEN]"
/// );
/// ```
#[derive(Clone)]
pub struct Redactor {
    patterns: Arc<Patterns>,
}

/// A place of a text with the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<'r> {
    /// The place, in bytes.
    pub range: Range<usize>,
    /// The name of the variable. Overlapping values have the name of the one that begins first.
    pub name: &'r str,
}

struct Patterns {
    /// Names of the variables that are replaced.
    names: Vec<String>,
    unredacted: Vec<String>,
    secrets: Vec<Zeroizing<String>>,
    /// Index of the name of each secret.
    owners: Vec<usize>,
    forms: Vec<Form>,
    anchors: Anchors,
}

impl Redactor {
    /// Minimum length of a value that is replaced, without the blanks around it.
    pub const MIN_SECRET_BYTES: usize = 6;

    /// Creates a redactor of the values of these variables. Of several with one value, the first
    /// name is used.
    #[must_use]
    pub fn new(variables: &Variables) -> Self {
        Self::of(variables.iter())
    }

    /// Creates a redactor of these names and values. A name can have several values, such as those
    /// before and after a change. Of several names with one value, the first is used.
    #[must_use]
    pub fn of<'v>(values: impl IntoIterator<Item = (&'v str, &'v SecretString)>) -> Self {
        let (mut names, mut unredacted) = (Vec::new(), Vec::new());
        let (mut secrets, mut owners) = (Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        // Indexes of texts that have no other form.
        let mut quoted = BTreeSet::new();
        for (name, value) in values {
            // A shell that expands `$NAME` leaves no blanks at the ends.
            let secret = value.expose_secret().trim_ascii();
            if secret.len() < Self::MIN_SECRET_BYTES {
                unredacted.push(name.to_owned());
                continue;
            }
            if known.insert(secret) {
                let decoded = parts::decoded(secret);
                let decoded = decoded.iter().map(|part| part.trim_ascii());
                for text in [secret].into_iter().chain(decoded) {
                    if text.len() < Self::MIN_SECRET_BYTES {
                        continue;
                    }
                    secrets.push(Zeroizing::new(text.to_owned()));
                    secrets.extend(with_other_line_ends(text));
                    for form in shell::quoted(text) {
                        quoted.insert(secrets.len());
                        secrets.push(form);
                    }
                    let lines = parts::long_lines(text);
                    secrets.extend(lines.map(|line| Zeroizing::new(line.to_owned())));
                }
                owners.resize(secrets.len(), names.len());
            }
            names.push(name.to_owned());
        }
        let forms: Vec<Form> = secrets
            .iter()
            .enumerate()
            .flat_map(|(index, secret)| match quoted.contains(&index) {
                true => vec![Form::raw(index)],
                false => Form::all(index, secret),
            })
            .collect();
        let shortest = secrets.iter().map(|secret| secret.len()).min().unwrap_or_default();
        let anchors = Anchors::new(&forms, &secrets, shortest);
        Self { patterns: Arc::new(Patterns { names, unredacted, secrets, owners, forms, anchors }) }
    }

    /// Returns the names of the variables whose values are too short to be replaced.
    #[must_use]
    pub fn unredacted(&self) -> &[String] {
        &self.patterns.unredacted
    }

    /// Returns whether no value is replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.forms.is_empty()
    }

    /// Returns the places of all values in a text, in order and without overlaps.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<Found<'_>> {
        let names = &self.patterns.names;
        self.merged(text)
            .into_iter()
            .map(|found| Found { range: found.start..found.end, name: &names[found.owner] })
            .collect()
    }

    /// Replaces every value in a text. Borrows a text without values.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redact_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Every form is UTF-8, so no character is split and the lossy conversion changes
            // nothing.
            Cow::Owned(redacted) => Cow::Owned(
                String::from_utf8(redacted)
                    .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
        }
    }

    /// Replaces every value in a byte string. Borrows one without values.
    #[must_use]
    pub fn redact_bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        let merged = self.merged(bytes);
        if merged.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut redacted = Vec::with_capacity(bytes.len());
        let mut from = 0;
        for found in &merged {
            redacted.extend_from_slice(&bytes[from..found.start]);
            write_placeholder(&self.patterns.names[found.owner], &mut redacted);
            from = found.end;
        }
        redacted.extend_from_slice(&bytes[from..]);
        Cow::Owned(redacted)
    }

    /// Starts the redaction of a text that arrives in pieces.
    #[must_use]
    pub fn stream(&self) -> RedactionStream {
        RedactionStream::new(Arc::clone(&self.patterns))
    }

    fn merged(&self, text: &[u8]) -> Vec<Match> {
        let (mut found, mut work) = (Vec::new(), Work::new(self.patterns.forms.len()));
        work.add(text);
        self.patterns.find(text, 0, &mut found, &mut work, |_| {});
        let mut merged = merge(&mut found);
        merged.iter_mut().for_each(|one| one.end = one.end.min(text.len()));
        merged
    }
}

impl Patterns {
    /// Finds the forms whose anchors begin at `from` or later. Calls `open` with those that the
    /// text does not decide.
    fn find(
        &self,
        text: &[u8],
        from: usize,
        found: &mut Vec<Match>,
        work: &mut Work,
        mut open: impl FnMut(Attempt),
    ) {
        self.anchors.find(text, from, |index, start| {
            let attempt = Attempt::new(index, &self.forms[index], start);
            if let Some(attempt) = self.advance(attempt, text, found, work) {
                open(attempt);
            }
        });
    }

    /// Continues an attempt. Returns it if the text does not decide it, and records a match.
    fn advance(
        &self,
        mut attempt: Attempt,
        text: &[u8],
        found: &mut Vec<Match>,
        work: &mut Work,
    ) -> Option<Attempt> {
        let form = &self.forms[attempt.form];
        match attempt.advance(form, &self.secrets[form.secret], text, work) {
            Verdict::Matches(end) => {
                let owner = self.owners[form.secret];
                found.push(Match { start: attempt.start, end, owner });
                None
            }
            Verdict::Differs => None,
            Verdict::IsOpen => Some(attempt),
        }
    }
}

/// Appends the text that replaces a value.
fn write_placeholder(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[redacted:");
    out.extend_from_slice(name.as_bytes());
    out.push(b']');
}

/// Returns a secret with `\r\n` for `\n`, or the reverse; `None` without line breaks.
fn with_other_line_ends(secret: &str) -> Option<Zeroizing<String>> {
    let breaks = secret.bytes().filter(|byte| *byte == b'\n').count();
    if breaks == 0 {
        return None;
    }
    // Enough capacity for the whole text. A reallocation would leave a copy in memory.
    let mut other = Zeroizing::new(String::with_capacity(secret.len() + breaks));
    let has_crlf = secret.contains("\r\n");
    let (from, to) = if has_crlf { ("\r\n", "\n") } else { ("\n", "\r\n") };
    for (at, line) in secret.split(from).enumerate() {
        if at > 0 {
            other.push_str(to);
        }
        other.push_str(line);
    }
    Some(other)
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("names", &self.patterns.names).finish_non_exhaustive()
    }
}
