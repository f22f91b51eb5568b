//! Errors of opening a gate or a network.

use std::io;

/// Error of opening a gate or a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// A bound of [`Limits`](crate::Limits) has an impossible value.
    #[error("the limit {name} has an impossible value")]
    #[non_exhaustive]
    Limit {
        /// The field.
        name: &'static str,
    },
    /// The call was made outside a tokio runtime with network and time.
    #[error("there is no tokio runtime")]
    NoRuntime,
    /// The authority could not create keys or a certificate.
    #[error("the authority cannot create a certificate")]
    Authority,
    /// A text with trusted certificates is not PEM, or has none.
    #[error("the trusted certificates cannot be read")]
    Roots,
    /// The URL of the parent proxy is not one of the form `http://[user:password@]host:port`.
    #[error("the URL of the parent proxy is invalid")]
    ParentProxy,
    /// A descriptor is not a listener of its kind.
    #[error("the {name} listener cannot be used")]
    #[non_exhaustive]
    Listener {
        /// The kind: `proxy`, `transparent` or `dns`.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Kind of a [`GateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value of the caller is invalid.
    InvalidValue,
    /// The call needs a tokio runtime.
    NoRuntime,
    /// The kernel reported an error.
    Io,
    /// The cryptography of the process failed.
    Failed,
}

impl GateError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit { .. } | Self::Roots | Self::ParentProxy => ErrorKind::InvalidValue,
            Self::Authority => ErrorKind::Failed,
            Self::NoRuntime => ErrorKind::NoRuntime,
            Self::Listener { source, .. } => match source.kind() {
                io::ErrorKind::InvalidInput => ErrorKind::InvalidValue,
                _ => ErrorKind::Io,
            },
        }
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Error of masks that a network cannot use. It contains no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasksError {
    /// A host of a mask is no host or pattern.
    #[error(
        "the mask of {name} has the invalid host {host:?}; write host[:port], *.domain[:port] or \
         [ipv6][:port]"
    )]
    #[non_exhaustive]
    Host {
        /// The name of the secret.
        name: String,
        /// The host.
        host: String,
    },
    /// A host of a mask is loopback, which each session has for itself, so that no connection to it
    /// passes the gate.
    #[error("the mask of {name} has {host}, and each session has a loopback of its own")]
    #[non_exhaustive]
    Loopback {
        /// The name of the secret.
        name: String,
        /// The host.
        host: String,
    },
    /// A host of a mask is in the domain of the host's servers, and no server has such a name.
    #[error("the mask of {name} has {host}, and servers of the host are NAME.host.internal")]
    #[non_exhaustive]
    NoServer {
        /// The name of the secret.
        name: String,
        /// The host.
        host: String,
    },
    /// A host of a mask is an address in 198.18.0.0/15. There, each session gives addresses to
    /// names, so a connection to it is one to the name.
    #[error("the mask of {name} has {host}, an address that stands for a name in each session")]
    #[non_exhaustive]
    StandIn {
        /// The name of the secret.
        name: String,
        /// The host.
        host: String,
    },
    /// The names that a pattern covers belong to different owners, and the mask does not allow it.
    #[error("the mask of {name} has {host}, whose names belong to different owners")]
    #[non_exhaustive]
    SharedDomain {
        /// The name of the secret.
        name: String,
        /// The pattern.
        host: String,
    },
}

impl MasksError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidValue
    }

    /// Returns whether the same call can succeed later; always `false`.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
