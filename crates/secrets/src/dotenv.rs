//! Variables in a dotenv file.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;

use async_trait::async_trait;
use futures_channel::oneshot;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error_kind::ErrorKind;
use crate::revision::{Changed, Revision};
use crate::source::VariableSource;
use crate::source_error::SourceError;
use crate::variables::LoadedVariables;

/// Maximum size of a file. It exceeds every set of variables that a command can have.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A file with `NAME=VALUE` lines. Each load reads it again.
///
/// Empty lines, lines that begin with `#`, and `export ` before a name are ignored. A value without
/// quotes ends at the end of the line, or at a `#` after a blank. The values of `'…'` and `` `…` ``
/// are literal. `"…"` has the escapes `\n`, `\r`, `\t`, `\"`, `\$` and `\\`. A quoted value can
/// contain line breaks. Variables are not expanded. If two lines have the same name, the later one
/// wins, and the earlier one is reported.
///
/// The file is read and parsed on a thread of its own, so a slow disk does not delay the caller's
/// executor.
#[derive(Clone, Debug)]
pub struct DotenvSource {
    path: PathBuf,
}

impl DotenvSource {
    /// Creates a source that reads this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Parses a text in the format of the file.
    ///
    /// # Errors
    ///
    /// Returns [`DotenvError`] for the first malformed line.
    pub fn parse(text: &str) -> Result<LoadedVariables, DotenvError> {
        parse(text)
    }

    fn load_now(&self) -> Result<LoadedVariables, SourceError> {
        // The revision is from before the load, so a change during the load is noticed later.
        let revision = Revision::of_files(&[&self.path]);
        let text = self.read().map_err(|source| SourceError::File {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        let mut loaded = parse(&text).map_err(|malformed| malformed.in_file(&self.path))?;
        loaded.revision = revision;
        Ok(loaded)
    }

    fn read(&self) -> std::io::Result<Zeroizing<String>> {
        let file = fs::File::open(&self.path)?;
        let length =
            usize::try_from(file.metadata()?.len().min(MAX_FILE_BYTES)).unwrap_or_default();
        // Enough capacity for the whole file. A reallocation would leave a copy in memory.
        let mut text = Zeroizing::new(String::with_capacity(length + 1));
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                "it is larger than 4 MiB",
            ));
        }
        Ok(text)
    }
}

#[async_trait]
impl VariableSource for DotenvSource {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let source = self.clone();
        let failed = |source| SourceError::File { action: "read", path: self.path.clone(), source };
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            // The caller may have dropped the future.
            let _ = sender.send(source.load_now());
        };
        thread::Builder::new().name("dotenv".to_owned()).spawn(work).map_err(failed)?;
        receiver.await.unwrap_or_else(|_| {
            Err(failed(std::io::Error::other("the thread that reads it has ended")))
        })
    }

    async fn changed_since(&self, revision: &Revision) -> Changed {
        match Revision::of_files(&[&self.path]) {
            Some(current) if current == *revision => Changed::No,
            _ => Changed::Yes,
        }
    }
}

/// A malformed line of a dotenv text. Contains no part of the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {problem}")]
#[non_exhaustive]
pub struct DotenvError {
    /// The number of the line, counted from 1.
    pub line: usize,
    /// The problem, as a predicate of the line.
    pub problem: &'static str,
}

impl DotenvError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    fn in_file(self, path: &Path) -> SourceError {
        SourceError::Syntax { path: path.to_owned(), line: self.line, problem: self.problem }
    }
}

fn parse(text: &str) -> Result<LoadedVariables, DotenvError> {
    let mut loaded = LoadedVariables::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (entry, consumed) =
            parse_entry(rest).map_err(|problem| DotenvError { line, problem })?;
        if let Some((name, value)) = entry {
            loaded.insert(name, SecretString::from(value.as_str()));
        }
        line += rest[..consumed].matches('\n').count();
        rest = &rest[consumed..];
    }
    Ok(loaded)
}

type Entry<'a> = (&'a str, Zeroizing<String>);

/// Parses a line, or several if a quoted value contains line breaks. Returns the entry, if there is
/// one, and the number of bytes.
fn parse_entry(text: &str) -> Result<(Option<Entry<'_>>, usize), &'static str> {
    let line_end = text.find('\n').map_or(text.len(), |at| at + 1);
    let line = &text[..line_end];
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok((None, line_end));
    }
    let equals = line.find('=').ok_or("is not NAME=VALUE")?;
    let name = line[..equals].trim();
    let name = name
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(name, str::trim);
    if name.contains(char::is_whitespace) {
        return Err("has a blank inside the name");
    }
    let value = &text[equals + 1..];
    let value = value.trim_start_matches([' ', '\t']);
    let start = text.len() - value.len();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'' | '`')) else {
        return Ok((Some((name, unquoted(&text[start..line_end.max(start)]))), line_end));
    };
    let (value, length) = quoted(&value[1..], quote).ok_or("opens a quote that is not closed")?;
    let tail_start = start + 1 + length;
    let tail_end = text[tail_start..].find('\n').map_or(text.len(), |at| tail_start + at + 1);
    let tail = text[tail_start..tail_end].trim();
    if !(tail.is_empty() || tail.starts_with('#')) {
        return Err("has text behind the closing quote");
    }
    Ok((Some((name, value)), tail_end))
}

fn unquoted(line: &str) -> Zeroizing<String> {
    let comment =
        line.char_indices().find(|&(at, c)| c == '#' && line[..at].ends_with([' ', '\t']));
    Zeroizing::new(line[..comment.map_or(line.len(), |(at, _)| at)].trim().to_owned())
}

/// Returns the value before the closing quote, and its length in `text` including the quote.
fn quoted(text: &str, quote: char) -> Option<(Zeroizing<String>, usize)> {
    let has_escapes = quote == '"';
    let end = closing_quote(text, quote, has_escapes)?;
    // Enough capacity for the value. A reallocation would leave a copy in memory.
    let mut value = Zeroizing::new(String::with_capacity(end));
    let mut characters = text[..end].chars().peekable();
    while let Some(c) = characters.next() {
        let escaped = (c == '\\' && has_escapes)
            .then(|| characters.peek().and_then(|&next| unescape(next)))
            .flatten();
        if escaped.is_some() {
            characters.next();
        }
        value.push(escaped.unwrap_or(c));
    }
    Some((value, end + 1))
}

/// Returns the position of the closing quote.
fn closing_quote(text: &str, quote: char, has_escapes: bool) -> Option<usize> {
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        if c == quote {
            return Some(at);
        }
        let is_escape = has_escapes && c == '\\';
        if is_escape && rest.as_str().chars().next().is_some_and(|next| unescape(next).is_some()) {
            rest.next();
        }
    }
    None
}

fn unescape(character: char) -> Option<char> {
    match character {
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        '"' | '$' | '\\' => Some(character),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let loaded = parse(text).unwrap();
        let found: Vec<_> =
            loaded.variables.iter().map(|(name, value)| (name, value.expose_secret())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[track_caller]
    fn check_malformed(text: &str, line: usize, problem: &'static str) {
        assert_eq!(parse(text).err(), Some(DotenvError { line, problem }), "{text:?}");
    }

    #[test]
    fn values_without_quotes_comments_and_blank_lines_are_parsed() {
        check("", &[]);
        let text = "\u{feff}A=1\r\n\r\n# B=2\r\n  export C = 3 # three\nD=a#b\nE=\nF=";
        check(text, &[("A", "1"), ("C", "3"), ("D", "a#b"), ("E", ""), ("F", "")]);
        check("export=x\nexported=y\n", &[("export", "x"), ("exported", "y")]);
        check("A=1\nA=2", &[("A", "2")]);
    }

    #[test]
    fn a_quoted_value_keeps_blanks_line_breaks_and_comments() {
        check(
            "A=' a # b '\nB=\"x\\ny\\\\\\\"\\$\\q\" # c\nC=`'\"`",
            &[("A", " a # b "), ("B", "x\ny\\\"$\\q"), ("C", "'\"")],
        );
        check("KEY=\"-----BEGIN\nabc\n\"\nB=1", &[("B", "1"), ("KEY", "-----BEGIN\nabc\n")]);
    }

    #[test]
    fn the_error_of_a_malformed_line_has_its_number() {
        check_malformed("A=1\n\nnonsense\n", 3, "is not NAME=VALUE");
        check_malformed("A='1\n2'\nB C=1\n", 3, "has a blank inside the name");
        check_malformed("A=\"1\nB=2\n", 1, "opens a quote that is not closed");
        check_malformed("A='1'2\n", 1, "has text behind the closing quote");
    }

    #[test]
    fn a_later_line_wins_and_the_earlier_one_is_reported() {
        let loaded = parse("A=1\nB=2\nA=3\n").unwrap();
        assert_eq!(loaded.variables.get("A").unwrap().expose_secret(), "3");
        let skipped: Vec<_> =
            loaded.skipped.iter().map(|one| (one.name.as_str(), &one.reason)).collect();
        assert_eq!(skipped, [("A", &crate::name::SkipReason::Duplicate)]);
    }

    #[test]
    fn the_time_grows_with_the_length_of_the_file() {
        let line = |number: usize| format!("N{number}=\"a quoted \\n value {number}\"\n");
        let time = |lines: usize| {
            let text: String = (0..lines).map(line).collect();
            let begun = std::time::Instant::now();
            assert_eq!(parse(&text).unwrap().variables.len(), lines);
            begun.elapsed()
        };
        time(1000);
        // Quadratic time would be 400 times as long.
        assert!(time(40_000) < time(2000) * 100);
    }

    #[tokio::test]
    async fn a_changed_file_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let source = DotenvSource::new(directory.path().join("variables.env"));
        fs::write(&source.path, "A=1").unwrap();
        let revision = source.load().await.unwrap().revision.unwrap();
        assert_eq!(source.changed_since(&revision).await, Changed::No);
        fs::write(&source.path, "A=21").unwrap();
        assert_eq!(source.changed_since(&revision).await, Changed::Yes);
        fs::remove_file(&source.path).unwrap();
        assert_eq!(source.changed_since(&revision).await, Changed::Yes);
    }

    #[tokio::test]
    async fn the_error_of_an_unreadable_file_has_its_path_and_not_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("variables.env");
        for content in [None, Some(b"A=1\nhunter2".as_slice()), Some(b"A=hunter2\xff")] {
            if let Some(content) = content {
                fs::write(&path, content).unwrap();
            }
            let error = DotenvSource::new(&path).load().await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("variables.env") && !shown.contains("hunter2"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn parsing_any_text_does_not_panic(text in "[A='\"`\\\\\n\r #é\0]{0,24}|\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn a_value_in_single_quotes_is_literal(value in "[^'\0]{0,40}") {
            let loaded = parse(&format!("B=1\nA='{value}'\nC=2")).unwrap();
            prop_assert_eq!(loaded.variables.get("A").unwrap().expose_secret(), value.as_str());
            prop_assert_eq!(loaded.variables.len(), 3);
        }
    }
}
