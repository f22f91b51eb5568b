//! The column `hosts`: the hosts of a variable, in JSON.
//!
//! It has a list of hosts, such as `["api.example.com"]`, or an object with `hosts` and the other
//! settings of a mask. An empty column belongs to a variable without hosts.

use serde::{Deserialize, Serialize};

use crate::mask::{MaskSpec, RequestPart};
use crate::name::SkipReason;

/// The hosts of a stored variable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableHosts {
    /// The hosts, and the way in which they receive the value.
    pub mask: MaskSpec,
    /// True if commands get a placeholder instead of the value.
    pub is_masked: bool,
}

impl VariableHosts {
    /// Hides the value from commands, and gives it to the hosts of the mask.
    pub fn masked(mask: MaskSpec) -> Self {
        Self { mask, is_masked: true }
    }

    /// Keeps the hosts, and gives commands the value.
    pub fn unmasked(mask: MaskSpec) -> Self {
        Self { mask, is_masked: false }
    }

    /// Parses the column. The result is `None` if it is empty.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, SkipReason> {
        if text.is_empty() {
            return Ok(None);
        }
        let object = match serde_json::from_str(text) {
            Ok(Column::List(hosts)) => Object { hosts, ..Object::default() },
            Ok(Column::Object(object)) => object,
            Err(_) => return Err(SkipReason::InvalidHosts),
        };
        let mut mask = MaskSpec::new(object.hosts).parts(object.parts.into_iter().map(Into::into));
        mask.allows_plaintext = object.plaintext;
        mask.allows_shared_domains = object.shared_domains;
        Ok(Some(Self { mask, is_masked: object.masked }))
    }

    /// Returns the text of the column.
    pub(super) fn to_column(&self) -> String {
        let parts = self.mask.parts.iter().map(|part| match part {
            RequestPart::Headers => Part::Headers,
            RequestPart::Query => Part::Query,
            RequestPart::Body => Part::Body,
        });
        let object = Object {
            hosts: self.mask.hosts.clone(),
            parts: parts.collect(),
            masked: self.is_masked,
            plaintext: self.mask.allows_plaintext,
            shared_domains: self.mask.allows_shared_domains,
        };
        let hosts = Object { hosts: object.hosts.clone(), ..Object::default() };
        let column =
            if object == hosts { Column::List(hosts.hosts) } else { Column::Object(object) };
        serde_json::to_string(&column).unwrap_or_default()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Column {
    List(Vec<String>),
    Object(Object),
}

#[derive(Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Object {
    hosts: Vec<String>,
    #[serde(rename = "in", default = "default_parts")]
    parts: Vec<Part>,
    #[serde(default = "yes")]
    masked: bool,
    #[serde(default)]
    plaintext: bool,
    #[serde(default)]
    shared_domains: bool,
}

impl Default for Object {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            parts: default_parts(),
            masked: yes(),
            plaintext: false,
            shared_domains: false,
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Headers,
    Query,
    Body,
}

impl From<Part> for RequestPart {
    fn from(part: Part) -> Self {
        match part {
            Part::Headers => Self::Headers,
            Part::Query => Self::Query,
            Part::Body => Self::Body,
        }
    }
}

fn default_parts() -> Vec<Part> {
    vec![Part::Headers, Part::Query]
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hosts: &VariableHosts, column: &str) {
        assert_eq!(hosts.to_column(), column);
        assert_eq!(VariableHosts::parse(column), Ok(Some(hosts.clone())));
    }

    #[test]
    fn the_usual_column_is_a_list_and_every_setting_is_kept() {
        let mask = MaskSpec::new(["a.test", "*.b.test:443"]);
        check(&VariableHosts::masked(mask.clone()), r#"["a.test","*.b.test:443"]"#);
        let mask = MaskSpec::new(["a.test"]).parts([RequestPart::Body]).allow_plaintext();
        check(
            &VariableHosts::unmasked(mask.allow_shared_domains()),
            r#"{"hosts":["a.test"],"in":["body"],"masked":false,"plaintext":true,"sharedDomains":true}"#,
        );
    }

    #[test]
    fn an_unknown_form_is_not_guessed() {
        assert_eq!(VariableHosts::parse(""), Ok(None));
        for column in [" ", "a.test", "{}", "[1]", "null", r#"{"hosts":["a.test"],"mask":false}"#] {
            assert_eq!(VariableHosts::parse(column), Err(SkipReason::InvalidHosts), "{column}");
        }
    }
}
