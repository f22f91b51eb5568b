//! Environment variables whose values are secrets.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

use crate::mask::MaskSpec;
use crate::name::{SkipReason, check_name, check_value};
use crate::revision::Revision;

/// Environment variables in the order of their names.
///
/// Values are wiped from memory when they are dropped, and `Debug` does not show them.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, SecretString>,
}

impl Variables {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable, or replaces the one with the same name.
    ///
    /// # Errors
    ///
    /// Returns the [`SkipReason`] if the name or the value is not allowed in the environment of a
    /// command. The set is unchanged.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        value: SecretString,
    ) -> Result<(), SkipReason> {
        let name = name.into();
        check_name(&name)?;
        check_value(&name, value.expose_secret())?;
        self.values.insert(name, value);
        Ok(())
    }

    /// Returns the value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.values.get(name)
    }

    /// Returns names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the number of variables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A variable of a source that commands do not get.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedVariable {
    /// The name in the source.
    pub name: String,
    /// The reason.
    pub reason: SkipReason,
}

/// The variables of a source, and the ones that were skipped.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadedVariables {
    /// The variables that are allowed in the environment of a command.
    pub variables: Variables,
    /// The skipped ones, in the order of the source.
    pub skipped: Vec<SkippedVariable>,
    /// The masks of variables that commands use without their values, by name.
    pub masks: BTreeMap<String, MaskSpec>,
    /// The state of the source, for
    /// [`VariableSource::changed_since`](crate::VariableSource::changed_since). `None` if only a
    /// load can tell whether the source has changed.
    pub revision: Option<Revision>,
}

impl LoadedVariables {
    /// Adds a variable, or records the reason to skip it. If there is one with the same name, the
    /// later one wins, and the earlier one is recorded as [`SkipReason::Duplicate`].
    pub fn insert(&mut self, name: &str, value: SecretString) {
        let is_taken = self.variables.get(name).is_some();
        match self.variables.insert(name, value) {
            Ok(()) if is_taken => self.skip(name, SkipReason::Duplicate),
            Ok(()) => {}
            Err(reason) => self.skip(name, reason),
        }
    }

    /// Adds a variable like [`Self::insert`]. Commands get a placeholder for its value.
    pub fn insert_masked(&mut self, name: &str, value: SecretString, mask: MaskSpec) {
        self.insert(name, value);
        if self.variables.get(name).is_some() {
            self.masks.insert(name.to_owned(), mask);
        }
    }

    /// Records a skipped variable.
    pub fn skip(&mut self, name: &str, reason: SkipReason) {
        self.skipped.push(SkippedVariable { name: name.to_owned(), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_ordered_by_name_and_the_later_value_wins() {
        let mut variables = Variables::new();
        for (name, value) in [("B", "1"), ("A", "2"), ("B", "3")] {
            variables.insert(name, SecretString::from(value)).unwrap();
        }
        let all: Vec<_> =
            variables.iter().map(|(name, value)| (name, value.expose_secret())).collect();
        assert_eq!(all, [("A", "2"), ("B", "3")]);
        assert_eq!(variables.len(), 2);
    }

    #[test]
    fn an_invalid_variable_leaves_the_set_unchanged() {
        let mut variables = Variables::new();
        variables.insert("A", SecretString::from("kept")).unwrap();
        assert_eq!(variables.insert("A", SecretString::from("a\0b")), Err(SkipReason::NulInValue));
        assert_eq!(variables.get("A").unwrap().expose_secret(), "kept");
    }

    #[test]
    fn debug_shows_names_but_no_value() {
        let mut loaded = LoadedVariables::default();
        loaded.insert("TOKEN", SecretString::from("hunter2"));
        loaded.insert("_HIDDEN", SecretString::from("hunter3"));
        let shown = format!("{loaded:?}");
        assert!(
            shown.contains("TOKEN") && shown.contains("_HIDDEN") && !shown.contains("hunter"),
            "{shown}"
        );
    }
}
