//! The strict parser of settings.

use std::fmt;

use crate::config::{GIVEN_TWICE, SandboxRuntimeConfig, Setting};
use crate::error::ErrorKind;
use crate::json::{Node, Problem};
use crate::location::Location;
use crate::setting_path::{Segment, SettingPath};

/// Maximum number of errors that are searched in one text.
pub(crate) const MAX_ERRORS: usize = 100;

/// Errors of [`SandboxRuntimeConfig::from_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// The text is not JSON.
    Syntax {
        /// Place of the problem.
        location: Location,
        /// Description of the problem.
        problem: String,
    },
    /// srt 0.0.83 does not know the key, and would ignore it.
    UnknownKey {
        /// Full path of the key, such as `filesystem.denyReed`.
        path: SettingPath,
        /// Place of the key.
        location: Location,
        /// The most similar known key.
        nearest: Option<String>,
    },
    /// A value has the wrong type, or a key is missing or given twice.
    Value {
        /// Path of the value.
        path: SettingPath,
        /// Place of the value, or of the object that lacks a key.
        location: Location,
        /// Description of the problem.
        problem: String,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { location: Location { line, column, .. }, problem } => {
                write!(f, "line {line}, column {column}: {problem}")
            }
            Self::UnknownKey { path, nearest, .. } => {
                write!(f, "{path}: unknown key")?;
                nearest.as_ref().map_or(Ok(()), |key| write!(f, "; did you mean {key:?}?"))
            }
            Self::Value { path, problem, .. } if *path == SettingPath::root() => {
                f.write_str(problem)
            }
            Self::Value { path, problem, .. } => write!(f, "{path}: {problem}"),
        }
    }
}

impl std::error::Error for ParseError {}

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

    /// Returns the path of the setting; `None` if the text is not JSON.
    pub fn path(&self) -> Option<&SettingPath> {
        match self {
            Self::Syntax { .. } => None,
            Self::UnknownKey { path, .. } | Self::Value { path, .. } => Some(path),
        }
    }

    /// Returns whether the key should not be there.
    fn is_superfluous(&self) -> bool {
        match self {
            Self::UnknownKey { .. } => true,
            Self::Value { problem, .. } => problem == GIVEN_TWICE,
            Self::Syntax { .. } => false,
        }
    }

    /// Moves the place to the last key of this name that no earlier error is about. Those of
    /// earlier errors were removed from the settings, and the text still has them.
    fn move_before(&mut self, earlier: &[Self], text: &str) {
        let is_same = |error: &&Self| error.is_superfluous() && error.path() == self.path();
        let removed = earlier.iter().filter(is_same).count();
        if let (Self::UnknownKey { path, location, .. } | Self::Value { path, location, .. }, 1..) =
            (self, removed)
        {
            *location = path.find_earlier_in(text, removed);
        }
    }

    /// Returns the place of the error in the text.
    pub fn location(&self) -> Location {
        match self {
            Self::Syntax { location, .. }
            | Self::UnknownKey { location, .. }
            | Self::Value { location, .. } => *location,
        }
    }
}

impl SandboxRuntimeConfig {
    /// Parses settings strictly: it checks syntax, types and keys.
    ///
    /// [`validate`](SandboxRuntimeConfig::validate) checks the values.
    ///
    /// # Errors
    /// Returns [`ParseError`] if the text is not JSON, or if a key or a type is wrong. The error
    /// names the key and its place.
    pub fn from_json(text: &str) -> Result<Self, ParseError> {
        Self::from_node(&node_of(text)?, text)
    }

    /// Returns all errors of [`SandboxRuntimeConfig::from_json`] in a text, at most 100. Of several
    /// in one list, the first is returned.
    pub fn find_errors(text: &str) -> Vec<ParseError> {
        match node_of(text) {
            Ok(mut node) => Self::mend_all(&mut node, text),
            Err(error) => vec![error],
        }
    }

    /// Removes the errors from the settings, and returns them.
    pub(crate) fn mend_all(node: &mut Node, text: &str) -> Vec<ParseError> {
        let mut found = Vec::new();
        while let Err(mut error) = Self::from_node(node, text) {
            let is_mended = Self::mend(node, text, &error);
            error.move_before(&found, text);
            found.push(error);
            if !is_mended || found.len() == MAX_ERRORS {
                break;
            }
        }
        found
    }

    /// Leaves out an invalid setting, or the list or the section that has it. A required list
    /// becomes empty.
    pub(crate) fn leave_out(node: &mut Node, text: &str, path: &SettingPath) {
        let keys: Vec<&str> = path.keys().collect();
        for depth in (1..=keys.len()).rev() {
            let path: SettingPath =
                keys[..depth].iter().map(|key| Segment::Key((*key).to_owned())).collect();
            let Some(removed) = node.take(&path) else { continue };
            if Self::from_node(node, text).is_ok() {
                return;
            }
            node.add(&path, Node::Array(Vec::new()));
            if Self::from_node(node, text).is_ok() {
                return;
            }
            node.set(&path, removed);
        }
    }

    /// Removes a key that should not be there, or gives a setting a value of its type. Returns
    /// whether the error is gone.
    fn mend(node: &mut Node, text: &str, error: &ParseError) -> bool {
        let Some(path) = error.path() else { return false };
        if error.is_superfluous() {
            return node.take(path).is_some();
        }
        Node::samples().into_iter().any(|sample| {
            let is_set = node.set(path, sample);
            is_set
                && match Self::from_node(node, text) {
                    Ok(_) => true,
                    Err(next) => !next.path().is_some_and(|next| path.covers(next)),
                }
        })
    }

    pub(crate) fn from_node(node: &Node, text: &str) -> Result<Self, ParseError> {
        Self::read(node).map_err(|mismatch| {
            let path = mismatch.path();
            let location = path.find_in(text);
            match mismatch.problem {
                Problem::UnknownKey { nearest } => {
                    ParseError::UnknownKey { path, location, nearest }
                }
                Problem::Value(problem) => ParseError::Value { path, location, problem },
            }
        })
    }

    /// Returns the settings as indented JSON for `srt --settings`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

pub(crate) fn node_of(text: &str) -> Result<Node, ParseError> {
    serde_json::from_str(text).map_err(|error| {
        let text = error.to_string();
        let problem = text.rsplit_once(" at line ").map_or(&*text, |(problem, _)| problem);
        let location = Location::new(error.line(), error.column());
        ParseError::Syntax { location, problem: problem.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_of_a_text_are_found() {
        let text = r#"{"network": {"allowedDomains": "x", "deniedDomains": [1, 2], "bogus": 1},
            "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": [], "denyWrite": [],
            "other": {}}, "third": null}"#;
        let errors = SandboxRuntimeConfig::find_errors(text);
        let paths: Vec<String> =
            errors.iter().filter_map(|error| Some(error.path()?.to_string())).collect();
        for path in ["network.bogus", "filesystem.denyWrite", "filesystem.other", "third"] {
            assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
        }
        assert!(SandboxRuntimeConfig::find_errors(MINIMAL).is_empty());
        assert_eq!(SandboxRuntimeConfig::find_errors("{").len(), 1);
        assert_eq!(SandboxRuntimeConfig::find_errors("[]").len(), 1);
    }

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
            "filesystem.allowWrite[1]: is 3; expected a path, or \
             {\"path\": …, \"literal\": true}",
        );
        check(
            &MINIMAL.replace(",\"denyWrite\":[]", ""),
            "filesystem: the key \"denyWrite\" is missing",
        );
        check(
            &MINIMAL.replace("\"denyWrite\"", "\"allowRead\":null,\"denyWrite\""),
            "filesystem.allowRead: is null; leave the key out",
        );
        check("{}", "the key \"network\" is missing");
        assert!(matches!(
            SandboxRuntimeConfig::from_json("{"),
            Err(ParseError::Syntax { location: Location { line: 1, .. }, .. })
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

    #[test]
    fn other_shapes_that_serde_reads_are_rejected() {
        check(
            &MINIMAL
                .replace(r#"{"denyRead":[],"allowWrite":[],"denyWrite":[]}"#, "[[],null,[],[]]"),
            "filesystem: is a list; expected an object",
        );
        let with = |entry: &str| MINIMAL.replacen('{', &format!("{{{entry},"), 1);
        check(
            &with(r#""windows":{"backend":{"mxc":null}}"#),
            "windows.backend: is an object; expected a text",
        );
        check(
            &with(r#""windows":{"proxyPortRange":[1,2,3]}"#),
            "windows.proxyPortRange: has 3 entries; expected 2",
        );
        check(&with(r#""allowPty":true,"allowPty":true"#), "allowPty: is given twice");
        let twice = with(r#""ignoreViolations":{"a":[],"a":[]}"#);
        check(&twice, "ignoreViolations.a: is given twice");
    }

    #[test]
    fn each_repetition_of_a_key_has_its_own_place() {
        let text =
            MINIMAL.replacen('{', "{\"allowPty\":true,\n\"allowPty\":1,\n\n\"allowPty\":2,", 1);
        let lines = |text: &str| {
            let errors = SandboxRuntimeConfig::find_errors(text);
            let mut lines: Vec<_> = errors.iter().map(|error| error.location().line).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(lines(&text), [2, 4]);
        assert_eq!(lines(&text.replace("allowPty", "bogus")), [1, 2, 4]);
    }

    #[test]
    fn types_are_named_in_plain_words() {
        let with = |entry: &str| MINIMAL.replacen('{', &format!("{{{entry},"), 1);
        let depth = "mandatoryDenySearchDepth";
        check(
            &with(&format!("\"{depth}\":300")),
            &format!("{depth}: is 300; expected a number from 0 to 255"),
        );
        check(
            &MINIMAL.replacen('{', "{\"allowPty\":1,", 1),
            "allowPty: is 1; expected true or false",
        );
        check(
            &MINIMAL.replacen("[]", "\"x\"", 1),
            "network.allowedDomains: is the text \"x\"; expected a list",
        );
        check(
            &MINIMAL.replacen("[]", "[],\"httpProxyPort\":70000", 1),
            "network.httpProxyPort: is 70000; expected a number from 0 to 65535",
        );
        check(
            &MINIMAL.replacen("[]", "[3]", 1),
            "network.allowedDomains[0]: is 3; expected a text",
        );
        check(&with(r#""ignoreViolations":[]"#), "ignoreViolations: is a list; expected an object");
        check(
            &with(r#""windows":{"proxyPortRange":[1]}"#),
            "windows.proxyPortRange: has 1 entry; expected 2",
        );
    }

    #[test]
    fn an_integer_may_be_written_with_a_fraction() {
        let with = |number: &str| {
            let entry = format!("{{\"mandatoryDenySearchDepth\":{number},");
            SandboxRuntimeConfig::from_json(&MINIMAL.replacen('{', &entry, 1))
                .map(|config| config.mandatory_deny_search_depth)
        };
        assert_eq!(with("3e0").unwrap(), Some(3));
        assert_eq!(with("8.0").unwrap(), Some(8));
        for wrong in ["3.5", "-1.0", "1e300", "300"] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_names_the_place_and_repeats_no_long_text() {
        let error = SandboxRuntimeConfig::from_json("{\n \"network\": 1}").unwrap_err();
        assert_eq!((error.location().line, error.location().column), (2, 2));
        let long = "k".repeat(3_000_000);
        for entry in [
            format!("\"{long}\":1"),
            format!("\"allowPty\":\"{long}\""),
            format!("\"windows\":{{\"backend\":\"{long}\"}}"),
        ] {
            let text = MINIMAL.replacen('{', &format!("{{{entry},"), 1);
            let error = SandboxRuntimeConfig::from_json(&text).unwrap_err();
            assert!(error.to_string().len() < 300, "{entry:.40}");
        }
    }
}
