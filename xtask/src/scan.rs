//! Splits Rust source into code, comments and literals. It knows the lexical grammar, not the
//! syntax, so it accepts every file that compiles.

/// The parts of one Rust file.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Each line without its comments and with `""` in the place of each string literal.
    pub(crate) code: Vec<String>,
    /// Comments that follow each other on lines of their own, of one style, are one block.
    pub(crate) comments: Vec<Block>,
    pub(crate) literals: Vec<Block>,
}

/// The style of a comment, or a string literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `//` or `/* */`.
    Plain,
    /// `///` or `/** */`.
    Outer,
    /// `//!` or `/*! */`.
    Inner,
    Literal,
}

/// Text with the number of each of its lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) style: Style,
    pub(crate) lines: Vec<(usize, String)>,
}

impl Block {
    /// Joins the lines by spaces and returns the text with the offset at which each line starts.
    pub(crate) fn joined(&self) -> (String, Vec<(usize, usize)>) {
        let (mut text, mut starts) = (String::new(), Vec::new());
        for (number, line) in &self.lines {
            if !text.is_empty() {
                text.push(' ');
            }
            starts.push((text.len(), *number));
            text += line.trim().trim_end_matches('\\').trim_end();
        }
        (text, starts)
    }
}

/// Returns the line that holds the byte at `offset` of a joined block.
pub(crate) fn line_at(starts: &[(usize, usize)], offset: usize) -> usize {
    starts.iter().rev().find(|(start, _)| *start <= offset).map_or(1, |(_, line)| *line)
}

/// Splits a file.
pub(crate) fn scan(text: &str) -> Scan {
    let mut scanner = Scanner {
        rest: text,
        line: 1,
        code: String::new(),
        scan: Scan::default(),
        last_comment: None,
    };
    while scanner.step() {}
    scanner.end_line();
    scanner.scan
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    /// Code of the current line so far.
    code: String,
    scan: Scan,
    /// Line of the last comment that had a line to itself.
    last_comment: Option<usize>,
}

impl Scanner<'_> {
    /// Consumes one comment, literal or character; returns whether there was one.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            self.line_comment();
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if let Some((open, close)) = self.literal_start() {
            self.literal(open, &close);
        } else if first == '\'' {
            let length = character_length(self.rest);
            self.code.push_str(if length > 1 { "' '" } else { "'" });
            self.take(length);
        } else {
            self.take(first.len_utf8());
            if first == '\n' { self.end_line() } else { self.code.push(first) }
        }
        true
    }

    /// Consumes `length` bytes without counting lines.
    fn take(&mut self, length: usize) -> String {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken.to_owned()
    }

    fn end_line(&mut self) {
        self.scan.code.push(std::mem::take(&mut self.code));
        self.line += 1;
    }

    fn line_comment(&mut self) {
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        let comment = self.take(length);
        let (style, text) = match comment.strip_prefix("///") {
            Some(text) if !text.starts_with('/') => (Style::Outer, text),
            _ => match comment.strip_prefix("//!") {
                Some(text) => (Style::Inner, text),
                None => (Style::Plain, comment.trim_start_matches('/')),
            },
        };
        let is_alone = self.code.trim().is_empty();
        let follows = is_alone && self.last_comment == Some(self.line - 1);
        self.last_comment = is_alone.then_some(self.line);
        let line = (self.line, text.to_owned());
        match self.scan.comments.last_mut().filter(|last| follows && last.style == style) {
            Some(last) => last.lines.push(line),
            None => self.scan.comments.push(Block { style, lines: vec![line] }),
        }
    }

    fn block_comment(&mut self) {
        let (mut depth, mut end) = (0, 0);
        while end < self.rest.len() {
            if self.rest[end..].starts_with("/*") {
                depth += 1;
                end += 2;
            } else if self.rest[end..].starts_with("*/") {
                depth -= 1;
                end += 2;
                if depth == 0 {
                    break;
                }
            } else {
                end += self.rest[end..].chars().next().map_or(1, char::len_utf8);
            }
        }
        let comment = self.take(end);
        let style = match comment.as_bytes().get(2) {
            Some(b'*') if !comment.starts_with("/**/") => Style::Outer,
            Some(b'!') => Style::Inner,
            _ => Style::Plain,
        };
        let text = comment.trim_start_matches(['/', '*', '!']).trim_end_matches(['/', '*']);
        let lines = self.lines(text);
        self.scan.comments.push(Block { style, lines });
        self.last_comment = None;
    }

    /// Numbers the lines of a text that starts on the current line, and moves on to its last one.
    fn lines(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.end_line();
            }
            lines.push((self.line, line.to_owned()));
        }
        lines
    }

    /// Returns the length of a string literal's opening, and its closing text.
    fn literal_start(&self) -> Option<(usize, String)> {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        if self.code.chars().next_back().is_some_and(is_word) {
            return None;
        }
        let prefix = self.rest.len() - self.rest.trim_start_matches(['b', 'c', 'r']).len();
        if prefix > 2 {
            return None;
        }
        let after = &self.rest[prefix..];
        let hashes = after.len() - after.trim_start_matches('#').len();
        let is_raw = self.rest[..prefix].contains('r');
        let quoted = after[hashes..].starts_with('"') && (hashes == 0 || is_raw);
        let close = if is_raw { format!("\"{}", "#".repeat(hashes)) } else { String::new() };
        quoted.then_some((prefix + hashes + 1, close))
    }

    /// Consumes a string literal; an empty `close` stands for a quote that is not escaped.
    fn literal(&mut self, open: usize, close: &str) {
        self.take(open);
        let end = if close.is_empty() { quote(self.rest) } else { self.rest.find(close) };
        let text = self.take(end.unwrap_or(self.rest.len()));
        let closing = close.len().max(1).min(self.rest.len());
        self.code.push_str("\"\"");
        let lines = self.lines(&text);
        self.scan.literals.push(Block { style: Style::Literal, lines });
        self.take(closing);
    }
}

/// Finds the first quote that is not escaped.
fn quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(index, character)| {
        let found = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        found.then_some(index)
    })
}

/// Returns the length of a character literal, or 1 for the quote of a lifetime.
fn character_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            characters.find(|(_, character)| *character == '\'').map_or(1, |(index, _)| index + 1)
        }
        Some(_) => match characters.next() {
            Some((index, '\'')) => index + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_code_are_distinguished() {
        let text = concat!(
            "/// One\n/// two.\nfn f<'a>(x: &'a str) -> char { '\"' } // three\n",
            "const S: &str = \"a // b\\\" c\";\n",
            "let r = br#\"raw \"quote\" // x\"#; /* four\nfive */ g();\n",
        );
        let scan = scan(text);
        let texts = |blocks: &[Block]| -> Vec<_> {
            blocks.iter().map(|block| (block.lines[0].0, block.style, block.joined().0)).collect()
        };
        assert_eq!(
            texts(&scan.comments),
            [
                (1, Style::Outer, "One two.".to_owned()),
                (3, Style::Plain, "three".to_owned()),
                (5, Style::Plain, "four five".to_owned()),
            ]
        );
        assert_eq!(
            texts(&scan.literals),
            [
                (4, Style::Literal, "a // b\\\" c".to_owned()),
                (5, Style::Literal, "raw \"quote\" // x".to_owned()),
            ]
        );
        assert_eq!(scan.code[2], "fn f<'a>(x: &'a str) -> char { ' ' } ");
        assert_eq!(scan.code[3], "const S: &str = \"\";");
        assert_eq!(scan.code[5], " g();");
    }

    #[test]
    fn a_block_knows_the_line_of_each_word() {
        let scan = scan("// one\n// two three\n");
        let (text, starts) = scan.comments[0].joined();
        assert_eq!(line_at(&starts, text.find("one").unwrap()), 1);
        assert_eq!(line_at(&starts, text.find("three").unwrap()), 2);
    }

    #[test]
    fn comments_of_different_styles_are_different_blocks() {
        let scan = scan("//! a\n// b\n\n// c\nlet x = 1; // d\n// e\n");
        assert_eq!(scan.comments.len(), 5);
    }
}
