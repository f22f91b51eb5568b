//! Messages of programs on standard error about paths and hosts that they could not access.

/// A failure that a line on standard error reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The paths that the line may be about, the likeliest first.
    Paths(Vec<String>, FailedAccess),
    Host(String),
}

/// The access to a path that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedAccess {
    /// Reading or writing.
    Any,
    Write,
    /// Moving, removing or replacing what a mount point is at or in.
    Replace,
    /// Looking up the name; files in a hidden directory do not exist.
    Lookup,
    /// Creating the name in a directory that was not found.
    CreatingLookup,
}

/// Messages of `strerror(3)` in lower case, in the C locale and in the spelling of Node and Python.
const PATH_MESSAGES: [(&str, FailedAccess); 5] = [
    ("permission denied", FailedAccess::Any),
    ("operation not permitted", FailedAccess::Any),
    ("read-only file system", FailedAccess::Write),
    ("device or resource busy", FailedAccess::Replace),
    ("no such file or directory", FailedAccess::Lookup),
];
/// Text in front of the name of a host that was not found, by curl, wget, git, ssh and Node.
const HOST_MESSAGES: [&str; 5] = [
    "resolve host: ",
    "resolve host address ",
    "resolve hostname ",
    "getaddrinfo enotfound ",
    "getaddrinfo eai_again ",
];
/// Verbs in front of a path that a program could not write.
const WRITING: [&str; 10] = [
    "touch",
    "create",
    "creating",
    "remove",
    "move",
    "unlink",
    "rename",
    "overwrite",
    "for writing",
    "link",
];
/// Beginnings of sentences that end with a path, by git and similar programs.
const SENTENCES: [&str; 6] =
    ["could not ", "cannot ", "can't ", "unable to ", "failed to ", "chmod on "];

/// Number of places in a line at which a quoted name is searched.
const MAX_STARTS: usize = 32;

/// Finds the failure that a line reports. `command` is the script that wrote it.
pub(crate) fn complaint(line: &str, command: &str) -> Option<Complaint> {
    // ASCII lower case has the same length, so offsets are valid in both texts.
    let lower = line.to_ascii_lowercase();
    for before in HOST_MESSAGES {
        if let Some(at) = lower.find(before) {
            let ends = |c: char| {
                c.is_whitespace() || matches!(c, '\'' | '"' | '‘' | '’' | ':' | ',' | ';')
            };
            let rest = line[at + before.len()..].trim_start_matches(ends);
            let name = rest.split(ends).next().filter(|name| !name.is_empty())?;
            return Some(Complaint::Host(name.to_owned()));
        }
    }
    let (at, message, failed) = PATH_MESSAGES
        .iter()
        .find_map(|(message, failed)| Some((lower.find(message)?, message, *failed)))?;
    let (before, after) = (&line[..at], &line[at + message.len()..]);
    let shell_quoted = shell_quoted(before).filter(|(_, is_escaped)| *is_escaped);
    let shell_quoted = shell_quoted.map(|(path, _)| path);
    let mut paths: Vec<&str> = shell_quoted.as_deref().into_iter().collect();
    if paths.is_empty() {
        paths.extend(quoted(after));
        paths.extend(quoted(before));
    }
    if paths.is_empty() {
        let last = before.trim_end().trim_end_matches(':').rsplit(": ").next()?;
        let last = last.trim().trim_end_matches(" failed");
        let lower = last.to_ascii_lowercase();
        let is_sentence = SENTENCES.iter().any(|start| lower.starts_with(start));
        paths.push(if is_sentence { last.rsplit(' ').next()? } else { last });
    }
    paths.retain(|path| !path.is_empty());
    let failed = match failed {
        FailedAccess::Write | FailedAccess::Replace => failed,
        _ if !is_written(&lower[..at], &paths, command) => failed,
        FailedAccess::Any => FailedAccess::Write,
        _ => FailedAccess::CreatingLookup,
    };
    let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
    (!paths.is_empty()).then_some(Complaint::Paths(paths, failed))
}

/// Returns whether a program tried to write one of the paths, by its message or by a redirection.
fn is_written(message: &str, paths: &[&str], command: &str) -> bool {
    let words = |text: &str| message.split(|c: char| !c.is_alphanumeric()).any(|word| word == text);
    let redirects = |path: &&str| {
        command.match_indices('>').any(|(at, _)| {
            let target = command[at..].trim_start_matches(['>', '|', '&', ' ', '\'', '"']);
            target.starts_with(*path)
        })
    };
    WRITING.iter().any(|verb| if verb.contains(' ') { message.contains(verb) } else { words(verb) })
        || paths.iter().any(redirects)
}

/// Reads the name at the end of a text as the shell would, if the text ends with a colon: GNU
/// programs print `'p'$'\\303\\244''ss'` for a name with characters that the locale lacks. Also
/// returns whether the name has more than one quoted part.
fn shell_quoted(text: &str) -> Option<(String, bool)> {
    let text = text.trim_end().strip_suffix(':')?;
    // The name begins after the first blank that a quote follows.
    let starts = text.match_indices([' ', '\'']).filter_map(|(at, _)| {
        let at = if text[at..].starts_with(' ') { at + 1 } else { at };
        text[at..].starts_with(['\'', '$']).then_some(at)
    });
    starts.take(MAX_STARTS).find_map(|at| shell_word(&text[at..]))
}

/// Decodes a text that is one word of quoted parts, to its end. Also returns whether it has more
/// than one part.
fn shell_word(mut text: &str) -> Option<(String, bool)> {
    let (mut name, mut parts) = (Vec::new(), 0);
    while !text.is_empty() {
        parts += 1;
        if let Some(escaped) = text.strip_prefix("$'") {
            let end = escaped.find('\'')?;
            unescape(&escaped[..end], &mut name)?;
            text = &escaped[end + 1..];
        } else if let Some(plain) = text.strip_prefix('\'') {
            let end = plain.find('\'')?;
            name.extend_from_slice(&plain.as_bytes()[..end]);
            text = &plain[end + 1..];
        } else {
            // A quote itself stands as `\'` between two parts.
            text = text.strip_prefix("\\'")?;
            name.push(b'\'');
        }
    }
    Some((String::from_utf8_lossy(&name).into_owned(), parts > 1))
}

/// Decodes the octal numbers and letters of `$'…'`.
fn unescape(text: &str, name: &mut Vec<u8>) -> Option<()> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            name.push(byte);
            continue;
        }
        name.push(match bytes.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            first @ b'0'..=b'3' => {
                let mut digit =
                    || bytes.next().filter(u8::is_ascii_digit).map(|digit| digit - b'0');
                ((first - b'0') << 6) | (digit()? << 3) | digit()?
            }
            b'a'..=b'z' | b'0'..=b'9' => return None,
            other => other,
        });
    }
    Some(())
}

/// Returns the quoted parts of a text, the last one first.
fn quoted(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut text = text;
    while let Some((start, end, open)) = last_quoted(text) {
        if start < end {
            parts.push(&text[start..end]);
        }
        text = &text[..start - open];
    }
    parts
}

/// Returns the range of the last quoted part, and the length of its opening quote.
fn last_quoted(text: &str) -> Option<(usize, usize, usize)> {
    [('\'', '\''), ('‘', '’'), ('"', '"')].into_iter().find_map(|(open, close)| {
        let end = text.rfind(close)?;
        let start = text[..end].rfind(open)? + open.len_utf8();
        Some((start, end, open.len_utf8()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Complaint>) {
        assert_eq!(complaint(line, ""), expected, "{line}");
    }

    fn path(name: &str, failed: FailedAccess) -> Option<Complaint> {
        Some(Complaint::Paths(vec![name.to_owned()], failed))
    }

    #[test]
    fn messages_about_paths_are_recognised() {
        check("cat: /etc/shadow: Permission denied", path("/etc/shadow", FailedAccess::Any));
        check("bash: line 1: /usr/x: Read-only file system", path("/usr/x", FailedAccess::Write));
        check(
            "touch: cannot touch '/usr/a b': Read-only file system",
            path("/usr/a b", FailedAccess::Write),
        );
        check(
            "ls: cannot open directory ‘../s2’: Permission denied",
            path("../s2", FailedAccess::Any),
        );
        check(
            "PermissionError: [Errno 13] Permission denied: '/etc/x'",
            path("/etc/x", FailedAccess::Any),
        );
        check(
            "Error: EACCES: permission denied, open '/root/f'",
            path("/root/f", FailedAccess::Any),
        );
        check("cat: notes.txt: No such file or directory", path("notes.txt", FailedAccess::Lookup));
        check("rm: cannot remove 'it's': Operation not permitted", path("s", FailedAccess::Write));
        check("Permission denied", None);
        check("all is well", None);
    }

    #[test]
    fn a_name_in_several_quoted_parts_is_one_path() {
        check(r"cat: '/h/p'$'\303\244''ss': Permission denied", path("/h/päss", FailedAccess::Any));
        check(
            r"touch: cannot touch ''$'\303\244': Read-only file system",
            path("ä", FailedAccess::Write),
        );
        check(r"rm: cannot remove 'a'\''b': Permission denied", path("a'b", FailedAccess::Write));
    }

    #[test]
    fn messages_about_hosts_are_recognised() {
        let host = |name: &str| Some(Complaint::Host(name.to_owned()));
        check("curl: (6) Could not resolve host: example.com", host("example.com"));
        check("wget: unable to resolve host address ‘example.com’", host("example.com"));
        check(
            "fatal: unable to access 'https://x.test/': Could not resolve host: x.test",
            host("x.test"),
        );
        check("Error: getaddrinfo ENOTFOUND x.test", host("x.test"));
        check(
            "ssh: Could not resolve hostname x.test: Temporary failure in name resolution",
            host("x.test"),
        );
        check("Could not resolve host: ", None);
    }

    #[test]
    fn messages_of_git_are_recognised() {
        check(
            "error: could not write config file .git/config: Device or resource busy",
            path(".git/config", FailedAccess::Replace),
        );
        check(
            "error: could not lock config file r/.git/config: Read-only file system",
            path("r/.git/config", FailedAccess::Write),
        );
        check(
            "fatal: Unable to create '/w/.git/index.lock': Read-only file system",
            path("/w/.git/index.lock", FailedAccess::Write),
        );
        check(
            "error: chmod on /s/.git/config.lock failed: Operation not permitted",
            path("/s/.git/config.lock", FailedAccess::Any),
        );
        let both = vec!["r2".to_owned(), "r".to_owned()];
        check(
            "mv: cannot move 'r' to 'r2': Device or resource busy",
            Some(Complaint::Paths(both, FailedAccess::Replace)),
        );
    }

    #[test]
    fn a_failed_redirection_or_creation_is_a_write() {
        let line = "bash: line 1: /srv/new: Permission denied";
        let failed = |command: &str| match complaint(line, command) {
            Some(Complaint::Paths(_, failed)) => failed,
            other => panic!("{other:?}"),
        };
        assert_eq!(failed("cat /srv/new"), FailedAccess::Any);
        assert_eq!(failed("cd /; echo x >> '/srv/new'"), FailedAccess::Write);
        check("touch: cannot touch '/a': Permission denied", path("/a", FailedAccess::Write));
    }
}
