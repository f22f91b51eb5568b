//! Mark of a session directory, so that one that was deleted and created again is not taken for one
//! that an agent has emptied.

use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::state::Ledger;

/// Extended attribute of the directory (`xattr(7)`). Its value is the id of the home.
const NAME: &str = "user.agent-tools.home";
/// Longest value that is read.
const MAX_BYTES: usize = 64;

/// Returns whether the directory is not the one that was marked.
pub(in crate::mirror) fn is_recreated(dir: &Path, ledger: &Ledger) -> bool {
    ledger.is_marked() && !has_mark(dir, ledger.home())
}

/// Marks the directory. A file system without such attributes is no error.
pub(super) fn mark(dir: &Path, ledger: &mut Ledger) {
    let home = ledger.home().to_owned();
    if has_mark(dir, &home) && ledger.is_marked() {
        return;
    }
    match lsetxattr(dir, NAME, home.as_bytes(), XattrFlags::empty()) {
        Ok(()) => ledger.set_marked(),
        Err(error) => tracing::debug!(%error, "the session directory cannot be marked"),
    }
}

fn has_mark(dir: &Path, home: &str) -> bool {
    let mut value = [0; MAX_BYTES];
    lgetxattr(dir, NAME, &mut value).is_ok_and(|len| value.get(..len) == Some(home.as_bytes()))
}
