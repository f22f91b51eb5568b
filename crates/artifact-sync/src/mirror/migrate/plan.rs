//! Plan of a migration: the step for one path. Pure.

use object_store::ObjectMeta;

use crate::log::Hash;
use crate::mirror::migrate::copy::LocalFile;
use crate::state::{FormerFile, FormerRecord, Version};

/// Step for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The log begins with the file as it is here. Its object was seen with this version.
    BeginWithFile { hash: Hash, seen: Option<Version> },
    /// The log begins with the object, because the file was changed or removed here.
    BeginWithObject { object: ObjectMeta },
    /// Only the content of the object shows its relation to the index.
    Compare { object: ObjectMeta },
    /// The directory lacks the file.
    Restore { object: ObjectMeta },
    /// The log has the file, which was removed here.
    Remove,
}

/// Plans the step for a path that the log does not know. Returns `None` if the usual rules apply:
/// the file or the object is new. `shows_removals` tells that an absent object was removed by
/// another program.
pub(super) fn plan(
    file: &FormerFile,
    local: LocalFile,
    object: Option<&ObjectMeta>,
    shows_removals: bool,
) -> Option<Step> {
    let Some(object) = object else {
        let seen = |version: Version| shows_removals.then_some(version);
        return stored_here(file, local)
            .map(|(hash, known)| Step::BeginWithFile { hash, seen: seen(known) });
    };
    let owned = || object.clone();
    if local == LocalFile::Absent {
        return Some(Step::Restore { object: owned() });
    }
    let version = Version::from(object);
    match &file.record {
        Some(FormerRecord::Stored { hash, version: known, .. }) if known.is(&version) => {
            Some(known_object(local, *hash, owned()))
        }
        Some(FormerRecord::Removed { version: known }) => {
            known.is(&version).then(|| Step::BeginWithObject { object: owned() })
        }
        Some(FormerRecord::ExpectedRemote) => None,
        Some(FormerRecord::Stored { signature, .. })
            if file.sent.is_empty() && signature.size != object.size =>
        {
            replaced_object(file, local)
        }
        // It may be an upload without an answer, or have the same content.
        Some(FormerRecord::Stored { .. }) | None => Some(Step::Compare { object: owned() }),
    }
}

/// Plans the step for an object that version 0.1 had put or seen, with this content.
pub(super) fn known_object(local: LocalFile, content: Hash, object: ObjectMeta) -> Step {
    match local {
        LocalFile::Present(hash) if hash == content => {
            Step::BeginWithFile { hash, seen: Some(Version::from(&object)) }
        }
        _ => Step::BeginWithObject { object },
    }
}

/// Plans the step for an object that another program has put since. It knew the version that the
/// directory still has, if any.
pub(super) fn replaced_object(file: &FormerFile, local: LocalFile) -> Option<Step> {
    stored_here(file, local).map(|(hash, known)| Step::BeginWithFile { hash, seen: Some(known) })
}

/// Returns the content and the version of a file that is here as it was stored.
fn stored_here(file: &FormerFile, local: LocalFile) -> Option<(Hash, Version)> {
    match (&file.record, local) {
        (Some(FormerRecord::Stored { hash, version, .. }), LocalFile::Present(present))
            if present == *hash =>
        {
            Some((*hash, version.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path as Key;

    use super::*;
    use crate::log::Origin;
    use crate::scan::Signature;

    fn version(etag: &str) -> Version {
        Version { etag: Some(etag.to_owned()), version: None }
    }

    fn object(etag: &str) -> ObjectMeta {
        ObjectMeta {
            location: Key::from("p/a"),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: 1,
            e_tag: Some(etag.to_owned()),
            version: None,
        }
    }

    fn stored() -> FormerFile {
        let (modified, changed) = ((1, 2), (3, 4));
        let record = FormerRecord::Stored {
            signature: Signature { size: 1, modified, changed, inode: 5, mode: 0o644 },
            hash: Hash::of(b"1"),
            version: version("1"),
            origin: Origin::Agent,
        };
        FormerFile { record: Some(record), ..FormerFile::default() }
    }

    #[track_caller]
    fn check(file: &FormerFile, local: LocalFile, etag: Option<&str>, expected: Option<Step>) {
        let object = etag.map(object);
        assert_eq!(plan(file, local, object.as_ref(), true), expected, "{local:?} {etag:?}");
    }

    const REMOVED: LocalFile = LocalFile::Removed;
    const ABSENT: LocalFile = LocalFile::Absent;

    fn here(content: &[u8]) -> LocalFile {
        LocalFile::Present(Hash::of(content))
    }

    fn keep(seen: &str) -> Option<Step> {
        Some(Step::BeginWithFile { hash: Hash::of(b"1"), seen: Some(version(seen)) })
    }

    fn record(etag: &str) -> Option<Step> {
        Some(Step::BeginWithObject { object: object(etag) })
    }

    #[test]
    fn a_stored_file_is_kept_and_one_that_changed_here_has_its_object_recorded() {
        check(&stored(), here(b"1"), Some("1"), keep("1"));
        check(&stored(), here(b"2"), Some("1"), record("1"));
        check(&stored(), REMOVED, Some("1"), record("1"));
        check(&stored(), LocalFile::Other, Some("1"), record("1"));
        check(&stored(), ABSENT, Some("1"), Some(Step::Restore { object: object("1") }));
    }

    #[test]
    fn an_object_of_the_same_size_is_compared_and_another_one_was_replaced_knowingly() {
        check(&stored(), here(b"1"), Some("2"), Some(Step::Compare { object: object("2") }));
        let larger = ObjectMeta { size: 2, ..object("2") };
        assert_eq!(plan(&stored(), here(b"1"), Some(&larger), true), keep("1"));
        assert_eq!(plan(&stored(), here(b"2"), Some(&larger), true), None);
        assert_eq!(plan(&stored(), REMOVED, Some(&larger), true), None, "the new version returns");
        let sent = FormerFile { sent: vec![Hash::of(b"22")], ..stored() };
        let compared = Some(Step::Compare { object: larger.clone() });
        assert_eq!(plan(&sent, REMOVED, Some(&larger), true), compared);
    }

    #[test]
    fn a_vanished_object_counts_as_seen_only_if_the_listing_shows_removals() {
        check(&stored(), here(b"1"), None, keep("1"));
        let unseen = Some(Step::BeginWithFile { hash: Hash::of(b"1"), seen: None });
        assert_eq!(plan(&stored(), here(b"1"), None, false), unseen);
        check(&stored(), here(b"2"), None, None);
        check(&stored(), REMOVED, None, None);
    }

    #[test]
    fn an_object_that_was_removed_here_stays_removed_until_its_version_changes() {
        let record_of_removal = FormerRecord::Removed { version: version("1") };
        let file = FormerFile { record: Some(record_of_removal), ..FormerFile::default() };
        check(&file, REMOVED, Some("1"), record("1"));
        check(&file, here(b"2"), Some("1"), record("1"));
        check(&file, REMOVED, Some("2"), None);
        check(&file, REMOVED, None, None);
    }

    #[test]
    fn a_file_that_the_directory_never_had_is_restored() {
        let file =
            FormerFile { record: Some(FormerRecord::ExpectedRemote), ..FormerFile::default() };
        check(&file, ABSENT, Some("1"), Some(Step::Restore { object: object("1") }));
        check(&file, here(b"1"), Some("1"), None);
        check(&file, ABSENT, None, None);
    }
}
