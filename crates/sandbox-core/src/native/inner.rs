//! Removal of new paths that the policy hides or protects in a writable directory, for the Landlock
//! tier.
//!
//! That tier cannot close a part of a writable directory. So a sandbox does not open if the policy
//! has such a part, unless its caller accepts that. A command must not make one, or the sandbox
//! would not open again. Init denies it early, with the weakness that `denied_paths` describes, and
//! a command can move a directory with such a name in it. So the host compiles the policy after
//! each command, and quarantines what is new.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use policy::{Access, LaterFiles, MountPlan, Policy};

use super::changes::{changed, open_directory, stat};
use super::quarantine::clear;
use super::tree::{SessionDirectories, compile, is_too_deep};
use crate::files::{by_descriptor, with_access};
use crate::internal::lock;
use crate::sandbox::{QuarantineOutcome, Quarantined};

/// Maximum number of times that the policy is compiled. Closed directories can nest, and each round
/// opens one more.
const MAX_ROUNDS: usize = 512;
/// Name of the git directory in a work tree.
const GIT: &str = ".git";

/// Paths in writable directories that the policy hides or protects, of a sandbox that opened
/// without any.
#[derive(Debug, Default)]
pub(super) struct InnerPaths {
    /// Paths that the host has created since.
    of_host: Mutex<BTreeSet<PathBuf>>,
}

impl InnerPaths {
    /// Quarantines the paths that commands have created or moved there since `since`. Returns an
    /// outcome without a move if one of them is still there.
    pub(super) fn quarantine(&self, policy: &Policy, since: SystemTime) -> Vec<Quarantined> {
        let mut of_host = lock(&self.of_host);
        let mut quarantined = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let Ok(plan) = compile(policy, SessionDirectories::default(), LaterFiles::Denied)
            else {
                break;
            };
            let mut found = plan.inner_restrictions();
            found.retain(|path| is_rule(&plan, path) && !of_host.contains(path));
            let (new, old): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|path| has_changed(&plan, path, since));
            of_host.extend(old);
            if new.is_empty() {
                return quarantined;
            }
            // A closed directory may contain nothing that the policy names.
            let closed = new.iter().filter(|path| plan.unsearched.contains(*path));
            if closed.filter(|path| open_to_owner(path)).count() > 0 {
                continue;
            }
            let entries: BTreeSet<&Path> = new.iter().map(|path| entry(path)).collect();
            let before = quarantined.len();
            quarantined.extend(entries.iter().filter_map(|path| {
                let dir = open_directory(path.parent()?).ok()?;
                clear(&dir, path.parent()?, path.file_name()?)
            }));
            if quarantined.len() == before {
                break;
            }
        }
        // The next opening would name it as a weakness that is not accepted.
        let outcome = QuarantineOutcome::Unknown;
        let path = PathBuf::from("/");
        quarantined.push(Quarantined { path, moved_to: None, outcome, reason: None });
        quarantined
    }
}

/// Returns whether a path, or a directory around it that a command could have moved, has changed.
fn has_changed(plan: &MountPlan, path: &Path, since: SystemTime) -> bool {
    let entries = path
        .ancestors()
        .take_while(|entry| entry.parent().is_some_and(|dir| plan.allows(dir, Access::Write)));
    // The parent of a protected name is writable, and the name itself may be read-only.
    entries.chain([path]).any(|entry| {
        let (Some(dir), Some(name)) = (entry.parent(), entry.file_name()) else { return false };
        let stat = open_directory(dir).and_then(|dir| with_access(&dir, || stat(&dir, name)));
        stat.is_ok_and(|stat| changed(&stat) >= since)
    })
}

/// Returns whether a rule names a hidden or protected path. None names a directory that is covered
/// because it is too deep to be listed.
pub(super) fn is_rule(plan: &MountPlan, path: &Path) -> bool {
    !(plan.unsearched.contains(path) && is_too_deep(path))
}

/// Returns the entry by which a path is quarantined: a repository as a whole.
fn entry(path: &Path) -> &Path {
    path.ancestors().filter(|above| above.ends_with(GIT)).last().unwrap_or(path)
}

/// Gives the owner of a directory the access that the mode denies. Returns whether it did.
fn open_to_owner(path: &Path) -> bool {
    const OWNER: u32 = 0o700;
    let Ok(dir) = open_directory(path) else { return false };
    let Ok(stat) = rustix::fs::fstat(&dir) else { return false };
    let mode = stat.st_mode & 0o7777;
    mode & OWNER != OWNER
        && std::fs::set_permissions(by_descriptor(&dir), Permissions::from_mode(mode | OWNER))
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_quarantined_as_a_whole() {
        for (path, expected) in [
            ("/w/d/.vscode", "/w/d/.vscode"),
            ("/w/.git/modules/m/.git/hooks", "/w/.git"),
            ("/w/bare/hooks", "/w/bare/hooks"),
        ] {
            assert_eq!(entry(Path::new(path)), Path::new(expected));
        }
    }
}
