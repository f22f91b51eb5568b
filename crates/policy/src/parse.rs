//! The strict parser of settings.

use serde_json::Value;

use crate::config::SandboxRuntimeConfig;
use crate::error::ErrorKind;

/// Errors of [`SandboxRuntimeConfig::from_json`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text is not JSON.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// Description of the problem.
        problem: String,
    },
    /// srt 0.0.83 does not know the key, and would ignore it.
    #[error("{path}: unknown key{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Full path of the key, such as `filesystem.denyReed`.
        path: String,
        /// The most similar known key.
        nearest: Option<String>,
    },
    /// A value has the wrong type, or a key is missing.
    #[error("{}{problem}", if path == "." { String::new() } else { format!("{path}: ") })]
    Value {
        /// Path of the value; `.` is the whole file.
        path: String,
        /// Description of the problem.
        problem: String,
    },
}

impl ParseError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. } => ErrorKind::Syntax,
            Self::UnknownKey { .. } => ErrorKind::UnknownKey,
            Self::Value { .. } => ErrorKind::InvalidValue,
        }
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}

impl SandboxRuntimeConfig {
    /// Parses settings strictly: it checks syntax, types and keys.
    ///
    /// [`validate`](SandboxRuntimeConfig::validate) checks the values.
    ///
    /// # Errors
    /// Returns [`ParseError`] if the text is not JSON, or if a key or a type is wrong. The error
    /// names the key.
    pub fn from_json(text: &str) -> Result<Self, ParseError> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let config = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            explain_error(path, &error)
        })?;
        parser.end().map_err(|error| explain_error(".".to_owned(), &error))?;
        // An optional key may be absent, but not `null`.
        match serde_json::from_str(text).ok().and_then(|value| null_inside(&value)) {
            Some(path) => Err(ParseError::Value {
                path: path.trim_start_matches('.').to_owned(),
                problem: "is null; leave the key out".to_owned(),
            }),
            None => Ok(config),
        }
    }

    /// Returns the settings as indented JSON for `srt --settings`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Returns the path of the first `null` in a value.
fn null_inside(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(at, item)| Some(format!("[{at}]{}", null_inside(item)?))),
        Value::Object(entries) => {
            entries.iter().find_map(|(key, entry)| Some(format!(".{key}{}", null_inside(entry)?)))
        }
        _ => None,
    }
}

/// Converts an error of `serde_json`. Its text ends with the position and quotes unknown fields.
fn explain_error(path: String, error: &serde_json::Error) -> ParseError {
    let text = error.to_string();
    let problem =
        text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned();
    if !error.is_data() {
        return ParseError::Syntax { line: error.line(), column: error.column(), problem };
    }
    if let Some(rest) = problem.strip_prefix("unknown field ") {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let unknown = quoted.next().unwrap_or_default();
        let nearest = quoted
            .map(|key| (distance(&unknown.to_lowercase(), &key.to_lowercase()), key))
            .filter(|(distance, key)| *distance <= key.len() / 2)
            .min();
        return ParseError::UnknownKey { path, nearest: nearest.map(|(_, key)| key.to_owned()) };
    }
    ParseError::Value { path, problem }
}

/// Returns the Levenshtein distance of two keys, ignoring underscores.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().filter(|c| *c != '_').collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().filter(|c| *c != '_').enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = concat!(
        r#"{"network":{"allowedDomains":[],"deniedDomains":[]},"#,
        r#""filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#
    );

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(SandboxRuntimeConfig::from_json(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_minimal_file_survives_a_round_trip() {
        let config = SandboxRuntimeConfig::from_json(MINIMAL).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), MINIMAL);
        assert_eq!(SandboxRuntimeConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_path_and_the_nearest_known_key() {
        check(
            &MINIMAL.replace("denyRead", "denyReed"),
            "filesystem.denyReed: unknown key; did you mean \"denyRead\"?",
        );
        check(
            &MINIMAL.replace("denyRead", "deny_read"),
            "filesystem.deny_read: unknown key; did you mean \"denyRead\"?",
        );
        check(&MINIMAL.replacen('{', "{\"qqqqqqqqqqqq\":1,", 1), "qqqqqqqqqqqq: unknown key");
    }

    #[test]
    fn wrong_types_and_missing_keys_are_reported_with_their_path() {
        check(
            &MINIMAL.replace("\"allowWrite\":[]", "\"allowWrite\":[\"a\",3]"),
            "filesystem.allowWrite[1]: invalid type: integer `3`, expected a path, or \
             {\"path\": …, \"literal\": true}",
        );
        check(&MINIMAL.replace(",\"denyWrite\":[]", ""), "filesystem: missing field `denyWrite`");
        check(
            &MINIMAL.replace("\"denyWrite\"", "\"allowRead\":null,\"denyWrite\""),
            "filesystem.allowRead: is null; leave the key out",
        );
        check("{}", "missing field `network`");
        assert!(matches!(
            SandboxRuntimeConfig::from_json("{"),
            Err(ParseError::Syntax { line: 1, .. })
        ));
        assert!(SandboxRuntimeConfig::from_json(&format!("{MINIMAL} x")).is_err());
    }

    #[test]
    fn maps_accept_any_key() {
        let text = MINIMAL.replace(
            "\"deniedDomains\":[]",
            "\"deniedDomains\":[\"*\"],\"deniedDomainReasons\":{\"*\":\"closed\"}",
        );
        assert!(SandboxRuntimeConfig::from_json(&text).is_ok());
    }
}
