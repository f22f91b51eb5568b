//! Resolution of a reference to a version and to what identifies its content.

use crate::digest::Digest;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::records::{Records, Reservation};
use crate::skill_ref::{SkillRef, VersionSelector};
use crate::store::SkillStore;
use crate::version_files::VersionFiles;

/// A version that is complete, as far as listings tell.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) id: SkillId,
    pub(crate) version: Version,
    pub(crate) identity: Identity,
    pub(crate) warnings: Vec<String>,
}

/// The identity of a version's content.
#[derive(Debug)]
pub(crate) enum Identity {
    /// The digest of the manifest.
    Manifest { digest: Digest, is_signed: bool },
    /// The listed objects of a version without a manifest.
    Objects(VersionFiles),
}

impl Identity {
    /// Returns a digest that changes if the content changes. Without a manifest, it depends on the
    /// metadata of the objects.
    pub(crate) fn digest(&self) -> Digest {
        match self {
            Self::Manifest { digest, .. } => *digest,
            Self::Objects(files) => files.fingerprint(),
        }
    }
}

impl Resolved {
    /// Leaves out the warning about a version without a manifest, whose content a lockfile
    /// verifies.
    pub(crate) fn in_lockfile(mut self) -> Self {
        if matches!(self.identity, Identity::Objects(_)) {
            self.warnings.pop();
        }
        self
    }
}

impl SkillStore {
    /// Returns the version that a reference names. Sends one request if the version has a manifest.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the version is absent, incomplete or deleted, or the store fails.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn find(&self, skill: &SkillRef) -> Result<Version, SkillError> {
        Ok(self.resolve(skill).await?.version)
    }

    /// Resolves a reference with one request for a version with a manifest.
    pub(crate) async fn resolve(&self, skill: &SkillRef) -> Result<Resolved, SkillError> {
        let id = &skill.id;
        let (version, records) = match &skill.version {
            Some(VersionSelector::Number(version)) => (*version, self.records(id).await?),
            Some(VersionSelector::Latest) | None => {
                let known = self.known_versions(id).await?;
                let none = || SkillError::NoVersion { id: id.clone() };
                (known.latest(self).await?.ok_or_else(none)?, known.records)
            }
            Some(VersionSelector::Tag(tag)) => {
                let records = self.records(id).await?;
                let tagged = records.tagged(tag).ok_or_else(|| records.no_tag(id, tag))?;
                (tagged, records)
            }
        };
        self.resolve_version(id, version, &records).await
    }

    pub(crate) async fn resolve_version(
        &self,
        id: &SkillId,
        version: Version,
        records: &Records,
    ) -> Result<Resolved, SkillError> {
        let record = records.record(version);
        if record.is_deleted {
            let available = self.versions(id).await?;
            return Err(SkillError::Deleted { id: id.clone(), version, available });
        }
        let (identity, warnings) = match (&record.manifests[..], record.reservation) {
            ([digest], _) => {
                let is_signed = record.is_signed;
                (Identity::Manifest { digest: *digest, is_signed }, Vec::new())
            }
            ([_, _, ..], _) => {
                return Err(SkillError::AmbiguousManifest { id: id.clone(), version });
            }
            ([], Some(Reservation::WithManifest)) => {
                return Err(SkillError::Incomplete { id: id.clone(), version });
            }
            ([], reservation) => {
                let mut files = VersionFiles::list(self, id, version).await?;
                if reservation.is_some() && !files.has_skill_file {
                    return Err(SkillError::Incomplete { id: id.clone(), version });
                }
                let mut warnings = std::mem::take(&mut files.warnings);
                warnings.push(format!(
                    "version {version} of {id} has no manifest, so its content is verified by \
                     version only"
                ));
                (Identity::Objects(files), warnings)
            }
        };
        Ok(Resolved { id: id.clone(), version, identity, warnings })
    }
}
