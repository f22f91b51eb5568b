//! Remedies of a denied access as options of the command `agent-tools`.

use std::path::Path;

use policy::Remedy;
use skill_store::SKILLS_DIRECTORY;

/// Renders the option that allows an access, and the setting of a file of settings. Returns `None`
/// if there is no way.
///
/// `shows` tells whether commands see a path. A path that does not exist cannot be opened for
/// writing, so the nearest directory is named instead. Commands do not learn whether a path exists
/// that they cannot see.
pub fn remedy_option(remedy: &Remedy, shows: impl Fn(&Path) -> bool) -> Option<String> {
    let option = |name: &str, path: &Path, key: &str| {
        format!("use --{name} {} (filesystem.{key} in settings)", quoted(path))
    };
    match remedy {
        Remedy::AllowRead(path) => Some(option("allow-read", path, "allowRead")),
        Remedy::AllowWrite(path) if !shows(path) => Some(format!(
            "use --allow-write {} or, if it does not exist, a directory above it \
             (filesystem.allowWrite in settings)",
            quoted(path)
        )),
        Remedy::AllowWrite(path) => {
            let exists = |at: &&Path| at.symlink_metadata().is_ok();
            let existing = path.ancestors().find(exists).filter(|at| at.parent().is_some())?;
            Some(option("allow-write", existing, "allowWrite"))
        }
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
        Remedy::AllowDomain(host) => Some(format!(
            "use --allow-host {} (network.allowedDomains in settings)",
            quoted(Path::new(host))
        )),
        Remedy::RemoveDeniedDomain(host) => Some(format!(
            "leave out the --deny-host that covers {host}, or remove the entry from \
             network.deniedDomains in settings"
        )),
        _ => None,
    }
}

/// Renders the change of a file of settings, such as one of the command `sandbox`, that allows an
/// access. Returns `None` if there is no way.
pub fn remedy_setting(remedy: &Remedy) -> Option<String> {
    match remedy {
        Remedy::UseNamespaces => Some(NAMESPACES.to_owned()),
        other => Some(other.to_string()),
    }
}

const NAMESPACES: &str = "use --engine native if the host permits it";

/// Quotes a path for a shell if it needs that.
fn quoted(path: &Path) -> String {
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
    fn an_absent_path_is_opened_by_its_directory_unless_that_tells_what_is_hidden() {
        let write = |path: &str| Remedy::AllowWrite(path.into());
        let usr = Some("use --allow-write /usr (filesystem.allowWrite in settings)");
        check(write("/usr/no/such"), usr);
        check(write("/usr"), usr);
        check(write("/no-such"), None);
        check(
            write("/root/no/such"),
            Some(
                "use --allow-write /root/no/such or, if it does not exist, a directory above it \
                 (filesystem.allowWrite in settings)",
            ),
        );
    }
}
