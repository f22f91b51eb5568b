//! Sources of variables.

use async_trait::async_trait;

use crate::source_error::SourceError;
use crate::variables::LoadedVariables;

/// A source that variables are loaded from each time a session opens.
#[async_trait]
pub trait VariableSource: std::fmt::Debug + Send + Sync {
    /// Loads all variables. Unusable ones are in [`LoadedVariables::skipped`] and do not stop the
    /// others.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError`] if the source as a whole cannot be read. An implementation outside
    /// this crate returns [`SourceError::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// The future can be dropped at any point, because loading changes nothing.
    async fn load(&self) -> Result<LoadedVariables, SourceError>;
}
