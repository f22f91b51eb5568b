//! The files of a version without a manifest, checked before any is downloaded.

use std::collections::HashSet;

use artifact_sync::StoreCapabilities;
use artifact_sync::internal::{Listed, list_pages, strip_prefix};
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path as Key;
use sandbox_core::RelativePath;
use serde::Serialize;

use crate::cautions::repository_in;
use crate::digest::Digest;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::layout::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES, SKILL_FILE};
use crate::names::has_deceptive;
use crate::store::{SkillStore, store_error};

/// The files of a version, with warnings about keys that are not files of a skill.
#[derive(Debug, Default)]
pub(crate) struct VersionFiles {
    pub(crate) files: Vec<(RelativePath, Key)>,
    pub(crate) warnings: Vec<String>,
    /// `true` if an object has the name of SKILL.md, also if it only marks a directory.
    pub(crate) has_skill_file: bool,
    /// Metadata that changes if an object is overwritten, sorted by path.
    fingerprints: Vec<Fingerprint>,
    bytes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Fingerprint {
    path: String,
    size: u64,
    etag: Option<String>,
    /// Milliseconds since 1970.
    modified: i64,
}

impl VersionFiles {
    /// Lists the files of a version. Fails if the version is absent or too large.
    pub(crate) async fn list(
        store: &SkillStore,
        id: &SkillId,
        version: Version,
    ) -> Result<Self, SkillError> {
        let prefix = store.version_prefix(id, version);
        let mut files = Self::default();
        let mut objects = Vec::new();
        let capabilities = StoreCapabilities::default();
        let mut listed = list_pages(&*store.store, &capabilities, &prefix);
        let mut seen = HashSet::new();
        while let Some(found) = listed.try_next().await.map_err(store_error(&prefix))? {
            match found {
                // After an odd key, an object can appear twice.
                Listed::Object(meta) if seen.insert(meta.location.clone()) => objects.push(meta),
                Listed::Incomplete { prefix, reason } if files.warnings.len() < MAX_FILES => {
                    files.warnings.push(format!("{prefix:?} was left out: {reason}"));
                }
                // Its directory is named.
                _ => {}
            }
            // Each file can have a directory marker.
            if objects.len() > 2 * MAX_FILES {
                let count = format!("more than {} objects", 2 * MAX_FILES);
                return Err(too_large(id, version, &count, &format!("{MAX_FILES} files")));
            }
        }
        let skill_file = prefix.clone().join(SKILL_FILE);
        files.has_skill_file = seen.contains(&skill_file);
        files.add_objects(&prefix, &objects);
        if files.files.is_empty() {
            let available = store.versions(id).await?;
            return Err(SkillError::NotFound { id: id.clone(), version, available });
        }
        if files.files.len() > MAX_FILES {
            let count = format!("{} files", files.files.len());
            return Err(too_large(id, version, &count, &MAX_FILES.to_string()));
        }
        check_size(id, version, files.bytes)?;
        Ok(files)
    }

    /// Returns a digest of the metadata of all objects.
    pub(crate) fn fingerprint(&self) -> Digest {
        let text = serde_json::to_vec(&self.fingerprints).expect("strings and numbers are JSON");
        Digest::of(&text)
    }

    /// Returns whether the store gives each object a tag that changes with its content.
    pub(crate) fn has_tags(&self) -> bool {
        self.fingerprints.iter().all(|fingerprint| fingerprint.etag.is_some())
    }

    fn add_objects(&mut self, prefix: &Key, objects: &[ObjectMeta]) {
        let path = |meta| strip_prefix(prefix, meta).unwrap_or_default();
        let paths: Vec<&str> = objects.iter().map(|meta| path(&meta.location)).collect();
        let mut allowed = paths.clone();
        while let Some(part) = repository_in(&allowed) {
            allowed.retain(|path| *path != part);
            self.warnings.push(format!("{part:?} was left out: it is part of a Git repository"));
        }
        for (meta, path) in objects.iter().zip(&paths) {
            if allowed.contains(path) && !is_directory_marker(meta, path, &paths) {
                self.add(meta, path);
            }
        }
        self.files.sort();
        self.fingerprints.sort();
    }

    fn add(&mut self, meta: &ObjectMeta, path: &str) {
        match RelativePath::parse(path) {
            Ok(parsed) if path.len() <= MAX_PATH_BYTES && !has_deceptive(path) => {
                self.bytes = self.bytes.saturating_add(meta.size);
                self.fingerprints.push(Fingerprint {
                    path: path.to_owned(),
                    size: meta.size,
                    etag: meta.e_tag.clone(),
                    modified: meta.last_modified.timestamp_millis(),
                });
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

pub(crate) fn too_large(id: &SkillId, version: Version, size: &str, limit: &str) -> SkillError {
    let problem = format!("it has {size}; at most {limit} are installed");
    SkillError::TooLarge { id: id.clone(), version, problem }
}
