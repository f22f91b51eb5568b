//! Errors of opening a store.

use std::io;
use std::path::PathBuf;

/// Error returned when a store is opened. It never contains a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The text is not a URL.
    #[error("{text:?} is not the URL of a store; expected {schemes}")]
    NotAUrl {
        /// The text.
        text: String,
        /// Supported forms.
        schemes: &'static str,
    },
    /// The URL has an unknown scheme.
    #[error("there is no store with the URL scheme {scheme:?}; expected {schemes}")]
    UnknownScheme {
        /// Scheme of the URL.
        scheme: String,
        /// Supported forms.
        schemes: &'static str,
    },
    /// The URL is invalid for its scheme.
    #[error("the URL of the store is invalid: {problem}")]
    InvalidUrl {
        /// Explanation for a user.
        problem: &'static str,
    },
    /// The build does not support the store.
    #[error("this build does not support {scheme}: stores; enable the cargo feature {feature:?}")]
    FeatureDisabled {
        /// Scheme of the URL.
        scheme: String,
        /// Cargo feature that adds the store.
        feature: &'static str,
    },
    /// A required environment variable is not set.
    #[error("the environment variable {variable} is not set; {remedy}")]
    MissingVariable {
        /// Name of the variable.
        variable: &'static str,
        /// Alternatives for a user.
        remedy: &'static str,
    },
    /// The directory of a local store cannot be used.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The store's client rejected the settings.
    #[error("the settings of the store are invalid")]
    InvalidSettings {
        /// Error of the client.
        source: object_store::Error,
    },
}

/// Classification of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The URL names no store.
    InvalidUrl,
    /// The build does not support the store.
    FeatureDisabled,
    /// A setting is missing or invalid.
    InvalidSettings,
    /// The directory of a local store cannot be used.
    Directory,
}

impl StoreError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NotAUrl { .. } | Self::UnknownScheme { .. } | Self::InvalidUrl { .. } => {
                StoreErrorKind::InvalidUrl
            }
            Self::FeatureDisabled { .. } => StoreErrorKind::FeatureDisabled,
            Self::MissingVariable { .. } | Self::InvalidSettings { .. } => {
                StoreErrorKind::InvalidSettings
            }
            Self::Directory { .. } => StoreErrorKind::Directory,
        }
    }

    /// Returns whether a retry may succeed without other settings.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Directory { source, .. } => crate::error::is_transient_io(source),
            _ => false,
        }
    }
}
