//! The URL schemes of stores and of variables, and the features that add them.

use object_store::path::Path as Key;

use crate::failure::Failure;

/// A URL scheme, and the feature that adds it.
pub(crate) struct Scheme {
    /// The beginning of a URL, such as `s3://`.
    pub(crate) prefix: &'static str,
    /// `None` if every build has the scheme.
    feature: Option<&'static str>,
    pub(crate) is_built_in: bool,
}

/// The schemes of `--store`.
pub(crate) const STORES: [Scheme; 5] = [
    Scheme { prefix: "memory://", feature: None, is_built_in: true },
    Scheme { prefix: "file://", feature: Some("fs"), is_built_in: cfg!(feature = "fs") },
    Scheme { prefix: "s3://", feature: Some("s3"), is_built_in: cfg!(feature = "s3") },
    Scheme { prefix: "gs://", feature: Some("gcs"), is_built_in: cfg!(feature = "gcs") },
    Scheme { prefix: "az://", feature: Some("azure"), is_built_in: cfg!(feature = "azure") },
];

/// The schemes of `--variables`.
pub(crate) const VARIABLES: [Scheme; 3] = [
    Scheme { prefix: "sqlite:", feature: Some("sqlite"), is_built_in: cfg!(feature = "sqlite") },
    Scheme {
        prefix: "postgres://",
        feature: Some("postgres"),
        is_built_in: cfg!(feature = "postgres"),
    },
    Scheme {
        prefix: "postgresql://",
        feature: Some("postgres"),
        is_built_in: cfg!(feature = "postgres"),
    },
];

impl Scheme {
    /// Returns the way to get the scheme if this build lacks it.
    pub(crate) fn remedy(&self) -> Option<String> {
        let feature = self.feature.filter(|_| !self.is_built_in)?;
        Some(format!("is not in this build; one with the feature `{feature}` has it"))
    }
}

/// Returns an error with the remedy if `url` has a scheme that this build lacks.
pub(crate) fn check(url: &str, schemes: &[Scheme]) -> Result<(), Failure> {
    let scheme = schemes.iter().find(|scheme| has_prefix(url, scheme.prefix));
    match scheme.and_then(|scheme| Some((scheme.prefix, scheme.remedy()?))) {
        Some((prefix, remedy)) => Err(Failure::not_run_text(format!("{prefix} {remedy}"))),
        None => Ok(()),
    }
}

/// Returns the path of the URL of a store, below which its keys are. A directory is a store as a
/// whole.
pub(crate) fn prefix(url: &str) -> Result<Key, object_store::path::Error> {
    let is_cloud = ["s3://", "gs://", "az://"].iter().any(|scheme| has_prefix(url, scheme));
    let path = url.splitn(4, '/').nth(3).filter(|_| is_cloud);
    Key::parse(path.unwrap_or_default())
}

fn has_prefix(url: &str, prefix: &str) -> bool {
    url.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_tools::secrets::sql::VariableStore;
    use agent_tools::{Storage, StoreError};

    #[test]
    fn the_table_agrees_with_the_libraries() {
        for scheme in &STORES {
            let opened = Storage::open(&format!("{}bucket/prefix", scheme.prefix));
            let is_missing = matches!(opened, Err(StoreError::FeatureDisabled { .. }));
            assert_eq!(is_missing, !scheme.is_built_in, "{}", scheme.prefix);
        }
        for scheme in &VARIABLES {
            let accepted = VariableStore::check_url(&format!("{}host/database", scheme.prefix));
            assert_eq!(accepted.is_ok(), scheme.is_built_in, "{}", scheme.prefix);
        }
    }

    #[test]
    fn the_prefix_of_a_url_is_that_of_the_opened_store() {
        for (url, expected) in [
            ("s3://bucket/a/b", "a/b"),
            ("gs://bucket/a/", "a"),
            ("az://bucket", ""),
            ("file:///srv/store", ""),
            ("memory:///", ""),
        ] {
            assert_eq!(prefix(url).unwrap().as_ref(), expected, "{url}");
        }
        assert!(prefix("s3://bucket/a//b").is_err());
    }

    #[test]
    fn a_missing_scheme_is_reported_with_its_remedy() {
        let missing = [Scheme { prefix: "gs://", feature: Some("gcs"), is_built_in: false }];
        let failure = check("GS://bucket", &missing).unwrap_err();
        let expected = "gs:// is not in this build; one with the feature `gcs` has it";
        assert_eq!(failure.message(), expected);
        assert!(check("s3://bucket", &missing).is_ok() && check("gs", &missing).is_ok());
    }
}
