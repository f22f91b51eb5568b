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
        let mut mask = MaskSpec::new(object.hosts).parts(object.parts);
        mask.allows_plaintext = object.plaintext;
        mask.allows_shared_domains = object.shared_domains;
        Ok(Some(Self { mask, is_masked: object.masked }))
    }

    /// Returns the text of the column.
    pub(super) fn to_column(&self) -> String {
        let object = Object {
            hosts: self.mask.hosts.clone(),
            parts: self.mask.parts.clone(),
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
    #[serde(rename = "in", default = "default_parts", with = "part_names")]
    parts: Vec<RequestPart>,
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

/// Parts of a request as a list of their names.
mod part_names {
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::mask::RequestPart;

    pub(super) fn serialize<S: Serializer>(
        parts: &[RequestPart],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(parts.iter().map(|part| part.name()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<RequestPart>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let part = |name: String| {
            let unknown =
                || D::Error::invalid_value(Unexpected::Str(&name), &"a part of a request");
            RequestPart::named(&name).ok_or_else(unknown)
        };
        names.into_iter().map(part).collect()
    }
}

fn default_parts() -> Vec<RequestPart> {
    MaskSpec::new([""; 0]).parts
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
        let unknown = [r#"{"hosts":["a.test"],"mask":false}"#, r#"{"hosts":[],"in":["Body"]}"#];
        for column in [" ", "a.test", "{}", "[1]", "null"].into_iter().chain(unknown) {
            assert_eq!(VariableHosts::parse(column), Err(SkipReason::InvalidHosts), "{column}");
        }
    }
}
