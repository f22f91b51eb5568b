//! Protection of the host application from its sessions.

use std::path::PathBuf;

use super::builder::SessionsBuilder;

impl SessionsBuilder {
    /// Hides a directory of the host application from every session. The home is hidden too.
    ///
    /// A session's own settings can open such a directory: with its path in `allowRead` or
    /// `allowWrite`, or with `filesystem.disabled`.
    #[must_use]
    pub fn application_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.application_dirs.push(dir.into());
        self
    }

    /// Hides a file of the host application from every session whatever its policy says, such as
    /// one with a passphrase. If the file is absent, no command creates it.
    #[must_use]
    pub fn seal(mut self, file: impl Into<PathBuf>) -> Self {
        self.sealed.push(file.into());
        self
    }

    /// Keeps a file of the host application from being written whatever the policy of a session
    /// says, such as one with settings. If the file is absent, no command creates it.
    #[must_use]
    pub fn freeze(mut self, file: impl Into<PathBuf>) -> Self {
        self.frozen.push(file.into());
        self
    }

    /// Protects the names in session directories that other programs execute, such as git hooks.
    ///
    /// Call this if the host runs git or other programs in session directories. See
    /// [`PolicyBuilder::protect_names`](policy::PolicyBuilder::protect_names).
    #[must_use]
    pub fn protect_names(mut self) -> Self {
        self.protect_names = true;
        self
    }
}
