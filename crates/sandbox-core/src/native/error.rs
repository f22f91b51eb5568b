//! Errors of opening and refreshing a native sandbox.

use std::io;
use std::path::PathBuf;

use crate::sandbox::Weakness;
use crate::transient::is_transient;

/// Errors returned when a [`NativeSandbox`](super::NativeSandbox) opens or refreshes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The policy cannot be compiled into mounts on this machine.
    #[error("the policy cannot be turned into mounts")]
    Policy {
        /// The compiler's error.
        source: Box<policy::MountError>,
    },
    /// The policy uses a setting that this engine does not support. Ignoring the setting would
    /// change the meaning of the policy.
    #[error("the engine does not support the policy: {what}")]
    UnsupportedPolicy {
        /// The setting.
        what: &'static str,
    },
    /// The policy hides the shell or its loader, so no command could start.
    #[error(
        "no command could start, because the policy hides {}: {rule}; {remedy}",
        path.display()
    )]
    ShellHidden {
        /// The hidden file.
        path: PathBuf,
        /// The rule that hides it.
        rule: String,
        /// Change of the settings that shows it.
        remedy: String,
    },
    /// The Landlock tier cannot enforce a part of the policy, and the caller did not accept this
    /// weakness by name.
    #[error(
        "{what}; accept that with `--engine landlock --accept {weakness}`, in Rust with \
         `Tier::Landlock {{ accepted }}`"
    )]
    WeaknessNotAccepted {
        /// The unenforced part.
        what: String,
        /// The weakness to accept.
        weakness: Weakness,
    },
    /// The kernel denies a layer of the sandbox. The engine never runs commands without it.
    ///
    /// The text contains the system's error, because a remedy after its cause is easier to read.
    #[error("cannot {step}: {source}; {remedy}")]
    LayerUnavailable {
        /// The failed step, with its path if it has one.
        step: String,
        /// Advice to the operator of the host.
        remedy: String,
        /// The system's error.
        source: io::Error,
    },
    /// The engine does not support this operating system or architecture.
    #[error("the engines need Linux on x86-64 or AArch64")]
    Unsupported,
    /// An operation on the host failed, for example because descriptors or memory ran out.
    #[error("cannot {operation} for the sandbox")]
    Host {
        /// The failed operation.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Kinds of [`OpenError`] for callers to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// The policy does not work with this engine or with the host's files.
    Policy,
    /// The policy opens once the caller accepts a weakness by name.
    WeaknessNotAccepted,
    /// The machine lacks a required layer. The error contains a remedy.
    Unavailable,
    /// The host is short of a resource.
    Host,
}

impl OpenError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> OpenErrorKind {
        match self {
            Self::Policy { .. } | Self::UnsupportedPolicy { .. } | Self::ShellHidden { .. } => {
                OpenErrorKind::Policy
            }
            Self::WeaknessNotAccepted { .. } => OpenErrorKind::WeaknessNotAccepted,
            Self::LayerUnavailable { .. } | Self::Unsupported => OpenErrorKind::Unavailable,
            Self::Host { .. } => OpenErrorKind::Host,
        }
    }

    /// Returns whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Policy { source } => source.is_retryable(),
            Self::LayerUnavailable { source, .. } | Self::Host { source, .. } => {
                is_transient(source)
            }
            _ => false,
        }
    }
}

/// Creates a closure that turns an error of the system into [`OpenError::Host`].
pub(super) fn host_error<E: Into<io::Error>>(
    operation: &'static str,
) -> impl Fn(E) -> OpenError + Copy {
    move |source| OpenError::Host { operation, source: source.into() }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_shortages_are_retryable() {
        let host = |errno: Errno| host_error("open /dev/null")(errno);
        assert!(host(Errno::MFILE).is_retryable());
        assert!(!host(Errno::ACCESS).is_retryable());
        assert!(!OpenError::Unsupported.is_retryable());
        assert_eq!(OpenError::Unsupported.kind(), OpenErrorKind::Unavailable);
    }
}
