//! Records of the versions of a skill, as one listing shows them.
//!
//! The keys carry everything that a listing must say, so no record is downloaded to find out
//! which versions are complete, what identifies them, and what a tag names:
//!
//! | key below `skills/<id>/.versions/` | meaning |
//! |---|---|
//! | `v<n>` | a publisher has reserved the number |
//! | `v<n>.<digest>.json` | the manifest, stored last: the version is complete |
//! | `v<n>.minisig` | a signature of the manifest |
//! | `v<n>.deleted` | the version was deleted |
//! | `tag.<name>.<count>.v<n>` | the tag names the version; the highest count is valid |
//! | `tag.<name>.<count>.none` | the tag was removed |

use std::collections::BTreeMap;

use artifact_sync::StoreCapabilities;
use artifact_sync::internal::{Listed, list_pages};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path as Key;

use crate::digest::Digest;
use crate::error::SkillError;
use crate::id::{SkillId, Version};
use crate::layout::MAX_RECORDS;
use crate::skill_ref::Tag;
use crate::store::store_error;

/// Content of a reservation whose version is complete only with a manifest. Publishers before
/// manifests stored an empty reservation, and SKILL.md last.
pub(crate) const RESERVATION: &str = "complete with a manifest\n";

/// The records of a skill.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) versions: BTreeMap<Version, VersionRecord>,
    /// The records of each tag: the count, the version if it names one, and the name of the key.
    pub(crate) tags: BTreeMap<Tag, Vec<(u64, Option<Version>, String)>>,
}

/// The records of a version.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionRecord {
    pub(crate) reservation: Option<Reservation>,
    /// More than one if another program has interfered.
    pub(crate) manifests: Vec<Digest>,
    pub(crate) is_signed: bool,
    pub(crate) is_deleted: bool,
}

/// The form of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// The version is complete if it has SKILL.md.
    BeforeManifests,
    /// The version is complete if it has a manifest.
    WithManifest,
}

impl Records {
    /// Lists the records below a prefix, with one request for each 1,000.
    pub(crate) async fn list(store: &dyn ObjectStore, prefix: &Key) -> Result<Self, SkillError> {
        let mut records = Self::default();
        let capabilities = StoreCapabilities::default();
        let mut listed = list_pages(store, &capabilities, prefix);
        let mut count = 0;
        while let Some(found) = listed.try_next().await.map_err(store_error(prefix))? {
            // Odd keys belong to other programs.
            let Listed::Object(meta) = found else { continue };
            count += 1;
            if count > MAX_RECORDS {
                return Err(SkillError::TooManyRecords { prefix: prefix.to_string() });
            }
            let is_direct = meta.location.prefix_matches(prefix)
                && meta.location.parts_count() == prefix.parts_count() + 1;
            if let Some(name) = meta.location.filename().filter(|_| is_direct) {
                records.add(name, meta.size);
            }
        }
        Ok(records)
    }

    /// Adds a record. Other names belong to other programs.
    fn add(&mut self, name: &str, size: u64) {
        if let Some(tag) = name.strip_prefix("tag.") {
            self.add_tag(tag, name);
            return;
        }
        let (version, kind) = name.split_once('.').unwrap_or((name, ""));
        let Some(version) = Version::from_directory(version) else { return };
        let digest = kind.strip_suffix(".json").and_then(|digest| Digest::parse(digest).ok());
        let is_record = matches!(kind, "" | "deleted" | "minisig") || digest.is_some();
        if !is_record {
            return;
        }
        let record = self.versions.entry(version).or_default();
        match kind {
            "" if size == 0 => record.reservation = Some(Reservation::BeforeManifests),
            "" => record.reservation = Some(Reservation::WithManifest),
            "deleted" => record.is_deleted = true,
            "minisig" => record.is_signed = true,
            _ => {
                if let Some(digest) = digest {
                    let manifests = &mut record.manifests;
                    // After an odd key, a listing can name an object twice.
                    if !manifests.contains(&digest) {
                        manifests.push(digest);
                    }
                }
            }
        }
    }

    fn add_tag(&mut self, record: &str, name: &str) {
        let mut fields = record.split('.');
        let (Some(tag), Some(count), Some(target), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let version = Version::from_directory(target);
        if let (Ok(tag), Ok(count), true) =
            (Tag::parse(tag), count.parse(), target == "none" || version.is_some())
        {
            self.tags.entry(tag).or_default().push((count, version, name.to_owned()));
        }
    }

    pub(crate) fn record(&self, version: Version) -> VersionRecord {
        self.versions.get(&version).cloned().unwrap_or_default()
    }

    /// Returns the version that a tag names. If two callers set a tag at once, every reader agrees
    /// on the higher version.
    pub(crate) fn tagged(&self, tag: &Tag) -> Option<Version> {
        let records = self.tags.get(tag)?;
        records.iter().max_by_key(|(count, version, _)| (*count, *version))?.1
    }

    /// Returns the error for a tag that names no version.
    pub(crate) fn no_tag(&self, id: &SkillId, tag: &Tag) -> SkillError {
        let tags = self.tags.keys().filter(|tag| self.tagged(tag).is_some());
        let available = tags.cloned().collect();
        SkillError::NoTag { id: id.clone(), tag: tag.clone(), available }
    }
}

pub(crate) fn manifest_name(version: Version, digest: &Digest) -> String {
    format!("v{version}.{digest}.json")
}

pub(crate) fn tombstone_name(version: Version) -> String {
    format!("v{version}.deleted")
}

pub(crate) fn signature_name(version: Version) -> String {
    format!("v{version}.minisig")
}

pub(crate) fn tag_name(tag: &Tag, count: u64, version: Option<Version>) -> String {
    match version {
        Some(version) => format!("tag.{tag}.{count}.v{version}"),
        None => format!("tag.{tag}.{count}.none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_from_the_names_of_their_keys() {
        let version = |number| Version::new(number).unwrap();
        let digest = Digest::of(b"");
        let mut records = Records::default();
        let names = [
            ("v1".to_owned(), 0),
            ("v2".to_owned(), RESERVATION.len() as u64),
            (manifest_name(version(2), &digest), 9),
            (manifest_name(version(2), &digest), 9),
            (signature_name(version(2)), 9),
            (tombstone_name(version(3)), 0),
        ];
        names.iter().for_each(|(name, size)| records.add(name, *size));
        for other in ["v2.", "v2.json", "v2.x.json", "vx", "2", "v01", "tag.a", "tag.a.1.x"] {
            records.add(other, 5);
        }
        let (first, second) = (records.record(version(1)), records.record(version(2)));
        assert_eq!(first.reservation, Some(Reservation::BeforeManifests));
        assert_eq!(second.reservation, Some(Reservation::WithManifest));
        assert_eq!((second.manifests, second.is_signed), (vec![digest], true));
        assert!(records.record(version(3)).is_deleted && records.tags.is_empty());
    }

    #[test]
    fn the_highest_count_of_a_tag_is_valid() {
        let mut records = Records::default();
        let tag = Tag::parse("stable").unwrap();
        let version = |number| Version::new(number);
        assert_eq!(records.tagged(&tag), None);
        for (count, target, expected) in [
            (1, version(3), version(3)),
            (3, version(1), version(1)),
            (2, version(9), version(1)),
            (3, version(2), version(2)),
            (10, None, None),
        ] {
            records.add(&tag_name(&tag, count, target), 0);
            assert_eq!(records.tagged(&tag), expected);
        }
    }
}
