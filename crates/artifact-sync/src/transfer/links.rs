//! Links that open an object without credentials.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path as Key;
use sandbox_core::with_causes;

use crate::error::is_transient;

/// Object that the link of a changed file opens.
///
/// ```
/// # use std::sync::Arc;
/// # use artifact_sync::{LinkError, LinkTarget, Linker, Mirror, SessionKeys};
/// # use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
/// /// Links of an application that serves objects by their keys.
/// #[derive(Debug)]
/// struct AppLinks;
///
/// #[async_trait::async_trait]
/// impl Linker for AppLinks {
///     async fn link(&self, key: &Key) -> Result<Option<String>, LinkError> {
///         Ok(Some(format!("https://app.example/files/{key}")))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = tempfile::tempdir()?;
/// # let (dir, store) = (root.path().join("s1"), Arc::new(InMemory::new()));
/// # let keys = SessionKeys::at(Key::from("files"), Key::from("log"));
/// # let builder = Mirror::builder(&dir, store.clone(), keys).state_dir(root.path().join("state"));
/// let mirror = builder.linker(Arc::new(AppLinks)).links_to(LinkTarget::Version).open().await?;
///
/// std::fs::write(dir.join("report.md"), "# May")?;
/// let in_may = mirror.sync().await?.changed[0].url.clone().unwrap();
/// std::fs::write(dir.join("report.md"), "# June")?;
/// let in_june = mirror.sync().await?.changed[0].url.clone().unwrap();
///
/// // Each message of a chat keeps the link to the file that it talks about.
/// # let read = async |link: &str| {
/// #     let key = Key::from(link.strip_prefix("https://app.example/files/").unwrap());
/// #     store.get(&key).await.unwrap().bytes().await.unwrap()
/// # };
/// assert_eq!(read(&in_may).await, "# May");
/// assert_eq!(read(&in_june).await, "# June");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkTarget {
    /// The object of the projection: the file as it is when the link is opened.
    #[default]
    Projection,
    /// The content of this version: the file as it was when the link was made. It opens as long as
    /// the version is retained: while it is current, and for the retention time after that.
    ///
    /// Every content then is an object of its own, with the media type and the name that the file
    /// had first; on Azure, those of more than 8 MiB have neither. A change of a small file costs
    /// one more request.
    Version,
}

/// Creator of links to objects. Implement it for short or lasting links.
#[async_trait]
pub trait Linker: fmt::Debug + Send + Sync {
    /// Returns a link that opens an object, or `None` if no correct link exists for the key. The
    /// key is that of the file in the projection, or, with [`LinkTarget::Version`], that of a
    /// content in the session log, which does not name the file.
    ///
    /// # Errors
    /// Returns [`LinkError`] if the link cannot be created. The file is stored nevertheless.
    async fn link(&self, key: &Key) -> Result<Option<String>, LinkError>;
}

/// Error returned by a [`Linker`].
#[derive(Debug, thiserror::Error)]
#[error("cannot create a link to {key}")]
#[non_exhaustive]
pub struct LinkError {
    /// Key of the object.
    pub key: Key,
    /// Cause of the failure.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl LinkError {
    /// Creates an error for an implementation of [`Linker`].
    pub fn new(key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { key: key.clone(), source: source.into() }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> LinkErrorKind {
        match self.source.downcast_ref::<object_store::Error>() {
            Some(_) => LinkErrorKind::Store,
            None => LinkErrorKind::Linker,
        }
    }

    /// Returns whether a retry may succeed.
    pub fn is_retryable(&self) -> bool {
        self.source.downcast_ref::<object_store::Error>().is_some_and(is_transient)
    }
}

/// Classification of a [`LinkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkErrorKind {
    /// The store's client could not sign the link.
    Store,
    /// A linker of the embedding application failed.
    Linker,
}

/// The linker of a mirror, if it has one, and the objects that its links open.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) linker: Option<Arc<dyn Linker>>,
    pub(crate) target: LinkTarget,
}

impl Links {
    /// Returns whether links open the contents of versions.
    pub(crate) fn open_versions(&self) -> bool {
        self.linker.is_some() && self.target == LinkTarget::Version
    }

    /// Returns a link to an object. A failure is logged.
    pub(crate) async fn link(&self, key: &Key) -> Option<String> {
        let linked = self.linker.as_ref()?.link(key).await;
        linked.unwrap_or_else(|error| {
            tracing::warn!(%key, error = with_causes(&error), "no link could be created");
            None
        })
    }
}

/// `file://` links into a directory on the local disk.
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

    /// Validity of a link.
    const EXPIRY: Duration = Duration::from_secs(60 * 60);

    /// Keys for which `object_store` 0.14 creates correct links.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Signable {
        /// All keys (S3).
        All,
        /// Keys without URL syntax, because the URL is built without encoding (GCS).
        WithoutUrlSyntax,
        /// Keys that encoding does not change, because the encoded path is signed (Azure).
        Plain,
    }

    impl Signable {
        pub(crate) fn covers(self, key: &str) -> bool {
            match self {
                Self::All => true,
                Self::WithoutUrlSyntax => !key.contains(['%', '#', '?']),
                Self::Plain => {
                    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte))
                }
            }
        }
    }

    /// Expiring GET links with the store's own signature.
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
        fn keys_with_incorrect_signatures_get_no_link() {
            for (signable, key, expected) in [
                (Signable::All, "a b%#?é", true),
                (Signable::WithoutUrlSyntax, "a b é+&", true),
                (Signable::WithoutUrlSyntax, "a#b", false),
                (Signable::WithoutUrlSyntax, "a%20b", false),
                (Signable::WithoutUrlSyntax, "a?b", false),
                (Signable::Plain, "user_1/sessions/s-1/a.txt", true),
                (Signable::Plain, "logs/user_a.b/s-1/blobs/0123456789abcdef", true),
                (Signable::WithoutUrlSyntax, "logs/user_a.b/s-1/blobs/0123456789abcdef", true),
                (Signable::Plain, "a b", false),
                (Signable::Plain, "é", false),
            ] {
                assert_eq!(signable.covers(key), expected, "{signable:?} {key}");
            }
        }
    }
}
