//! What the tools give back, and how much of a command's output the model is shown.

use std::fmt::{self, Write};

use sandbox_core::CapturedStream;
use serde::Serialize;

use crate::denials::Denial;

/// How much of each stream a result shows, in UTF-16 units, as the reference counts.
pub(crate) const MAX_STREAM_UNITS: usize = 30_000;
/// How many artifacts a result lists, how many pending changes, and how many skipped files.
pub(crate) const MAX_LISTED: usize = 50;

/// The result of the tool `bash`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BashOutput {
    /// Standard output, cut to 30,000 UTF-16 units, and after it the block of artifact links.
    pub stdout: String,
    /// Standard error, cut the same way.
    pub stderr: String,
    /// The exit code as a shell gives it: 128 + n after signal n, 124 after a timeout.
    pub exit_code: i32,
    /// Files that the command made or changed, at most 50.
    pub artifacts: Vec<Artifact>,
    /// How many further files it made or changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifacts_omitted: usize,
    /// Whether the time was up and everything was killed.
    #[serde(skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// `memory`, `processes`, `cpuTime` or `fileSize`: the limit of the session that the command
    /// ran into, as far as it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_reached: Option<&'static str>,
    /// What the policy denied of what standard error tells of, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// Changes that are not in the store yet, at most 50; they are tried again by later calls and
    /// at close.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<FileNote>,
    /// How many further changes are pending.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending_omitted: usize,
    /// How many files are gone whose stored copies were kept, because they are so many at one time
    /// that it may be a mistake.
    #[serde(skip_serializing_if = "is_zero")]
    pub removals_held_back: usize,
    /// Files that somebody else had changed in the store too, and where that version is now; at
    /// most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<ConflictNote>,
    /// Files that cannot be kept in the store, at most 50, each told once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<FileNote>,
    /// How many further files cannot be kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped_omitted: usize,
    /// What was not as asked for when the session was opened; in the first result only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How much of `stdout` is the command's own; the block of links follows.
    #[serde(skip)]
    pub(crate) command_stdout_bytes: usize,
}

impl BashOutput {
    /// Standard output without the block of links.
    pub fn command_stdout(&self) -> &str {
        &self.stdout[..self.command_stdout_bytes]
    }
}

/// A file that the agent made or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// A link that opens the stored file, where the store can make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A file that was changed on both sides; the other side's version is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConflictNote {
    /// The file, which has what this session wrote.
    pub relative_path: String,
    /// The file that has the other version.
    pub kept_as: String,
}

impl ConflictNote {
    pub(crate) fn new(path: &impl fmt::Display, kept_as: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), kept_as: kept_as.to_string() }
    }
}

/// A file and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileNote {
    /// The path below the session directory.
    pub relative_path: String,
    /// Why it is pending or skipped.
    pub reason: String,
}

impl FileNote {
    /// A note about a path below the session directory.
    pub fn new(path: &impl fmt::Display, reason: &impl fmt::Display) -> Self {
        Self { relative_path: path.to_string(), reason: reason.to_string() }
    }
}

/// The result of the tool `readFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReadFileOutput {
    /// The content: text, or base64 where `encoding` says so.
    pub content: String,
    /// `base64` for content that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// The media type of binary content, by the file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// How many lines the whole file has, where a range was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<usize>,
}

/// The result of the tool `writeFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriteFileOutput {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The path on the host and in the sandbox.
    pub path: String,
    /// A link that opens the stored file, where the store can make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `<bucket>/<full key>` once the file is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why the file is not in the store yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A stream as text for the model: its head, and a note of what was removed.
///
/// Characters are counted as UTF-16 units; of what was not even kept only the bytes are known, and
/// each counts as one.
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

/// The block after stdout that gives the model the links, or nothing when there are none.
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

    #[test]
    fn a_plain_result_has_exactly_the_fields_of_the_reference() {
        let output = BashOutput { stdout: "x".into(), ..BashOutput::default() };
        let json = serde_json::to_string(&output).unwrap();
        assert_eq!(json, r#"{"stdout":"x","stderr":"","exitCode":0,"artifacts":[]}"#);
    }
}
