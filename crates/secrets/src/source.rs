//! Where variables come from.

mod dotenv;
mod error;
mod map;

use async_trait::async_trait;

pub use self::dotenv::DotenvSource;
pub use self::error::{SourceError, SourceErrorKind};
pub use self::map::MapSource;
use crate::variables::LoadedVariables;

/// Something that variables can be loaded from, as often as a session is opened.
#[async_trait]
pub trait VariableSource: std::fmt::Debug + Send + Sync {
    /// Loads all variables. One that cannot be used is in [`LoadedVariables::skipped`] and does not
    /// stop the others.
    ///
    /// # Errors
    ///
    /// [`SourceError`] when the source as a whole cannot be read. An implementation outside this
    /// crate reports with [`SourceError::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// Loading changes nothing, so the future may be dropped at any point.
    async fn load(&self) -> Result<LoadedVariables, SourceError>;
}
