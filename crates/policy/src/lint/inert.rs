//! Entries that have no effect because of another setting.

use super::{Lint, LintCode};
use crate::config::NetworkConfig;
use crate::host_list::HostPattern;
use crate::policy::Policy;
use crate::rules::{Ancestry, PathRule};
use crate::setting_path::{SettingPath, shortened};

/// Returns the entries of `filesystem` that another setting keeps from having an effect.
pub(super) fn filesystem(policy: &Policy) -> Vec<Lint> {
    let root = SettingPath::from("filesystem");
    if policy.has_no_file_rules() {
        let lists = [("denyRead", &policy.deny_read), ("denyWrite", &policy.deny_write)];
        let filled = lists.into_iter().filter(|(_, list)| !list.is_empty());
        return filled
            .map(|(name, _)| {
                Lint::new(
                    LintCode::Inert,
                    root.key(name),
                    "has no effect: filesystem.disabled lifts every rule for files",
                    "leave out filesystem.disabled, or empty the list",
                )
            })
            .collect();
    }
    let mut lints = Vec::new();
    for (at, rule) in policy.deny_read.iter().enumerate() {
        let opening = [("allowWrite", &policy.allow_write), ("allowRead", &policy.allow_read)];
        if let Some((list, _)) = opening.into_iter().find(|(_, list)| list.contains(rule)) {
            lints.push(Lint::new(
                LintCode::Inert,
                root.key("denyRead").index(at),
                format!("hides nothing: {list} has the same path, and takes precedence"),
                format!("remove the entry here or in {list}"),
            ));
        }
    }
    for (at, rule) in policy.allow_write.iter().enumerate() {
        if let Some(above) = policy.deny_write.iter().find(|denied| covers(denied, rule)) {
            let above = shortened(&above.to_string());
            lints.push(Lint::new(
                LintCode::Inert,
                root.key("allowWrite").index(at),
                format!("makes nothing writable: denyWrite has {above}, and takes precedence"),
                "remove the entry here or in denyWrite",
            ));
        }
    }
    lints
}

/// Returns whether a rule denies all that another one opens.
fn covers(denied: &PathRule, opened: &PathRule) -> bool {
    denied == opened
        || match opened {
            PathRule::Path(path) => denied.root_covering(&Ancestry::new(path)).is_some(),
            PathRule::Glob(pattern) => match denied {
                PathRule::Path(path) => pattern.base().starts_with(path),
                PathRule::Glob(_) => false,
            },
        }
}

/// Returns the entries of `network` that another setting keeps from having an effect.
pub(super) fn network(network: &NetworkConfig) -> Vec<Lint> {
    let root = SettingPath::from("network");
    let denied = patterns(&network.denied_domains);
    let mut lints = Vec::new();
    for (name, list) in
        [("allowedDomains", &network.allowed_domains), ("deniedDomains", &network.denied_domains)]
    {
        let patterns = patterns(list);
        for (at, pattern) in patterns.iter().enumerate() {
            let Some(pattern) = pattern else { continue };
            // Of other spellings, srt may know only one.
            let is_same = |other: &String| other.eq_ignore_ascii_case(&list[at]);
            let path = root.key(name).index(at);
            let denying = denied.iter().position(|denied| {
                denied.as_ref().is_some_and(|denied| is_covered(pattern, denied))
            });
            if let Some(earlier) = list[..at].iter().position(is_same) {
                lints.push(Lint::new(
                    LintCode::Inert,
                    path,
                    format!("repeats {}", root.key(name).index(earlier)),
                    "remove one of them",
                ));
            } else if let Some(denying) = denying.filter(|_| name == "allowedDomains") {
                let entry = shortened(&network.denied_domains[denying]);
                lints.push(Lint::new(
                    LintCode::Inert,
                    path,
                    format!("allows no host: deniedDomains has {entry:?}, and takes precedence"),
                    "remove the entry here or in deniedDomains",
                ));
            }
        }
    }
    lints
}

/// The hosts of an entry, and its port.
type Hosts = (HostPattern, Option<u16>);

fn patterns(entries: &[String]) -> Vec<Option<Hosts>> {
    entries.iter().map(|entry| HostPattern::parse(entry)).collect()
}

/// Returns whether an entry covers every host and port of another one.
fn is_covered((hosts, port): &Hosts, (above, above_port): &Hosts) -> bool {
    let is_below =
        |name: &str, base: &str| name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'));
    let covers_hosts = match (above, hosts) {
        (HostPattern::Any, _) => true,
        (HostPattern::Below(base), HostPattern::Host(host)) => {
            host.as_name().is_some_and(|name| is_below(name, base))
        }
        (HostPattern::Below(base), HostPattern::Below(name)) => {
            name == base || is_below(name, base)
        }
        (above, hosts) => above == hosts,
    };
    covers_hosts && above_port.is_none_or(|above| *port == Some(above))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::SandboxRuntimeConfig;

    #[track_caller]
    fn check(change: impl FnOnce(&mut SandboxRuntimeConfig), expected: &[&str]) {
        let mut config = SandboxRuntimeConfig::default();
        change(&mut config);
        let mut lints = Policy::from_config(config, Path::new("/root")).unwrap().lint();
        lints.retain(|lint| lint.code == LintCode::Inert);
        let found: Vec<String> =
            lints.iter().map(|lint| format!("{}: {}", lint.path, lint.problem)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn deny_lists_beside_disabled_are_reported() {
        let disabled = "has no effect: filesystem.disabled lifts every rule for files";
        check(
            |config| {
                config.filesystem.disabled = Some(true);
                config.filesystem.deny_read = vec!["/srv".into()];
                config.filesystem.deny_write = vec!["/srv".into()];
                config.filesystem.allow_write = vec!["/srv".into()];
            },
            &[
                &format!("filesystem.denyRead: {disabled}"),
                &format!("filesystem.denyWrite: {disabled}"),
            ],
        );
        check(|config| config.filesystem.disabled = Some(true), &[]);
    }

    #[test]
    fn entries_for_files_that_another_list_overrides_are_reported() {
        check(
            |config| {
                let files = &mut config.filesystem;
                files.deny_read =
                    vec!["/srv/".into(), "/w".into(), "/a/*".into(), "/srv/inner".into()];
                files.allow_read = Some(vec!["/srv".into(), "/a/*".into()]);
                files.allow_write =
                    vec!["/w".into(), "/ro/x".into(), "/ro/*/y".into(), "/open".into()];
                files.deny_write = vec!["/ro".into(), "/w".into(), "/open/inner".into()];
            },
            &[
                "filesystem.denyRead[0]: hides nothing: allowRead has the same path, and takes \
                 precedence",
                "filesystem.denyRead[1]: hides nothing: allowWrite has the same path, and takes \
                 precedence",
                "filesystem.denyRead[2]: hides nothing: allowRead has the same path, and takes \
                 precedence",
                "filesystem.allowWrite[0]: makes nothing writable: denyWrite has /w, and takes \
                 precedence",
                "filesystem.allowWrite[1]: makes nothing writable: denyWrite has /ro, and takes \
                 precedence",
                "filesystem.allowWrite[2]: makes nothing writable: denyWrite has /ro, and takes \
                 precedence",
            ],
        );
    }

    #[test]
    fn domains_that_are_denied_or_repeated_are_reported() {
        let check = |allowed: &[&str], denied: &[&str], expected: &[&str]| {
            check(
                |config| {
                    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
                    config.network.allowed_domains = owned(allowed);
                    config.network.denied_domains = owned(denied);
                },
                expected,
            );
        };
        let denies = |at: usize, entry: &str| {
            format!(
                "network.allowedDomains[{at}]: allows no host: deniedDomains has {entry:?}, and \
                 takes precedence"
            )
        };
        check(&["a.com"], &["*"], &[&denies(0, "*")]);
        check(&["a.com:443", "b.com"], &["A.com"], &[&denies(0, "A.com")]);
        check(
            &["x.a.com", "*.b.a.com", "a.com", "*.a.com:1"],
            &["*.a.com"],
            &[&denies(0, "*.a.com"), &denies(1, "*.a.com"), &denies(3, "*.a.com")],
        );
        check(&["a.com", "a.com:80", "10.0.0.1"], &["a.com:443", "*.0.1"], &[]);
        check(
            &["a.com", "A.com", "a.com:1"],
            &[],
            &["network.allowedDomains[1]: repeats network.allowedDomains[0]"],
        );
    }
}
