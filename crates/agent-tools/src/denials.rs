//! Denied accesses, and guesses about them.
//!
//! The kernel reports a denial to the failing program only. This module therefore searches standard
//! error for the messages of programs, and asks the policy about each path and host they name. That
//! is a guess, which decides nothing: an agent that prints such a line gets an explanation. Results
//! have guesses in `hint`, and in `denied` only what the engine itself has refused.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use policy::Access;
use sandbox_core::{QuarantineOutcome, Quarantined};
use serde::{Deserialize, Serialize};

use crate::complaints::{Complaint, FailedAccess, complaint};
use crate::hints;
use crate::output::is_false;
use crate::sharing::{FixedText, parse_access};

/// The maximum number of guesses in a result.
const MAX_DENIALS: usize = 5;
/// The number of directories of a script in which relative paths are searched.
const MAX_DIRECTORIES: usize = 16;
/// The directory that a session has as its own.
const TMP: &str = "/tmp";
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
    /// True for a connection that may be one of another command, which ran at the same time.
    #[serde(rename = "shared", skip_serializing_if = "is_false", default)]
    pub is_shared: bool,
}

/// The denial as one line for a person.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, access, rule, remedy, moved_to, is_shared } = self;
        write!(f, "{access} {target}: {rule}")?;
        if let Some(remedy) = remedy {
            write!(f, "; {remedy}")?;
        }
        if let Some(path) = moved_to {
            write!(f, "; it is {path} now")?;
        }
        if *is_shared {
            f.write_str("; another command ran at the same time")?;
        }
        Ok(())
    }
}

/// A rule that denies an access, and the setting that would allow it.
pub(crate) struct Reason {
    pub(crate) rule: String,
    pub(crate) remedy: Option<String>,
}

/// The answers of a session's policy.
pub(crate) trait Judge {
    /// Returns the reason for which a path is denied.
    fn path(&self, path: &Path, access: Access) -> Option<Reason>;
    /// Returns a protected path inside a directory, which keeps the directory in its place.
    fn protected_inside(&self, dir: &Path) -> Option<PathBuf>;
    /// Returns the reason for which a host is denied.
    fn host(&self, name: &str) -> Option<Reason>;
}

/// Guesses from the standard error of `command` what the policy has denied. Relative paths begin in
/// `dir`, or in a directory that the command changes to.
pub(crate) fn find(stderr: &str, command: &str, dir: &Path, judge: &impl Judge) -> Vec<Denial> {
    let dirs = directories(command, stderr, dir);
    let mut denials: Vec<Denial> = Vec::new();
    let lines = stderr.lines().rev().take(MAX_LINES);
    let lines = lines.filter(|line| hints::unprivileged_program(line).is_none());
    for complaint in lines.filter_map(|line| complaint(line, command)) {
        let is_lookup = matches!(complaint, Complaint::Paths(_, FailedAccess::Lookup));
        let found = match complaint {
            Complaint::Host(name) => judge.host(&name).map(|reason| (name, "connect", reason)),
            Complaint::Paths(names, failed) => denied_path(&names, failed, &dirs, judge),
        };
        let Some((target, access, Reason { rule, mut remedy })) = found else { continue };
        if is_lookup && let Some(remedy) = &mut remedy {
            // Nothing tells a hidden file from an absent one.
            remedy.insert_str(0, "if it exists, ");
        }
        if !denials.iter().any(|known| known.target == target && known.access == access) {
            let (moved_to, is_shared) = (None, false);
            denials.push(Denial { target, access, rule, remedy, moved_to, is_shared });
        }
        if denials.len() == MAX_DENIALS {
            break;
        }
    }
    denials.reverse();
    denials
}

/// Returns the first path of a complaint that the policy denies.
fn denied_path(
    names: &[String],
    failed: FailedAccess,
    dirs: &[PathBuf],
    judge: &impl Judge,
) -> Option<(String, FixedText, Reason)> {
    let asked: &[Access] = match failed {
        FailedAccess::Any => &[Access::Read, Access::Write],
        FailedAccess::Write
        | FailedAccess::Rename
        | FailedAccess::Replace
        | FailedAccess::CreatingLookup => &[Access::Write],
        FailedAccess::Lookup => &[Access::Read],
    };
    // A name that does not exist in a directory is no sign of another one.
    let is_lookup = matches!(failed, FailedAccess::Lookup | FailedAccess::CreatingLookup);
    let dirs = if is_lookup { &dirs[..1] } else { dirs };
    let above = |at: &Path| judge.path(at.parent()?, Access::Write);
    let paths = || dirs.iter().flat_map(|dir| names.iter().map(|name| normalized(&dir.join(name))));
    let judged = |at: &Path| {
        let access = asked.iter().find_map(|access| Some((*access, judge.path(at, *access)?)));
        access.map(|(access, mut reason)| {
            // Where the path itself may be written, its name is still one of its directory.
            if let (FailedAccess::Rename, Some(above)) = (failed, above(at)) {
                reason.remedy = above.remedy;
            }
            let access = if access == Access::Read { "read" } else { "write" };
            (at.to_string_lossy().into_owned(), access, reason)
        })
    };
    let inside = |at: PathBuf| judged(&judge.protected_inside(&at)?);
    // Read-only directories make such an access fail before the file itself is looked at.
    let alone = |at: &Path| {
        let Reason { remedy, .. } = above(at).filter(|_| at.is_file())?;
        let rule = "it may be written, but its directory may not, which moving, removing or \
                    replacing it takes";
        let reason = Reason { rule: rule.to_owned(), remedy };
        Some((at.to_string_lossy().into_owned(), "write", reason))
    };
    // The directory `/tmp` of a session may be written, and has those files of the host alone that
    // the policy allows one by one. Each keeps its place.
    let session_dir = dirs.last()?;
    let mounted = |at: PathBuf| {
        let is_alone = at.starts_with(TMP) && !at.starts_with(session_dir) && at.is_file();
        let rule = "it is allowed alone, so it may be written, but not moved, removed or replaced";
        let reason = Reason { rule: rule.to_owned(), remedy: None };
        is_alone.then(|| (at.to_string_lossy().into_owned(), "write", reason))
    };
    match failed {
        FailedAccess::Rename => paths().find_map(|at| judged(&at).or_else(|| alone(&at))),
        FailedAccess::Replace => paths()
            .find_map(|at| judged(&at))
            .or_else(|| paths().find_map(inside))
            .or_else(|| paths().find_map(|at| alone(&at)))
            .or_else(|| paths().find_map(mounted)),
        _ => paths().find_map(|at| judged(&at)),
    }
}

/// Returns the directories that a script may change to, the last one first, and then `dir`: the
/// words behind `cd`, `pushd` and `-C`, one after another and each in `dir`. A change that failed
/// has a line in `stderr`.
fn directories(script: &str, stderr: &str, dir: &Path) -> Vec<PathBuf> {
    let (mut here, mut changed) = (dir.to_owned(), Vec::new());
    let is_end = |c: char| c.is_whitespace() || ";&|()<>".contains(c);
    let mut words = script.split(is_end).filter(|word| !word.is_empty());
    while let Some(word) = words.next()
        && changed.len() < MAX_DIRECTORIES
    {
        if !matches!(word, "cd" | "pushd" | "-C") {
            continue;
        }
        let Some(target) = words.next() else { break };
        let target = target.trim_matches(['\'', '"']);
        if stderr.contains(&format!(": {word}: {target}: ")) {
            continue;
        }
        changed.push(normalized(&dir.join(target)));
        here = normalized(&here.join(target));
        changed.push(here.clone());
    }
    changed.into_iter().rev().chain([dir.to_owned()]).collect()
}

/// Explains the quarantine of a file that the policy forbids to create.
pub(crate) fn from_quarantined(quarantined: &Quarantined, reason: Option<Reason>) -> Denial {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let unknown = || Reason { rule: "it is protected".to_owned(), remedy: None };
    let Reason { mut rule, remedy } = match &quarantined.reason {
        // The path may be written, and the content is refused.
        Some(reason) => Reason { rule: format!("it {reason}"), remedy: None },
        None => reason.unwrap_or_else(unknown),
    };
    if quarantined.outcome != QuarantineOutcome::Moved {
        rule += &format!("; {}", quarantined.outcome);
    }
    let moved_to = quarantined.moved_to.as_deref().map(text);
    let target = text(&quarantined.path);
    Denial { target, access: "write", rule, remedy, moved_to, is_shared: false }
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

    /// A policy that hides `/hidden`, and protects `/usr` and `/s/dir/r/.git/config`.
    struct Rules;

    impl Judge for Rules {
        fn path(&self, path: &Path, access: Access) -> Option<Reason> {
            let is_protected = path.starts_with("/usr") || path.ends_with(".git/config");
            let is_denied =
                path.starts_with("/hidden") || (access == Access::Write && is_protected);
            let remedy = || Some("use it".to_owned());
            is_denied.then(|| Reason { rule: "the rule".to_owned(), remedy: remedy() })
        }

        fn protected_inside(&self, dir: &Path) -> Option<PathBuf> {
            dir.ends_with("r").then(|| dir.join(".git/config"))
        }

        fn host(&self, _: &str) -> Option<Reason> {
            None
        }
    }

    #[track_caller]
    fn check(command: &str, stderr: &str, expected: &[&str]) {
        let denials = find(stderr, command, Path::new("/s/dir"), &Rules);
        let found: Vec<String> = denials
            .into_iter()
            .map(|denial| format!("{} {}", denial.access, denial.target))
            .collect();
        assert_eq!(found, expected, "{command}: {stderr}");
    }

    #[test]
    fn each_denial_is_reported_once_and_the_last_ones_win() {
        check(
            "",
            "cat: /hidden/a: Permission denied\n\
             cat: ../../hidden/../hidden/a: No such file or directory\n\
             x: /usr/f: Permission denied\n\
             cat: mine: Permission denied\n\
             curl: (6) Could not resolve host: a.b",
            &["read /hidden/a", "write /usr/f"],
        );
        let many: String =
            (0..9).map(|n| format!("cat: /hidden/{n}: Permission denied\n")).collect();
        let last = [4, 5, 6, 7, 8].map(|n| format!("read /hidden/{n}"));
        check("", &many, &last.each_ref().map(String::as_str));
    }

    #[test]
    fn the_remedy_of_a_path_that_may_be_absent_has_that_condition() {
        for (line, remedy) in [
            ("cat: /hidden/a: No such file or directory", "if it exists, use it"),
            ("cat: /hidden/a: Permission denied", "use it"),
            ("touch: cannot touch '/hidden/a': No such file or directory", "use it"),
        ] {
            let denials = find(line, "", Path::new("/s/dir"), &Rules);
            assert_eq!(denials[0].remedy.as_deref(), Some(remedy), "{line}");
        }
    }

    #[test]
    fn relative_paths_begin_in_a_directory_that_the_command_changes_to() {
        let error = "bash: line 1: relative: Read-only file system";
        check("cd /usr && echo x > relative", error, &["write /usr/relative"]);
        check("(cd '/usr'; cd bin; echo x > relative)", error, &["write /usr/bin/relative"]);
        check("cd sub && echo x > relative", error, &[]);
        check("git -C /hidden status", "error: f: Permission denied", &["read /hidden/f"]);
        let absent = "cat: f: No such file or directory";
        check("cd /hidden; cat f", absent, &["read /hidden/f"]);
        let failed = format!("bash: line 1: cd: /hidden: Permission denied\n{absent}");
        check("cd /hidden; cat f", &failed, &["read /hidden"]);
        check("cd /hidden; cd /s/dir; cat f", absent, &[]);
        check("cd /usr/bin && touch ../x", "touch: ../x: Permission denied", &["write /usr/x"]);
    }

    #[test]
    fn a_directory_that_stays_in_its_place_is_explained_by_what_it_contains() {
        let busy = "mv: cannot move 'r' to 'r2': Device or resource busy";
        check("mv r r2", busy, &["write /s/dir/r/.git/config"]);
        check("mv a b", "mv: cannot move 'a' to 'b': Device or resource busy", &[]);
        let git = "error: could not write config file .git/config: Device or resource busy";
        check("cd r && git config a.b c", git, &["write /s/dir/r/.git/config"]);
    }

    #[test]
    fn a_file_that_is_allowed_alone_in_a_private_directory_keeps_its_place() {
        let file = tempfile::NamedTempFile::new_in(TMP).unwrap();
        let path = file.path().display();
        let expected = format!("write {path}");
        for line in [
            format!("rm: cannot remove '{path}': Device or resource busy"),
            format!(
                "mv: inter-device move failed: 'n' to '{path}'; unable to remove target: Device \
                 or resource busy"
            ),
        ] {
            check("", &line, &[&expected]);
            let denials = find(&line, "", file.path().parent().unwrap(), &Rules);
            assert_eq!(denials, [], "a file of the session itself");
        }
    }

    #[test]
    fn the_remedy_of_a_name_is_that_of_its_directory() {
        for line in [
            "rm: cannot remove '/usr/bin/f': Read-only file system",
            "mv: cannot move 'a' to '/usr/bin/f': Permission denied",
            "sed: couldn't open temporary file /usr/bin/sedX: Read-only file system",
            "Error: EROFS: read-only file system, unlink '/usr/bin/f'",
        ] {
            let denials = find(line, "", Path::new("/s/dir"), &Named);
            assert_eq!(denials[0].remedy.as_deref(), Some("open /usr/bin"), "{line}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let remedy = format!("open {}", file.path().parent().unwrap().display());
        for line in [
            format!("rm: cannot remove '{path}': Device or resource busy"),
            format!("rm: cannot remove '{path}': Read-only file system"),
            format!(
                "mv: move failed: '/usr/f' to '{path}'; cannot replace it: Read-only file system"
            ),
        ] {
            let denial = find(&line, "", Path::new("/s/dir"), &Named).remove(0);
            assert_eq!((denial.target, denial.remedy.as_ref()), (path.to_string(), Some(&remedy)));
        }
    }

    /// A policy that protects `/usr` and directories of temporary files, with remedies by path.
    struct Named;

    impl Judge for Named {
        fn path(&self, path: &Path, access: Access) -> Option<Reason> {
            let is_denied = path.starts_with("/usr") || path == std::env::temp_dir();
            (is_denied && access == Access::Write).then(|| Reason {
                rule: "the rule".to_owned(),
                remedy: Some(format!("open {}", path.display())),
            })
        }

        fn protected_inside(&self, _: &Path) -> Option<PathBuf> {
            None
        }

        fn host(&self, _: &str) -> Option<Reason> {
            None
        }
    }

    #[test]
    fn a_program_without_a_privilege_is_no_denial_of_its_path() {
        check("", "mount: /hidden: permission denied.", &[]);
        check("", "chroot: cannot change root directory to '/usr': Operation not permitted", &[]);
    }
}
