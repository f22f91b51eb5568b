//! What of a command's errors the session's policy explains.
//!
//! The kernel tells nobody else what it refuses, so this reads what programs say of it on standard
//! error, and asks the policy about each path and host that they name. It explains; it decides
//! nothing, and an agent that prints such lines gets an explanation.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use policy::Access;
use sandbox_core::Quarantined;
use serde::Serialize;

/// How many denials a result tells, and from how many of the last lines.
const MAX_DENIALS: usize = 5;
const MAX_LINES: usize = 200;

/// Something that a command was refused, by which rule, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Denial {
    /// The path or the host.
    pub target: String,
    /// `read`, `write` or `connect`.
    pub access: &'static str,
    /// The rule that denies it.
    pub rule: String,
    /// What would allow it, where something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where it is now, when the command had made it all the same and it was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

/// The denial as one line for a person.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, access, rule, remedy, moved_to } = self;
        write!(f, "{access} {target}: {rule}")?;
        if let Some(remedy) = remedy {
            write!(f, "; {remedy}")?;
        }
        match moved_to {
            Some(path) => write!(f, "; it is {path} now"),
            None => Ok(()),
        }
    }
}

/// A rule that denies something, and what would allow it.
pub(crate) struct Reason {
    pub(crate) rule: String,
    pub(crate) remedy: Option<String>,
}

/// What a line on standard error complains of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Complaint {
    /// Access was refused, or the file is hidden.
    Path(String, Refused),
    Host(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Whatever was tried.
    Access,
    Writing,
    /// A file in a hidden directory is not there.
    Finding,
}

/// What standard error tells of, and the policy denies. `path` and `host` say why something is
/// denied, if it is; relative paths begin in `dir`.
pub(crate) fn find(
    stderr: &str,
    dir: &Path,
    path: impl Fn(&Path, Access) -> Option<Reason>,
    host: impl Fn(&str) -> Option<Reason>,
) -> Vec<Denial> {
    let mut denials: Vec<Denial> = Vec::new();
    for complaint in stderr.lines().rev().take(MAX_LINES).filter_map(complaint) {
        let (target, access, reason) = match complaint {
            Complaint::Host(name) => {
                let reason = host(&name);
                (name, "connect", reason)
            }
            Complaint::Path(name, refused) => {
                let at = normalized(&dir.join(&name));
                let asked: &[Access] = match refused {
                    Refused::Access => &[Access::Read, Access::Write],
                    Refused::Writing => &[Access::Write],
                    Refused::Finding => &[Access::Read],
                };
                let denied = asked.iter().find_map(|access| Some((*access, path(&at, *access)?)));
                let Some((access, reason)) = denied else { continue };
                let access = if access == Access::Read { "read" } else { "write" };
                (at.to_string_lossy().into_owned(), access, Some(reason))
            }
        };
        let Some(Reason { rule, remedy }) = reason else { continue };
        if !denials.iter().any(|known| known.target == target && known.access == access) {
            denials.push(Denial { target, access, rule, remedy, moved_to: None });
        }
        if denials.len() == MAX_DENIALS {
            break;
        }
    }
    denials.reverse();
    denials
}

/// Something that was made where the policy allows nothing.
pub(crate) fn from_quarantined(quarantined: &Quarantined, reason: Option<Reason>) -> Denial {
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let unknown = || Reason { rule: "it is protected".to_owned(), remedy: None };
    let Reason { rule, remedy } = reason.unwrap_or_else(unknown);
    let moved_to = quarantined.moved_to.as_deref().map(shown);
    Denial { target: shown(&quarantined.path), access: "write", rule, remedy, moved_to }
}

/// `strerror(3)` in the C locale and as node and Python write it, in lower case.
const PATH_MESSAGES: [(&str, Refused); 4] = [
    ("permission denied", Refused::Access),
    ("operation not permitted", Refused::Access),
    ("read-only file system", Refused::Writing),
    ("no such file or directory", Refused::Finding),
];
/// What stands before the name of a host that was not found: curl, wget and git, ssh, node.
const HOST_MESSAGES: [&str; 5] = [
    "resolve host: ",
    "resolve host address ",
    "resolve hostname ",
    "getaddrinfo enotfound ",
    "getaddrinfo eai_again ",
];

fn complaint(line: &str) -> Option<Complaint> {
    // The same length as the line, so that places in one are places in the other.
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
    let (at, message, refused) = PATH_MESSAGES
        .iter()
        .find_map(|(message, refused)| Some((lower.find(message)?, message, *refused)))?;
    let (before, after) = (&line[..at], &line[at + message.len()..]);
    let name = quoted(after).or_else(|| quoted(before)).or_else(|| {
        let last = before.trim_end().trim_end_matches(':').rsplit(": ").next()?;
        Some(last.trim())
    })?;
    (!name.is_empty()).then(|| Complaint::Path(name.to_owned(), refused))
}

/// The last quoted part of a text.
fn quoted(text: &str) -> Option<&str> {
    [('\'', '\''), ('‘', '’'), ('"', '"')].into_iter().find_map(|(open, close)| {
        let end = text.rfind(close)?;
        let start = text[..end].rfind(open)? + open.len_utf8();
        (start < end).then(|| &text[start..end])
    })
}

/// Without `.` and `..`, by the names alone.
fn normalized(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Complaint>) {
        assert_eq!(complaint(line), expected, "{line}");
    }

    fn path(name: &str, refused: Refused) -> Option<Complaint> {
        Some(Complaint::Path(name.to_owned(), refused))
    }

    #[test]
    fn what_programs_say_of_a_path_is_understood() {
        check("cat: /etc/shadow: Permission denied", path("/etc/shadow", Refused::Access));
        check("bash: line 1: /usr/x: Read-only file system", path("/usr/x", Refused::Writing));
        check(
            "touch: cannot touch '/usr/a b': Read-only file system",
            path("/usr/a b", Refused::Writing),
        );
        check(
            "ls: cannot open directory ‘../s2’: Permission denied",
            path("../s2", Refused::Access),
        );
        check(
            "PermissionError: [Errno 13] Permission denied: '/etc/x'",
            path("/etc/x", Refused::Access),
        );
        check("Error: EACCES: permission denied, open '/root/f'", path("/root/f", Refused::Access));
        check("cat: notes.txt: No such file or directory", path("notes.txt", Refused::Finding));
        check("rm: cannot remove 'it's': Operation not permitted", path("s", Refused::Access));
        check("Permission denied", None);
        check("all is well", None);
    }

    #[test]
    fn what_programs_say_of_a_host_is_understood() {
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
    fn only_what_is_denied_is_told_once_and_the_last_first_when_there_is_too_much() {
        let path = |path: &Path, access| {
            let reason = || Some(Reason { rule: "the rule".to_owned(), remedy: None });
            (path.starts_with("/hidden") || (access == Access::Write && path.starts_with("/usr")))
                .then(reason)
                .flatten()
        };
        let found = |stderr: &str| -> Vec<String> {
            let denials = find(stderr, Path::new("/s/dir"), path, |_| None);
            denials
                .into_iter()
                .map(|denial| format!("{} {}", denial.access, denial.target))
                .collect()
        };
        assert_eq!(
            found(
                "cat: /hidden/a: Permission denied\ncat: ../../hidden/../hidden/a: No such file or directory\n\
                   x: /usr/f: Permission denied\ncat: mine: Permission denied\ncurl: (6) Could not resolve host: a.b"
            ),
            ["read /hidden/a", "write /usr/f"]
        );
        let many: String =
            (0..9).map(|n| format!("cat: /hidden/{n}: Permission denied\n")).collect();
        assert_eq!(
            found(&many),
            [
                "read /hidden/4",
                "read /hidden/5",
                "read /hidden/6",
                "read /hidden/7",
                "read /hidden/8"
            ]
        );
    }
}
