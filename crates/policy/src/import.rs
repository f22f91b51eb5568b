//! Conversion of the settings of other sandboxes, with everything that is lost.
//!
//! ```
//! use std::path::Path;
//! use policy::import;
//!
//! let settings = r#"{"sandbox": {"enabled": true, "excludedCommands": ["docker"],
//!                                "filesystem": {"denyRead": ["~/.aws"]}}}"#;
//! let mut json = serde_json::Deserializer::from_str(settings);
//! let imported = import::claude_code(&mut json, Path::new("/home/ann/project"))?;
//! assert_eq!(imported.config.filesystem.deny_read, ["~/.aws"]);
//! assert_eq!(imported.losses[0].path.to_string(), "sandbox.excludedCommands");
//! # Ok::<(), serde_json::Error>(())
//! ```

mod claude_code;
mod codex;

use std::path::Path;

use serde_json::{Map, Value, json};

pub use claude_code::claude_code;
pub use codex::codex;

use crate::config::{PathEntry, SandboxRuntimeConfig};
use crate::setting_path::SettingPath;

/// Settings that other ones were converted to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imported {
    /// The settings. srt accepts them.
    pub config: SandboxRuntimeConfig,
    /// The settings without an equivalent.
    pub losses: Vec<Loss>,
}

/// A setting without an equivalent, or whose equivalent differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Path of the setting in the original.
    pub path: SettingPath,
    /// Description of the difference.
    pub problem: String,
}

/// Settings under construction.
struct Draft {
    settings: Value,
    losses: Vec<Loss>,
}

impl Draft {
    fn new() -> Self {
        let settings = json!({
            "network": {"allowedDomains": [], "deniedDomains": []},
            "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []},
        });
        Self { settings, losses: Vec::new() }
    }

    fn lose(&mut self, path: SettingPath, problem: impl Into<String>) {
        self.losses.push(Loss { path, problem: problem.into() });
    }

    /// Sets a key of a section, or of the whole settings if `section` is empty. A value that srt
    /// would reject is a loss.
    fn set(&mut self, section: &str, key: &str, value: Value, origin: SettingPath) {
        let change = |settings: &mut Value| {
            let object = if section.is_empty() { settings } else { &mut settings[section] };
            object[key] = value;
        };
        self.change(change, origin);
    }

    /// Adds an entry to a list of a section.
    fn add(&mut self, section: &str, key: &str, entry: impl Into<Value>, origin: SettingPath) {
        let entry = entry.into();
        let change = |settings: &mut Value| {
            let object = settings[section].as_object_mut();
            let list = object.map(|object| object.entry(key).or_insert_with(|| json!([])));
            if let Some(list) = list.and_then(Value::as_array_mut)
                && !list.contains(&entry)
            {
                list.push(entry);
            }
        };
        self.change(change, origin);
    }

    fn change(&mut self, change: impl FnOnce(&mut Value), origin: SettingPath) {
        let mut changed = self.settings.clone();
        change(&mut changed);
        match read(&changed) {
            Ok(_) => self.settings = changed,
            Err(problem) => self.lose(origin, problem),
        }
    }

    fn finish(self) -> Imported {
        Imported { config: read(&self.settings).unwrap_or_default(), losses: self.losses }
    }
}

/// Reads settings like srt would. The error has no path, because it is another one here.
fn read(settings: &Value) -> Result<SandboxRuntimeConfig, String> {
    let config = SandboxRuntimeConfig::from_json(&settings.to_string())
        .map_err(|error| error.to_string())?;
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Returns an entry for a path or pattern that may begin in `dir`.
fn entry(path: &str, dir: &Path) -> Value {
    let path = path.trim_start_matches("./");
    let entry = match path {
        "" | "." => PathEntry::from(dir),
        _ => PathEntry::from(path).relative_to(dir),
    };
    serde_json::to_value(entry).unwrap_or_default()
}

/// Calls `found` with the texts of a list. Anything else is a loss.
fn each_text(
    draft: &mut Draft,
    value: &Value,
    origin: &SettingPath,
    mut found: impl FnMut(&mut Draft, &str, SettingPath),
) {
    let Some(list) = value.as_array() else {
        return draft.lose(origin.clone(), "is not a list");
    };
    for (at, entry) in list.iter().enumerate() {
        match entry.as_str() {
            Some(entry) => found(draft, entry, origin.index(at)),
            None => draft.lose(origin.index(at), "is not a text"),
        }
    }
}

/// Returns the object that a value is. Anything else but an absent value is a loss.
fn object<'v>(
    draft: &mut Draft,
    value: Option<&'v Value>,
    origin: &SettingPath,
) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
    let found = value.and_then(Value::as_object);
    if value.is_some() && found.is_none() {
        draft.lose(origin.clone(), "is not an object");
    }
    found.into_iter().flat_map(Map::iter)
}
