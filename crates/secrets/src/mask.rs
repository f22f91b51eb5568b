//! Masks: placeholders that stand for secrets where an agent can see them.

mod placeholder;
mod spec;
mod substitution;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::error_kind::ErrorKind;
use crate::redactor::Redactor;

pub use self::spec::MaskSpec;
pub use self::substitution::{Substitution, SubstitutionStream};

/// A secret that an agent uses without holding it, and the hosts that receive its value.
///
/// By default, the value is inserted into the headers and the query of requests over TLS.
#[derive(Clone)]
pub struct Mask {
    name: String,
    value: SecretString,
    spec: MaskSpec,
}

/// A part of a request that a value is inserted into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RequestPart {
    /// The values of headers, including the password of `Authorization: Basic`.
    Headers,
    /// The query of the URL.
    Query,
    /// The body. A server that returns what it receives then returns the value.
    Body,
}

impl RequestPart {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Headers, Self::Query, Self::Body];

    /// Returns the name of the part: `headers`, `query` or `body`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Query => "query",
            Self::Body => "body",
        }
    }

    /// Returns the part with this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

impl Mask {
    /// Creates a mask.
    ///
    /// A host is a name, a pattern such as `*.example.com`, or an address, with or without a port,
    /// as in `allowedDomains`. The crate that connects validates them.
    pub fn new<H: Into<String>>(
        name: impl Into<String>,
        value: SecretString,
        hosts: impl IntoIterator<Item = H>,
    ) -> Self {
        MaskSpec::new(hosts).mask(name, value)
    }

    /// Replaces the parts of a request that receive the value.
    #[must_use]
    pub fn parts(mut self, parts: impl IntoIterator<Item = RequestPart>) -> Self {
        self.spec = self.spec.parts(parts);
        self
    }

    /// Allows the value in requests without TLS.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.spec = self.spec.allow_plaintext();
        self
    }

    /// Allows patterns whose names belong to different owners, such as `*.github.io`.
    #[must_use]
    pub fn allow_shared_domains(mut self) -> Self {
        self.spec = self.spec.allow_shared_domains();
        self
    }

    /// Returns the name of the secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// Returns the hosts that receive the value.
    pub fn hosts(&self) -> &[String] {
        &self.spec.hosts
    }

    /// Returns whether the value is inserted into a part of a request.
    pub fn is_in(&self, part: RequestPart) -> bool {
        self.spec.parts.contains(&part)
    }

    /// Returns whether requests without TLS may have the value.
    pub fn allows_plaintext(&self) -> bool {
        self.spec.allows_plaintext
    }

    /// Returns whether the names of a pattern may belong to different owners.
    pub fn allows_shared_domains(&self) -> bool {
        self.spec.allows_shared_domains
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask")
            .field("name", &self.name)
            .field("hosts", &self.spec.hosts)
            .finish_non_exhaustive()
    }
}

/// The masks of one session, each with its placeholder. Clones share their data.
///
/// A placeholder is random. It has letters and digits of the kinds in the value, at least 24 bytes,
/// and else the length of the value, up to 256 bytes. It keeps a prefix that programs check, such
/// as `ghp_`.
///
/// ```
/// use secrets::{Mask, Masks, SecretString};
///
/// let value = SecretString::from("ghp_0123456789abcdefghijABCDEFGHIJ012345");
/// let masks = Masks::new([Mask::new("GITHUB_TOKEN", value, ["api.github.com"])])?;
/// let placeholder = masks.placeholder("GITHUB_TOKEN").unwrap();
/// assert!(placeholder.starts_with("ghp_") && placeholder.len() == 40);
/// # Ok::<(), secrets::MaskError>(())
/// ```
#[derive(Clone, Default)]
pub struct Masks {
    masks: Arc<[(Mask, Zeroizing<String>)]>,
    /// Placeholders by name, also of masks that the session had before.
    placeholders: Arc<BTreeMap<String, Zeroizing<String>>>,
}

impl Masks {
    /// Creates the masks of a new session, with new placeholders.
    ///
    /// # Errors
    /// Returns [`MaskError`] for two masks of one name, a mask without hosts, a value that is too
    /// short, and if the operating system has no random numbers.
    pub fn new(masks: impl IntoIterator<Item = Mask>) -> Result<Self, MaskError> {
        Self::default().renewed(masks)
    }

    /// Returns no masks, but the placeholders of a session that an earlier process had open, for
    /// [`Masks::renewed`]. Texts that no placeholder can be are left out.
    pub fn with_placeholders(placeholders: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut usable = BTreeMap::new();
        for (name, text) in placeholders {
            let text = Zeroizing::new(text);
            // Two names with one placeholder would have one value.
            let is_taken = usable.values().any(|other| *other == text);
            if placeholder::is_one(&text) && !is_taken {
                usable.insert(name, text);
            }
        }
        Self { placeholders: Arc::new(usable), ..Self::default() }
    }

    /// Creates the masks of the same session after a change. A name keeps its placeholder, also
    /// with another value, and after it had no mask for a while.
    ///
    /// # Errors
    /// Returns the errors of [`Masks::new`].
    pub fn renewed(&self, masks: impl IntoIterator<Item = Mask>) -> Result<Self, MaskError> {
        let mut placeholders = BTreeMap::clone(&self.placeholders);
        let mut names = BTreeSet::new();
        let masks: Vec<Mask> = masks.into_iter().collect();
        let with_placeholder = masks.into_iter().map(|mask| {
            let name = || mask.name.clone();
            if !names.insert(name()) {
                return Err(MaskError::Duplicate { name: name() });
            }
            if mask.hosts().is_empty() {
                return Err(MaskError::WithoutHosts { name: name() });
            }
            let value = mask.value.expose_secret();
            if value.trim_ascii().len() < Redactor::MIN_SECRET_BYTES {
                return Err(MaskError::TooShort { name: name() });
            }
            let placeholder = match placeholders.get(&mask.name) {
                Some(placeholder) => placeholder.clone(),
                None => placeholder::mint(value).map_err(|_| MaskError::NoRandomness)?,
            };
            placeholders.insert(name(), placeholder.clone());
            Ok((mask, placeholder))
        });
        let masks = with_placeholder.collect::<Result<_, _>>()?;
        Ok(Self { masks, placeholders: Arc::new(placeholders) })
    }

    /// Returns all placeholders by name, for [`Masks::with_placeholders`].
    pub fn placeholders(&self) -> impl Iterator<Item = (&str, &str)> {
        self.placeholders.iter().map(|(name, placeholder)| (name.as_str(), placeholder.as_str()))
    }

    /// Returns the placeholder of a secret. The session has it instead of the value.
    pub fn placeholder(&self, name: &str) -> Option<&str> {
        self.iter().find(|(mask, _)| mask.name == name).map(|(_, placeholder)| placeholder)
    }

    /// Returns the masks with their placeholders.
    pub fn iter(&self) -> impl Iterator<Item = (&Mask, &str)> {
        self.masks.iter().map(|(mask, placeholder)| (mask, placeholder.as_str()))
    }

    /// Returns whether there are no masks.
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(mask, _)| &mask.name)).finish()
    }
}

/// Error of masks. It contains no value and no placeholder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// Two masks have the same name.
    #[error("{name} is masked twice")]
    #[non_exhaustive]
    Duplicate {
        /// The name.
        name: String,
    },
    /// No host would receive the value.
    #[error("the mask of {name} has no hosts")]
    #[non_exhaustive]
    WithoutHosts {
        /// The name.
        name: String,
    },
    /// The value is shorter than [`Redactor::MIN_SECRET_BYTES`], so answers could not be redacted.
    #[error(
        "the value of {name} is too short to be masked: it has fewer than {} bytes",
        Redactor::MIN_SECRET_BYTES
    )]
    #[non_exhaustive]
    TooShort {
        /// The name.
        name: String,
    },
    /// The operating system has no random numbers.
    #[error("the operating system has no random numbers")]
    NoRandomness,
}

impl MaskError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRandomness => ErrorKind::Failed,
            _ => ErrorKind::InvalidInput,
        }
    }

    /// Returns whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(name: &str, value: &str) -> Mask {
        Mask::new(name, SecretString::from(value), ["api.test"])
    }

    #[test]
    fn a_name_keeps_its_placeholder_within_a_session_and_not_beyond() {
        let first = Masks::new([mask("A", "a value that is long enough")]).unwrap();
        let renewed = first.renewed([mask("B", "another value"), mask("A", "third value")]);
        let renewed = renewed.unwrap();
        assert_eq!(renewed.placeholder("A"), first.placeholder("A"));
        assert_ne!(renewed.placeholder("B"), renewed.placeholder("A"));
        let other = Masks::new([mask("A", "a value that is long enough")]).unwrap();
        assert_ne!(other.placeholder("A"), first.placeholder("A"));
        assert_eq!(first.placeholder("C"), None);
        // Also after a while without the mask, and in another process.
        let without = renewed.renewed([]).unwrap();
        let kept = without.placeholders().map(|(name, text)| (name.to_owned(), text.to_owned()));
        let kept: Vec<_> = kept.collect();
        assert_eq!(kept.len(), 2);
        let long = "a value that is long enough";
        for masks in [without, Masks::with_placeholders(kept)] {
            assert!(masks.is_empty());
            let again = masks.renewed([mask("A", long)]).unwrap();
            assert_eq!(again.placeholder("A"), first.placeholder("A"));
        }
        let unusable = ["short", "with a blank in the text", "ghp_line\nbreakbreakbreak"];
        for text in unusable {
            let masks = Masks::with_placeholders([("A".to_owned(), text.to_owned())]);
            assert_eq!(masks.placeholders().count(), 0, "{text}");
        }
        let twice = ["A", "B"].map(|name| (name.to_owned(), "x".repeat(24)));
        assert_eq!(Masks::with_placeholders(twice).placeholders().count(), 1);
    }

    #[test]
    fn impossible_masks_are_errors() {
        let error = |masks: Vec<Mask>| Masks::new(masks).unwrap_err().to_string();
        let short = "the value of A is too short to be masked: it has fewer than 6 bytes";
        assert_eq!(error(vec![mask("A", "12345 ")]), short);
        assert_eq!(error(vec![mask("A", "123456"), mask("A", "123456")]), "A is masked twice");
        let nowhere = Mask::new("A", SecretString::from("123456"), [""; 0]);
        assert_eq!(error(vec![nowhere]), "the mask of A has no hosts");
    }

    #[test]
    fn debug_shows_no_value_and_no_placeholder() {
        let masks = Masks::new([mask("A", "hunter2hunter2")]).unwrap();
        let substitution = Substitution::new(masks.iter());
        let text = format!("{masks:?} {:?} {substitution:?}", masks.iter().next().unwrap().0);
        assert!(text.contains('A') && !text.contains("hunter"), "{text}");
        assert!(!text.contains(masks.placeholder("A").unwrap()), "{text}");
    }
}
