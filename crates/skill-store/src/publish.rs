//! Publication of new versions.

use std::path::Path;

use artifact_sync::internal::{Object, key_for, put_object};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, PutMode};
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::cautions::repository_in;
use crate::digest::Digest;
use crate::error::SkillError;
use crate::front_matter::{Deviation, Strictness};
use crate::id::{SkillId, Version};
use crate::layout::{CONCURRENT_REQUESTS, SKILL_FILE};
use crate::manifest::{Manifest, ManifestFile};
use crate::records::{RESERVATION, manifest_name};
use crate::source::SkillSource;
use crate::store::{SkillStore, store_error};

/// Maximum number of version numbers to try while other publishers reserve them.
const RESERVATION_ATTEMPTS: usize = 100;

/// Report of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishReport {
    /// The skill.
    pub id: SkillId,
    /// The new version.
    pub version: Version,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The number of its files.
    pub files: usize,
    /// Deviations of SKILL.md from the specification, which [`Strictness::Lenient`] accepted.
    pub deviations: Vec<Deviation>,
    /// The files and directories that were not published: histories of repositories such as
    /// `.git`, and files that an editor or a file manager keeps for itself. The names in an
    /// archive include its directory.
    pub left_out: Vec<String>,
    /// The published files that likely hold secrets, such as `.env` and private keys.
    pub likely_secrets: Vec<RelativePath>,
}

/// Settings of a publication. The default is the id in SKILL.md and a strict check.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PublishOptions {
    /// The skill. `None` stands for the name in SKILL.md.
    pub id: Option<SkillId>,
    /// The check of SKILL.md.
    pub strictness: Strictness,
}

impl PublishOptions {
    /// Sets the skill.
    #[must_use]
    pub fn id(mut self, id: SkillId) -> Self {
        self.id = Some(id);
        self
    }

    /// Accepts a SKILL.md that deviates from the specification in a way that installed skills may.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.strictness = Strictness::Lenient;
        self
    }
}

impl SkillStore {
    /// Publishes a directory as the next version of a skill.
    ///
    /// The directory is checked before anything is stored: SKILL.md by the specification, no
    /// symlinks, at most 512 files and 16 MiB. `.git` is excluded.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the directory is invalid or the store fails. An incomplete version
    /// is never listed or installed.
    ///
    /// # Cancel safety
    /// A cancelled publication uses up a number, like a failed one. Its version is never listed,
    /// unless everything was stored.
    pub async fn publish(
        &self,
        dir: &Path,
        options: &PublishOptions,
    ) -> Result<PublishReport, SkillError> {
        let (dir, strictness) = (dir.to_owned(), options.strictness);
        let source = blocking(move || SkillSource::read(&dir, strictness)).await?;
        self.publish_source(source, options).await
    }

    /// Publishes the files of a zip archive as the next version of a skill, like
    /// [`SkillStore::publish`]. If all files are in one directory, that directory is the skill.
    ///
    /// Nothing is extracted to the disk. The archive may have entries without compression and with
    /// DEFLATE.
    ///
    /// # Errors
    /// Like [`SkillStore::publish`]. Returns [`SkillError::Archive`] if the archive is damaged or
    /// an entry is not allowed in a skill.
    ///
    /// # Cancel safety
    /// Like [`SkillStore::publish`].
    pub async fn publish_zip(
        &self,
        archive: &Path,
        options: &PublishOptions,
    ) -> Result<PublishReport, SkillError> {
        let (archive, strictness) = (archive.to_owned(), options.strictness);
        let source = blocking(move || SkillSource::read_zip(&archive, strictness)).await?;
        self.publish_source(source, options).await
    }

    async fn publish_source(
        &self,
        source: SkillSource,
        options: &PublishOptions,
    ) -> Result<PublishReport, SkillError> {
        let id = match &options.id {
            Some(id) => id.clone(),
            None => SkillId::parse(&source.name)?,
        };
        let mut report = self.publish_files(id, source.files).await?;
        report.deviations = source.deviations;
        report.left_out = source.left_out.into_iter().collect();
        report.likely_secrets = source.likely_secrets;
        Ok(report)
    }

    /// Publishes files, which must be sorted by path and within the limits.
    pub(crate) async fn publish_files(
        &self,
        id: SkillId,
        files: Vec<(RelativePath, Object)>,
    ) -> Result<PublishReport, SkillError> {
        if id.as_str().starts_with('.') {
            return Err(SkillError::ReservedName { name: id.to_string() });
        }
        let (files, described) = blocking(move || {
            let described: Vec<ManifestFile> = files.iter().map(describe).collect();
            (files, described)
        })
        .await;
        let paths: Vec<&str> = described.iter().map(|file| file.path.as_str()).collect();
        if let Some(path) = repository_in(&paths) {
            return Err(SkillError::InvalidSource {
                path: path.into(),
                problem: "it makes its directory a Git repository, which can run programs".into(),
            });
        }
        let version = self.reserve_version(&id).await?;
        let manifest = Manifest { skill: id.clone(), version, files: described };
        let (text, index) = (manifest.to_json(), self.latest_index());
        let digest = Digest::of(&text);
        index.begin(&id, version).await?;
        let prefix = self.version_prefix(&id, version);
        // Programs that do not know manifests take a version for complete when it has SKILL.md.
        let (skill_file, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| path.as_str() == SKILL_FILE);
        for group in [others, skill_file] {
            futures::stream::iter(group)
                .map(|(path, object)| self.put_file(&prefix, path, object).boxed())
                .buffer_unordered(CONCURRENT_REQUESTS)
                .try_collect::<()>()
                .await?;
        }
        let key = self.record_key(&id, manifest_name(version, &digest));
        let manifest_object = Object::new(text, false);
        put_object(&*self.store, &key, manifest_object, PutMode::Overwrite)
            .await
            .map_err(store_error(&key))?;
        // The version is complete. Without its entry, readers do not trust the index.
        let _ = index.publish(&id, version).await;
        let files = manifest.files.len();
        Ok(PublishReport {
            id,
            version,
            digest,
            files,
            deviations: Vec::new(),
            left_out: Vec::new(),
            likely_secrets: Vec::new(),
        })
    }

    async fn put_file(
        &self,
        prefix: &Key,
        path: RelativePath,
        object: Object,
    ) -> Result<(), SkillError> {
        // The path is valid by itself, but the whole key can be too long.
        let key = key_for(prefix, &path).map_err(|problem| SkillError::InvalidSource {
            path: path.as_str().into(),
            problem: problem.to_owned(),
        })?;
        put_object(&*self.store, &key, object, PutMode::Overwrite)
            .await
            .map(drop)
            .map_err(store_error(&key))
    }

    /// Reserves the next free number.
    async fn reserve_version(&self, id: &SkillId) -> Result<Version, SkillError> {
        let mut version = match self.known_versions(id).await?.highest() {
            Some(highest) => highest.next(),
            None => Some(Version::FIRST),
        };
        for _ in 0..RESERVATION_ATTEMPTS {
            let Some(candidate) = version else { break };
            let key = self.record_key(id, candidate.directory());
            let put = |mode| put_object(&*self.store, &key, Object::new(RESERVATION, false), mode);
            let reserved = match put(PutMode::Create).await {
                // A store without conditional puts supports one publisher at a time.
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    put(PutMode::Overwrite).await
                }
                other => other,
            };
            match reserved {
                Ok(_) => return Ok(candidate),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    version = candidate.next();
                }
                Err(source) => return Err(store_error(&key)(source)),
            }
        }
        Err(SkillError::NoFreeVersion { id: id.clone() })
    }
}

fn describe((path, object): &(RelativePath, Object)) -> ManifestFile {
    ManifestFile {
        path: path.clone(),
        sha256: Digest::of(&object.content),
        size: object.content.len() as u64,
        // Some sources keep no modes, but a script has an interpreter line.
        is_executable: object.is_executable || object.content.starts_with(b"#!"),
    }
}
