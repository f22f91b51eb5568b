//! Cloud stores, with settings from their standard environment variables.

use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::{Client, StoreCapabilities};
use crate::transfer::deletion::presigned::PresignedDelete;
use crate::transfer::links::{PresignedLinks, Signable};
use crate::transfer::store_error::StoreError;

/// Permission for clients to request credentials from an instance's metadata address.
const INSTANCE: &str = "AGENT_TOOLS_INSTANCE_CREDENTIALS";

#[cfg(feature = "s3")]
pub(super) fn open_s3(bucket: &str) -> Result<Client, StoreError> {
    use object_store::aws::AmazonS3Builder;

    install_crypto_provider();
    let roles = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if !any_set(&roles) && !from_instance() {
        let remedy = "s3: stores need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role \
                      from AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_CREDENTIALS_FULL_URI; \
                      AGENT_TOOLS_INSTANCE_CREDENTIALS=1 allows requests to the instance metadata";
        require(&["AWS_ACCESS_KEY_ID"], remedy)?;
        require(&["AWS_SECRET_ACCESS_KEY"], remedy)?;
    }
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| value(name));
    let plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client().with_allow_http(plain))
        .with_retry(retries())
        .build()
        .map_err(|source| StoreError::InvalidSettings { source })?;
    opened(store, Signable::All, PresignedDelete::s3, endpoint.as_deref().and_then(address))
}

#[cfg(feature = "gcs")]
pub(super) fn open_gcs(bucket: &str) -> Result<Client, StoreError> {
    use object_store::gcp::GoogleCloudStorageBuilder;

    install_crypto_provider();
    let keys = [
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_BEARER_TOKEN",
    ];
    if !from_instance() {
        let remedy = "set it or GOOGLE_APPLICATION_CREDENTIALS to the path of a service account \
                      key, or GOOGLE_SERVICE_ACCOUNT_KEY to the key; \
                      AGENT_TOOLS_INSTANCE_CREDENTIALS=1 allows requests to the instance metadata";
        require(&keys, remedy)?;
    }
    let store = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client())
        .with_retry(retries())
        .build()
        .map_err(|source| StoreError::InvalidSettings { source })?;
    opened(store, Signable::WithoutUrlSyntax, PresignedDelete::gcs, None)
}

#[cfg(feature = "azure")]
pub(super) fn open_azure(container: &str) -> Result<Client, StoreError> {
    use object_store::azure::MicrosoftAzureBuilder;

    install_crypto_provider();
    require(&["AZURE_STORAGE_ACCOUNT_NAME"], "set it to the account name")?;
    let keys = [
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_STORAGE_TOKEN",
    ];
    if !from_instance() {
        let remedy = "az: stores need AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or \
                      AZURE_CLIENT_SECRET with AZURE_CLIENT_ID and AZURE_TENANT_ID; \
                      AGENT_TOOLS_INSTANCE_CREDENTIALS=1 allows requests to the instance metadata";
        require(&keys, remedy)?;
    }
    let endpoint = value("AZURE_STORAGE_ENDPOINT");
    let plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let store = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client().with_allow_http(plain))
        .with_retry(retries())
        .build()
        .map_err(|source| StoreError::InvalidSettings { source })?;
    let account = value("AZURE_STORAGE_ACCOUNT_NAME");
    opened(
        store,
        Signable::Plain,
        PresignedDelete::azure,
        endpoint.as_deref().and_then(address).or(account),
    )
}

/// Installs a cryptography provider, unless the application has installed one. The clients are
/// built without.
fn install_crypto_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn opened<S>(
    store: S,
    signable: Signable,
    deleter: fn(Arc<dyn Signer>) -> Result<PresignedDelete, object_store::Error>,
    server: Option<String>,
) -> Result<Client, StoreError>
where
    S: ObjectStore + MultipartStore + PaginatedListStore + Signer,
{
    let store = Arc::new(store);
    let signer: Arc<dyn Signer> = Arc::clone(&store) as _;
    let deleter =
        deleter(Arc::clone(&signer)).map_err(|source| StoreError::InvalidSettings { source })?;
    Ok(Client {
        capabilities: StoreCapabilities {
            multipart: Some(Arc::clone(&store) as _),
            pages: Some(Arc::clone(&store) as _),
            conditional_delete: Some(Arc::new(deleter)),
            root: None,
            flushing: None,
        },
        store,
        linker: Arc::new(PresignedLinks { signer, signable }),
        server,
    })
}

/// Returns the scheme, host, port and path of a server's URL, without its credentials.
#[cfg(any(feature = "azure", feature = "s3"))]
fn address(endpoint: &str) -> Option<String> {
    let mut url = url::Url::parse(endpoint).ok()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn value(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn any_set(names: &[&str]) -> bool {
    names.iter().any(|name| value(name).is_some())
}

fn from_instance() -> bool {
    value(INSTANCE).as_deref() == Some("1")
}

fn require(names: &[&'static str], remedy: &'static str) -> Result<(), StoreError> {
    if any_set(names) {
        Ok(())
    } else {
        Err(StoreError::MissingVariable { variable: names[0], remedy })
    }
}

fn client() -> ClientOptions {
    // A large object takes long, but a server that sends nothing for half a minute counts as
    // unreachable.
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_read_timeout(Duration::from_secs(30))
        .with_timeout(Duration::from_secs(15 * 60))
}

/// Returns few and short retries. A change that fails stays pending, and the next call retries it.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 3,
        retry_timeout: Duration::from_secs(20),
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
    }
}

#[cfg(all(test, any(feature = "azure", feature = "s3")))]
mod tests {
    use super::*;

    #[test]
    fn an_address_contains_no_credentials() {
        let address = |endpoint| address(endpoint).unwrap();
        assert_eq!(address("http://127.0.0.1:9000/"), "http://127.0.0.1:9000");
        assert_eq!(address("https://key:private@h/a?token=private#x"), "https://h/a");
    }
}
