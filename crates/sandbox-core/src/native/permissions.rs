//! Permissions of the host that deny a command an access, whatever the policy says.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use policy::Access;
use rustix::fs::Access as Permission;
use rustix::io::Errno;

/// Returns whether the mode of another user's file denies an access. A command has the user and the
/// groups of this process, and no capabilities. The owner of a file can change its mode.
pub(super) fn deny(path: &Path, access: Access) -> bool {
    let Ok(file) = path.metadata() else { return false };
    let user = rustix::process::geteuid();
    if file.uid() == user.as_raw() {
        return false;
    }
    let is_write = access == Access::Write;
    if user.is_root() {
        // Root has capabilities, so the kernel would answer for another process.
        let group = rustix::process::getegid().as_raw();
        let bits = if file.gid() == group { file.mode() >> 3 } else { file.mode() };
        return bits & if is_write { 2 } else { 4 } == 0;
    }
    let wanted = if is_write { Permission::WRITE_OK } else { Permission::READ_OK };
    rustix::fs::access(path, wanted) == Err(Errno::ACCESS)
}
