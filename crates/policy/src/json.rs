//! JSON values as they are written, and their strict conversion to types.
//!
//! Serde also reads a struct from an array, an enum from an object and a missing value from `null`.
//! srt reads none of these, and neither does this deserializer.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use crate::setting_path::{SettingPath, shortened};

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

    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Signed(value) => Unexpected::Signed(*value),
            Self::Float(value) => Unexpected::Float(*value),
            Self::String(value) => Unexpected::Str(value),
            Self::Array(_) => Unexpected::Seq,
            Self::Object(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::String(value) => visitor.visit_borrowed_str(value),
            Node::Array(items) => {
                let mut items = SeqDeserializer::new(items.iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Node::Object(entries) => visitor.visit_map(Entries {
                entries: entries.iter(),
                seen: HashSet::with_capacity(entries.len()),
                current: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Node::Null => Err(Mismatch::Value("is null; leave the key out".to_owned())),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Node::Object(_) => self.deserialize_any(visitor),
            _ => Err(de::Error::invalid_type(self.unexpected(), &"an object")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Node::String(value) => visitor.visit_enum(value.as_str().into_deserializer()),
            _ => Err(de::Error::invalid_type(self.unexpected(), &"a text")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

impl<'de> IntoDeserializer<'de, Mismatch> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The entries of an object.
struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Node)>,
    seen: HashSet<&'de str>,
    current: Option<&'de (String, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        self.current = self.entries.next();
        self.current.map(|(key, _)| seed.deserialize(key.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Mismatch> {
        let Some((key, value)) = self.current else {
            return Err(de::Error::custom("a value precedes its key"));
        };
        if !self.seen.insert(key) {
            return Err(Mismatch::Repeated { key: key.clone() });
        }
        seed.deserialize(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Difference between a value and the type that it should have.
#[derive(Debug)]
pub(crate) enum Mismatch {
    UnknownKey {
        nearest: Option<String>,
    },
    /// A key of the object is given twice.
    Repeated {
        key: String,
    },
    Value(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { .. } => f.write_str("unknown key"),
            Self::Repeated { key } => write!(f, "the key {key:?} is given twice"),
            Self::Value(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Str(text) => format!("the text {:?}", shortened(text)),
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Unsigned(value) => value.to_string(),
            Unexpected::Signed(value) => value.to_string(),
            Unexpected::Float(value) => value.to_string(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "an object".to_owned(),
            Unexpected::Unit => "null".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        Self::Value(format!("is {found}; expected {}", plain_words(&expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        let noun = if length == 1 { "entry" } else { "entries" };
        let expected = expected.to_string();
        Self::Value(format!("has {length} {noun}; expected {}", plain_words(&expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>();
        let found = shortened(variant);
        Self::Value(format!("is {found:?}; expected one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey { nearest: nearest(field, expected) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Value(format!("the key {field:?} is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Repeated { key: field.to_owned() }
    }
}

/// Returns serde's description of a type in the words of JSON.
fn plain_words(expected: &str) -> &str {
    match expected {
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" | "usize" => "a number of 0 or more",
        "a boolean" => "true or false",
        "a string" | "str" | "string" => "a text",
        "a sequence" => "a list",
        "a map" => "an object",
        // The length of a list with one form only.
        other => other
            .strip_prefix("a tuple of size ")
            .or_else(|| other.strip_suffix(" elements in sequence"))
            .unwrap_or(other),
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
