//! Symbolic refs that a command has written in a repository of the user.
//!
//! A command needs to write refs to commit. Git follows a symbolic ref when it updates it, and
//! takes any name in the git directory for its target: `ref: commondir` lets the user's git create
//! that file. So the host reads the refs that a command has changed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::changes::{FileId, changed, open_directory, stat};
use super::indexes::{Flawed, read_start};
use super::outstanding::LAG;
use super::zones::{entries, is_unreachable, open_readable};

/// Directory of the refs, and the beginning of the name of each (`gitrepository-layout(5)`).
const REFS: &str = "refs";
/// Beginning of a file with a symbolic ref (`git-symbolic-ref(1)`).
const SYMBOLIC: &[u8] = b"ref:";
/// Largest file that can be a symbolic ref.
const MAX_REF_BYTES: u64 = 8 << 10;
/// Maximum number of files that are inspected in one repository. Git packs refs long before.
const MAX_FILES: usize = 1_000_000;
/// Name of the file without which git takes a directory for no repository.
const HEAD: &str = "HEAD";
/// Reason to quarantine a file or a directory that cannot be read.
const UNREAD: &str = "cannot be read, so refs are unread";

/// Refs without a flaw, each with the time of its last change. No path is recorded: a directory
/// that is moved into `refs` brings files with it that have not changed.
#[derive(Debug, Default)]
pub(super) struct AcceptedRefs {
    states: HashSet<(FileId, SystemTime)>,
    /// A directory could not be listed.
    pub(super) is_incomplete: bool,
}

impl AcceptedRefs {
    /// Begins a check, and returns the refs that the last one has accepted.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Adds the symbolic refs of a git directory that lead out of `refs` and `HEAD`. The first
    /// check reads all refs, because a host that was killed could not read them. Takes about a
    /// microsecond for each loose ref, and ten for one that has changed.
    pub(super) fn find_flawed(
        &mut self,
        git_dir: &Path,
        since: SystemTime,
        known: &Self,
        found: &mut Vec<Flawed>,
    ) {
        let mut rest = vec![(git_dir.to_owned(), true)];
        let mut left = MAX_FILES;
        while let Some((path, is_top)) = rest.pop() {
            let listed = open_readable(&path).and_then(|dir| entries(&dir).map(|it| (dir, it)));
            let (dir, listed) = match listed {
                Ok(listed) => listed,
                // Git may reach it by a shorter path.
                Err(Errno::NAMETOOLONG) if !is_top => {
                    found.extend(unread(git_dir, &path));
                    continue;
                }
                Err(errno) => {
                    self.is_incomplete |= !is_unreachable(errno);
                    continue;
                }
            };
            for (name, kind) in listed {
                if kind == FileType::Directory && (!is_top || name == REFS) {
                    rest.push((path.join(&name), false));
                }
                // Those beside `refs` have names like `HEAD`.
                let is_ref = !is_top || !name.as_bytes().iter().any(u8::is_ascii_lowercase);
                if kind != FileType::RegularFile || !is_ref {
                    continue;
                }
                left -= 1;
                if left == 0 {
                    let reason =
                        format!("has more than {MAX_FILES} files beside, so refs are unread");
                    return found.extend(at(git_dir, git_dir, HEAD.into(), reason));
                }
                let reason = self.flaw(&dir, &name, since, known);
                found.extend(reason.and_then(|reason| at(git_dir, &path, name, reason)));
            }
        }
    }

    /// Returns the reason for which git must not read a ref.
    fn flaw(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        since: SystemTime,
        known: &Self,
    ) -> Option<String> {
        let began = SystemTime::now();
        let stat = stat(dir, name).ok()?;
        let state = (FileId::of(&stat), changed(&stat));
        if known.states.contains(&state) {
            self.states.insert(state);
            return None;
        }
        let Some(content) = read_start(dir, name, MAX_REF_BYTES + 1) else {
            // The user's git cannot read it either, until its mode changes.
            return (state.1 >= since).then(|| UNREAD.to_owned());
        };
        // Git ignores white space at the end, however much it is.
        if content.len() as u64 > MAX_REF_BYTES && content.starts_with(SYMBOLIC) {
            return Some("is too long for a symbolic ref".to_owned());
        }
        if let Some(target) = foreign_target(&content) {
            let reason = "which is neither HEAD nor a name below refs/";
            return Some(format!("leads to {target:?}, {reason}"));
        }
        // Each later change gives the file another time.
        if state.1 + LAG < began {
            self.states.insert(state);
        }
        None
    }
}

/// Returns a directory that cannot be listed.
fn unread(git_dir: &Path, path: &Path) -> Option<Flawed> {
    at(git_dir, path.parent()?, path.file_name()?.to_owned(), UNREAD.to_owned())
}

/// Git reads every file below `refs`, whatever its name. So a ref is moved beside `refs`.
fn at(git_dir: &Path, path: &Path, name: OsString, reason: String) -> Option<Flawed> {
    let dir = open_directory(path).ok()?;
    let aside = match path.strip_prefix(git_dir) {
        Ok(below) if !below.as_os_str().is_empty() => {
            let mut new_name = OsString::new();
            for part in below {
                new_name.push(part);
                new_name.push("-");
            }
            new_name.push(&name);
            Some((open_directory(git_dir).ok()?, git_dir.to_owned(), new_name))
        }
        _ => None,
    };
    Some(Flawed { dir, parent: path.to_owned(), name, reason, aside })
}

/// Returns the target of a symbolic ref that is neither below `refs` nor a name such as `HEAD` or
/// `ORIG_HEAD`, in which git keeps the name of a commit (`gitrevisions(7)`).
fn foreign_target(content: &[u8]) -> Option<PathBuf> {
    let target = content.strip_prefix(SYMBOLIC)?.trim_ascii();
    let target = Path::new(OsStr::from_bytes(target));
    let is_plain = target.components().all(|part| matches!(part, Component::Normal(_)));
    let is_inside = target.starts_with(REFS) && target != Path::new(REFS);
    let name = target.as_os_str().as_bytes();
    let is_head = name.ends_with(HEAD.as_bytes())
        && name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    (!is_plain || !(is_inside || is_head)).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ref_is_the_target_of_a_symbolic_ref() {
        for content in [
            "ref: refs/heads/main\n",
            "ref:refs/x",
            "ref: HEAD\n",
            "ref: ORIG_HEAD",
            "0123abcd\n",
            "",
            "refs",
        ] {
            assert_eq!(foreign_target(content.as_bytes()), None, "{content:?}");
        }
        for content in [
            "ref: commondir\n",
            "ref: refs/../config",
            "ref: refs",
            "ref: /etc/x",
            "ref: x/HEAD",
            "ref: ../HEAD",
            "ref: xHEAD",
        ] {
            assert!(foreign_target(content.as_bytes()).is_some(), "{content:?}");
        }
    }
}
