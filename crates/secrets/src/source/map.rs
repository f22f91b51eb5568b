//! Variables that the host program holds itself.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::source::{SourceError, VariableSource};
use crate::variables::LoadedVariables;

/// A fixed list of variables. The later of two entries with one name wins.
#[derive(Clone, Debug, Default)]
pub struct MapSource {
    entries: Vec<(String, SecretString)>,
}

impl MapSource {
    /// A source of these names and values.
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
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SkipReason;

    #[tokio::test]
    async fn a_map_gives_its_variables_and_reports_the_others() {
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
