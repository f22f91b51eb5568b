//! Links that open an object without credentials.

use std::fmt;

use async_trait::async_trait;
use object_store::path::Path as Key;

/// Makes links to objects. An embedder may bring one of its own, for short or lasting links.
#[async_trait]
pub trait Linker: fmt::Debug + Send + Sync {
    /// A link that opens this object, or `None` where no right one can be made for the key.
    ///
    /// # Errors
    /// [`LinkError`]; the file is stored all the same.
    async fn link(&self, key: &Key) -> Result<Option<String>, LinkError>;
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no link can be made to {key}")]
#[non_exhaustive]
pub struct LinkError {
    /// The object.
    pub key: Key,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl LinkError {
    /// An error of an embedder's linker.
    pub fn new(key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { key: key.clone(), source: source.into() }
    }
}

#[cfg(feature = "fs")]
#[derive(Debug)]
pub(crate) struct FileLinks {
    pub(crate) root: std::path::PathBuf,
}

#[cfg(feature = "fs")]
#[async_trait]
impl Linker for FileLinks {
    async fn link(&self, key: &Key) -> Result<Option<String>, LinkError> {
        Ok(url::Url::from_file_path(self.root.join(key.as_ref())).ok().map(String::from))
    }
}

#[cfg(feature = "_cloud")]
pub(crate) use presigned::{PresignedLinks, Signable};

#[cfg(feature = "_cloud")]
mod presigned {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use object_store::path::Path as Key;
    use object_store::signer::Signer;
    use url::Url;

    use super::{LinkError, Linker};

    /// How long a link works.
    const EXPIRY: Duration = Duration::from_secs(60 * 60);

    /// The keys that `object_store` 0.14 signs rightly.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[cfg_attr(
        not(all(feature = "s3", feature = "gcs", feature = "azure")),
        expect(dead_code, reason = "one for each cloud")
    )]
    pub(crate) enum Signable {
        /// All (S3).
        All,
        /// What has no meaning in a URL: it is built without encoding (GCS).
        WithoutUrlSyntax,
        /// What is the same encoded and not: the encoded path is signed (Azure).
        Plain,
    }

    impl Signable {
        fn covers(self, key: &str) -> bool {
            match self {
                Self::All => true,
                Self::WithoutUrlSyntax => !key.contains(['%', '#', '?']),
                Self::Plain => {
                    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
                }
            }
        }
    }

    /// GET links with the store's own signature, which expire.
    #[derive(Debug)]
    pub(crate) struct PresignedLinks {
        pub(crate) signer: Arc<dyn Signer>,
        pub(crate) signable: Signable,
    }

    #[async_trait]
    impl Linker for PresignedLinks {
        async fn link(&self, key: &Key) -> Result<Option<String>, LinkError> {
            if !self.signable.covers(key.as_ref()) {
                return Ok(None);
            }
            let signed = self.signer.signed_url(reqwest::Method::GET, key, EXPIRY).await;
            signed.map(|url: Url| Some(url.into())).map_err(|error| LinkError::new(key, error))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Signable;

        #[test]
        fn keys_that_a_backend_signs_wrongly_are_left_out() {
            for (signable, key, expected) in [
                (Signable::All, "a b%#?é", true),
                (Signable::WithoutUrlSyntax, "a b é+&", true),
                (Signable::WithoutUrlSyntax, "a#b", false),
                (Signable::WithoutUrlSyntax, "a%20b", false),
                (Signable::WithoutUrlSyntax, "a?b", false),
                (Signable::Plain, "user_1/sessions/s-1/a.txt", true),
                (Signable::Plain, "a b", false),
                (Signable::Plain, "é", false),
            ] {
                assert_eq!(signable.covers(key), expected, "{signable:?} {key}");
            }
        }
    }
}
