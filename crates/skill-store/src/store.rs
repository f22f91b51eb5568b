//! Versions of skills in an object store.
//!
//! | key | what |
//! |---|---|
//! | `skills/<id>/v<n>/<path>` | one file of one version |
//! | `skills/<id>/.versions/v<n>` | the number is taken: made before the first file of the version |
//!
//! A publisher takes a number with a conditional put, then stores all files, SKILL.md last. So two
//! publishers never share a version, and one whose number is taken but whose SKILL.md is not there
//! is not whole. What others have put there without taking a number counts as it is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use artifact_sync::{Object, put_object};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use sandbox_core::RelativePath;
use sandbox_core::internal::blocking;

use crate::SKILLS_DIRECTORY;
use crate::error::SkillError;
use crate::front_matter::SKILL_FILE;
use crate::id::{SkillId, Version};
use crate::source::Source;

const VERSIONS: &str = ".versions";
/// How many requests are on their way at once.
const AT_ONCE: usize = 16;
/// How many numbers are tried when other publishers take them first.
const ATTEMPTS: usize = 100;

/// The skills under a prefix of an object store.
#[derive(Clone)]
pub struct SkillStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Key,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The skill.
    pub id: SkillId,
    /// The version that it became.
    pub version: Version,
    /// How many files it has.
    pub files: usize,
}

/// A skill of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkillSummary {
    /// The skill.
    pub id: SkillId,
    /// Its newest version.
    pub latest: Version,
}

impl SkillStore {
    /// The skills of a store below a general prefix, which may be empty.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self { store, prefix }
    }

    /// Publishes a directory as the next version; `id` is the name in its SKILL.md when absent. The
    /// directory is checked whole first: SKILL.md by the specification, no symlinks, at most 512
    /// files and 16 MiB. `.git` is left out.
    ///
    /// # Errors
    /// [`SkillError`]; a version that could not be stored whole never counts.
    ///
    /// # Cancel safety
    /// As with an error: the number is used up, the version never counts.
    pub async fn publish(&self, dir: &Path, id: Option<&SkillId>) -> Result<Published, SkillError> {
        let dir = dir.to_owned();
        let source = blocking(move || Source::read(&dir)).await?;
        let id = match id {
            Some(id) => id.clone(),
            None => SkillId::parse(&source.front_matter.name)?,
        };
        let version = self.take_version(&id).await?;
        let prefix = self.version_prefix(&id, version);
        let files = source.files.len();
        let (skill_file, others): (Vec<_>, Vec<_>) =
            source.files.into_iter().partition(|(path, _)| path.as_str() == SKILL_FILE);
        for group in [others, skill_file] {
            futures::stream::iter(group)
                .map(Ok)
                .try_for_each_concurrent(AT_ONCE, |(path, object)| self.put(&prefix, path, object))
                .await?;
        }
        Ok(Published { id, version, files })
    }

    async fn put(
        &self,
        prefix: &Key,
        path: RelativePath,
        object: Object,
    ) -> Result<(), SkillError> {
        // The path was checked when the directory was read; only the length of the whole is new.
        let key = artifact_sync::key_for(prefix, &path).map_err(|problem| SkillError::Unfit {
            path: path.as_str().into(),
            problem: problem.to_owned(),
        })?;
        put_object(&*self.store, &key, object, PutMode::Overwrite)
            .await
            .map(drop)
            .map_err(store_error(&key))
    }

    /// Takes the next free number.
    async fn take_version(&self, id: &SkillId) -> Result<Version, SkillError> {
        let numbers = self.numbers(id).await?;
        let highest = numbers.published.iter().chain(&numbers.taken).max().copied();
        let mut version = match highest {
            Some(highest) => highest.next(),
            None => Some(Version::FIRST),
        };
        for _ in 0..ATTEMPTS {
            let Some(candidate) = version else { break };
            let key = self.skill_prefix(id).join(VERSIONS).join(directory(candidate));
            let put = |mode| put_object(&*self.store, &key, Object::new("", false), mode);
            let taken = match put(PutMode::Create).await {
                // A store without conditional puts serves one publisher at a time.
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    put(PutMode::Overwrite).await
                }
                other => other,
            };
            match taken {
                Ok(_) => return Ok(candidate),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    version = candidate.next();
                }
                Err(source) => return Err(store_error(&key)(source)),
            }
        }
        let problem = format!("no number is free for a new version of the skill {id}");
        Err(SkillError::Unfit { path: id.as_str().into(), problem })
    }

    /// The versions that can be installed, the oldest first.
    ///
    /// # Errors
    /// [`SkillError::Store`].
    pub async fn versions(&self, id: &SkillId) -> Result<Vec<Version>, SkillError> {
        let numbers = self.numbers(id).await?;
        let whole: Vec<Option<Version>> = futures::stream::iter(numbers.published)
            .map(|version| {
                let is_ours = numbers.taken.contains(&version);
                async move {
                    let counts = !is_ours || self.has_skill_file(id, version).await?;
                    Ok::<_, SkillError>(counts.then_some(version))
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(whole.into_iter().flatten().collect())
    }

    /// The newest version.
    ///
    /// # Errors
    /// [`SkillError::Store`].
    pub async fn latest(&self, id: &SkillId) -> Result<Option<Version>, SkillError> {
        Ok(self.versions(id).await?.last().copied())
    }

    /// All skills that have a version, by id.
    ///
    /// # Errors
    /// [`SkillError::Store`].
    pub async fn list(&self) -> Result<Vec<SkillSummary>, SkillError> {
        let prefix = self.prefix.clone().join(SKILLS_DIRECTORY);
        let level =
            self.store.list_with_delimiter(Some(&prefix)).await.map_err(store_error(&prefix))?;
        // What others keep there under names that are no ids is none of ours.
        let ids =
            level.common_prefixes.iter().filter_map(|below| SkillId::parse(below.filename()?).ok());
        let mut skills: Vec<SkillSummary> = futures::stream::iter(ids)
            .map(|id| async move { Ok::<_, SkillError>((self.latest(&id).await?, id)) })
            .buffered(AT_ONCE)
            .try_filter_map(|(latest, id)| async move {
                Ok(latest.map(|latest| SkillSummary { id, latest }))
            })
            .try_collect()
            .await?;
        skills.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(skills)
    }

    /// Whether the number of a version was taken by a publisher, who puts SKILL.md last.
    pub(crate) async fn is_taken(
        &self,
        id: &SkillId,
        version: Version,
    ) -> Result<bool, SkillError> {
        self.exists(&self.skill_prefix(id).join(VERSIONS).join(directory(version))).await
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
        let prefix = self.skill_prefix(id);
        let taken = prefix.clone().join(VERSIONS);
        let (versions, taken_numbers) = futures::future::join(
            self.store.list_with_delimiter(Some(&prefix)),
            self.store.list_with_delimiter(Some(&taken)),
        )
        .await;
        let number = |key: &Key| Version::from_directory(key.filename()?);
        let versions = versions.map_err(store_error(&prefix))?;
        let taken_numbers = taken_numbers.map_err(store_error(&taken))?;
        let mut published: Vec<Version> =
            versions.common_prefixes.iter().filter_map(number).collect();
        published.sort_unstable();
        Ok(Numbers {
            published,
            taken: taken_numbers.objects.iter().filter_map(|meta| number(&meta.location)).collect(),
        })
    }

    fn skill_prefix(&self, id: &SkillId) -> Key {
        // Ids are of `[A-Za-z0-9._-]`, so nothing is encoded here.
        self.prefix.clone().join(SKILLS_DIRECTORY).join(id.as_str())
    }

    /// `skills/<id>/v<n>` under the general prefix.
    pub(crate) fn version_prefix(&self, id: &SkillId, version: Version) -> Key {
        self.skill_prefix(id).join(directory(version))
    }
}

impl fmt::Debug for SkillStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkillStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

struct Numbers {
    /// Those that have a file, in order.
    published: Vec<Version>,
    /// Those that a publisher has taken.
    taken: Vec<Version>,
}

fn directory(version: Version) -> String {
    format!("v{version}")
}

pub(crate) fn store_error(key: &Key) -> impl Fn(Error) -> SkillError {
    move |source| SkillError::Store { key: key.to_string(), source }
}
