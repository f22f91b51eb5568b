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
    let mut paths: Vec<&str> = quoted(after);
    paths.extend(quoted(before));
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
