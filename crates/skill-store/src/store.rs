//! Versions of skills in an object store.
//!
//! | key | content |
//! |---|---|
//! | `skills/<id>/v<n>/<path>` | one file of one version |
//! | `skills/<id>/.versions/v<n>` | empty: a publisher has reserved the number |
//!
//! A publisher reserves a number with a conditional put, then stores the files, SKILL.md last. Two
//! publishers therefore never share a version, and a reserved version without SKILL.md is
//! incomplete. A version that another program stored without a reservation counts as complete.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use artifact_sync::internal::{Object, key_for, put_object};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::layout::{CONCURRENT_REQUESTS, RESERVATIONS, SKILL_FILE, SKILLS_DIRECTORY};
use crate::source::SkillSource;

/// Maximum number of version numbers to try while other publishers reserve them.
const RESERVATION_ATTEMPTS: usize = 100;

/// The skills below a prefix of an object store.
#[derive(Clone)]
pub struct SkillStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Key,
}

/// Report of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishReport {
    /// The skill.
    pub id: SkillId,
    /// The new version.
    pub version: Version,
    /// The number of its files.
    pub files: usize,
}

/// A skill in a listing of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkillSummary {
    /// The skill.
    pub id: SkillId,
    /// Its latest version.
    pub latest: Version,
}

impl SkillStore {
    /// Creates a view of the skills below `prefix`, which can be empty. Sends no request.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self { store, prefix }
    }

    /// Publishes a directory as the next version of a skill.
    ///
    /// `id` defaults to the name in SKILL.md. The directory is checked before anything is stored:
    /// SKILL.md by the specification, no symlinks, at most 512 files and 16 MiB. `.git` is
    /// excluded.
    ///
    /// # Errors
    /// Returns [`SkillError`] if the directory is invalid or the store fails. An incomplete version
    /// is never listed or installed.
    ///
    /// # Cancel safety
    /// A cancelled publication uses up a number, like a failed one. Its version is never listed.
    pub async fn publish(
        &self,
        dir: &Path,
        id: Option<&SkillId>,
    ) -> Result<PublishReport, SkillError> {
        let dir = dir.to_owned();
        let source = blocking(move || SkillSource::read(&dir)).await?;
        let id = match id {
            Some(id) => id.clone(),
            None => SkillId::parse(&source.front_matter.name)?,
        };
        let version = self.reserve_version(&id).await?;
        let prefix = self.version_prefix(&id, version);
        let files = source.files.len();
        let (skill_file, others): (Vec<_>, Vec<_>) =
            source.files.into_iter().partition(|(path, _)| path.as_str() == SKILL_FILE);
        for group in [others, skill_file] {
            futures::stream::iter(group)
                .map(Ok)
                .try_for_each_concurrent(CONCURRENT_REQUESTS, |(path, object)| {
                    self.put(&prefix, path, object)
                })
                .await?;
        }
        Ok(PublishReport { id, version, files })
    }

    async fn put(
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
        let numbers = self.numbers(id).await?;
        let highest = numbers.published.iter().chain(&numbers.reserved).max().copied();
        let mut version = match highest {
            Some(highest) => highest.next(),
            None => Some(Version::FIRST),
        };
        for _ in 0..RESERVATION_ATTEMPTS {
            let Some(candidate) = version else { break };
            let key = self.reservation(id, candidate);
            let put = |mode| put_object(&*self.store, &key, Object::new("", false), mode);
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

    /// Returns the complete versions, the oldest first.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails.
    pub async fn versions(&self, id: &SkillId) -> Result<Vec<Version>, SkillError> {
        let numbers = self.numbers(id).await?;
        let complete: Vec<Option<Version>> = futures::stream::iter(numbers.published)
            .map(|version| {
                let is_reserved = numbers.reserved.contains(&version);
                async move {
                    let is_complete = !is_reserved || self.has_skill_file(id, version).await?;
                    Ok::<_, SkillError>(is_complete.then_some(version))
                }
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        Ok(complete.into_iter().flatten().collect())
    }

    /// Returns the latest complete version, if there is one.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails.
    pub async fn latest(&self, id: &SkillId) -> Result<Option<Version>, SkillError> {
        Ok(self.versions(id).await?.last().copied())
    }

    /// Returns all skills that have a complete version, by id.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails.
    pub async fn list(&self) -> Result<Vec<SkillSummary>, SkillError> {
        let prefix = self.prefix.clone().join(SKILLS_DIRECTORY);
        let level =
            self.store.list_with_delimiter(Some(&prefix)).await.map_err(store_error(&prefix))?;
        // Names that are not ids belong to other programs.
        let ids =
            level.common_prefixes.iter().filter_map(|below| SkillId::parse(below.filename()?).ok());
        let mut skills: Vec<SkillSummary> = futures::stream::iter(ids)
            .map(|id| async move { Ok::<_, SkillError>((self.latest(&id).await?, id)) })
            .buffered(CONCURRENT_REQUESTS)
            .try_filter_map(|(latest, id)| async move {
                Ok(latest.map(|latest| SkillSummary { id, latest }))
            })
            .try_collect()
            .await?;
        skills.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(skills)
    }

    /// Returns whether a publisher has reserved the number of a version.
    pub(crate) async fn is_reserved(
        &self,
        id: &SkillId,
        version: Version,
    ) -> Result<bool, SkillError> {
        self.exists(&self.reservation(id, version)).await
    }

    async fn has_skill_file(&self, id: &SkillId, version: Version) -> Result<bool, SkillError> {
        self.exists(&self.version_prefix(id, version).join(SKILL_FILE)).await
    }

    async fn exists(&self, key: &Key) -> Result<bool, SkillError> {
        match self.store.head(key).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(store_error(key)(source)),
        }
    }

    async fn numbers(&self, id: &SkillId) -> Result<Numbers, SkillError> {
        let versions = self.skill_prefix(id);
        let reservations = versions.clone().join(RESERVATIONS);
        let (published, reserved) = futures::future::join(
            self.store.list_with_delimiter(Some(&versions)),
            self.store.list_with_delimiter(Some(&reservations)),
        )
        .await;
        let number = |key: &Key| Version::from_directory(key.filename()?);
        let published = published.map_err(store_error(&versions))?.common_prefixes;
        let reserved = reserved.map_err(store_error(&reservations))?.objects;
        let mut published: Vec<Version> = published.iter().filter_map(number).collect();
        published.sort_unstable();
        let reserved = reserved.iter().filter_map(|meta| number(&meta.location)).collect();
        Ok(Numbers { published, reserved })
    }

    fn skill_prefix(&self, id: &SkillId) -> Key {
        // Ids consist of `[A-Za-z0-9._-]`, so no character is encoded.
        self.prefix.clone().join(SKILLS_DIRECTORY).join(id.as_str())
    }

    fn reservation(&self, id: &SkillId, version: Version) -> Key {
        self.skill_prefix(id).join(RESERVATIONS).join(version.directory())
    }

    /// Returns the prefix of a version's files: `skills/<id>/v<n>` below the prefix of the store.
    pub(crate) fn version_prefix(&self, id: &SkillId, version: Version) -> Key {
        self.skill_prefix(id).join(version.directory())
    }
}

impl fmt::Debug for SkillStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkillStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The version numbers of a skill.
struct Numbers {
    /// Numbers with at least one file, sorted.
    published: Vec<Version>,
    /// Numbers that a publisher has reserved.
    reserved: Vec<Version>,
}

pub(crate) fn store_error(key: &Key) -> impl Fn(Error) -> SkillError {
    move |source| SkillError::Store { key: key.to_string(), source }
}
