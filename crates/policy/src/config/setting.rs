//! Conversion of settings from and to JSON.
//!
//! The tables of `object!` and `choice!` stand for serde's derive, which would take most of the
//! time of a build of this crate. Like srt, they read no struct from a list, no enum from an object
//! and no absent value from `null`.

use std::collections::BTreeMap;

use crate::json::{Mismatch, Node};
use crate::setting_path::Segment;

/// Problem of a repeated key.
pub(crate) const GIVEN_TWICE: &str = "is given twice";

/// Type of a setting.
pub(crate) trait Setting: Sized {
    /// Reads the value of a key, or an entry of a list.
    fn read(node: &Node) -> Result<Self, Mismatch>;

    /// Returns the value as JSON; `None` leaves its key out.
    fn write(&self) -> Option<Node>;

    /// Returns the value of an absent key; `None` if the key is required.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads the value of a key that may be given once.
pub(crate) fn read_key<T: Setting>(
    found: &mut Option<T>,
    key: &str,
    value: &Node,
) -> Result<(), Mismatch> {
    let read = if found.is_some() { Err(Mismatch::new(GIVEN_TWICE)) } else { T::read(value) };
    *found = Some(read.map_err(|mismatch| mismatch.below(Segment::Key(key.to_owned())))?);
    Ok(())
}

/// Returns the value of a key, or that of an absent one.
pub(crate) fn required<T: Setting>(value: Option<T>, key: &str) -> Result<T, Mismatch> {
    let value = value.or_else(T::absent);
    value.ok_or_else(|| Mismatch::new(format!("the key {key:?} is missing")))
}

/// Returns an object with the keys that have a value.
pub(crate) fn object_of<const N: usize>(entries: [(&str, Option<Node>); N]) -> Node {
    let present = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Node::Object(present.collect())
}

/// Implements serde's traits for a setting.
macro_rules! serde_like {
    ($type:ident) => {
        impl<'de> serde_core::Deserialize<'de> for $type {
            fn deserialize<D: serde_core::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let node =
                    <$crate::json::Node as serde_core::Deserialize>::deserialize(deserializer)?;
                $crate::config::setting::Setting::read(&node)
                    .map_err(<D::Error as serde_core::de::Error>::custom)
            }
        }

        impl serde_core::Serialize for $type {
            fn serialize<S: serde_core::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serde_core::Serialize::serialize(
                    &$crate::config::setting::Setting::write(self),
                    serializer,
                )
            }
        }
    };
}

/// Lists the keys of an object with their fields. A key with `or` has a default.
macro_rules! object {
    ($type:ident { $($key:literal => $field:ident $(or $default:expr)?),+ $(,)? }) => {
        impl $crate::config::setting::Setting for $type {
            fn read(node: &$crate::json::Node) -> Result<Self, $crate::json::Mismatch> {
                use $crate::config::setting::{read_key, required};
                let $crate::json::Node::Object(entries) = node else {
                    return Err($crate::json::Mismatch::of_type(node, "an object"));
                };
                $(let mut $field = None;)+
                for (key, value) in entries {
                    match key.as_str() {
                        $($key => read_key(&mut $field, key, value)?,)+
                        _ => return Err($crate::json::Mismatch::unknown_key(key, &[$($key),+])),
                    }
                }
                Ok(Self { $($field: required($field $(.or_else(|| Some($default)))?, $key)?),+ })
            }

            fn write(&self) -> Option<$crate::json::Node> {
                let entries = [$(($key, $crate::config::setting::Setting::write(&self.$field))),+];
                Some($crate::config::setting::object_of(entries))
            }
        }

        $crate::config::setting::serde_like!($type);
    };
}

/// Lists the texts of an enum with its variants.
macro_rules! choice {
    ($type:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::config::setting::Setting for $type {
            fn read(node: &$crate::json::Node) -> Result<Self, $crate::json::Mismatch> {
                match $crate::config::setting::one_of(node, &[$($text),+])? {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::json::Mismatch::of_type(node, "a text")),
                }
            }

            fn write(&self) -> Option<$crate::json::Node> {
                let text = match self { $(Self::$variant => $text),+ };
                Some($crate::json::Node::String(text.to_owned()))
            }
        }

        $crate::config::setting::serde_like!($type);
    };
}

pub(crate) use {choice, object, serde_like};

/// Returns the text that a value is, one of the known ones.
pub(crate) fn one_of<'n>(node: &'n Node, known: &[&str]) -> Result<&'n str, Mismatch> {
    let Node::String(text) = node else { return Err(Mismatch::of_type(node, "a text")) };
    if known.contains(&text.as_str()) {
        return Ok(text);
    }
    let known = known.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
    let found = crate::setting_path::shortened(text);
    Err(Mismatch::new(format!("is {found:?}; expected one of {known}")))
}

impl Setting for bool {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        match node {
            Node::Bool(value) => Ok(*value),
            other => Err(Mismatch::of_type(other, "true or false")),
        }
    }

    fn write(&self) -> Option<Node> {
        Some(Node::Bool(*self))
    }
}

macro_rules! integer {
    ($($type:ident)+) => {$(
        impl Setting for $type {
            fn read(node: &Node) -> Result<Self, Mismatch> {
                let value = match node {
                    Node::Unsigned(value) => Self::try_from(*value).ok(),
                    _ => None,
                };
                let expected = || format!("a number from 0 to {}", Self::MAX);
                value.ok_or_else(|| Mismatch::of_type(node, &expected()))
            }

            fn write(&self) -> Option<Node> {
                Some(Node::Unsigned(u64::from(*self)))
            }
        }
    )+};
}

integer!(u8 u16 u32);

impl Setting for String {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        match node {
            Node::String(text) => Ok(text.clone()),
            other => Err(Mismatch::of_type(other, "a text")),
        }
    }

    fn write(&self) -> Option<Node> {
        Some(Node::String(self.clone()))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        match node {
            Node::Null => Err(Mismatch::new("is null; leave the key out")),
            other => T::read(other).map(Some),
        }
    }

    fn write(&self) -> Option<Node> {
        self.as_ref()?.write()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        let Node::Array(items) = node else { return Err(Mismatch::of_type(node, "a list")) };
        let read =
            |(index, item)| T::read(item).map_err(|mismatch| mismatch.below(Segment::Index(index)));
        items.iter().enumerate().map(read).collect()
    }

    fn write(&self) -> Option<Node> {
        Some(Node::Array(self.iter().filter_map(T::write).collect()))
    }
}

impl<T: Setting> Setting for (T, T) {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        let mut items = Vec::<T>::read(node)?;
        let count = items.len();
        match (items.pop(), items.pop(), count) {
            (Some(second), Some(first), 2) => Ok((first, second)),
            (_, _, 1) => Err(Mismatch::new("has 1 entry; expected 2")),
            _ => Err(Mismatch::new(format!("has {count} entries; expected 2"))),
        }
    }

    fn write(&self) -> Option<Node> {
        Some(Node::Array(vec![self.0.write()?, self.1.write()?]))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn read(node: &Node) -> Result<Self, Mismatch> {
        let Node::Object(entries) = node else { return Err(Mismatch::of_type(node, "an object")) };
        let mut map = Self::new();
        for (key, value) in entries {
            let mut found = map.remove(key);
            read_key(&mut found, key, value)?;
            map.extend(found.map(|value| (key.clone(), value)));
        }
        Ok(map)
    }

    fn write(&self) -> Option<Node> {
        let entries = self.iter().filter_map(|(key, value)| Some((key.clone(), value.write()?)));
        Some(Node::Object(entries.collect()))
    }
}
