//! Messages of programs on standard error about paths and hosts that they could not access.

use std::net::IpAddr;

use policy::Host;

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
    /// Removing, moving or creating the name, which takes writing to its directory.
    Rename,
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
/// Text in front of a host that was not reached, by curl, git, ssh, psql, Go, and clients of Python
/// and Rust. Other services have such messages too, without a domain or an address.
const CONNECTION_MESSAGES: [&str; 8] = [
    "failed to connect to ",
    "connect to host ",
    "connection to server at ",
    "translate host name ",
    "dial tcp: lookup ",
    "dial tcp ",
    "failed to resolve ",
    "sending request for url (",
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
/// Verbs of accesses to the directory of a path. `sed` replaces a file by a temporary one.
const RENAMING: [&str; 7] = ["remove", "move", "unlink", "rename", "rmdir", "link", "temporary"];
/// Beginnings of sentences that end with a path, by git and similar programs. `tar` has the path in
/// front of one that ends with its verb.
const SENTENCES: [&str; 6] =
    ["could not ", "couldn't ", "cannot ", "can't ", "unable to ", "failed to "];
/// The beginning of a sentence of git that has the path behind it.
const CHMOD: &str = "chmod on ";

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
    if let Some(name) = CONNECTION_MESSAGES.iter().find_map(|before| {
        let at = lower.find(before)? + before.len();
        outside(&line[at..])
    }) {
        return Some(Complaint::Host(name));
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
        paths.push(unquoted(before)?);
    }
    paths.retain(|path| !path.is_empty());
    let failed = match failed {
        FailedAccess::Replace => failed,
        FailedAccess::Write | FailedAccess::Any if is_renamed(&lower[..at], after) => {
            FailedAccess::Rename
        }
        FailedAccess::Write => failed,
        _ if !is_written(&lower[..at], &paths, command) => failed,
        FailedAccess::Any => FailedAccess::Write,
        _ => FailedAccess::CreatingLookup,
    };
    let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
    (!paths.is_empty()).then_some(Complaint::Paths(paths, failed))
}

/// Returns the path at the end of a text without quotes.
fn unquoted(text: &str) -> Option<&str> {
    let mut parts = text.trim_end().trim_end_matches(':').rsplit(": ").map(str::trim);
    let last = parts.next()?.trim_end_matches(" failed");
    let lower = last.to_ascii_lowercase();
    let path = match SENTENCES.iter().find(|start| lower.starts_with(**start)) {
        Some(start) if last[start.len()..].contains([' ', '/']) => return last.rsplit(' ').next(),
        Some(_) => parts.next()?,
        None if lower.starts_with(CHMOD) => return Some(&last[CHMOD.len()..]),
        None => last,
    };
    // The first part is the name of a program or of a function, such as `unlink`.
    (parts.next().is_some() || path.contains(['/', '.'])).then_some(path)
}

/// Returns the host at the beginning of a text or of a URL, if it is a domain or an address outside
/// the session.
fn outside(text: &str) -> Option<String> {
    let text = text.trim_start_matches(['\'', '"']);
    let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
    let text = text[scheme.map_or(0, str::len)..].trim_start_matches('[');
    let word = text.split(|c: char| c.is_whitespace() || "'\"/,;()[]".contains(c)).next()?;
    // The colons of an address are its own, and one behind a name begins a port.
    let is_address = word.parse::<IpAddr>().is_ok();
    let name = if is_address { word } else { word.split(':').next()? };
    let is_outside = !Host::parse(name).ok()?.is_loopback() && name.contains(['.', ':']);
    is_outside.then(|| name.to_owned())
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

/// Returns whether a program tried to change the directory of a path. Node names the operation
/// behind the message.
fn is_renamed(before: &str, after: &str) -> bool {
    let verbs = [before, after].map(|text| text.split(" '").next().unwrap_or_default());
    let words = verbs.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.into_iter().any(|word| RENAMING.contains(&word))
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

    #[test]
    fn a_host_that_was_not_reached_is_named() {
        for (line, name) in [
            ("curl: (7) Failed to connect to 192.0.2.1 port 80 after 0 ms: Couldn't", "192.0.2.1"),
            ("curl: (7) Failed to connect to 2001:db8::1 port 80 after 0 ms", "2001:db8::1"),
            ("ssh: connect to host a.test port 22: Network is unreachable", "a.test"),
            ("Cannot connect to host a.test:443 ssl:default [Temporary failure]", "a.test"),
            ("psql: error: connection to server at \"192.0.2.1\", port 5432", "192.0.2.1"),
            ("could not translate host name \"a.test\" to address: Temporary", "a.test"),
            ("Get \"https://a.test/\": dial tcp: lookup a.test on 192.0.2.53:53: x", "a.test"),
            ("dial tcp [2001:db8::1]:80: connect: network is unreachable", "2001:db8::1"),
            ("(Caused by NameResolutionError(\"Failed to resolve 'a.test' ([Errno -3]", "a.test"),
            ("  cause: error sending request for url (https://a.test/simple/x/)", "a.test"),
        ] {
            check(line, Some(Complaint::Host(name.to_owned())));
        }
        for line in [
            "curl: (7) Failed to connect to 127.0.0.1 port 81 after 7 ms: Couldn't connect",
            "dial tcp [::1]:80: connect: connection refused",
            "Failed to connect to localhost:80",
            "Failed to connect to the database",
        ] {
            check(line, None);
        }
        let socket = "Failed to connect to /run/docker.sock: Permission denied";
        assert!(!matches!(complaint(socket, ""), Some(Complaint::Host(_))));
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
        check("rm: cannot remove 'it's': Operation not permitted", path("s", FailedAccess::Rename));
        check("Permission denied", None);
        check("all is well", None);
        check("unlink: Read-only file system", None);
        check("tar: d/f: Cannot open: Permission denied", path("d/f", FailedAccess::Any));
        check("tar: f: Cannot unlink: Read-only file system", path("f", FailedAccess::Rename));
        check("fatal: cannot open: Permission denied", None);
        check("./run.sh: Permission denied", path("./run.sh", FailedAccess::Any));
    }

    #[test]
    fn a_name_in_several_quoted_parts_is_one_path() {
        check(r"cat: '/h/p'$'\303\244''ss': Permission denied", path("/h/päss", FailedAccess::Any));
        check(
            r"touch: cannot touch ''$'\303\244': Read-only file system",
            path("ä", FailedAccess::Write),
        );
        check(r"rm: cannot remove 'a'\''b': Permission denied", path("a'b", FailedAccess::Rename));
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
