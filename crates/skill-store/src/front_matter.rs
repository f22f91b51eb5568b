//! The front matter of SKILL.md, which the Agent Skills specification defines (agentskills.io).

mod delimiters;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error_kind::ErrorKind;
use crate::names::{has_deceptive_in_text, without_deceptive};
use crate::yaml_node::{Field, Node, message};

use delimiters::front_matter;

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION: usize = 1024;
const MAX_COMPATIBILITY: usize = 500;
/// Problem of a text that a reader would see differently from a model.
const DECEPTIVE: &str = "has a control character, or one that hides or reorders text";
/// Fields of the specification.
const FIELDS: [&str; 6] =
    ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

/// The front matter of SKILL.md.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FrontMatter {
    /// Name of the skill: 1–64 lower-case letters, digits and single hyphens.
    pub name: String,
    /// Purpose of the skill and occasions to use it, at most 1,024 characters.
    pub description: String,
    /// Licence of the skill.
    #[serde(default)]
    pub license: Option<String>,
    /// Requirements of the skill, at most 500 characters.
    #[serde(default)]
    pub compatibility: Option<String>,
    /// Further values, for clients that know them.
    #[serde(default, deserialize_with = "map_or_nothing")]
    pub metadata: BTreeMap<String, String>,
    /// Tools that the skill may use, separated by spaces.
    #[serde(default)]
    pub allowed_tools: Option<String>,
}

/// The check of a SKILL.md before it is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strictness {
    /// Every deviation from the specification is an error.
    #[default]
    Strict,
    /// Deviations are reported: fields of other clients, texts that are too long, other names,
    /// values of another type, and deceptive characters, which are removed from what is parsed.
    Lenient,
}

/// A place in SKILL.md. Lines and columns begin with 1, and columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// A deviation of a SKILL.md from the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deviation {
    /// The place of the field or value.
    pub position: Position,
    /// The field.
    pub field: String,
    /// The rule that it breaks.
    pub problem: String,
}

/// Errors of a SKILL.md.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrontMatterError {
    /// The file is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The file has no front matter.
    #[error(
        "it does not begin with front matter: a line `---`, then `name: …` and `description: …`, \
         then a line `---`"
    )]
    Absent,
    /// The line that ends the front matter is absent.
    #[error("its front matter has no line `---` at its end")]
    Unclosed,
    /// The front matter is too large.
    #[error("its front matter has more than 64 KiB")]
    TooLarge,
    /// The front matter is not YAML, or a required field is absent.
    #[error("its front matter cannot be read{}: {problem}", at(*position))]
    Yaml {
        /// The place of the problem, if it is known.
        position: Option<Position>,
        /// The message of the parser.
        problem: String,
    },
    /// The front matter deviates from the specification.
    #[error("its front matter breaks the specification: {}", lines(deviations))]
    Deviations {
        /// Each deviation, in the order of the file.
        deviations: Vec<Deviation>,
        /// The front matter, if [`Strictness::Lenient`] accepts it.
        lenient: Option<Box<FrontMatter>>,
    },
}

impl FrontMatterError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl Position {
    pub(crate) fn new(line: u64, column: u64) -> Self {
        Self { line, column }
    }

    /// Turns a place in the YAML into the place in the file, where `---` is the first line.
    fn in_file(self) -> Self {
        Self { line: self.line + 1, column: self.column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.position, self.field, self.problem)
    }
}

impl FrontMatter {
    /// Parses the front matter of SKILL.md and checks it strictly.
    ///
    /// # Errors
    /// Returns [`FrontMatterError`] if the front matter is absent or breaks the specification.
    pub fn parse(skill_file: &[u8]) -> Result<Self, FrontMatterError> {
        let (parsed, deviations) = Self::parse_for(skill_file, Strictness::Strict)?;
        if deviations.is_empty() {
            return Ok(parsed);
        }
        Err(FrontMatterError::Deviations { deviations, lenient: Some(Box::new(parsed)) })
    }

    /// Parses the front matter of SKILL.md, and returns its deviations from the specification in
    /// the order of the file. Values of another type than the specification says are left out.
    ///
    /// # Errors
    /// Returns [`FrontMatterError`] if the front matter is absent, is not YAML, or has no name or
    /// no description. It has only the deviations that keep it from being accepted.
    pub fn parse_leniently(skill_file: &[u8]) -> Result<(Self, Vec<Deviation>), FrontMatterError> {
        Self::parse_for(skill_file, Strictness::Lenient)
    }

    /// Returns every field of the front matter as JSON, as its author wrote it, without a check.
    ///
    /// # Errors
    /// Returns [`FrontMatterError`] if the front matter is absent, or is no map in YAML.
    pub fn fields(skill_file: &[u8]) -> Result<Map<String, Value>, FrontMatterError> {
        let yaml = front_matter(skill_file)?;
        serde_saphyr::from_str(yaml).map_err(|error| yaml_error(message(&error)))
    }

    /// Parses like [`Self::parse_leniently`]. A strict error has all deviations.
    fn parse_for(
        skill_file: &[u8],
        strictness: Strictness,
    ) -> Result<(Self, Vec<Deviation>), FrontMatterError> {
        let yaml = front_matter(skill_file)?;
        // The typed parser keeps the spelling of scalars, such as `1.0`.
        let typed: Result<Self, _> = serde_saphyr::from_str(yaml);
        if let Ok(parsed) = &typed
            && parsed.rules().next().is_none()
        {
            return Ok((typed.expect("it was parsed"), Vec::new()));
        }
        let Node::Map(fields) = Node::parse(yaml).map_err(yaml_error)? else {
            let problem = "it is no map with `name: …` and `description: …`".to_owned();
            return Err(FrontMatterError::Yaml { position: None, problem });
        };
        let mut deviations = deviations_of(&fields);
        let is_required = |name: &str| matches!(name, "name" | "description");
        let is_text = |field: &&Field| matches!(field.value, Node::Scalar(_));
        let texts = || fields.iter().filter(is_text);
        let is_complete = texts().filter(|field| is_required(&field.name)).count() == 2;
        let mut parsed = match typed {
            Ok(parsed) => parsed,
            Err(error) if !is_complete && deviations.is_empty() => {
                return Err(yaml_error(message(&error)));
            }
            Err(_) => from_fields(&fields),
        };
        for (field, problem) in parsed.rules() {
            let place = fields.iter().find(|found| found.name == field);
            // A required field of another type is reported already.
            let is_reported = place.is_some_and(|found| !matches!(found.value, Node::Scalar(_)));
            let is_absent = place.is_none() && is_required(field);
            let problem = if is_absent { "is missing" } else { problem };
            if !is_required(field) || !is_reported {
                deviations.push(deviation(place, field, problem));
            }
        }
        deviations.sort_by_key(|deviation| deviation.position);
        if !is_complete {
            if strictness == Strictness::Lenient {
                let is_given = |name: &str| texts().any(|field| field.name == name);
                deviations.retain(|found| is_required(&found.field) && !is_given(&found.field));
            }
            return Err(FrontMatterError::Deviations { deviations, lenient: None });
        }
        if deviations.is_empty() {
            // The parser of types has another reason, which is no deviation of a known kind.
            let error = serde_saphyr::from_str::<Self>(yaml).err();
            return error
                .map_or(Ok((parsed, Vec::new())), |error| Err(yaml_error(message(&error))));
        }
        parsed.clean();
        Ok((parsed, deviations))
    }

    /// Removes deceptive characters, which [`Self::rules`] report.
    fn clean(&mut self) {
        let fields = [&mut self.license, &mut self.compatibility, &mut self.allowed_tools];
        for text in [&mut self.description].into_iter().chain(fields.into_iter().flatten()) {
            *text = without_deceptive(text);
        }
    }

    /// Returns the fields that break a rule about their text.
    fn rules(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &self.name;
        let name = if name.is_empty() || name.chars().count() > MAX_NAME {
            Some("must have 1 to 64 characters")
        } else if !name.chars().all(allowed) {
            Some("may have lower-case letters, digits and hyphens only")
        } else if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
            Some("must not begin or end with a hyphen, nor have two in a row")
        } else {
            None
        };
        let count = self.description.chars().count();
        let description = self.description.trim().is_empty() || count > MAX_DESCRIPTION;
        let compatibility = self.compatibility.as_ref().map(|text| text.chars().count());
        let compatibility =
            compatibility.is_some_and(|count| count == 0 || count > MAX_COMPATIBILITY);
        let broken = |is_broken: bool, problem| is_broken.then_some(problem);
        let deceptive = |text: Option<&String>| {
            let has_one = text.is_some_and(|text| has_deceptive_in_text(text));
            broken(has_one, DECEPTIVE)
        };
        [
            ("description", deceptive(Some(&self.description))),
            ("license", deceptive(self.license.as_ref())),
            ("compatibility", deceptive(self.compatibility.as_ref())),
            ("allowed-tools", deceptive(self.allowed_tools.as_ref())),
            ("name", name),
            ("description", broken(description, "must have 1 to 1,024 characters")),
            (
                "compatibility",
                broken(compatibility, "must have 1 to 500 characters where it stands"),
            ),
        ]
        .into_iter()
        .filter_map(|(field, problem)| Some((field, problem?)))
    }
}

/// Reads a map, also from a field without a value.
fn map_or_nothing<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Returns unknown fields, and values of another type than the specification says.
fn deviations_of(fields: &[Field]) -> Vec<Deviation> {
    let mut found = Vec::new();
    let mut add = |field: &Field, position: Position, problem: String| {
        let name = field.name.chars().take(80).collect();
        found.push(Deviation { position: position.in_file(), field: name, problem });
    };
    for field in fields {
        match (&*field.name, &field.value) {
            ("metadata", Node::Map(entries)) => {
                for entry in entries {
                    if !matches!(entry.value, Node::Scalar(_)) {
                        let problem = format!("must be a text, and is {}", entry.value.kind());
                        add(entry, entry.value_position, problem);
                    }
                }
            }
            ("metadata", Node::Null) => {}
            ("metadata", other) => {
                add(field, field.value_position, format!("must be a map, and is {}", other.kind()));
            }
            (name, Node::Scalar(_)) if FIELDS.contains(&name) => {}
            ("license" | "compatibility" | "allowed-tools", Node::Null) => {}
            ("allowed-tools", Node::List(_)) => {
                let problem = "must be one text with spaces, and is a list".to_owned();
                add(field, field.value_position, problem);
            }
            (name, other) if FIELDS.contains(&name) => {
                let problem = format!("must be a text, and is {}", other.kind());
                add(field, field.value_position, problem);
            }
            _ => add(field, field.name_position, "is no field of the specification".to_owned()),
        }
    }
    found
}

/// Reads the fields that have the right type, and a list of tools. A name or description that is
/// absent is empty.
fn from_fields(fields: &[Field]) -> FrontMatter {
    let text = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        match &field.value {
            Node::Scalar(text) => Some(text.clone()),
            Node::List(list) if name == "allowed-tools" => {
                let words = list.iter().filter_map(|node| match node {
                    Node::Scalar(text) => Some(text.as_str()),
                    _ => None,
                });
                Some(words.collect::<Vec<_>>().join(" "))
            }
            _ => None,
        }
    };
    let mut metadata = BTreeMap::new();
    for field in fields {
        if let ("metadata", Node::Map(entries)) = (&*field.name, &field.value) {
            metadata.extend(entries.iter().filter_map(|entry| match &entry.value {
                Node::Scalar(text) => Some((entry.name.clone(), text.clone())),
                _ => None,
            }));
        }
    }
    FrontMatter {
        name: text("name").unwrap_or_default(),
        description: text("description").unwrap_or_default(),
        license: text("license"),
        compatibility: text("compatibility"),
        metadata,
        allowed_tools: text("allowed-tools"),
    }
}

fn deviation(place: Option<&Field>, field: &str, problem: &str) -> Deviation {
    let position = place.map_or(Position::new(0, 1), |found| found.value_position);
    Deviation { position: position.in_file(), field: field.to_owned(), problem: problem.to_owned() }
}

/// Returns the description in a SKILL.md, also if other fields break the specification.
pub(crate) fn description(skill_file: &[u8]) -> Result<String, FrontMatterError> {
    #[derive(Deserialize)]
    struct Lenient {
        description: String,
    }
    let lenient: Lenient = serde_saphyr::from_str(front_matter(skill_file)?)
        .map_err(|error| yaml_error(message(&error)))?;
    let shown = without_deceptive(&lenient.description);
    Ok(shown.chars().take(MAX_DESCRIPTION).collect())
}

fn yaml_error((problem, position): (String, Option<Position>)) -> FrontMatterError {
    FrontMatterError::Yaml { position: position.map(Position::in_file), problem }
}

fn at(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at {position}"))
}

fn lines(deviations: &[Deviation]) -> String {
    deviations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
