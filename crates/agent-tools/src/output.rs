//! Parts of the tools' results: streams cut for a model, links, and notes about files.

use std::fmt::{self, Write};

use artifact_sync::SyncReport;
use sandbox_core::CapturedStream;
use serde::{Deserialize, Serialize};

use crate::workspace::Workspace;

/// The maximum length of each stream in a result, in UTF-16 units, as the reference counts.
const MAX_STREAM_UNITS: usize = 30_000;
/// The maximum length of each list of files in a result.
const MAX_LISTED: usize = 50;

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
}

/// A file that the session and another writer of the store both changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConflictNote {
    /// The file, with the content that this session wrote.
    pub relative_path: String,
    /// The file with the other writer's content.
    pub kept_as: String,
}

impl ConflictNote {
    /// Creates a note from the two paths.
    pub fn new(path: &impl fmt::Display, kept_as: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), kept_as: kept_as.to_string() }
    }
}

/// A file and the reason why it is pending or skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileNote {
    /// The path below the session directory.
    pub relative_path: String,
    /// The reason why the file is pending or skipped.
    pub reason: String,
}

impl FileNote {
    /// Creates a note about a path below the session directory.
    pub fn new(path: &impl fmt::Display, reason: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), reason: reason.to_string() }
    }
}

/// The report of a sync in the form of a tool's result: at most [`MAX_LISTED`] files per list.
pub(crate) struct MirrorNotes {
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) artifacts_omitted: usize,
    pub(crate) pending: Vec<FileNote>,
    pub(crate) pending_omitted: usize,
    pub(crate) removals_held_back: usize,
    pub(crate) conflicts: Vec<ConflictNote>,
    pub(crate) skipped: Vec<FileNote>,
    pub(crate) skipped_omitted: usize,
}

impl MirrorNotes {
    pub(crate) fn new(report: SyncReport, workspace: &Workspace) -> Self {
        let omitted = |count: usize| count.saturating_sub(MAX_LISTED);
        let artifacts_omitted = omitted(report.changed.len());
        let changed = report.changed.into_iter().take(MAX_LISTED);
        let pending = report.pending.iter().take(MAX_LISTED);
        let conflicts = report.conflicts.iter().take(MAX_LISTED);
        let skipped = report.skipped.iter().take(MAX_LISTED);
        Self {
            artifacts: changed
                .map(|changed| Artifact {
                    path: workspace.dir().join(changed.path.as_str()).to_string_lossy().into(),
                    relative_path: changed.path.to_string(),
                    key: changed.key.map(|key| workspace.display_key(&key)),
                    url: changed.url,
                })
                .collect(),
            artifacts_omitted,
            pending: pending.map(|pending| FileNote::new(&pending.path, &pending.reason)).collect(),
            pending_omitted: omitted(report.pending.len()),
            removals_held_back: report.held_back.len(),
            conflicts: conflicts
                .map(|conflict| ConflictNote::new(&conflict.path, &conflict.kept_as))
                .collect(),
            skipped: skipped.map(|skipped| FileNote::new(&skipped.path, &skipped.reason)).collect(),
            skipped_omitted: omitted(report.skipped.len()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Renders a stream for the model: the beginning, and a note about the removed rest.
///
/// Lengths are in UTF-16 units. Each byte that the engine did not capture counts as one unit.
pub(crate) fn for_display(name: &str, stream: &CapturedStream) -> String {
    let text = String::from_utf8_lossy(&stream.bytes);
    let mut units = 0;
    let cut = text.char_indices().find_map(|(at, character)| {
        units += character.len_utf16();
        (units > MAX_STREAM_UNITS).then_some(at)
    });
    let (head, rest) = text.split_at(cut.unwrap_or(text.len()));
    let removed = rest.encode_utf16().count() as u64 + stream.dropped_bytes;
    if removed == 0 {
        head.to_owned()
    } else {
        format!("{head}\n\n[{name} truncated: {removed} characters removed]")
    }
}

/// Renders the block of links that follows standard output; empty if there are no links.
pub(crate) fn link_block(label: &str, artifacts: &[Artifact], omitted: usize) -> String {
    let mut block = String::new();
    for (artifact, url) in
        artifacts.iter().filter_map(|artifact| Some((artifact, artifact.url.as_ref()?)))
    {
        if block.is_empty() {
            let _ = write!(block, "\n\n[{label}]");
        }
        let _ = write!(block, "\n  {}: {url}", artifact.relative_path);
    }
    if !block.is_empty() && omitted > 0 {
        let _ = write!(block, "\n  and {omitted} more");
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, dropped_bytes: u64, expected: &str) {
        let stream = CapturedStream { bytes: text.as_bytes().to_vec(), dropped_bytes };
        assert_eq!(for_display("stdout", &stream), expected);
    }

    #[test]
    fn a_stream_is_cut_by_utf16_units_and_never_inside_a_character() {
        check("short", 0, "short");
        let full = "x".repeat(MAX_STREAM_UNITS);
        check(&full, 0, &full);
        check(
            &format!("{full}yz"),
            0,
            &format!("{full}\n\n[stdout truncated: 2 characters removed]"),
        );
        check(
            &format!("{full}yz"),
            40,
            &format!("{full}\n\n[stdout truncated: 42 characters removed]"),
        );
        let odd = format!("{}🎉", &full[1..]);
        check(&odd, 0, &format!("{}\n\n[stdout truncated: 2 characters removed]", &full[1..]));
    }

    #[test]
    fn links_are_listed_after_the_output() {
        let artifact = |name: &str, url: Option<&str>| Artifact {
            path: format!("/s/{name}"),
            relative_path: name.to_owned(),
            key: None,
            url: url.map(str::to_owned),
        };
        assert_eq!(link_block("artifacts", &[artifact("a", None)], 3), "");
        let block = link_block(
            "artifacts",
            &[artifact("a", None), artifact("b c", Some("file:///b%20c"))],
            3,
        );
        assert_eq!(block, "\n\n[artifacts]\n  b c: file:///b%20c\n  and 3 more");
    }
}
