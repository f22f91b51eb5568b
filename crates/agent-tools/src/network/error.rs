//! Errors of a session's network.

use std::io;
use std::path::PathBuf;

use egress::{GateError, MasksError};
use policy::ValidationError;
use sandbox_core::internal::unsupported_network_key;

use crate::error_kind::ErrorKind;

/// Errors of a session's network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The rules are invalid.
    #[error("the rules for the network are invalid")]
    Rules {
        /// The invalid value.
        source: ValidationError,
    },
    /// A setting that no gate enforces is set in a session with a network.
    #[error("{}", unsupported_network_key(key))]
    Unsupported {
        /// The key below `network`.
        key: &'static str,
    },
    /// A parent proxy has no usable URL. Only proxies without TLS of their own are supported.
    #[error(
        "network.parentProxy.{key} is no URL http://[USER:PASSWORD@]HOST[:PORT]; the way to the \
         proxy itself cannot be TLS or SOCKS, so name a proxy that takes HTTP and forwards to it"
    )]
    ParentProxy {
        /// The key below `network.parentProxy`.
        key: &'static str,
    },
    /// The sandbox has no listeners.
    #[error("the sandbox cannot open a network")]
    Sandbox {
        /// The reason and the remedy.
        source: sandbox_core::NetworkError,
    },
    /// The gate does not take the listeners.
    #[error("the connections of the session cannot be accepted")]
    Gate {
        /// The cause.
        source: GateError,
    },
    /// The files for the trust of sessions in terminated connections cannot be written.
    #[error("the certificates for sessions cannot be written below {}", path.display())]
    Trust {
        /// The parent of their directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A mask has a host that is invalid or shared.
    #[error("a masked variable cannot be used")]
    Masks {
        /// The invalid host.
        source: MasksError,
    },
    /// A user can be asked only in the process that serves the session.
    #[error("another process serves the session, so it cannot ask a user of this one")]
    AskedElsewhere,
}

impl NetworkError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rules { .. }
            | Self::Unsupported { .. }
            | Self::Masks { .. }
            | Self::ParentProxy { .. } => ErrorKind::InvalidInput,
            Self::Sandbox { .. } => ErrorKind::Sandbox,
            Self::Gate { .. } | Self::Trust { .. } => ErrorKind::Io,
            Self::AskedElsewhere => ErrorKind::Differs,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Sandbox { source } => source.is_retryable(),
            Self::Gate { source } => source.is_retryable(),
            Self::Rules { .. }
            | Self::Unsupported { .. }
            | Self::Trust { .. }
            | Self::Masks { .. }
            | Self::ParentProxy { .. }
            | Self::AskedElsewhere => false,
        }
    }
}
