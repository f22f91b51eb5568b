//! JSON values as they are written, and their differences from the types of settings.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_core::ser::{Serialize, SerializeMap, Serializer};

use crate::setting_path::{Segment, SettingPath, shortened};

/// A JSON value. An object keeps its keys in order, repeated ones too.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    /// A number such as `8080.0` or `3e0` is an integer in JavaScript.
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        let is_integer = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is an integer from 0 to u32::MAX"
        )]
        Ok(if is_integer { Node::Unsigned(value as u64) } else { Node::Float(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(entries))
    }
}

impl Node {
    /// Removes and returns the setting with this path; of a repeated key, the last one.
    pub(crate) fn take(&mut self, path: &SettingPath) -> Option<Self> {
        let keys: Vec<&str> = path.keys().collect();
        let (last, above) = keys.split_last()?;
        let Some(Self::Object(entries)) = self.find(above) else { return None };
        let index = entries.iter().rposition(|(name, _)| name == last)?;
        Some(entries.remove(index).1)
    }

    /// Adds a setting with this path to the object that should have it.
    pub(crate) fn add(&mut self, path: &SettingPath, value: Self) {
        let keys: Vec<&str> = path.keys().collect();
        let Some((last, above)) = keys.split_last() else { return };
        if let Some(Self::Object(entries)) = self.find(above) {
            entries.push(((*last).to_owned(), value));
        }
    }

    /// Replaces the setting with this path, or the list that has it. Returns whether it was there.
    pub(crate) fn set(&mut self, path: &SettingPath, value: Self) -> bool {
        let keys: Vec<&str> = path.keys().collect();
        self.find(&keys).map(|found| *found = value).is_some()
    }

    /// Returns a value of each type.
    pub(crate) fn samples() -> [Self; 5] {
        let text = String::new();
        [
            Self::Array(Vec::new()),
            Self::Object(Vec::new()),
            Self::String(text),
            Self::Bool(false),
            Self::Unsigned(1),
        ]
    }

    fn find(&mut self, keys: &[&str]) -> Option<&mut Self> {
        keys.iter().try_fold(self, |at, key| {
            let Self::Object(entries) = at else { return None };
            entries.iter_mut().rev().find(|(name, _)| name == key).map(|(_, node)| node)
        })
    }

    /// Describes the value in the words of JSON.
    fn description(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::String(value) => format!("the text {:?}", shortened(value)),
            Self::Array(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Difference between a value and the type that it should have.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// Path of the value, from the inside.
    path: Vec<Segment>,
    pub(crate) problem: Problem,
}

/// Kind of a [`Mismatch`].
#[derive(Debug)]
pub(crate) enum Problem {
    UnknownKey { nearest: Option<String> },
    Value(String),
}

impl Mismatch {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { path: Vec::new(), problem: Problem::Value(problem.into()) }
    }

    /// Describes a value of another type.
    pub(crate) fn of_type(node: &Node, expected: &str) -> Self {
        Self::new(format!("is {}; expected {expected}", node.description()))
    }

    pub(crate) fn unknown_key(key: &str, known: &[&str]) -> Self {
        let problem = Problem::UnknownKey { nearest: nearest(key, known) };
        Self { path: vec![Segment::Key(key.to_owned())], problem }
    }

    /// Adds the key or the index above the value.
    #[must_use]
    pub(crate) fn below(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }

    /// Returns the path of the value.
    pub(crate) fn path(&self) -> SettingPath {
        self.path.iter().rev().cloned().collect()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        match &self.problem {
            Problem::UnknownKey { .. } => f.write_str("unknown key"),
            Problem::Value(problem) => f.write_str(problem),
        }
    }
}

/// Returns the known key that resembles an unknown one most.
fn nearest(unknown: &str, known: &[&str]) -> Option<String> {
    /// Longest key that can resemble a known one.
    const MAX_BYTES: usize = 64;
    if unknown.len() > MAX_BYTES {
        return None;
    }
    let similar = known
        .iter()
        .map(|key| (distance(&unknown.to_lowercase(), &key.to_lowercase()), *key))
        .filter(|(distance, key)| *distance <= key.len() / 2);
    similar.min().map(|(_, key)| key.to_owned())
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
