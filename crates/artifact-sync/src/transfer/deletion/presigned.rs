//! Conditional deletion by presigned requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path as Key;
use object_store::signer::{HeaderName, HeaderValue, SignedUrlOptions, Signer};
use object_store::{Error, UpdateVersion};
use reqwest::{Method, StatusCode};

use super::{ConditionalDelete, ConditionalDeletion};
use crate::transfer::links::Signable;

/// Validity of a signed request. A request that arrives later is rejected.
const EXPIRY: Duration = Duration::from_secs(5 * 60);

/// Name of the store in errors.
const NAME: &str = "ConditionalDelete";

/// Conditional deletion through the signer of a cloud store's client.
///
/// The signed URL appears in no error and no log line. Servers that ignore the condition exist, so
/// a mirror probes the store before it relies on this.
#[derive(Clone)]
pub struct PresignedDelete {
    signer: Arc<dyn Signer>,
    service: Service,
    client: reqwest::Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    S3,
    Gcs,
    Azure,
}

impl PresignedDelete {
    /// Uses the client of an S3 bucket, such as an `AmazonS3`.
    ///
    /// # Errors
    /// Returns an error if no HTTP client can be created.
    pub fn s3(signer: Arc<dyn Signer>) -> Result<Self, Error> {
        Self::new(signer, Service::S3)
    }

    /// Uses the client of a GCS bucket, such as a `GoogleCloudStorage`. Without a private key, each
    /// signature is a request to Google's IAM.
    ///
    /// # Errors
    /// Returns an error if no HTTP client can be created.
    pub fn gcs(signer: Arc<dyn Signer>) -> Result<Self, Error> {
        Self::new(signer, Service::Gcs)
    }

    /// Uses the client of an Azure container, such as a `MicrosoftAzure`.
    ///
    /// # Errors
    /// Returns an error if no HTTP client can be created.
    pub fn azure(signer: Arc<dyn Signer>) -> Result<Self, Error> {
        Self::new(signer, Service::Azure)
    }

    fn new(signer: Arc<dyn Signer>, service: Service) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(failed)?;
        Ok(Self { signer, service, client })
    }

    /// Returns the condition as a header, or `None` if the version lacks what the service compares.
    fn condition(&self, version: &UpdateVersion) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self.service {
            Service::S3 | Service::Azure => ("if-match", version.e_tag.as_deref()?),
            Service::Gcs => ("x-goog-if-generation-match", version.version.as_deref()?),
        };
        // `*` would match every version.
        let value = Some(value).filter(|value| !value.is_empty() && *value != "*")?;
        Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
    }

    fn signable(&self) -> Signable {
        match self.service {
            Service::S3 => Signable::All,
            Service::Gcs => Signable::WithoutUrlSyntax,
            Service::Azure => Signable::Plain,
        }
    }
}

#[async_trait]
impl ConditionalDelete for PresignedDelete {
    async fn delete_if(
        &self,
        key: &Key,
        version: &UpdateVersion,
    ) -> Result<ConditionalDeletion, Error> {
        let Some((name, value)) = self.condition(version) else {
            return Ok(ConditionalDeletion::NotSupported);
        };
        if !self.signable().covers(key.as_ref()) {
            return Ok(ConditionalDeletion::NotSupported);
        }
        // GCS ignores `x-goog-` headers that are not signed. Azure cannot sign headers.
        let options = match self.service {
            Service::S3 | Service::Azure => SignedUrlOptions::new(),
            Service::Gcs => SignedUrlOptions::new().with_signed_header(name.clone(), value.clone()),
        };
        let url = self.signer.signed_url_opts(Method::DELETE, key, EXPIRY, &options).await?;
        let mut request = self.client.delete(url).header(name, value);
        if self.service == Service::Azure {
            request = request.header("x-ms-delete-snapshots", "include");
        }
        let status = request.send().await.map_err(failed)?.status();
        match status {
            StatusCode::NOT_FOUND => Ok(ConditionalDeletion::Deleted),
            StatusCode::PRECONDITION_FAILED => Ok(ConditionalDeletion::OtherVersion),
            StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(ConditionalDeletion::NotSupported),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::PermissionDenied { path: key.to_string(), source: answer(status) })
            }
            _ if status.is_success() => Ok(ConditionalDeletion::Deleted),
            _ => Err(Error::Generic { store: NAME, source: answer(status) }),
        }
    }
}

/// The service only, because the client's own text may contain credentials.
impl fmt::Debug for PresignedDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PresignedDelete").field(&self.service).finish()
    }
}

fn failed(error: reqwest::Error) -> Error {
    // The URL contains the signature.
    Error::Generic { store: NAME, source: Box::new(error.without_url()) }
}

fn answer(status: StatusCode) -> Box<dyn std::error::Error + Send + Sync> {
    format!("the server answered {status}").into()
}

#[cfg(test)]
mod tests {
    use object_store::signer::Url;

    use super::*;

    /// Signer of a server that does not exist.
    #[derive(Debug)]
    struct Nowhere;

    #[async_trait]
    impl Signer for Nowhere {
        async fn signed_url(&self, _: Method, key: &Key, _: Duration) -> Result<Url, Error> {
            // Port 1 of loopback is closed.
            Ok(Url::parse(&format!("http://127.0.0.1:1/{key}?Signature=private")).unwrap())
        }
    }

    fn version(e_tag: Option<&str>) -> UpdateVersion {
        UpdateVersion { e_tag: e_tag.map(str::to_owned), version: None }
    }

    fn deleter(service: Service) -> PresignedDelete {
        let _ = rustls::crypto::ring::default_provider().install_default();
        PresignedDelete::new(Arc::new(Nowhere), service).unwrap()
    }

    #[tokio::test]
    async fn a_failure_never_shows_the_signature() {
        let deleter = deleter(Service::S3);
        let error = deleter.delete_if(&Key::from("k"), &version(Some("e"))).await.unwrap_err();
        let text = format!("{error:?} {}", sandbox_core::with_causes(&error));
        assert!(!text.contains("private") && text.contains(NAME), "{text}");
    }

    #[tokio::test]
    async fn nothing_is_sent_if_the_condition_or_the_signature_would_be_wrong() {
        for (service, key, e_tag) in [
            (Service::S3, "k", None),
            (Service::S3, "k", Some("*")),
            (Service::S3, "k", Some("new\nline")),
            (Service::Azure, "with space", Some("e")),
            (Service::Gcs, "a?b", Some("e")),
            (Service::Gcs, "k", Some("e")),
        ] {
            let deleted = deleter(service).delete_if(&Key::from(key), &version(e_tag)).await;
            assert_eq!(deleted.unwrap(), ConditionalDeletion::NotSupported, "{service:?} {key}");
        }
    }
}
