//! Object stores by their URLs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::links::Linker;

#[cfg(feature = "_cloud")]
mod clouds;

/// A store that was opened by its URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenedStore {
    /// The store; keys in it are whole, the prefix included.
    pub store: Arc<dyn ObjectStore>,
    /// The path of the URL, under which everything is to lie.
    pub prefix: Key,
    /// Links to objects, where the store has some.
    pub linker: Option<Arc<dyn Linker>>,
    /// The name of the bucket, the container, or the directory.
    pub name: String,
}

/// Opens a store:
///
/// | URL | store | credentials |
/// |---|---|---|
/// | `s3://bucket/prefix` | S3 and what speaks like it (feature `s3`) | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …; `AWS_ENDPOINT` for another server |
/// | `gs://bucket/prefix` | Google Cloud Storage (feature `gcs`) | `GOOGLE_SERVICE_ACCOUNT_PATH`, `GOOGLE_APPLICATION_CREDENTIALS`, … |
/// | `az://container/prefix` | Azure Blob Storage (feature `azure`) | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, … |
/// | `file:///directory` | a directory on the local disk, made where it is absent (feature `fs`) | |
/// | `memory:///` | this process's memory | |
///
/// A prefix is taken as it is written, without percent-decoding. Nothing is asked over the network
/// here, and credentials are never fetched from an instance's metadata address unless
/// `AGENT_TOOLS_INSTANCE_CREDENTIALS=1` says so.
///
/// # Errors
/// [`StoreError`] for a URL that names no store, and for settings that are missing.
pub fn open_store(url: &str) -> Result<OpenedStore, StoreError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(StoreError::NotAUrl { schemes: SCHEMES });
    };
    match scheme {
        "s3" | "gs" | "az" => open_cloud(scheme, rest),
        "file" => {
            let path = url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
            open_directory(&path.ok_or_else(|| StoreError::InvalidUrl {
                problem: "file: wants an absolute path, as in file:///srv/store",
            })?)
        }
        "memory" if matches!(rest, "" | "/") => Ok(OpenedStore {
            store: Arc::new(InMemory::new()),
            prefix: Key::default(),
            linker: None,
            name: "memory".to_owned(),
        }),
        "memory" => {
            Err(StoreError::InvalidUrl { problem: "memory: wants no name, as in memory:///" })
        }
        other => Err(StoreError::UnknownScheme { scheme: other.to_owned(), schemes: SCHEMES }),
    }
}

const SCHEMES: &str =
    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///directory, memory:///";

/// Opens a directory on the local disk, given by its absolute path, and makes it for its owner
/// alone where it is absent.
///
/// # Errors
/// [`StoreError`] when it cannot be made, and without the feature `fs`.
#[cfg(feature = "fs")]
pub fn open_directory(dir: &Path) -> Result<OpenedStore, StoreError> {
    use std::os::unix::fs::DirBuilderExt;

    let failed = |source| StoreError::Directory { path: dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let root = dir.canonicalize().map_err(failed)?;
    let store = object_store::local::LocalFileSystem::new_with_prefix(&root)
        .map_err(|source| StoreError::InvalidSettings { source })?
        .with_automatic_cleanup(true);
    let name = root
        .file_name()
        .map_or_else(|| "local".to_owned(), |name| name.to_string_lossy().into_owned());
    let linker: Arc<dyn Linker> = Arc::new(crate::links::FileLinks { root });
    Ok(OpenedStore { store: Arc::new(store), prefix: Key::default(), linker: Some(linker), name })
}

/// Opens a directory on the local disk; this build cannot.
///
/// # Errors
/// Always [`StoreError::FeatureDisabled`].
#[cfg(not(feature = "fs"))]
pub fn open_directory(_dir: &Path) -> Result<OpenedStore, StoreError> {
    Err(StoreError::FeatureDisabled { scheme: "file".to_owned(), feature: "fs" })
}

fn open_cloud(scheme: &str, rest: &str) -> Result<OpenedStore, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err(StoreError::InvalidUrl {
            problem: "credentials do not belong in it; they come from the environment",
        });
    }
    if bucket.is_empty()
        || !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return Err(StoreError::InvalidUrl {
            problem: "it names no bucket, as in s3://bucket/prefix",
        });
    }
    let prefix = Key::parse(prefix).map_err(|_| StoreError::InvalidUrl {
        problem: "its prefix is no object key: no empty, `.` or `..` component and no control character may stand in it",
    })?;
    let (feature, opened) = match scheme {
        "s3" => ("s3", open_s3(bucket)),
        "gs" => ("gcs", open_gcs(bucket)),
        _ => ("azure", open_azure(bucket)),
    };
    let (store, linker) = opened
        .ok_or_else(|| StoreError::FeatureDisabled { scheme: scheme.to_owned(), feature })??;
    Ok(OpenedStore { store, prefix, linker, name: bucket.to_owned() })
}

/// A store and its links; `None` when the build has no such store.
type Opened = Option<Result<(Arc<dyn ObjectStore>, Option<Arc<dyn Linker>>), StoreError>>;

#[cfg(feature = "azure")]
use clouds::open_azure;
#[cfg(feature = "gcs")]
use clouds::open_gcs;
#[cfg(feature = "s3")]
use clouds::open_s3;

#[cfg(not(feature = "s3"))]
fn open_s3(_bucket: &str) -> Opened {
    None
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(_bucket: &str) -> Opened {
    None
}

#[cfg(not(feature = "azure"))]
fn open_azure(_container: &str) -> Opened {
    None
}

/// Why a store cannot be opened. No credential is ever part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The text is no URL.
    #[error("a store is given by its URL: {schemes}")]
    NotAUrl {
        /// What is known.
        schemes: &'static str,
    },
    /// The URL's scheme is none that is known.
    #[error("there is no store of the kind {scheme:?}; known are {schemes}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// What is known.
        schemes: &'static str,
    },
    /// The URL cannot be used.
    #[error("the store's URL cannot be used: {problem}")]
    InvalidUrl {
        /// Why.
        problem: &'static str,
    },
    /// The build lacks this store.
    #[error("this build has no {scheme}: stores; build it with the feature {feature:?}")]
    FeatureDisabled {
        /// The scheme.
        scheme: String,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// A setting is missing from the environment.
    #[error("the environment variable {variable} is not set; {remedy}")]
    MissingVariable {
        /// Its name.
        variable: &'static str,
        /// What may be set instead.
        remedy: &'static str,
    },
    /// The directory cannot be used.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The settings do not make a store.
    #[error("the store cannot be opened")]
    InvalidSettings {
        /// What the client says.
        source: object_store::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(url: &str, expected: &str) {
        let error = open_store(url).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }

    #[test]
    fn what_names_no_store_is_refused_with_what_would() {
        refused("bucket", "s3://bucket/prefix");
        refused("ftp://x/y", "\"ftp\"");
        refused("s3:///prefix", "names no bucket");
        refused("s3://a b/prefix", "names no bucket");
        refused("gs://b/a/../b", "prefix");
        refused("az://b/a//b", "prefix");
        refused("memory://name", "memory:///");
        refused("file://host/dir", "file:///srv/store");
        refused("s3://key:private@bucket/", "environment");
    }

    #[test]
    fn credentials_in_a_url_are_not_repeated() {
        let error = open_store("s3://key:private@bucket/").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("private"));
    }

    #[cfg(feature = "fs")]
    #[tokio::test]
    async fn a_directory_is_made_for_its_owner_and_its_links_open() {
        use object_store::ObjectStoreExt;
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("a b/store");
        let opened = open_store(url::Url::from_file_path(&root).unwrap().as_str()).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(opened.name, "store");
        let key = Key::parse("d/é %20#?.txt").unwrap();
        opened.store.put(&key, "content".into()).await.unwrap();
        let link = opened.linker.unwrap().link(&key).await.unwrap().unwrap();
        let path = url::Url::parse(&link).unwrap().to_file_path().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "content");
    }
}
