//! Opening of object stores by URL.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::transfer::links::Linker;
use crate::transfer::store_error::StoreError;

mod capabilities;
#[cfg(feature = "_cloud")]
mod clouds;

pub use capabilities::StoreCapabilities;

/// Store that was opened by URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenedStore {
    /// The store. Its keys include the prefix.
    pub store: Arc<dyn ObjectStore>,
    /// Path of the URL, below which the application keeps its objects.
    pub prefix: Key,
    /// Linker for the store's objects, if the store supports links.
    pub linker: Option<Arc<dyn Linker>>,
    /// Name of the bucket, container, or directory.
    pub name: String,
    /// Identity of the bucket and its server, without credentials. Stores of one endpoint have the
    /// same properties.
    pub endpoint: String,
    /// Abilities of the store beyond `ObjectStore`.
    pub capabilities: StoreCapabilities,
}

/// Opens a store by URL.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `s3://bucket/prefix` | S3 and compatible servers | `s3` |
/// | `gs://bucket/prefix` | Google Cloud Storage | `gcs` |
/// | `az://container/prefix` | Azure Blob Storage | `azure` |
/// | `file:///directory` | a directory on the local disk, created if absent | `fs` |
/// | `memory:///` | memory of this process | |
///
/// Cloud stores read their settings from the standard environment variables:
/// - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …; `AWS_ENDPOINT` for another server;
/// - GCS: `GOOGLE_SERVICE_ACCOUNT_PATH`, `GOOGLE_APPLICATION_CREDENTIALS`, …;
/// - Azure: `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, ….
///
/// A prefix is used literally, without percent-decoding. This function sends no request.
/// Credentials are fetched from an instance's metadata address only if
/// `AGENT_TOOLS_INSTANCE_CREDENTIALS=1` is set.
///
/// # Errors
/// Returns [`StoreError`] if the URL names no supported store, or if a setting is missing.
pub fn open_store(url: &str) -> Result<OpenedStore, StoreError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // The part before an `@` may be a password.
        let text = url.rsplit_once('@').map_or(url.to_owned(), |(_, rest)| format!("…@{rest}"));
        return Err(StoreError::NotAUrl { text, schemes: SCHEMES });
    };
    match scheme {
        "s3" | "gs" | "az" => open_cloud(scheme, rest),
        "file" => open_directory(&store_directory(url).ok_or_else(|| StoreError::InvalidUrl {
            problem: "file: needs an absolute path, as in file:///srv/store",
        })?),
        "memory" if matches!(rest, "" | "/") => {
            let store = Arc::new(InMemory::new());
            let multipart = Some(Arc::clone(&store) as _);
            Ok(OpenedStore {
                store,
                prefix: Key::default(),
                linker: None,
                name: "memory".to_owned(),
                endpoint: "memory:///".to_owned(),
                capabilities: StoreCapabilities { multipart, ..StoreCapabilities::default() },
            })
        }
        "memory" => {
            Err(StoreError::InvalidUrl { problem: "memory: takes no name, as in memory:///" })
        }
        other => Err(StoreError::UnknownScheme { scheme: other.to_owned(), schemes: SCHEMES }),
    }
}

/// Returns the directory that the URL of a store names.
pub fn store_directory(url: &str) -> Option<std::path::PathBuf> {
    let url = url::Url::parse(url).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

const SCHEMES: &str =
    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///directory, memory:///";

/// Opens a directory on the local disk as a store. `dir` is an absolute path. An absent directory
/// is created with mode 0700.
///
/// # Errors
/// Returns [`StoreError`] if the directory cannot be created, or without the feature `fs`.
#[cfg(feature = "fs")]
pub fn open_directory(dir: &Path) -> Result<OpenedStore, StoreError> {
    let failed = |source| StoreError::Directory { path: dir.to_owned(), source };
    crate::transfer::disk::create_directory(dir).map_err(|error| {
        let has_other = dir.symlink_metadata().is_ok() && !dir.is_dir();
        failed(if has_other { rustix::io::Errno::NOTDIR.into() } else { error })
    })?;
    let root = dir.canonicalize().map_err(failed)?;
    // The client would panic about a conflict.
    if root.to_str().is_none() {
        return Err(failed(std::io::Error::other("the path is not UTF-8")));
    }
    let store = object_store::local::LocalFileSystem::new_with_prefix(&root)
        .map_err(|source| StoreError::InvalidSettings { source })?
        .with_automatic_cleanup(true);
    let flushing: Arc<dyn ObjectStore> = Arc::new(store.clone().with_fsync(true));
    let name = root
        .file_name()
        .map_or_else(|| "local".to_owned(), |name| name.to_string_lossy().into_owned());
    let endpoint = format!("file://{}", root.display());
    let linker: Arc<dyn Linker> =
        Arc::new(crate::transfer::links::FileLinks { root: root.clone() });
    Ok(OpenedStore {
        store: Arc::new(store),
        prefix: Key::default(),
        linker: Some(linker),
        name,
        endpoint,
        capabilities: StoreCapabilities {
            root: Some(root),
            flushing: Some(flushing),
            ..StoreCapabilities::default()
        },
    })
}

/// Opens a directory on the local disk as a store, which this build does not support.
///
/// # Errors
/// Returns [`StoreError::FeatureDisabled`] always.
#[cfg(not(feature = "fs"))]
pub fn open_directory(_dir: &Path) -> Result<OpenedStore, StoreError> {
    Err(StoreError::FeatureDisabled { scheme: "file".to_owned(), feature: "fs" })
}

fn open_cloud(scheme: &str, rest: &str) -> Result<OpenedStore, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err(StoreError::InvalidUrl {
            problem: "it contains credentials; set them in the environment instead",
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
        problem: "its prefix must not contain empty, `.` or `..` components, or control characters",
    })?;
    let client = open_client(scheme, bucket)?;
    Ok(OpenedStore {
        store: client.store,
        prefix,
        linker: Some(client.linker),
        name: bucket.to_owned(),
        endpoint: match client.server {
            Some(server) => format!("{scheme}://{bucket} at {server}"),
            None => format!("{scheme}://{bucket}"),
        },
        capabilities: client.capabilities,
    })
}

/// Client of one bucket.
struct Client {
    store: Arc<dyn ObjectStore>,
    linker: Arc<dyn Linker>,
    /// Address of the server or name of the account, unless the bucket's name is unique.
    server: Option<String>,
    capabilities: StoreCapabilities,
}

#[cfg_attr(not(feature = "_cloud"), expect(unused_variables, reason = "no cloud is enabled"))]
fn open_client(scheme: &str, bucket: &str) -> Result<Client, StoreError> {
    match scheme {
        #[cfg(feature = "s3")]
        "s3" => clouds::open_s3(bucket),
        #[cfg(feature = "gcs")]
        "gs" => clouds::open_gcs(bucket),
        #[cfg(feature = "azure")]
        "az" => clouds::open_azure(bucket),
        _ => {
            let feature = match scheme {
                "s3" => "s3",
                "gs" => "gcs",
                _ => "azure",
            };
            Err(StoreError::FeatureDisabled { scheme: scheme.to_owned(), feature })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(url: &str, expected: &str) {
        let error = open_store(url).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }

    #[test]
    fn an_invalid_url_is_rejected_with_a_valid_form() {
        check_error("bucket", "s3://bucket/prefix");
        check_error("ftp://x/y", "\"ftp\"");
        check_error("s3:///prefix", "names no bucket");
        check_error("s3://a b/prefix", "names no bucket");
        check_error("gs://b/a/../b", "prefix");
        check_error("az://b/a//b", "prefix");
        check_error("memory://name", "memory:///");
        check_error("file://host/dir", "file:///srv/store");
        check_error("s3://key:private@bucket/", "environment");
    }

    #[test]
    fn credentials_in_a_url_never_appear_in_the_error() {
        let error = open_store("s3://key:private@bucket/").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("private"));
    }

    #[cfg(feature = "fs")]
    #[tokio::test]
    async fn a_directory_is_created_for_its_owner_and_its_links_open() {
        use object_store::ObjectStoreExt;
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("a b/store");
        let opened = open_store(url::Url::from_file_path(&root).unwrap().as_str()).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(opened.name, "store");
        assert_eq!(opened.endpoint, format!("file://{}", root.display()));
        assert_eq!(opened.capabilities.root.as_deref(), Some(root.as_path()));
        assert!(opened.capabilities.multipart.is_none());
        let key = Key::parse("d/é %20#?.txt").unwrap();
        opened.store.put(&key, "content".into()).await.unwrap();
        let link = opened.linker.unwrap().link(&key).await.unwrap().unwrap();
        let path = url::Url::parse(&link).unwrap().to_file_path().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "content");
    }
}
