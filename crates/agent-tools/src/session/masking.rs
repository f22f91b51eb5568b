//! Masks of a session's variables: placeholders for commands, in the place of values.

use std::collections::{BTreeMap, BTreeSet};

use egress::check_hosts;
use sandbox_core::internal::lock;
use secrets::{Mask, MaskSpec, Masks, Variables};

use super::Session;
use crate::sharing::{Difference, SharingError};

/// The variables as commands see them.
#[derive(Debug, Default)]
pub(super) struct Masked {
    pub(super) masks: Masks,
    /// Placeholders of masked variables, and the values of the others.
    pub(super) shown: Variables,
    pub(super) warnings: Vec<String>,
}

/// Masks variables. The masks of the request take precedence over those of the source, and a name
/// keeps the placeholder that it had before.
///
/// A variable whose mask is invalid is not shown at all.
pub(super) fn mask(
    given: &Variables,
    of_source: &BTreeMap<String, MaskSpec>,
    of_request: &BTreeMap<String, MaskSpec>,
    before: &Masks,
) -> Masked {
    let mut masked = Masked::default();
    let (mut valid, mut names) = (Vec::new(), BTreeSet::new());
    for (name, value) in given.iter() {
        let Some(spec) = of_request.get(name).or_else(|| of_source.get(name)) else { continue };
        names.insert(name);
        let mask = spec.mask(name, value.clone());
        match problem(&mask) {
            None => valid.push(mask),
            Some(problem) => masked
                .warnings
                .push(format!("variable {name}: commands do not get it, because {problem}")),
        }
    }
    match before.renewed(valid) {
        Ok(masks) => masked.masks = masks,
        Err(error) => masked.warnings.push(format!("masked variables are missing: {error}")),
    }
    for (name, value) in given.iter() {
        let shown = match masked.masks.placeholder(name) {
            Some(placeholder) => placeholder.into(),
            None if names.contains(name) => continue,
            None => value.clone(),
        };
        // The set has accepted the name before, and a placeholder has no special characters.
        let _ = masked.shown.insert(name, shown);
    }
    let absent = of_request.keys().filter(|name| given.get(name).is_none());
    masked
        .warnings
        .extend(absent.map(|name| format!("variable {name}: masked, but commands do not get it")));
    masked
}

impl Session {
    /// Returns an error if a request has masks that are not those of the session. They cannot
    /// change while it is open.
    pub(crate) fn check_masks(
        &self,
        masks: &BTreeMap<String, MaskSpec>,
    ) -> Result<(), SharingError> {
        if masks.is_empty() || lock(&self.spec).masks == *masks {
            return Ok(());
        }
        let (session, what) = (self.id.clone(), vec![Difference::Variables]);
        Err(SharingError::Differs { session, pid: std::process::id(), what })
    }
}

fn problem(mask: &Mask) -> Option<String> {
    let checked = Masks::new([mask.clone()]).map(drop).map_err(|error| error.to_string());
    checked.and_then(|()| check_hosts(mask).map_err(|error| error.to_string())).err()
}

#[cfg(test)]
mod tests {
    use secrets::ExposeSecret as _;

    use super::*;

    #[test]
    fn only_a_valid_mask_shows_a_variable_and_none_shows_its_value() {
        let mut given = Variables::new();
        for name in ["GOOD", "PLAIN", "SHORT", "SHARED", "LATER"] {
            let value = if name == "SHORT" { "x" } else { "a long secret value" };
            given.insert(name, value.into()).unwrap();
        }
        let specs = [("GOOD", "a.test"), ("SHORT", "a.test"), ("SHARED", "*.github.io")];
        let of_source = specs.map(|(name, host)| (name.to_owned(), MaskSpec::new([host])));
        let of_request = ["LATER", "ABSENT"].map(|name| (name.into(), MaskSpec::new(["b.test"])));
        let [of_source, of_request] =
            [of_source.into_iter().collect(), of_request.into_iter().collect()];
        let masked = mask(&given, &of_source, &of_request, &Masks::default());
        let shown: Vec<_> = masked.shown.iter().map(|(name, _)| name).collect();
        assert_eq!(shown, ["GOOD", "LATER", "PLAIN"]);
        for name in ["GOOD", "LATER"] {
            let shown = masked.shown.get(name).unwrap().expose_secret();
            assert_eq!(Some(shown), masked.masks.placeholder(name));
            assert!(!shown.contains("secret"));
        }
        let warnings = masked.warnings.join("\n");
        for name in ["SHORT: commands do not", "SHARED: commands do not", "ABSENT: masked, but"] {
            assert!(warnings.contains(name), "{warnings}");
        }
        let again = mask(&given, &of_source, &of_request, &masked.masks);
        assert_eq!(again.masks.placeholder("GOOD"), masked.masks.placeholder("GOOD"));
    }
}
