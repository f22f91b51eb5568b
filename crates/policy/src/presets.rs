//! Presets of policies, and the builder that changes them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::config::{PathEntry, SandboxRuntimeConfig};
use crate::policy::{Policy, PolicyError};
use crate::rules::PathRule;
use crate::sealed::Sealed;

/// Directories with data of the host and of other users; the preset `session` hides them.
const HOST_DATA: [&str; 19] = [
    "/home",
    "/root",
    "/srv",
    "/mnt",
    "/media",
    "/var",
    "/opt",
    "/tmp",
    "/run",
    "/boot",
    "/lost+found",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
];

/// Paths below `/var` that common programs read.
const VAR_OF_PROGRAMS: [&str; 6] = [
    "/var/cache/fontconfig",
    "/var/cache/ldconfig",
    "/var/lib/dpkg",
    "/var/lib/ghostscript",
    "/var/lib/locales",
    "/var/lib/texmf",
];

/// Paths that programs need in order to run; the preset `closed` shows no others.
const SYSTEM: [&str; 34] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/sbin",
    "/usr",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/java-17-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/perl",
    "/etc/pki",
    "/etc/protocols",
    "/etc/python3.11",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/timezone",
];

/// Builder of a [`Policy`] that starts with a preset. A path of the builder is literal: its
/// characters have no other meaning, and need not be UTF-8.
#[derive(Clone, Debug)]
pub struct PolicyBuilder {
    session_dir: PathBuf,
    home: PathBuf,
    config: SandboxRuntimeConfig,
    sealed: Vec<Sealed>,
    frozen: Vec<PathBuf>,
    names: SessionNames,
}

/// Treatment of protected names in the session directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionNames {
    Free,
    Protected,
}

impl Policy {
    /// Starts with the policy of the reference system. Everything except the home directory is
    /// readable, the session directory is writable, and there is no network. The names in the
    /// session directory are protected.
    pub fn reference(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir).protect_names();
        builder.config.filesystem.deny_read.push("~".into());
        builder
    }

    /// Starts with the default policy: like [`Policy::reference`], but directories with data of
    /// other users are hidden, and so are all other sessions. The session directory belongs to the
    /// agent; see [`PolicyBuilder::protect_names`].
    pub fn session(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        let hidden = [["~"].as_slice(), &HOST_DATA].concat();
        builder.config.filesystem.deny_read.extend(hidden.into_iter().map(PathEntry::from));
        builder.readable_paths().extend(VAR_OF_PROGRAMS.map(PathEntry::from));
        builder
    }

    /// Starts with the closed policy. Only the system's programs and the session directory are
    /// readable.
    pub fn closed(session_dir: &Path) -> PolicyBuilder {
        let mut builder = PolicyBuilder::new(session_dir);
        builder.config.filesystem.deny_read.push("/".into());
        builder.readable_paths().extend(SYSTEM.map(PathEntry::from));
        builder
    }

    /// Starts with settings of the caller. The builder adds the session directory to the readable
    /// and the writable paths.
    pub fn custom(session_dir: &Path, config: SandboxRuntimeConfig) -> PolicyBuilder {
        PolicyBuilder { config, ..PolicyBuilder::new(session_dir) }
    }
}

impl PolicyBuilder {
    fn new(session_dir: &Path) -> Self {
        Self {
            session_dir: session_dir.to_owned(),
            home: PathBuf::from("/root"),
            config: SandboxRuntimeConfig::default(),
            sealed: Vec::new(),
            frozen: Vec::new(),
            names: SessionNames::Free,
        }
    }

    fn readable_paths(&mut self) -> &mut Vec<PathEntry> {
        self.config.filesystem.allow_read.get_or_insert_default()
    }

    /// Sets the home directory that `~` is expanded to; the default is `/root`.
    #[must_use]
    pub fn home(mut self, home: &Path) -> Self {
        self.home = home.to_owned();
        self
    }

    /// Hides the directory of all sessions. The session's own directory stays visible.
    #[must_use]
    pub fn sessions_root(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a directory of the host application.
    #[must_use]
    pub fn application_dir(self, dir: &Path) -> Self {
        self.deny_read(dir)
    }

    /// Hides a path and everything below it whatever the rules say, also from a policy that opens a
    /// path inside it or sets `filesystem.disabled`. If the path is absent, no command creates it.
    #[must_use]
    pub fn seal(mut self, path: &Path) -> Self {
        self.sealed.push(Sealed::new(path));
        self
    }

    /// Like [`Self::seal`], except in the directory `open` inside the path. Its entries are hidden
    /// too, and rules can open them.
    #[must_use]
    pub fn seal_except(mut self, path: &Path, open: &Path) -> Self {
        self.sealed.push(Sealed::except(path, open));
        self
    }

    /// Makes a path read-only whatever the rules say, also for a policy that opens this very path
    /// or sets `filesystem.disabled`. If the path is absent, no command creates it.
    #[must_use]
    pub fn freeze(mut self, path: &Path) -> Self {
        self.frozen.push(path.to_owned());
        self
    }

    /// Hides a path and everything below it.
    #[must_use]
    pub fn deny_read(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_read.push(path.into());
        self
    }

    /// Makes a path inside a hidden one readable.
    #[must_use]
    pub fn allow_read(mut self, path: &Path) -> Self {
        self.readable_paths().push(path.into());
        self
    }

    /// Makes a path readable and writable.
    #[must_use]
    pub fn allow_write(mut self, path: &Path) -> Self {
        self.config.filesystem.allow_write.push(path.into());
        self
    }

    /// Makes a path read-only; this takes precedence over every other rule.
    #[must_use]
    pub fn deny_write(mut self, path: &Path) -> Self {
        self.config.filesystem.deny_write.push(path.into());
        self
    }

    /// Hides what an absolute entry of `filesystem.denyRead` covers, such as those of a pattern.
    #[must_use]
    pub fn deny_read_entry(mut self, entry: PathEntry) -> Self {
        self.config.filesystem.deny_read.push(entry);
        self
    }

    /// Makes read-only what an absolute entry of `filesystem.denyWrite` covers.
    #[must_use]
    pub fn deny_write_entry(mut self, entry: PathEntry) -> Self {
        self.config.filesystem.deny_write.push(entry);
        self
    }

    /// Allows connections to hosts: a pattern `HOST[:PORT]` of `network.allowedDomains`.
    #[must_use]
    pub fn allow_host(mut self, pattern: &str) -> Self {
        self.config.network.allowed_domains.push(pattern.to_owned());
        self
    }

    /// Denies connections to hosts: a pattern of `network.deniedDomains`, which takes precedence
    /// over the allowed ones.
    #[must_use]
    pub fn deny_host(mut self, pattern: &str) -> Self {
        self.config.network.denied_domains.push(pattern.to_owned());
        self
    }

    /// Makes `.git/config` writable, which is read-only by default.
    #[must_use]
    pub fn allow_git_config(mut self) -> Self {
        self.config.filesystem.allow_git_config = Some(true);
        self
    }

    /// Protects the names in the session directory like those in other writable directories: hooks
    /// and configuration of git, start-up files, and settings of editors and agents.
    ///
    /// By default the session directory belongs to the agent, which uses git there freely. Call
    /// this if the host runs git or other programs in the directory, or if it is a user's checkout.
    #[must_use]
    pub fn protect_names(mut self) -> Self {
        self.names = SessionNames::Protected;
        self
    }

    /// Builds the policy. The session directory becomes readable and writable, and repeated paths
    /// are dropped, however they are spelled.
    ///
    /// # Errors
    /// Returns [`PolicyError`] if a path, such as the home directory, is relative or contains a NUL
    /// character, or if srt would reject another value, such as the pattern of a host.
    pub fn build(mut self) -> Result<Policy, PolicyError> {
        // Entries that begin with `~` would be blamed for it.
        PathRule::literal(&self.home).map_err(|source| PolicyError::Rule { source })?;
        let session_dir = PathEntry::from(self.session_dir.as_path());
        self.readable_paths().push(session_dir.clone());
        self.config.filesystem.allow_write.insert(0, session_dir);
        let filesystem = &mut self.config.filesystem;
        for list in [
            &mut filesystem.deny_read,
            filesystem.allow_read.get_or_insert_default(),
            &mut filesystem.allow_write,
        ] {
            let mut seen = HashSet::new();
            // An invalid entry is left to be reported.
            let absolute = |entry: &PathEntry| match PathRule::parse(entry, &self.home) {
                Ok(rule) => rule.to_entry(),
                Err(_) => entry.clone(),
            };
            list.retain(|entry| seen.insert(absolute(entry)));
        }
        let mut policy = Policy::from_config(self.config, &self.home)?;
        (policy.sealed, policy.frozen) = (self.sealed, self.frozen);
        let own = (self.names == SessionNames::Free).then_some(self.session_dir);
        Ok(policy.with_own_directory(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Access;

    #[test]
    fn presets_make_only_the_session_directory_writable() {
        for builder in [Policy::reference, Policy::session, Policy::closed] {
            let policy = builder(Path::new("/s/1")).home(Path::new("/home/ann")).build().unwrap();
            assert_eq!(policy.config().filesystem.allow_write, ["/s/1"]);
            assert!(
                policy
                    .config()
                    .filesystem
                    .allow_read
                    .as_ref()
                    .unwrap()
                    .contains(&Path::new("/s/1").into())
            );
            assert!(policy.config().network.allowed_domains.is_empty());
        }
    }

    #[test]
    fn custom_settings_get_the_session_directory_and_hidden_paths() {
        let mut config = SandboxRuntimeConfig::default();
        config.filesystem.allow_write.push("/data".into());
        let builder = Policy::custom(Path::new("/h/s/1"), config);
        let policy = builder.application_dir(Path::new("/h")).build().unwrap();
        let readable = |path: &str| policy.explain(Path::new(path), Access::Read).allowed;
        let writable = |path: &str| policy.explain(Path::new(path), Access::Write).allowed;
        assert!(writable("/h/s/1/f") && writable("/data/f"));
        assert!(readable("/h/s/1/f") && !readable("/h/s/2/f"));
    }

    #[test]
    fn a_path_that_is_not_utf8_is_denied() {
        use std::os::unix::ffi::OsStrExt;
        let dir = Path::new(std::ffi::OsStr::from_bytes(b"/a\xff"));
        let builder = Policy::reference(Path::new("/s")).home(Path::new("/h")).allow_write(dir);
        let policy = builder.deny_read(dir).deny_write(dir).build().unwrap();
        assert!(!policy.explain(&dir.join("f"), Access::Write).allowed);
        assert!(!policy.has_exact_json());
        let policy = Policy::reference(Path::new("/s")).home(dir).build().unwrap();
        assert!(!policy.explain(&dir.join(".ssh"), Access::Read).allowed);
    }

    #[test]
    fn the_paths_of_a_builder_are_literal() {
        let session = Path::new("/h/s/[1]");
        let builder = Policy::session(session)
            .home(Path::new("/h/[x]"))
            .sessions_root(Path::new("/h/*"))
            .allow_read(Path::new("/srv/data[1]"))
            .allow_write(Path::new("/srv/~/a?"));
        let policy = builder.build().unwrap();
        let allows = |path: &str, access| policy.explain(Path::new(path), access).allowed;
        assert!(allows("/h/s/[1]/f", Access::Write) && !allows("/h/s/1/f", Access::Write));
        assert!(!allows("/h/[x]/.ssh", Access::Read) && allows("/h/y", Access::Read));
        assert!(!allows("/h/*/f", Access::Read));
        assert!(allows("/srv/data[1]/f", Access::Read) && !allows("/srv/data1/f", Access::Read));
        assert!(allows("/srv/~/a?", Access::Write) && !allows("/srv/~/ab", Access::Write));
        assert!(policy.has_exact_json());
        let json = policy.absolute_config().to_json();
        let again = Policy::from_config(SandboxRuntimeConfig::from_json(&json).unwrap(), session);
        assert_eq!(again.unwrap().allow_write, policy.allow_write);
    }

    #[test]
    fn a_sealed_path_stays_hidden_under_every_rule() {
        let mut disabled = SandboxRuntimeConfig::default();
        disabled.filesystem.disabled = Some(true);
        let session = Path::new("/h/s/1");
        for builder in [
            Policy::session(session).allow_read(Path::new("/h")),
            Policy::session(session).allow_write(Path::new("/h")).deny_read(Path::new("/h")),
            Policy::closed(session).allow_read(Path::new("/h/state/1")),
            Policy::custom(session, disabled),
        ] {
            let policy = builder.seal(Path::new("/h/state")).build().unwrap();
            for access in [Access::Read, Access::Write] {
                let verdict = policy.explain(Path::new("/h/state/1/token"), access);
                assert!(!verdict.allowed && verdict.remedy.is_none(), "{verdict:?}");
                assert!(policy.explain(Path::new("/h/s/1/f"), access).allowed);
            }
            let config = policy.absolute_config().filesystem;
            assert!(config.deny_read.contains(&Path::new("/h/state").into()));
            assert!(
                !config.allow_read.unwrap_or_default().contains(&Path::new("/h/state/1").into())
            );
        }
    }

    #[test]
    fn a_path_is_there_once_however_it_is_spelled() {
        let builder = Policy::session(Path::new("/s/1")).home(Path::new("/root"));
        let builder = builder.deny_read(Path::new("/etc/shadow")).allow_write(Path::new("/s/./1"));
        let policy = builder.deny_read(Path::new("/root/")).build().unwrap();
        let count = |rules: &[PathRule], path: &str| {
            rules.iter().filter(|rule| **rule == PathRule::Path(path.into())).count()
        };
        assert_eq!(count(&policy.deny_read, "/etc/shadow"), 1);
        assert_eq!(count(&policy.deny_read, "/root"), 1);
        assert_eq!(policy.config().filesystem.allow_write, ["/s/1"]);
    }

    #[test]
    fn a_relative_home_directory_is_rejected_by_name() {
        let error = Policy::session(Path::new("/s")).home(Path::new("rel")).build().unwrap_err();
        assert!(error.to_string().contains("\"rel\" is relative"), "{error}");
    }

    #[test]
    fn a_relative_path_is_rejected_by_name() {
        let error = Policy::session(Path::new("s/1")).build().unwrap_err();
        assert!(error.to_string().contains("\"s/1\" is relative"), "{error}");
    }

    #[test]
    fn a_tilde_is_expanded_to_the_home_directory() {
        let policy =
            Policy::reference(Path::new("/s")).home(Path::new("/home/ann")).build().unwrap();
        assert_eq!(policy.deny_read, [PathRule::Path("/home/ann".into())]);
        assert_eq!(policy.config().filesystem.deny_read, ["~"]);
        assert_eq!(policy.absolute_config().filesystem.deny_read, ["/home/ann"]);
    }
}
