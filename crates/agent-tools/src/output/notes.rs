//! Notes about files in the tools' results.

use std::fmt::{self, Write};

use artifact_sync::{Pending, SyncReport};
use serde::{Deserialize, Serialize};

use crate::printable::Printable;
use crate::workspace::Workspace;

/// The maximum length of each list of files in a result.
const MAX_LISTED: usize = 50;
/// The maximum number of reasons of pending changes in a result.
const MAX_GROUPS: usize = 5;
/// The maximum number of files that a result names for one reason.
const MAX_GROUP_FILES: usize = 5;
/// The maximum length of a reason in characters.
const MAX_REASON_CHARS: usize = 300;

/// A file that the agent created or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Artifact {
    /// The path on the host and in the sandbox.
    pub path: String,
    /// The path below the session directory.
    pub relative_path: String,
    /// `<bucket>/<full key>` once the file is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A link that opens the stored file, if the store can make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The number of the entry in the session log that holds the file; absent until it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
}

/// Changes that are not in the store for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PendingGroup {
    /// The reason, at most 300 characters.
    pub reason: String,
    /// The number of changes.
    pub count: usize,
    /// The first of the changed files, at most 5, as paths below the session directory.
    pub files: Vec<String>,
}

impl PendingGroup {
    /// Groups changes by their reasons, the largest group first. A reason may contain the key of
    /// its file, which makes no difference.
    pub fn group(pending: &[Pending]) -> Vec<Self> {
        let mut groups: Vec<(String, Self)> = Vec::new();
        for Pending { path, reason, .. } in pending {
            let general = reason.replace(&format!("/{path}"), "/…");
            let group = match groups.iter_mut().position(|(known, _)| *known == general) {
                Some(known) => &mut groups[known].1,
                None => {
                    let (reason, files) = (shortened(reason), Vec::new());
                    groups.push((general, Self { reason, count: 0, files }));
                    let last = groups.len() - 1;
                    &mut groups[last].1
                }
            };
            group.count += 1;
            if group.files.len() < MAX_GROUP_FILES {
                group.files.push(path.to_string());
            }
        }
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

/// The group as one line for a person.
impl fmt::Display for PendingGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, count, files } = self;
        for (at, file) in files.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}", Printable(file))?;
        }
        match count.saturating_sub(files.len()) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        write!(f, ": {}", Printable(reason))
    }
}

/// A file that the session and another writer of the store both changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConflictNote {
    /// The file.
    pub relative_path: String,
    /// The file with the version that has lost the name: this session's, or that of the other
    /// writer if the session has a directory of this name.
    pub kept_as: String,
}

impl ConflictNote {
    /// Creates a note from the two paths.
    pub fn new(path: &impl fmt::Display, kept_as: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), kept_as: kept_as.to_string() }
    }
}

/// The conflict as one line for a person.
impl fmt::Display for ConflictNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relative_path, kept_as } = self;
        let (path, kept_as) = (Printable(relative_path), Printable(kept_as));
        write!(f, "changed on both sides: {path}; the second version is kept as {kept_as}")
    }
}

/// A file and the reason why it is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileNote {
    /// The path below the session directory.
    pub relative_path: String,
    /// The reason why the file is skipped.
    pub reason: String,
}

impl FileNote {
    /// Creates a note about a path below the session directory.
    pub fn new(path: &impl fmt::Display, reason: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), reason: reason.to_string() }
    }
}

/// The note as one line for a person.
impl fmt::Display for FileNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relative_path, reason } = self;
        write!(f, "{}: {}", Printable(relative_path), Printable(reason))
    }
}

/// The report of a sync in the form of a tool's result, with limits on the length of each list.
pub(crate) struct MirrorNotes {
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) artifacts_omitted: usize,
    pub(crate) removed: Vec<String>,
    pub(crate) removed_omitted: usize,
    pub(crate) pending: Vec<PendingGroup>,
    pub(crate) pending_omitted: usize,
    pub(crate) still_pending: usize,
    pub(crate) conflicts: Vec<ConflictNote>,
    pub(crate) skipped: Vec<FileNote>,
    pub(crate) skipped_omitted: usize,
    pub(crate) entry: u64,
}

impl MirrorNotes {
    pub(crate) fn new(report: SyncReport, workspace: &Workspace) -> Self {
        let omitted = |count: usize| count.saturating_sub(MAX_LISTED);
        let artifacts_omitted = omitted(report.changed.len());
        let changed = report.changed.into_iter().take(MAX_LISTED);
        let mut pending = PendingGroup::group(&report.pending);
        let further = pending.split_off(pending.len().min(MAX_GROUPS));
        let conflicts = report.conflicts.iter().take(MAX_LISTED);
        let skipped = report.skipped.iter().take(MAX_LISTED);
        Self {
            artifacts: changed
                .map(|changed| Artifact {
                    path: workspace.dir().join(changed.path.as_str()).to_string_lossy().into(),
                    relative_path: changed.path.to_string(),
                    key: changed.key.map(|key| workspace.display_key(&key)),
                    url: changed.url,
                    entry: changed.entry,
                })
                .collect(),
            artifacts_omitted,
            removed: report.deleted.iter().take(MAX_LISTED).map(ToString::to_string).collect(),
            removed_omitted: omitted(report.deleted.len()),
            pending,
            pending_omitted: further.iter().map(|group| group.count).sum(),
            still_pending: report.still_pending,
            conflicts: conflicts
                .map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as))
                .collect(),
            skipped: skipped.map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect(),
            skipped_omitted: omitted(report.skipped.len()),
            entry: report.entry,
        }
    }
}

/// Renders pending changes as lines for a person.
pub(crate) fn note_pending(
    notes: &mut String,
    groups: &[PendingGroup],
    omitted: usize,
    still_pending: usize,
) {
    for group in groups {
        let _ = writeln!(notes, "pending: {group}");
    }
    if omitted > 0 {
        let _ = writeln!(notes, "pending: and {omitted} more");
    }
    if still_pending > 0 {
        let _ = writeln!(
            notes,
            "still pending: {still_pending} changes of earlier calls; `agent-tools session show \
             ID` lists them"
        );
    }
}

/// Cuts a reason, which may contain an answer of a server.
fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON_CHARS) {
        Some((cut, _)) => format!("{}…", &reason[..cut]),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(path: &str, reason: &str) -> Pending {
        let json = serde_json::json!({ "path": path, "reason": reason });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn pending_changes_are_grouped_by_reason_the_largest_group_first() {
        let mut changes = vec![pending("z", "the disk is full"), pending("d", "the disk is full")];
        changes.extend(
            (0..7).map(|n| pending(&format!("f{n}"), &format!("cannot put s/1/f{n}: 503"))),
        );
        let groups = PendingGroup::group(&changes);
        assert_eq!(groups.len(), 2, "{groups:?}");
        assert_eq!((groups[0].count, groups[0].files.len()), (7, 5));
        assert_eq!(groups[0].to_string(), "f0, f1, f2, f3, f4 and 2 more: cannot put s/1/f0: 503");
        assert_eq!(groups[1].to_string(), "z, d: the disk is full");
        assert_eq!(
            serde_json::to_string(&groups[1]).unwrap(),
            r#"{"reason":"the disk is full","count":2,"files":["z","d"]}"#
        );
    }

    #[test]
    fn a_long_reason_is_cut_and_names_are_escaped() {
        let groups = PendingGroup::group(&[pending("a\u{1b}b", &"é".repeat(1000))]);
        assert_eq!(groups[0].reason.chars().count(), MAX_REASON_CHARS + 1);
        assert!(groups[0].to_string().starts_with("a\\u{1b}b: éé"));
        let conflict = ConflictNote::new(&"a\nb", &"c\u{202e}d").to_string();
        assert_eq!(
            conflict,
            "changed on both sides: a\\nb; the second version is kept as c\\u{202e}d"
        );
    }
}
