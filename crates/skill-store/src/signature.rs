//! Detached signatures of manifests, in the format of minisign.

use std::fmt;
use std::sync::Arc;

use artifact_sync::internal::{Object, put_object};
use minisign_verify::{PublicKey, Signature};
use object_store::PutMode;
use sandbox_core::internal::blocking;

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::SkillError;
use crate::error_kind::ErrorKind;
use crate::id::{SkillId, Version};
use crate::records::signature_name;
use crate::resolve::{Identity, Resolved};
use crate::store::SkillStore;

/// Maximum size of a signature with its comments.
const MAX_SIGNATURE_BYTES: u64 = 16 * 1024;

/// A public key of minisign, which verifies the signatures of manifests.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    key: PublicKey,
    /// The line with the key alone.
    line: String,
}

/// The error returned for a text that is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("it is no public key of minisign: a line of 56 characters that begins with RW")]
pub struct KeyError;

impl KeyError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    /// Returns whether the same call can succeed later, without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl VerifyingKey {
    /// Parses the content of a file `minisign.pub`, or its line with the key alone.
    ///
    /// # Errors
    /// Returns [`KeyError`] for another text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let key = match text.contains('\n') {
            true => PublicKey::decode(text),
            false => PublicKey::from_base64(text),
        };
        let line = text.lines().last().unwrap_or_default().trim().to_owned();
        key.map(|key| Self { key, line }).map_err(|_| KeyError)
    }

    fn verifies(&self, text: &[u8], signature: &Signature) -> bool {
        self.key.verify(text, signature, true).is_ok()
    }
}

/// Writes the line with the key alone.
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey")
    }
}

impl SkillStore {
    /// Stores a signature of the manifest of a version, made by minisign from the text that
    /// [`Manifest::to_json`](crate::Manifest::to_json) returns. Without a configured key, it is
    /// not verified, and replaces no other signature.
    ///
    /// # Errors
    /// Returns [`SkillError::MalformedSignature`] for another text, [`SkillError::Signature`] if no
    /// configured key has made it, and [`SkillError::Signed`] if it is not verified and the version
    /// has another one. Returns [`SkillError`] if the version has no manifest or the store fails.
    ///
    /// # Cancel safety
    /// The signature is stored or not.
    pub async fn sign(
        &self,
        id: &SkillId,
        version: Version,
        signature: &str,
    ) -> Result<(), SkillError> {
        let decoded = Signature::decode(signature).map_err(|_| SkillError::MalformedSignature)?;
        let records = self.records(id).await?;
        let resolved = self.resolve_version(id, version, &records).await?;
        if matches!(resolved.identity, Identity::Objects(_)) {
            return Err(SkillError::NoManifest { id: id.clone(), version });
        }
        let blobs = self.open_blobs(None, &mut Vec::new()).await?;
        let text = self.manifest_of(&resolved, &blobs).await?.to_json();
        if !self.keys.is_empty() && !self.keys.iter().any(|key| key.verifies(&text, &decoded)) {
            return Err(SkillError::Signature { id: id.clone(), version });
        }
        let key = self.record_key(id, signature_name(version));
        if self.keys.is_empty()
            && matches!(resolved.identity, Identity::Manifest { is_signed: true, .. })
        {
            let present = self.get_small(&key, MAX_SIGNATURE_BYTES).await?;
            return match present.is_some_and(|present| present == signature.as_bytes()) {
                true => Ok(()),
                false => Err(SkillError::Signed { id: id.clone(), version }),
            };
        }
        let object = Object::new(signature.to_owned(), false);
        put_object(&*self.store, &key, object, PutMode::Overwrite)
            .await
            .map(drop)
            .map_err(crate::store::store_error(&key))
    }

    /// Checks that a configured key has signed the version. Without keys, nothing is checked.
    pub(crate) async fn check_signature(
        &self,
        resolved: &Resolved,
        blobs: &Arc<Blobs>,
    ) -> Result<(), SkillError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let (id, version) = (&resolved.id, resolved.version);
        let Identity::Manifest { digest, is_signed: true } = resolved.identity else {
            return Err(SkillError::Unsigned { id: id.clone(), version });
        };
        let text = self.manifest_of(resolved, blobs).await?.to_json();
        // The cache keeps the signature beside its manifest, under a name of its own.
        let name = Digest::of(format!("signature of {digest}").as_bytes());
        let cache = Arc::clone(blobs);
        let cached = blocking(move || cache.read_named(&name, MAX_SIGNATURE_BYTES)).await;
        if cached.is_some_and(|cached| self.is_signed_by_a_key(&text, &cached)) {
            return Ok(());
        }
        let key = self.record_key(id, signature_name(version));
        let signature = self.get_small(&key, MAX_SIGNATURE_BYTES).await?.unwrap_or_default();
        if !self.is_signed_by_a_key(&text, &signature) {
            return Err(SkillError::Signature { id: id.clone(), version });
        }
        let cache = Arc::clone(blobs);
        // Without it, the next installation asks the store again.
        let _ = blocking(move || cache.write_named(&name, &signature)).await;
        Ok(())
    }

    fn is_signed_by_a_key(&self, text: &[u8], signature: &[u8]) -> bool {
        let signature = std::str::from_utf8(signature).ok();
        let signature = signature.and_then(|signature| Signature::decode(signature).ok());
        signature
            .is_some_and(|signature| self.keys.iter().any(|key| key.verifies(text, &signature)))
    }
}
