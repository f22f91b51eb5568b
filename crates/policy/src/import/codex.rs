//! The settings of Codex: `sandbox_mode` and `sandbox_workspace_write` of its `config.toml`
//! (<https://github.com/openai/codex/blob/main/docs/config.md>).

use std::path::Path;

use serde_core::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Draft, Imported, each_text, object};
use crate::config::PathEntry;
use crate::setting_path::SettingPath;

/// Names that Codex protects at the top of each writable directory.
const PROTECTED: [&str; 3] = [".git", ".codex", ".agents"];
/// Other keys that decide what commands may do.
const OTHER: [(&str, &str); 5] = [
    ("approval_policy", "no user is asked about commands"),
    ("shell_environment_policy", "settings of srt have no environment"),
    ("permissions", "profiles of permissions are not read"),
    ("default_permissions", "profiles of permissions are not read"),
    ("profiles", "profiles are not read"),
];

/// Converts a `config.toml` of Codex. Commands may write to `workspace` in the mode
/// `workspace-write`.
///
/// Pass a deserializer of TOML. The other keys have nothing to do with the sandbox, and are not
/// named as losses.
///
/// # Errors
/// Returns the error of the deserializer if the text cannot be read.
pub fn codex<'de, D: Deserializer<'de>>(config: D, workspace: &Path) -> Result<Imported, D::Error> {
    let config = Value::deserialize(config)?;
    let mut draft = Draft::new();
    let root = SettingPath::root();
    let mode = config.get("sandbox_mode");
    let origin = root.key("sandbox_mode");
    let table = root.key("sandbox_workspace_write");
    match mode.map(Value::as_str) {
        None | Some(Some("read-only")) => {
            if config.get("sandbox_workspace_write").is_some() {
                draft.lose(table, "has no effect there without the mode workspace-write");
            }
        }
        Some(Some("workspace-write")) => {
            writable(&mut draft, workspace, &origin);
            workspace_write(&mut draft, config.get("sandbox_workspace_write"), &table);
        }
        Some(Some("danger-full-access")) => {
            draft.set("filesystem", "disabled", true.into(), origin.clone());
            draft.lose(origin, "no list of domains allows all hosts");
            if config.get("sandbox_workspace_write").is_some() {
                draft.lose(table, "has no effect there in the mode danger-full-access");
            }
        }
        Some(_) => draft.lose(origin, "is no mode of Codex; nothing is writable here"),
    }
    for (key, problem) in OTHER {
        if config.get(key).is_some() {
            draft.lose(root.key(key), problem);
        }
    }
    Ok(draft.finish())
}

fn workspace_write(draft: &mut Draft, table: Option<&Value>, origin: &SettingPath) {
    let is_set = |key| table.and_then(|table| table.get(key)) == Some(&Value::Bool(true));
    if !is_set("exclude_slash_tmp") {
        draft.add("filesystem", "allowWrite", "/tmp", origin.key("exclude_slash_tmp"));
    }
    if !is_set("exclude_tmpdir_env_var") {
        let problem = "TMPDIR is writable there; add its directory to filesystem.allowWrite";
        draft.lose(origin.key("exclude_tmpdir_env_var"), problem);
    }
    for (key, value) in object(draft, table, origin) {
        let origin = origin.key(key);
        match key.as_str() {
            "writable_roots" => each_text(draft, value, &origin, |draft, dir, origin| {
                if Path::new(dir).is_absolute() {
                    writable(draft, Path::new(dir), &origin);
                } else {
                    draft.lose(origin, "is not an absolute path");
                }
            }),
            "network_access" if value == &Value::Bool(true) => {
                draft.lose(origin, "no list of domains allows all hosts");
            }
            "network_access" | "exclude_slash_tmp" | "exclude_tmpdir_env_var" => {
                if !value.is_boolean() {
                    draft.lose(origin, "is neither true nor false");
                }
            }
            _ => draft.lose(origin, "has no equivalent"),
        }
    }
}

/// Makes a directory writable except for the names that Codex protects.
fn writable(draft: &mut Draft, dir: &Path, origin: &SettingPath) {
    let literal = |path: &Path| serde_json::to_value(PathEntry::from(path)).unwrap_or_default();
    draft.add("filesystem", "allowWrite", literal(dir), origin.clone());
    for name in PROTECTED {
        draft.add("filesystem", "denyWrite", literal(&dir.join(name)), origin.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(json: &str) -> Imported {
        codex(&mut serde_json::Deserializer::from_str(json), Path::new("/p")).unwrap()
    }

    fn lost(imported: &Imported) -> Vec<String> {
        imported.losses.iter().map(|loss| loss.path.to_string()).collect()
    }

    #[test]
    fn a_writable_workspace_protects_its_repository() {
        let imported = import(
            r#"{"sandbox_mode": "workspace-write", "approval_policy": "never", "model": "x",
                "sandbox_workspace_write": {"writable_roots": ["/r", "r"], "network_access": true,
                                            "exclude_tmpdir_env_var": true, "future": 1}}"#,
        );
        let files = &imported.config.filesystem;
        assert_eq!(files.allow_write, ["/p", "/tmp", "/r"]);
        let denied = ["/p/.git", "/p/.codex", "/p/.agents", "/r/.git", "/r/.codex", "/r/.agents"];
        assert_eq!(files.deny_write, denied);
        let table = "sandbox_workspace_write";
        assert_eq!(
            lost(&imported),
            [
                format!("{table}.future"),
                format!("{table}.network_access"),
                format!("{table}.writable_roots[1]"),
                "approval_policy".to_owned(),
            ]
        );
    }

    #[test]
    fn the_default_mode_writes_nothing() {
        assert_eq!(import("{}").config.filesystem.allow_write, [""; 0]);
        let open = import(r#"{"sandbox_mode": "danger-full-access"}"#);
        assert_eq!(open.config.filesystem.disabled, Some(true));
        assert_eq!(lost(&open), ["sandbox_mode"]);
        let unused = r#"{"sandbox_mode": "danger-full-access", "sandbox_workspace_write": {}}"#;
        assert_eq!(lost(&import(unused)), ["sandbox_mode", "sandbox_workspace_write"]);
        let wrong = import(r#"{"sandbox_mode": 3, "sandbox_workspace_write": {}}"#);
        assert_eq!(wrong.config.filesystem.allow_write, [""; 0]);
        assert_eq!(lost(&wrong), ["sandbox_mode"]);
    }
}
