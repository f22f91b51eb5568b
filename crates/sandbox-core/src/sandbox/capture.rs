//! Capture of the connections of a session with a network.

use std::fmt;

/// The way in which connections of commands reach the listeners of a session's network.
///
/// Whatever is not captured goes nowhere, because the session's network namespace has no way out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capture {
    /// Connections to every address and every TCP port, and queries for names to every server.
    EveryPort,
    /// Connections to every address on these TCP ports, and queries for names to every server. Any
    /// other port is refused, and servers of commands cannot use these.
    Ports(Vec<u16>),
    /// Nothing is captured. Only programs that follow the proxy variables reach the proxy.
    Variables,
}

/// The capture of a session, and the reason if it is not the best one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureReport {
    /// `None` in a session without a network.
    pub capture: Option<Capture>,
    /// The reason for a capture other than [`Capture::EveryPort`], with a remedy.
    pub why: Option<String>,
}

impl CaptureReport {
    /// Returns the report of a session whose network is not open.
    #[cfg(feature = "native")]
    pub(crate) fn not_open() -> Self {
        Self::none("the network of the session is not open")
    }

    pub(crate) fn none(why: &str) -> Self {
        Self { capture: None, why: Some(why.to_owned()) }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryPort => f.write_str("every TCP port"),
            Self::Ports(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                write!(f, "ports {}", ports.join(", "))
            }
            Self::Variables => f.write_str("proxy variables only"),
        }
    }
}

impl fmt::Display for CaptureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.capture {
            Some(capture) => write!(f, "{capture}")?,
            None => f.write_str("none")?,
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}
