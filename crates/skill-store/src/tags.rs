//! Tags: names for versions that can move.

use artifact_sync::internal::{Object, put_object};
use object_store::PutMode;

use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::records::tag_name;
use crate::skill_ref::Tag;
use crate::store::{SkillStore, store_error};

/// A tag in a listing of a skill's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagSummary {
    /// The tag.
    pub tag: Tag,
    /// The version that it names.
    pub version: Version,
    /// `true` if that version was deleted, so that the tag leads to no version.
    pub is_deleted: bool,
}

impl SkillStore {
    /// Returns the tags of a skill with their versions, sorted by name.
    ///
    /// # Errors
    /// Returns [`SkillError::Store`] if the store fails, and [`SkillError::TooManyRecords`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn tags(&self, id: &SkillId) -> Result<Vec<TagSummary>, SkillError> {
        let records = self.records(id).await?;
        let tags = records.tags.keys().filter_map(|tag| {
            let version = records.tagged(tag)?;
            let is_deleted = records.record(version).is_deleted;
            Some(TagSummary { tag: tag.clone(), version, is_deleted })
        });
        Ok(tags.collect())
    }

    /// Lets a tag name a version, which must be complete. If two callers move a tag at once, the
    /// higher version wins.
    ///
    /// # Errors
    /// Returns [`SkillError::NotFound`] if the version is absent, another [`SkillError`] if it is
    /// incomplete or deleted, and [`SkillError::Store`] if the store fails.
    ///
    /// # Cancel safety
    /// The tag names the old version or the new one.
    pub async fn tag(&self, id: &SkillId, tag: &Tag, version: Version) -> Result<(), SkillError> {
        let records = self.records(id).await?;
        self.resolve_version(id, version, &records).await?;
        self.move_tag(id, tag, Some(version)).await
    }

    /// Removes a tag.
    ///
    /// # Errors
    /// Returns [`SkillError::NoTag`] if the skill has no such tag, and [`SkillError::Store`] if the
    /// store fails.
    ///
    /// # Cancel safety
    /// The tag is removed or not.
    pub async fn untag(&self, id: &SkillId, tag: &Tag) -> Result<(), SkillError> {
        let records = self.records(id).await?;
        if records.tagged(tag).is_none() {
            return Err(records.no_tag(id, tag));
        }
        self.move_tag(id, tag, None).await
    }

    async fn move_tag(
        &self,
        id: &SkillId,
        tag: &Tag,
        version: Option<Version>,
    ) -> Result<(), SkillError> {
        let records = self.records(id).await?;
        let old = records.tags.get(tag).cloned().unwrap_or_default();
        let count = old.iter().map(|(count, ..)| *count).max().unwrap_or(0);
        // A count that another program has set to the maximum cannot be exceeded.
        let count = count
            .checked_add(1)
            .ok_or_else(|| SkillError::TooManyRecords { prefix: format!("{id}@{tag}") })?;
        let key = self.record_key(id, tag_name(tag, count, version));
        put_object(&*self.store, &key, Object::new("", false), PutMode::Overwrite)
            .await
            .map_err(store_error(&key))?;
        // Old records are without effect, so their removal may fail.
        let old = old.into_iter().map(|(.., name)| self.record_key(id, name)).collect();
        let _ = self.delete_keys(old).await;
        Ok(())
    }
}
