//! YAML without a schema, with the position of each field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Spanned};

use crate::front_matter::Position;

/// A value of a YAML document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// A field of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) name_position: Position,
    pub(crate) value: Node,
    pub(crate) value_position: Position,
}

impl Node {
    /// Parses a document.
    ///
    /// # Errors
    /// Returns the message of the parser, and the position if it is known.
    pub(crate) fn parse(yaml: &str) -> Result<Self, (String, Option<Position>)> {
        serde_saphyr::from_str(yaml).map_err(|error| message(&error))
    }

    /// Returns what a user would call the value.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Scalar(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Returns the message of an error without the quoted text, and its position.
pub(crate) fn message(error: &serde_saphyr::Error) -> (String, Option<Position>) {
    // The message has no position, because that counts from the line after `---`.
    let problem = DefaultMessageFormatter.format_message(error.without_snippet());
    let problem: String = problem.lines().next().unwrap_or_default().chars().take(200).collect();
    // The parser also names an option of its own, which no user can set.
    let repeated = problem.strip_prefix("duplicate mapping key: ");
    let repeated = repeated.map(|rest| rest.split(", set ").next().unwrap_or(rest));
    let problem = match repeated {
        Some(field) => format!("the field {field} is given twice"),
        None => in_plain_words(&problem).map_or(problem, str::to_owned),
    };
    let known = error.location().filter(|location| location.line() > 0);
    (problem, known.map(|location| Position::new(location.line(), location.column())))
}

/// Returns what a message means that names parts of the parser's own interface.
fn in_plain_words(problem: &str) -> Option<&'static str> {
    let begins = |start: &str| problem.starts_with(start);
    if begins("recursive references") {
        return Some("an alias is in the value that it refers to");
    }
    if begins("multiple YAML documents") {
        return Some("a line `...` or `---` begins another document; remove it");
    }
    if begins("budget breached") {
        return Some("its aliases stand for more values than a front matter may have");
    }
    if begins("invalid u") || begins("invalid i") {
        return Some("a tag says that a text is a number; remove the tag");
    }
    None
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
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let position =
            |location: serde_saphyr::Location| Position::new(location.line(), location.column());
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Node>>()? {
            fields.push(Field {
                name_position: position(name.referenced),
                name: name.value,
                value_position: position(value.referenced),
                value: value.value,
            });
        }
        Ok(Node::Map(fields))
    }
}
