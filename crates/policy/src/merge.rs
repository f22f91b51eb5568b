//! Settings of one command, combined with those of a session like in srt's `wrapWithSandbox`.

use crate::config::{
    CredentialsConfig, FilesystemConfig, NetworkConfig, PathEntry, SandboxRuntimeConfig,
};

/// Settings that replace a part of others. A `None` leaves the setting unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Replaces `filesystem.denyRead`.
    pub deny_read: Option<Vec<PathEntry>>,
    /// Replaces `filesystem.allowRead`.
    pub allow_read: Option<Vec<PathEntry>>,
    /// Replaces `filesystem.allowWrite`.
    pub allow_write: Option<Vec<PathEntry>>,
    /// Replaces `filesystem.denyWrite`.
    pub deny_write: Option<Vec<PathEntry>>,
    /// Replaces `network.allowedDomains`. srt itself does not enforce this for one command.
    pub allowed_domains: Option<Vec<String>>,
    /// Replaces `network.deniedDomains`.
    pub denied_domains: Option<Vec<String>>,
    /// Replaces the whole section `credentials`.
    pub credentials: Option<CredentialsConfig>,
    /// Added to `git.safeDirectories`.
    pub safe_directories: Vec<String>,
}

impl NetworkConfig {
    /// Replaces the lists of hosts and addresses by those of other settings: the keys that can
    /// change while a command runs. They are `allowedDomains`, `deniedDomains` with the reasons,
    /// `strictAllowlist`, `deniedResolvedAddresses`, and `tlsTerminate.excludeDomains` if both have
    /// the section.
    pub fn take_lists(&mut self, other: &Self) {
        self.allowed_domains.clone_from(&other.allowed_domains);
        self.denied_domains.clone_from(&other.denied_domains);
        self.denied_domain_reasons.clone_from(&other.denied_domain_reasons);
        self.strict_allowlist = other.strict_allowlist;
        self.denied_resolved_addresses.clone_from(&other.denied_resolved_addresses);
        if let (Some(own), Some(other)) = (&mut self.tls_terminate, &other.tls_terminate) {
            own.exclude_domains.clone_from(&other.exclude_domains);
        }
    }
}

impl SandboxRuntimeConfig {
    /// Returns these settings with the parts of `over` in place of their own. The entries of
    /// `git.safeDirectories` are added.
    #[must_use]
    pub fn merge(&self, over: &Override) -> Self {
        let mut merged = self.clone();
        let FilesystemConfig { deny_read, allow_read, allow_write, deny_write, .. } =
            &mut merged.filesystem;
        for (list, given) in [
            (deny_read, &over.deny_read),
            (allow_write, &over.allow_write),
            (deny_write, &over.deny_write),
        ] {
            if let Some(given) = given {
                list.clone_from(given);
            }
        }
        for (list, given) in [
            (&mut merged.network.allowed_domains, &over.allowed_domains),
            (&mut merged.network.denied_domains, &over.denied_domains),
        ] {
            if let Some(given) = given {
                list.clone_from(given);
            }
        }
        if over.allow_read.is_some() {
            allow_read.clone_from(&over.allow_read);
        }
        if over.credentials.is_some() {
            merged.credentials.clone_from(&over.credentials);
        }
        if !over.safe_directories.is_empty() {
            let directories = &mut merged.git.get_or_insert_default().safe_directories;
            let new = over
                .safe_directories
                .iter()
                .filter(|new| !directories.contains(new))
                .cloned()
                .collect::<Vec<_>>();
            directories.extend(new);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_replaces_the_list_and_an_absent_one_changes_nothing() {
        let mut base = SandboxRuntimeConfig::default();
        base.filesystem.deny_read = vec!["/a".into()];
        base.filesystem.allow_write = vec!["/w".into()];
        let over = Override {
            deny_read: Some(vec![]),
            safe_directories: vec!["/g".into()],
            ..Override::default()
        };
        let merged = base.merge(&over);
        assert_eq!(merged.filesystem.deny_read, Vec::<PathEntry>::new());
        assert_eq!(merged.filesystem.allow_write, ["/w"]);
        assert_eq!(merged.git.unwrap().safe_directories, ["/g"]);
    }
}
