//! The files of a version in the store, checked before any is downloaded.

use artifact_sync::internal::{Listing, list_tree, strip_prefix};
use object_store::ObjectMeta;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;

use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::installed::Fingerprint;
use crate::layout::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES, SKILL_FILE};
use crate::store::{SkillStore, store_error};

/// The files of a version, with warnings about keys that are not files of a skill.
#[derive(Default)]
pub(crate) struct VersionFiles {
    pub(crate) files: Vec<(RelativePath, Key)>,
    /// Fingerprints of the objects, sorted by path.
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) warnings: Vec<String>,
    bytes: u64,
}

impl VersionFiles {
    /// Lists the files of a version. Fails if the version is absent, incomplete or too large.
    pub(crate) async fn list(
        store: &SkillStore,
        id: &SkillId,
        version: Version,
    ) -> Result<Self, SkillError> {
        let prefix = store.version_prefix(id, version);
        let listing = list_tree(&*store.store, &prefix).await.map_err(store_error(&prefix))?;
        // Each file can have a directory marker.
        if listing.objects.len() > 2 * MAX_FILES {
            let count = format!("{} objects", listing.objects.len());
            return Err(too_large(id, version, &count, &format!("{MAX_FILES} files")));
        }
        let files = Self::from_listing(&prefix, &listing);
        if files.files.is_empty() {
            let available = store.versions(id).await?;
            return Err(SkillError::NotFound { id: id.clone(), version, available });
        }
        if files.files.len() > MAX_FILES {
            let count = format!("{} files", files.files.len());
            return Err(too_large(id, version, &count, &MAX_FILES.to_string()));
        }
        check_size(id, version, files.bytes)?;
        // A directory marker of this name counts too, so the check is about keys, not about files.
        let skill_file = prefix.join(SKILL_FILE);
        let has_skill_file = listing.objects.iter().any(|meta| meta.location == skill_file);
        if !has_skill_file && store.is_reserved(id, version).await? {
            return Err(SkillError::Incomplete { id: id.clone(), version });
        }
        Ok(files)
    }

    fn from_listing(prefix: &Key, listing: &Listing) -> Self {
        let mut files = Self::default();
        let unlisted = listing.unlisted.iter();
        files.warnings.extend(
            unlisted.map(|failure| format!("{:?} was left out: {}", failure.key, failure.reason)),
        );
        let paths: Vec<&str> = listing
            .objects
            .iter()
            .map(|meta| strip_prefix(prefix, &meta.location).unwrap_or_default())
            .collect();
        for (meta, path) in listing.objects.iter().zip(&paths) {
            if !is_directory_marker(meta, path, &paths) {
                files.add(meta, path);
            }
        }
        files.fingerprints.sort();
        files
    }

    fn add(&mut self, meta: &ObjectMeta, path: &str) {
        match RelativePath::parse(path) {
            Ok(parsed) if path.len() <= MAX_PATH_BYTES => {
                self.bytes += meta.size;
                self.fingerprints.push(Fingerprint::new(path, meta));
                self.files.push((parsed, meta.location.clone()));
            }
            _ => self.warnings.push(format!(
                "{:?} was left out: it stands for no path of a skill",
                meta.location.as_ref()
            )),
        }
    }
}

/// Returns whether an object marks a directory: it has no path, or no content and paths below it.
fn is_directory_marker(meta: &ObjectMeta, path: &str, paths: &[&str]) -> bool {
    let has_files = || {
        let mut below = paths.iter().filter_map(|other| other.strip_prefix(path));
        below.any(|rest| rest.starts_with('/'))
    };
    path.is_empty() || meta.size == 0 && has_files()
}

/// Checks the size of all files of a version together.
pub(crate) fn check_size(id: &SkillId, version: Version, bytes: u64) -> Result<(), SkillError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(too_large(id, version, &format!("{bytes} bytes"), &MAX_BYTES.to_string()))
}

fn too_large(id: &SkillId, version: Version, size: &str, limit: &str) -> SkillError {
    let problem = format!("it has {size}; at most {limit} are installed");
    SkillError::TooLarge { id: id.clone(), version, problem }
}
