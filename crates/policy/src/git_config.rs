//! A reader of git configuration files (`git-config(1)`, "Syntax"), for the paths in them.

/// Maximum size of a configuration file that is read.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// One variable of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Name of the section in lower case, without its subsection.
    pub(crate) section: Vec<u8>,
    /// Subsection in quotes, such as the name of a branch.
    pub(crate) subsection: Vec<u8>,
    /// Name of the variable in lower case.
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Returns the variables of a file. Skips lines that git would reject.
pub(crate) fn read(file: &[u8]) -> Vec<Variable> {
    let mut rest = Text(file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file));
    let mut section = (Vec::new(), Vec::new());
    let mut variables = Vec::new();
    loop {
        rest.skip(|byte| byte.is_ascii_whitespace());
        match rest.peek() {
            None => return variables,
            Some(b'#' | b';') => rest.skip(|byte| byte != b'\n'),
            Some(b'[') => section = rest.section(),
            Some(_) => {
                let name = rest.take(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                rest.skip(|byte| matches!(byte, b' ' | b'\t'));
                match rest.peek() {
                    Some(b'=') if !name.is_empty() => {
                        rest.next();
                        let value = rest.value();
                        let name = name.to_ascii_lowercase();
                        let (section, subsection) = section.clone();
                        variables.push(Variable { section, subsection, name, value });
                    }
                    _ => rest.skip(|byte| byte != b'\n'),
                }
            }
        }
    }
}

/// The unread part of a file.
struct Text<'t>(&'t [u8]);

impl<'t> Text<'t> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'t [u8] {
        let end = self.0.iter().position(|byte| !belongs(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, belongs: impl Fn(u8) -> bool) {
        self.take(belongs);
    }

    /// Reads `[section]`, `[section "subsection"]` or `[section.subsection]`. A variable may follow
    /// on the same line. Returns the section, and what is in quotes.
    fn section(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.next();
        let name = self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let (mut is_quoted, mut subsection) = (false, Vec::new());
        while let Some(byte) = self.next() {
            match byte {
                b'\\' if is_quoted => subsection.extend(self.next()),
                b'"' => is_quoted = !is_quoted,
                b']' if !is_quoted => break,
                b'\n' => break,
                other if is_quoted => subsection.push(other),
                _ => {}
            }
        }
        (name.to_ascii_lowercase(), subsection)
    }

    /// Reads a value to the end of its line.
    fn value(&mut self) -> Vec<u8> {
        self.skip(|byte| matches!(byte, b' ' | b'\t'));
        let (mut value, mut is_quoted, mut used) = (Vec::new(), false, 0);
        while let Some(byte) = self.next() {
            match byte {
                b'\n' => break,
                b'#' | b';' if !is_quoted => {
                    self.skip(|byte| byte != b'\n');
                    continue;
                }
                b'"' => is_quoted = !is_quoted,
                b'\\' => match self.next() {
                    Some(b'n') => value.push(b'\n'),
                    Some(b't') => value.push(b'\t'),
                    // A backslash at the end of a line continues the value.
                    Some(b'\n') | None => continue,
                    Some(b'\r') if self.peek() == Some(b'\n') => {
                        self.next();
                        continue;
                    }
                    Some(other) => value.push(other),
                },
                other => value.push(other),
            }
            if is_quoted || !byte.is_ascii_whitespace() {
                used = value.len();
            }
        }
        value.truncate(used);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, expected: &[(&str, &str, &str)]) {
        let found: Vec<_> = read(file.as_bytes())
            .into_iter()
            .map(|v| [v.section, v.name, v.value].map(|part| String::from_utf8(part).unwrap()))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(a, b, c)| [a, b, c].map(|part| (*part).to_owned())).collect();
        assert_eq!(found, expected, "{file:?}");
    }

    #[test]
    fn sections_quotes_comments_and_continued_lines_are_read_like_git_reads_them() {
        check("[core]\n\thooksPath = .husky\n", &[("core", "hookspath", ".husky")]);
        check("[CORE] HooksPath=a b # c\n", &[("core", "hookspath", "a b")]);
        check("[include]\npath=\"a;b\" ; c\n", &[("include", "path", "a;b")]);
        check("[includeIf \"gitdir:/x\\\"]/\"]\npath = a\\\n b\n", &[("includeif", "path", "a b")]);
        let [url] = &read(b"[url \"/w/\\\\x]\"] \ninsteadOf = y")[..] else { panic!() };
        assert_eq!(url.subsection, b"/w/\\x]");
        check("[a.b]\nbare\nx = \"y\\\\z\"\n", &[("a", "x", "y\\z")]);
        check("\u{feff}[a]\n  = 1\nk = v\r\n", &[("a", "k", "v")]);
        check("[a]\nk = \"  v  \"  \n", &[("a", "k", "  v  ")]);
    }

    #[test]
    fn a_truncated_file_ends_the_last_value() {
        check("[a]\nk = \"v", &[("a", "k", "v")]);
        check("[a]\nk = \\", &[("a", "k", "")]);
        check("[a", &[]);
    }
}
