//! Variables that the host program holds.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::revision::{Changed, Revision};
use crate::source::VariableSource;
use crate::source_error::SourceError;
use crate::variables::LoadedVariables;

/// A fixed list of variables. If two entries have the same name, the later one wins, and the
/// earlier one is reported.
#[derive(Clone, Debug, Default)]
pub struct MapSource {
    entries: Vec<(String, SecretString)>,
}

impl MapSource {
    /// Creates a source of these names and values.
    pub fn new<N: Into<String>>(entries: impl IntoIterator<Item = (N, SecretString)>) -> Self {
        Self { entries: entries.into_iter().map(|(name, value)| (name.into(), value)).collect() }
    }
}

#[async_trait]
impl VariableSource for MapSource {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let mut loaded = LoadedVariables::default();
        for (name, value) in &self.entries {
            loaded.insert(name, value.clone());
        }
        loaded.revision = Some(Revision::new([]));
        Ok(loaded)
    }

    async fn changed_since(&self, _revision: &Revision) -> Changed {
        Changed::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SkipReason;

    #[tokio::test]
    async fn usable_variables_are_loaded_and_the_others_are_reported() {
        let value = || SecretString::from("value");
        let source = MapSource::new([("TOKEN", value()), ("BASH_ENV", value()), ("_X", value())]);
        let loaded = source.load().await.unwrap();
        assert_eq!(loaded.variables.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["TOKEN"]);
        let skipped: Vec<_> =
            loaded.skipped.iter().map(|one| (one.name.as_str(), &one.reason)).collect();
        let shell = SkipReason::Hijack { target: "the shell's start" };
        assert_eq!(skipped, [("BASH_ENV", &shell), ("_X", &SkipReason::LeadingUnderscore)]);
    }
}
