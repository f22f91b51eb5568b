//! Sources of variables.

use std::time::Duration;

use async_trait::async_trait;

use crate::revision::{Changed, Revision};
use crate::source_error::SourceError;
use crate::variables::LoadedVariables;

/// Time after which the user of a source loads again, unless the source reports a change earlier.
pub const RELOAD_AFTER: Duration = Duration::from_secs(30);

/// A source of variables. It is loaded when a session opens, and again while the session is open.
///
/// Sources only read.
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

    /// Returns whether the variables have changed since a load with this
    /// [`LoadedVariables::revision`]. It is asked before each command, so it must take less than a
    /// millisecond. The default is [`Changed::Unknown`].
    ///
    /// # Cancel safety
    ///
    /// The future can be dropped at any point, because asking changes nothing.
    async fn changed_since(&self, _revision: &Revision) -> Changed {
        Changed::Unknown
    }
}
