//! Requests to mask variables.

use secrecy::SecretString;

use super::{Mask, RequestPart};

/// The request to mask a variable, without its value.
///
/// By default, the value is inserted into the headers and the query of requests over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaskSpec {
    /// Hosts that receive the value, as in [`Mask::new`].
    pub hosts: Vec<String>,
    /// Parts of a request that receive the value.
    pub parts: Vec<RequestPart>,
    /// True if requests without TLS may have the value.
    pub allows_plaintext: bool,
    /// True if the names of a pattern may belong to different owners.
    pub allows_shared_domains: bool,
}

impl MaskSpec {
    /// Requests a mask for these hosts.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            parts: vec![RequestPart::Headers, RequestPart::Query],
            allows_plaintext: false,
            allows_shared_domains: false,
        }
    }

    /// Replaces the parts of a request that receive the value.
    #[must_use]
    pub fn parts(mut self, parts: impl IntoIterator<Item = RequestPart>) -> Self {
        self.parts = parts.into_iter().collect();
        self
    }

    /// Allows the value in requests without TLS.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.allows_plaintext = true;
        self
    }

    /// Allows patterns whose names belong to different owners, such as `*.github.io`.
    #[must_use]
    pub fn allow_shared_domains(mut self) -> Self {
        self.allows_shared_domains = true;
        self
    }

    /// Returns the mask of a variable.
    pub fn mask(&self, name: impl Into<String>, value: SecretString) -> Mask {
        Mask { name: name.into(), value, spec: self.clone() }
    }
}
