//! Symbolic refs that a command has written in a repository of the user.
//!
//! A command needs to write refs to commit. Git follows a symbolic ref when it updates it, and
//! takes any name in the git directory for its target: `ref: commondir` lets the user's git create
//! that file. So the host reads the refs that a command has changed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FileType;

use super::indexes::{Flawed, read_start};
use super::quarantine::{changed, open_directory, stat};
use super::zones::{entries, open_readable};

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

/// Adds the symbolic refs of a git directory that were written since `since`, and that lead out of
/// `refs` and `HEAD`. Takes about a microsecond for each loose ref.
pub(super) fn flawed_in(git_dir: &Path, since: SystemTime, found: &mut Vec<Flawed>) {
    let mut rest = vec![(git_dir.to_owned(), true)];
    let mut left = MAX_FILES;
    while let Some((path, is_top)) = rest.pop() {
        let Ok(dir) = open_readable(&path) else { continue };
        for (name, kind) in entries(&dir).unwrap_or_default() {
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
                let reason = format!("has more than {MAX_FILES} files beside, so refs are unread");
                return found.extend(at(git_dir, git_dir, HEAD.into(), reason));
            }
            if !stat(&dir, &name).is_ok_and(|stat| changed(&stat) >= since) {
                continue;
            }
            let content = read_start(&dir, &name, MAX_REF_BYTES + 1).unwrap_or_default();
            // Git ignores white space at the end, however much it is.
            let is_too_long = content.len() as u64 > MAX_REF_BYTES;
            let reason = match foreign_target(&content) {
                _ if is_too_long && content.starts_with(SYMBOLIC) => {
                    "is too long for a symbolic ref".to_owned()
                }
                Some(target) => {
                    format!("leads to {target:?}, which is neither HEAD nor a name below refs/")
                }
                None => continue,
            };
            found.extend(at(git_dir, &path, name, reason));
        }
    }
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
    let target = Path::new(std::ffi::OsStr::from_bytes(target));
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
