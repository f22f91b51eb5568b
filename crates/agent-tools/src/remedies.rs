//! Remedies of a denied access as options of the command `agent-tools`.

use std::path::Path;

use policy::Remedy;
use skill_store::SKILLS_DIRECTORY;

use crate::host_lists::{HostChange, remove_denied};
use crate::network::{domain_change, domain_option};

/// Renders the option that allows an access, and the setting of a file of settings. Returns `None`
/// if there is no way.
///
/// `shows` tells whether commands see a path. A path that does not exist cannot be opened for
/// writing, so it has to be created before. Commands do not learn whether a path exists that they
/// cannot see.
pub fn remedy_option(remedy: &Remedy, shows: impl Fn(&Path) -> bool) -> Option<String> {
    let option = |name: &str, path: &Path, key: &str| {
        format!("use --{name} {} (filesystem.{key} in settings)", quoted(path))
    };
    match remedy {
        Remedy::AllowRead(path) => Some(option("allow-read", path, "allowRead")),
        Remedy::AllowWrite(path) | Remedy::CreateAndAllowWrite(path) if !shows(path) => {
            Some(format!(
                "use --allow-write {0}, and create {0} before if it does not exist \
                 (filesystem.allowWrite in settings)",
                quoted(path)
            ))
        }
        Remedy::AllowWrite(path) if path.symlink_metadata().is_ok() => {
            Some(option("allow-write", path, "allowWrite"))
        }
        Remedy::AllowWrite(path) | Remedy::CreateAndAllowWrite(path) => Some(format!(
            "create {} and {}",
            quoted(path),
            option("allow-write", path, "allowWrite")
        )),
        Remedy::RemoveDenyWrite(entry) if Path::new(entry).ends_with(SKILLS_DIRECTORY) => {
            Some(format!(
                "leave out --read-only-skills, or remove {entry} from filesystem.denyWrite in \
                 settings"
            ))
        }
        Remedy::RemoveDenyWrite(entry) => {
            Some(format!("remove {entry} from filesystem.denyWrite in settings"))
        }
        Remedy::AllowGitConfig => Some(
            "save the output of `agent-tools policy show` as a file, set \
             filesystem.allowGitConfig to true in it, and use --policy with the file"
                .to_owned(),
        ),
        Remedy::UseNamespaces => Some(NAMESPACES.to_owned()),
        Remedy::UseTemporaryDirectory => Some(remedy.to_string()),
        Remedy::AllowDomain(entry) => domain_option(entry),
        Remedy::RemoveDeniedDomain(entry) => Some(remove_denied(entry)),
        _ => None,
    }
}

/// Renders the change of a file of settings, such as one of the command `sandbox`, that allows an
/// access. Returns `None` if there is no way.
pub fn remedy_setting(remedy: &Remedy) -> Option<String> {
    match remedy {
        Remedy::UseNamespaces => Some(NAMESPACES.to_owned()),
        // No entry of settings opens these.
        Remedy::AllowDomain(entry)
            if !matches!(domain_change(entry), Some(HostChange::Allow(_))) =>
        {
            None
        }
        other => Some(other.to_string()),
    }
}

const NAMESPACES: &str = "use --engine native if the host permits it";

/// Quotes a path for a shell if it needs that.
pub(crate) fn quoted(path: &Path) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(is_plain) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => {
            use std::os::unix::ffi::OsStrExt;
            let bytes = path.as_os_str().as_bytes().iter().map(|byte| match byte {
                b'\\' | b'\'' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                other => format!("\\x{other:02x}"),
            });
            format!("$'{}'", bytes.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[track_caller]
    fn check(remedy: Remedy, expected: Option<&str>) {
        let shows = |path: &Path| !path.starts_with("/root");
        assert_eq!(remedy_option(&remedy, shows).as_deref(), expected);
    }

    #[test]
    fn a_remedy_names_the_option_and_the_setting_once() {
        check(
            Remedy::AllowRead("/etc/shadow".into()),
            Some("use --allow-read /etc/shadow (filesystem.allowRead in settings)"),
        );
        check(
            Remedy::AllowRead("/a b/it's".into()),
            Some(r"use --allow-read '/a b/it'\''s' (filesystem.allowRead in settings)"),
        );
        let bytes = Path::new(OsStr::from_bytes(b"/a/\xff'"));
        check(
            Remedy::AllowRead(bytes.into()),
            Some(r"use --allow-read $'/a/\xff\'' (filesystem.allowRead in settings)"),
        );
        check(
            Remedy::AllowDomain("example.com:443".into()),
            Some("use --allow-host example.com:443 (network.allowedDomains in settings)"),
        );
    }

    #[test]
    fn an_absent_path_is_created_before_it_is_opened_unless_that_tells_what_is_hidden() {
        let write = |path: &str| Remedy::AllowWrite(path.into());
        let create = |path: &str| Remedy::CreateAndAllowWrite(path.into());
        check(write("/usr"), Some("use --allow-write /usr (filesystem.allowWrite in settings)"));
        for remedy in [write("/usr/no/such"), create("/usr/no/such")] {
            check(
                remedy,
                Some(
                    "create /usr/no/such and use --allow-write /usr/no/such \
                     (filesystem.allowWrite in settings)",
                ),
            );
        }
        for remedy in [write("/root/no"), create("/root/no")] {
            check(
                remedy,
                Some(
                    "use --allow-write /root/no, and create /root/no before if it does not exist \
                     (filesystem.allowWrite in settings)",
                ),
            );
        }
    }
}
