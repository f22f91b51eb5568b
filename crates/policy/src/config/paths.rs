//! Entries of the lists of paths.

use std::fmt;
use std::path::{Path, PathBuf};

use super::setting::{Setting, read_key, required, serde_like};
use crate::creation::literal;
use crate::json::{Mismatch, Node};
use crate::rules::is_glob;

/// An entry of `denyRead`, `allowRead`, `allowWrite` or `denyWrite`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathEntry {
    /// A path or a pattern. A name that contains the characters of patterns is read both ways.
    Pattern(String),
    /// A path whose characters all belong to names: `{"path": …, "literal": true}`.
    ///
    /// JSON cannot hold a path that is not UTF-8. Its invalid bytes are replaced there.
    Literal(PathBuf),
}

impl PathEntry {
    /// Returns the entry with a relative path made absolute. The characters of `dir` belong to
    /// names; those of the entry keep their meaning.
    #[must_use]
    pub fn relative_to(&self, dir: &Path) -> Self {
        match self {
            Self::Pattern(text) if text == "~" || text.starts_with("~/") => self.clone(),
            Self::Pattern(text) if text.starts_with('/') => self.clone(),
            Self::Pattern(text) if is_glob(text) => {
                let names = dir.iter().skip(1).map(|name| {
                    let escaped = String::from_utf8_lossy(&literal(name)).into_owned();
                    format!("/{escaped}")
                });
                let dir: String = names.collect();
                Self::Pattern(format!("{dir}/{}", text.trim_start_matches("./")))
            }
            Self::Pattern(text) => Self::Literal(dir.join(text)),
            Self::Literal(path) if path.starts_with("~") => self.clone(),
            Self::Literal(path) => Self::Literal(dir.join(path)),
        }
    }

    /// Returns whether the settings state the entry exactly. Only a literal path can be inexact.
    pub(crate) fn is_exact(&self) -> bool {
        match self {
            Self::Pattern(_) => true,
            Self::Literal(path) => path.to_str().is_some(),
        }
    }
}

impl From<&str> for PathEntry {
    fn from(text: &str) -> Self {
        Self::Pattern(text.to_owned())
    }
}

impl From<String> for PathEntry {
    fn from(text: String) -> Self {
        Self::Pattern(text)
    }
}

impl From<&Path> for PathEntry {
    fn from(path: &Path) -> Self {
        Self::Literal(path.to_owned())
    }
}

impl PartialEq<&str> for PathEntry {
    fn eq(&self, other: &&str) -> bool {
        match self {
            Self::Pattern(text) => text == other,
            Self::Literal(path) => path.as_os_str() == *other,
        }
    }
}

impl fmt::Display for PathEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(text) => f.write_str(text),
            Self::Literal(path) => path.display().fmt(f),
        }
    }
}

impl Setting for PathEntry {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        match node {
            Node::String(text) => Ok(text.as_str().into()),
            Node::Object(entries) => Self::read_literal(entries),
            other => Err(Mismatch::of_type(other, "a path, or {\"path\": …, \"literal\": true}")),
        }
    }

    fn write(&self) -> Option<Node> {
        let text = self.to_string();
        // srt before 0.0.83 knows texts only, so an object stands only where a text would differ.
        let is_plain = text.starts_with('/') && !is_glob(&text);
        if is_plain || matches!(self, Self::Pattern(_)) {
            return Some(Node::String(text));
        }
        let literal = ("literal".to_owned(), Node::Bool(true));
        Some(Node::Object(vec![("path".to_owned(), Node::String(text)), literal]))
    }
}

impl PathEntry {
    fn read_literal(entries: &[(String, Node)]) -> Result<Self, Mismatch> {
        let (mut path, mut literal) = (None, None);
        for (key, value) in entries {
            match key.as_str() {
                "path" => read_key(&mut path, key, value)?,
                "literal" => read_key(&mut literal, key, value)?,
                other => return Err(Mismatch::unknown_key(other, &["path", "literal"])),
            }
        }
        let path: String = required(path, "path")?;
        if literal != Some(true) {
            return Err(Mismatch::new("an object needs \"literal\": true"));
        }
        Ok(Self::Literal(path.into()))
    }
}

serde_like!(PathEntry);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for PathEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PathEntry".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A path or a pattern, or a path whose characters all belong to names.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "minLength": 1},
                        "literal": {"const": true},
                    },
                    "required": ["path", "literal"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: &PathEntry, json: &str) {
        assert_eq!(serde_json::to_string(entry).unwrap(), json);
    }

    #[test]
    fn a_literal_path_is_an_object_where_a_text_would_mean_something_else() {
        check(&"/a/*".into(), r#""/a/*""#);
        check(&Path::new("/a/b").into(), r#""/a/b""#);
        check(&Path::new("/a/[b]").into(), r#"{"path":"/a/[b]","literal":true}"#);
        check(&Path::new("~").into(), r#"{"path":"~","literal":true}"#);
    }

    #[test]
    fn the_directory_of_a_relative_entry_has_no_pattern_characters() {
        let dir = Path::new("/w[1]");
        let absolute = |entry: PathEntry| entry.relative_to(dir);
        assert_eq!(absolute("./a".into()), PathEntry::from(Path::new("/w[1]/a")));
        assert_eq!(absolute("*.c".into()), PathEntry::from("/w[[]1]/*.c"));
        assert_eq!(absolute("/x/*".into()), PathEntry::from("/x/*"));
        assert_eq!(absolute("~/x".into()), PathEntry::from("~/x"));
        assert_eq!(absolute(Path::new("~/[x]").into()), PathEntry::from(Path::new("~/[x]")));
        assert_eq!(absolute("~ann".into()), PathEntry::from(Path::new("/w[1]/~ann")));
        assert_eq!(absolute(Path::new("a*").into()), PathEntry::from(Path::new("/w[1]/a*")));
    }

    #[test]
    fn an_object_without_the_mark_or_with_another_key_is_rejected() {
        let parse = |json: &str| serde_json::from_str::<PathEntry>(json);
        assert_eq!(
            parse(r#"{"path":"/[a]","literal":true}"#).unwrap(),
            PathEntry::from(Path::new("/[a]"))
        );
        for json in [
            r#"{"path":"/a"}"#,
            r#"{"path":"/a","literal":false}"#,
            r#"{"literal":true}"#,
            r#"{"path":"/a","literal":true,"x":1}"#,
            "3",
            "null",
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
