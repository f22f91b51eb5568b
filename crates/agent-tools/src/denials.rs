//! Explanations of a command's failures by the session's policy.
//!
//! The kernel reports a denial to the failing program only. This module therefore searches standard
//! error for the messages of programs, and asks the policy about each path and host they name. It
//! decides nothing: an agent that prints such a line gets an explanation.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use policy::Access;
use sandbox_core::{QuarantineOutcome, Quarantined};
use serde::{Deserialize, Serialize};

use crate::sharing::{FixedText, parse_access};

/// The maximum number of explained failures in a result.
const MAX_DENIALS: usize = 5;
/// The number of lines that are searched, counted from the last one.
const MAX_LINES: usize = 200;

/// A denied access, the rule that denies it, and the setting that would allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Denial {
    /// The path or the host.
    pub target: String,
    /// `read`, `write` or `connect`.
    #[serde(deserialize_with = "parse_access")]
    pub access: FixedText,
    /// The rule that denies it.
    pub rule: String,
    /// The setting that would allow the access, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The new path of a file that the command created despite the rule and that was quarantined.
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

/// A rule that denies an access, and the setting that would allow it.
pub(crate) struct Reason {
    pub(crate) rule: String,
    pub(crate) remedy: Option<String>,
}

/// A failure that a line on standard error reports.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Complaint {
    Path(String, FailedAccess),
    Host(String),
}

/// The access to a path that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailedAccess {
    /// Reading or writing.
    Any,
    Write,
    /// Looking up the name; files in a hidden directory do not exist.
    Lookup,
}

/// Finds the failures on standard error that the policy denies.
///
/// `path` and `host` return the reason for a denial. Relative paths begin in `dir`.
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
            Complaint::Path(name, failed) => {
                let at = normalized(&dir.join(&name));
                let asked: &[Access] = match failed {
                    FailedAccess::Any => &[Access::Read, Access::Write],
                    FailedAccess::Write => &[Access::Write],
                    FailedAccess::Lookup => &[Access::Read],
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

/// Explains the quarantine of a file that the policy forbids to create.
pub(crate) fn from_quarantined(quarantined: &Quarantined, reason: Option<Reason>) -> Denial {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let unknown = || Reason { rule: "it is protected".to_owned(), remedy: None };
    let Reason { mut rule, remedy } = reason.unwrap_or_else(unknown);
    if quarantined.outcome != QuarantineOutcome::Moved {
        rule += &format!("; {}", quarantined.outcome);
    }
    let moved_to = quarantined.moved_to.as_deref().map(text);
    Denial { target: text(&quarantined.path), access: "write", rule, remedy, moved_to }
}

/// Messages of `strerror(3)` in lower case, in the C locale and in the spelling of Node and Python.
const PATH_MESSAGES: [(&str, FailedAccess); 4] = [
    ("permission denied", FailedAccess::Any),
    ("operation not permitted", FailedAccess::Any),
    ("read-only file system", FailedAccess::Write),
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

fn complaint(line: &str) -> Option<Complaint> {
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
    let name = quoted(after).or_else(|| quoted(before)).or_else(|| {
        let last = before.trim_end().trim_end_matches(':').rsplit(": ").next()?;
        Some(last.trim())
    })?;
    (!name.is_empty()).then(|| Complaint::Path(name.to_owned(), failed))
}

/// Returns the last quoted part of a text.
fn quoted(text: &str) -> Option<&str> {
    [('\'', '\''), ('‘', '’'), ('"', '"')].into_iter().find_map(|(open, close)| {
        let end = text.rfind(close)?;
        let start = text[..end].rfind(open)? + open.len_utf8();
        (start < end).then(|| &text[start..end])
    })
}

/// Removes `.` and `..` without following symlinks.
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

    fn path(name: &str, failed: FailedAccess) -> Option<Complaint> {
        Some(Complaint::Path(name.to_owned(), failed))
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
        check("rm: cannot remove 'it's': Operation not permitted", path("s", FailedAccess::Any));
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
    fn each_denial_is_reported_once_and_the_last_ones_win() {
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
                "cat: /hidden/a: Permission denied\n\
                 cat: ../../hidden/../hidden/a: No such file or directory\n\
                 x: /usr/f: Permission denied\n\
                 cat: mine: Permission denied\n\
                 curl: (6) Could not resolve host: a.b"
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
