//! The settings of Claude Code: `sandbox`, and the rules of `permissions` that its sandbox uses
//! (<https://code.claude.com/docs/en/sandboxing>).

use std::path::Path;

use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Draft, Imported, each_text, entry, object};
use crate::setting_path::SettingPath;

/// Keys of `sandbox` with the same meaning in srt.
const SAME: [&str; 7] = [
    "enableWeakerNestedSandbox",
    "enableWeakerNetworkIsolation",
    "allowAppleEvents",
    "ignoreViolations",
    "ripgrep",
    "bwrapPath",
    "socatPath",
];

/// Other keys that decide what commands find or what runs beside them.
const OTHER: [(&str, &str); 2] = [
    ("env", "settings of srt have no environment"),
    ("hooks", "no program runs before or after a command"),
];

/// Converts a `settings.json` of Claude Code. Commands may write to `project`, in which relative
/// paths begin.
///
/// The sections besides `sandbox`, `permissions`, `env` and `hooks` have nothing to do with
/// commands, and are not named as losses.
///
/// # Errors
/// Returns the error of the deserializer if the text cannot be read or is no object.
pub fn claude_code<'de, D: Deserializer<'de>>(
    settings: D,
    project: &Path,
) -> Result<Imported, D::Error> {
    let settings = Value::deserialize(settings)?;
    if !settings.is_object() {
        return Err(D::Error::custom("the settings of Claude Code are an object"));
    }
    let mut draft = Draft::new();
    let root = SettingPath::root();
    draft.add("filesystem", "allowWrite", entry(".", project), root.key("sandbox"));
    let origin = root.key("sandbox");
    for (key, value) in object(&mut draft, settings.get("sandbox"), &origin) {
        let origin = origin.key(key);
        match key.as_str() {
            "enabled" if value == &Value::Bool(true) => {}
            "enabled" if value == &Value::Bool(false) => {
                draft.lose(origin, "the sandbox is off there; here it is always on");
            }
            "enabled" => draft.lose(origin, "is neither true nor false; the sandbox is always on"),
            "filesystem" => filesystem(&mut draft, value, &origin, project),
            "network" => network(&mut draft, value, &origin),
            "credentials" => draft.set("", key, value.clone(), origin),
            _ if SAME.contains(&&**key) => draft.set("", key, value.clone(), origin),
            "excludedCommands" => {
                draft.lose(origin, "no command runs outside the sandbox");
            }
            "allowUnsandboxedCommands" if value == &Value::Bool(false) => {}
            "allowUnsandboxedCommands" => {
                draft.lose(origin, "no command runs outside the sandbox");
            }
            "failIfUnavailable" if value == &Value::Bool(true) => {}
            "failIfUnavailable" => {
                draft.lose(origin, "nothing runs if the sandbox is not available");
            }
            "autoAllowBashIfSandboxed" => draft.lose(origin, "no user is asked about commands"),
            _ => draft.lose(origin, "has no equivalent"),
        }
    }
    let origin = root.key("permissions");
    for (key, value) in object(&mut draft, settings.get("permissions"), &origin) {
        let origin = origin.key(key);
        match key.as_str() {
            "allow" | "deny" => each_text(&mut draft, value, &origin, |draft, rule, origin| {
                permission(draft, key, rule, origin, project);
            }),
            "additionalDirectories" => {
                each_text(&mut draft, value, &origin, |draft, dir, origin| {
                    add_path(draft, "allowWrite", dir, origin, |dir| absolute(dir, project));
                });
            }
            _ => draft.lose(origin, "has no equivalent; no user is asked"),
        }
    }
    for (key, problem) in OTHER {
        if settings.get(key).is_some() {
            draft.lose(root.key(key), problem);
        }
    }
    Ok(draft.finish())
}

/// Adds an entry for a path. Neither the other program nor this one expands a variable in it.
fn add_path(
    draft: &mut Draft,
    key: &str,
    path: &str,
    origin: SettingPath,
    read: impl FnOnce(&str) -> Value,
) {
    if path.contains('\0') {
        return draft.lose(origin, "no path has a NUL character");
    }
    if path.trim_start_matches('/').starts_with('$') {
        let problem = "the variable is read as a name; write ~ for the home directory";
        draft.lose(origin.clone(), problem);
    }
    draft.add("filesystem", key, read(path), origin);
}

fn filesystem(draft: &mut Draft, value: &Value, origin: &SettingPath, project: &Path) {
    for (key, value) in object(draft, Some(value), origin) {
        let origin = origin.key(key);
        match key.as_str() {
            "allowWrite" | "denyWrite" | "denyRead" | "allowRead" => {
                each_text(draft, value, &origin, |draft, path, origin| {
                    add_path(draft, key, path, origin, |path| absolute(path, project));
                });
            }
            "disabled" | "allowGitConfig" => draft.set("filesystem", key, value.clone(), origin),
            _ => draft.lose(origin, "has no equivalent"),
        }
    }
}

fn network(draft: &mut Draft, value: &Value, origin: &SettingPath) {
    for (key, value) in object(draft, Some(value), origin) {
        let origin = origin.key(key);
        match key.as_str() {
            "allowedDomains" | "deniedDomains" => {
                each_text(draft, value, &origin, |draft, domain, origin| {
                    draft.add("network", key, domain, origin);
                });
            }
            "allowManagedDomainsOnly" if value == &Value::Bool(true) => {
                draft.set("network", "strictAllowlist", true.into(), origin.clone());
                draft.lose(origin, "the lists of all files count; keep the managed one only");
            }
            "allowManagedDomainsOnly" => {}
            "httpProxyPort" | "socksProxyPort" => {
                draft.lose(origin, "the engine has a proxy of its own; use network.parentProxy");
            }
            // The others have the names and meanings of srt.
            _ => draft.set("network", key, value.clone(), origin),
        }
    }
}

/// Converts a rule such as `Read(~/.ssh/**)` of `permissions.allow` or `permissions.deny`.
fn permission(draft: &mut Draft, list: &str, rule: &str, origin: SettingPath, project: &Path) {
    let (tool, argument) = match rule.strip_suffix(')').and_then(|rule| rule.split_once('(')) {
        Some((tool, argument)) => (tool, Some(argument)),
        None => (rule, None),
    };
    let Some(argument) = argument else {
        if ["Read", "Edit", "Write", "WebFetch"].contains(&tool) {
            return draft.lose(origin, "is about all paths or hosts; name them one by one");
        }
        return draft.lose(origin, format!("the tool {tool} is not known to the sandbox"));
    };
    match (list, tool) {
        ("allow", "Edit" | "Write") => {
            add_path(draft, "allowWrite", argument, origin, |path| of_rule(path, project));
        }
        ("deny", "Edit" | "Write") => {
            add_path(draft, "denyWrite", argument, origin, |path| of_rule(path, project));
        }
        ("deny", "Read") => {
            add_path(draft, "denyRead", argument, origin, |path| of_rule(path, project));
        }
        ("allow", "Read") => draft.lose(origin, "all is readable that denyRead does not hide"),
        (_, "WebFetch") => match argument.strip_prefix("domain:") {
            Some(domain) if list == "allow" => {
                draft.add("network", "allowedDomains", domain, origin);
            }
            Some(domain) => draft.add("network", "deniedDomains", domain, origin),
            None => draft.lose(origin, "names no domain"),
        },
        _ => draft.lose(origin, format!("the tool {tool} is not known to the sandbox")),
    }
}

/// Reads a path of `sandbox.filesystem`. Two slashes are an older spelling of one.
fn absolute(path: &str, project: &Path) -> Value {
    entry(path.strip_prefix('/').filter(|path| path.starts_with('/')).unwrap_or(path), project)
}

/// Reads the path of a permission: `//` begins at the root, and `/` at the project.
fn of_rule(path: &str, project: &Path) -> Value {
    match path.strip_prefix('/') {
        Some(rest) => entry(rest, project),
        // Like in .gitignore, a name without a slash is meant at any depth.
        None if !path.contains('/') => entry(&format!("**/{path}"), project),
        None => entry(path, project),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathEntry;

    fn import(text: &str) -> Imported {
        let mut json = serde_json::Deserializer::from_str(text);
        claude_code(&mut json, Path::new("/p")).unwrap()
    }

    #[test]
    fn what_the_sandbox_enforces_is_converted_and_the_rest_is_named() {
        let imported = import(
            r#"{
              "model": "opus",
              "sandbox": {
                "enabled": true,
                "autoAllowBashIfSandboxed": true,
                "filesystem": {"allowWrite": ["/tmp/build", "//var/x", "./out", "~/.kube"],
                               "denyRead": ["~/.aws", 3]},
                "network": {"allowedDomains": ["a.com", "*"], "allowLocalBinding": true,
                            "newKey": 1},
                "enableWeakerNestedSandbox": false,
                "someday": {}
              },
              "permissions": {
                "allow": ["Edit(/src/**)", "WebFetch(domain:b.com)", "Bash(ls)"],
                "deny": ["Read(.env)", "Read(//etc/x)", "WebFetch(domain:c.com)"],
                "ask": ["Bash"],
                "additionalDirectories": ["../other"]
              }
            }"#,
        );
        let files = &imported.config.filesystem;
        let expected =
            ["/p", "/tmp/build", "/var/x", "/p/out", "~/.kube", "/p/../other", "/p/src/**"];
        assert_eq!(files.allow_write, expected);
        assert_eq!(files.deny_read, ["~/.aws", "/p/**/.env", "/etc/x"]);
        let network = &imported.config.network;
        assert_eq!(network.allowed_domains, ["a.com", "b.com"]);
        assert_eq!(network.denied_domains, ["c.com"]);
        assert_eq!(network.allow_local_binding, Some(true));
        let mut lost: Vec<String> =
            imported.losses.iter().map(|loss| loss.path.to_string()).collect();
        lost.sort();
        assert_eq!(
            lost,
            [
                "permissions.allow[2]",
                "permissions.ask",
                "sandbox.autoAllowBashIfSandboxed",
                "sandbox.filesystem.denyRead[1]",
                "sandbox.network.allowedDomains[1]",
                "sandbox.network.newKey",
                "sandbox.someday",
            ]
        );
    }

    #[test]
    fn the_characters_of_the_project_belong_to_names() {
        let text = r#"{"sandbox": {"filesystem": {"denyRead": ["a", "*.pem"]}}}"#;
        let mut json = serde_json::Deserializer::from_str(text);
        let files = claude_code(&mut json, Path::new("/p[1]")).unwrap().config.filesystem;
        assert_eq!(files.deny_read[0], PathEntry::from(Path::new("/p[1]/a")));
        assert_eq!(files.deny_read[1], "/p[[]1]/*.pem");
    }

    #[test]
    fn variables_and_hooks_are_losses() {
        let imported = import(
            r#"{"env": {"A": "b"}, "hooks": {},
                "sandbox": {"filesystem": {"denyRead": ["$HOME/.ssh", "~/.aws"]}},
                "permissions": {"deny": ["Read(//${HOME}/.ssh)"]}}"#,
        );
        let lost: Vec<_> = imported.losses.iter().map(|loss| loss.path.to_string()).collect();
        let expected = ["sandbox.filesystem.denyRead[0]", "permissions.deny[0]", "env", "hooks"];
        assert_eq!(lost, expected);
        assert_eq!(imported.config.filesystem.deny_read[0], "/p/$HOME/.ssh");
    }

    #[test]
    fn a_sandbox_that_is_off_is_a_loss() {
        let imported = import(r#"{"sandbox": {"enabled": false}}"#);
        assert_eq!(imported.losses.len(), 1);
        assert_eq!(import("{}").losses, []);
        assert_eq!(import(r#"{"sandbox": []}"#).losses.len(), 1);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_or_a_loss() {
        for text in ["[]", "null", "1"] {
            let mut json = serde_json::Deserializer::from_str(text);
            assert!(claude_code(&mut json, Path::new("/p")).is_err(), "{text}");
        }
        let imported = import(
            r#"{"sandbox": {"enabled": "yes", "network": {"httpProxyPort": 3128}},
                "permissions": {"deny": ["Read(/a\u0000b)", "Read"]}}"#,
        );
        assert_eq!(imported.losses.len(), 4);
        let problems: Vec<_> = imported.losses.iter().map(|loss| &*loss.problem).collect();
        assert!(problems.contains(&"is about all paths or hosts; name them one by one"));
        assert_eq!(imported.config.filesystem.deny_read, [""; 0]);
    }
}
