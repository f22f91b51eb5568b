//! Directories that sandboxed commands see like the host does.

use std::path::PathBuf;

use tempfile::TempDir;

/// Environment variable that names a directory for trees in the host's view.
pub const BASE: &str = "SANDBOX_CORE_TEST_BASE";

/// Remedy if [`directory_in_sight`] finds no directory.
pub const NO_DIRECTORY_IN_SIGHT: &str = "a build directory or a home outside /tmp";

/// Creates a directory outside `/tmp` and `/var/tmp`, which the engine replaces: in the build
/// directory `build`, the home or `/var/lib`. Returns `None` if this user has no such directory.
pub fn directory_in_sight(build: &str) -> Option<TempDir> {
    let named = std::env::var_os(BASE).map(PathBuf::from);
    let usual = [build.into(), std::env::home_dir().unwrap_or_default(), "/var/lib".into()];
    let parents = named.into_iter().chain(usual).filter_map(|parent| parent.canonicalize().ok());
    let mut in_sight =
        parents.filter(|parent| !parent.starts_with("/tmp") && !parent.starts_with("/var/tmp"));
    in_sight.find_map(|parent| tempfile::tempdir_in(parent).ok())
}
