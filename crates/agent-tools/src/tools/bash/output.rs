//! The result of the tool `bash`.

use std::fmt::Write;
use std::time::Duration;

use sandbox_core::Limit;
use serde::{Deserialize, Serialize};

use crate::denials::Denial;
use crate::output::{
    Artifact, ConflictNote, FileNote, MirrorNotes, PendingGroup, is_false, is_zero, is_zero_u64,
    link_block, note_pending,
};
use crate::printable::Printable;
use crate::redaction::Redaction;
use crate::sharing::{FixedText, parse_limit};

/// The result of the tool `bash`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct BashOutput {
    /// Standard output, followed by the block of artifact links. If it is longer than the limit of
    /// the call (30,000 UTF-16 units by default), its beginning and its end.
    pub stdout: String,
    /// Standard output without the block of links; absent without such a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_stdout: Option<String>,
    /// Standard error, shortened the same way.
    pub stderr: String,
    /// The number of UTF-16 units of standard output that `stdout` leaves out. A
    /// byte that was not kept counts as one.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub stdout_omitted: u64,
    /// The same for standard error.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub stderr_omitted: u64,
    /// The file in the sandbox with all of standard output, if `stdout` is shortened. It stays
    /// until the sandbox ends, or 20 later ones need its room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_file: Option<String>,
    /// The same for standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_file: Option<String>,
    /// The exit code as a shell reports it: 128 + n after signal n, 124 after a timeout.
    pub exit_code: i32,
    /// Files that the command created or changed, at most 50.
    pub artifacts: Vec<Artifact>,
    /// The number of further files that the command created or changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifacts_omitted: usize,
    /// Files that the command removed and that were in the store, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The number of further removed files.
    #[serde(skip_serializing_if = "is_zero")]
    pub removed_omitted: usize,
    /// True if the command was killed because it exceeded its time limit.
    #[serde(skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// The time limit that the command exceeded, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// The limit of the session that the command reached, if one is known: `memory`, `processes`,
    /// `cpuTime`, `fileSize` or `sessionSize`. A command that leaves too large a session directory
    /// may have exited by itself.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "parse_limit")]
    pub limit_reached: Option<FixedText>,
    /// Names of the processes that outlived the command's shell and were killed, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<String>,
    /// Guesses about failures, one a line: at most 5 denials by the policy that messages on
    /// standard error tell of, each as `read PATH: RULE; REMEDY`; and the lack of root, of a
    /// privilege or of a network, a limit on a process, or a gap of the Landlock tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The accesses that the engine has refused: connections, at most 5, and quarantined paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// The number of further hosts to which connections were refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied_omitted: usize,
    /// Changes that are not in the store yet, by reason, at most 5 reasons. Each change is reported
    /// once for each reason. Later calls and closing try again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingGroup>,
    /// The number of changes with further reasons.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending_omitted: usize,
    /// The number of pending changes that earlier results have reported.
    #[serde(skip_serializing_if = "is_zero")]
    pub still_pending: usize,
    /// Files that another writer had changed in the store too, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<ConflictNote>,
    /// Files that cannot be stored, at most 50. Each is reported once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<FileNote>,
    /// The number of further files that cannot be stored.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped_omitted: usize,
    /// The number of the entry in the session log that the files have after the command; absent
    /// without a store.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub entry: u64,
    /// The reason for which another machine may have taken the session over: the store did not
    /// answer. Absent if changes are pending for that reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
    /// Names of the variables whose values `[redacted:NAME]` replaces in this result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// Warnings about variables that the command lacks; and those from opening the session, which
    /// only the first result has, and from loading its variables again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl BashOutput {
    /// Returns standard output without the block of links.
    pub fn command_stdout(&self) -> &str {
        self.own_stdout.as_deref().unwrap_or(&self.stdout)
    }

    /// Renders the result as plain text for a model: the two streams, the exit code if it is not 0,
    /// the warnings, and [`BashOutput::notes`].
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stream in [self.command_stdout(), &self.stderr] {
            text += stream;
            if !stream.is_empty() && !stream.ends_with('\n') {
                text.push('\n');
            }
        }
        if self.exit_code != 0 {
            let _ = writeln!(text, "exit code {}", self.exit_code);
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {}", Printable(warning));
        }
        text + &self.notes()
    }

    /// Renders everything but the two streams, the exit code and the warnings as lines for a
    /// person or a model. The links come last.
    pub fn notes(&self) -> String {
        // Without `..`, so that a new field cannot be forgotten here.
        let Self {
            stdout: _,
            own_stdout: _,
            stderr: _,
            // The shortened streams name them.
            stdout_omitted: _,
            stderr_omitted: _,
            stdout_file: _,
            stderr_file: _,
            exit_code: _,
            artifacts,
            artifacts_omitted,
            removed,
            removed_omitted,
            timed_out,
            time_limit_ms,
            limit_reached,
            killed,
            hint,
            denied,
            denied_omitted,
            pending,
            pending_omitted,
            still_pending,
            conflicts,
            skipped,
            skipped_omitted,
            // `session show` prints it.
            entry: _,
            unconfirmed,
            // The placeholders say it.
            redacted: _,
            // `Session::warnings` has them before the first command runs.
            warnings: _,
        } = self;
        let mut notes = String::new();
        note_removed(&mut notes, removed, *removed_omitted);
        note_pending(&mut notes, pending, *pending_omitted, *still_pending);
        note_skipped(&mut notes, skipped, *skipped_omitted);
        for conflict in conflicts {
            let _ = writeln!(notes, "{conflict}");
        }
        for denial in denied {
            let _ = writeln!(notes, "denied: {}", Printable(denial));
        }
        if *denied_omitted > 0 {
            let hosts = if *denied_omitted == 1 { "host" } else { "hosts" };
            let _ = writeln!(notes, "denied: and {denied_omitted} more {hosts}");
        }
        if let Some(reason) = unconfirmed {
            let _ = writeln!(notes, "another machine may own the session: {}", Printable(reason));
        }
        if *timed_out {
            let after = time_limit_ms.map_or(String::new(), |limit| {
                format!(" after {} s", Duration::from_millis(limit).as_secs_f64())
            });
            let _ = writeln!(notes, "timed out{after}: the command and its children were killed");
        }
        if let Some(limit) = limit_reached {
            let _ = writeln!(notes, "limit reached: {}", limit_name(limit));
        }
        for line in hint.iter().flat_map(|hint| hint.lines()) {
            let _ = writeln!(notes, "hint: {}", Printable(line));
        }
        if !killed.is_empty() {
            let names: Vec<String> =
                killed.iter().map(|name| Printable(name).to_string()).collect();
            let _ = writeln!(notes, "killed after the command: {}", names.join(", "));
        }
        note_artifacts(&mut notes, artifacts, *artifacts_omitted);
        notes
    }

    /// Replaces the values of variables in everything but the streams, whose values are replaced
    /// before they are cut.
    pub(crate) fn redact(&mut self, mut redaction: Redaction<'_>) {
        // The hint is redacted before its lines are joined.
        let notes = self.unconfirmed.iter_mut().chain(&mut self.killed);
        notes.for_each(|text| redaction.apply(text));
        for denial in &mut self.denied {
            let Denial { target, access: _, rule, remedy, moved_to, is_shared: _ } = denial;
            let texts = [target, rule].into_iter().chain(remedy).chain(moved_to);
            texts.for_each(|text| redaction.apply(text));
        }
        self.redacted = redaction.into_names();
    }

    pub(crate) fn add_mirror_notes(&mut self, notes: MirrorNotes, artifact_label: &str) {
        let MirrorNotes {
            artifacts,
            artifacts_omitted,
            removed,
            removed_omitted,
            pending,
            pending_omitted,
            still_pending,
            conflicts,
            skipped,
            skipped_omitted,
            entry,
        } = notes;
        self.stdout += &link_block(artifact_label, &artifacts, artifacts_omitted);
        (self.artifacts, self.artifacts_omitted) = (artifacts, artifacts_omitted);
        (self.removed, self.removed_omitted) = (removed, removed_omitted);
        (self.pending, self.pending_omitted) = (pending, pending_omitted);
        self.still_pending = still_pending;
        self.conflicts = conflicts;
        (self.skipped, self.skipped_omitted) = (skipped, skipped_omitted);
        self.entry = entry;
    }
}

fn note_artifacts(notes: &mut String, artifacts: &[Artifact], omitted: usize) {
    if !artifacts.is_empty() {
        notes.push_str("artifacts:\n");
    }
    for Artifact { path: _, relative_path, key, url, entry } in artifacts {
        let without_link = if entry.is_some() { "stored" } else { "not in the store yet" };
        let link = url.as_deref().or(key.as_deref()).unwrap_or(without_link);
        let _ = writeln!(notes, "  {}: {}", Printable(relative_path), Printable(link));
    }
    if omitted > 0 {
        let _ = writeln!(notes, "  and {omitted} more");
    }
}

fn note_removed(notes: &mut String, removed: &[String], omitted: usize) {
    for path in removed {
        let _ = writeln!(notes, "removed: {}", Printable(path));
    }
    if omitted > 0 {
        let _ = writeln!(notes, "removed: and {omitted} more");
    }
}

fn note_skipped(notes: &mut String, skipped: &[FileNote], omitted: usize) {
    for note in skipped {
        let _ = writeln!(notes, "not mirrored: {note}");
    }
    if omitted > 0 {
        let _ = writeln!(notes, "not mirrored: and {omitted} more");
    }
}

/// Returns the key of a limit that no other field of the result reports.
pub(crate) fn limit_key(limit: Limit) -> Option<&'static str> {
    match limit {
        Limit::WallTime | Limit::Output => None,
        other => Some(other.key()),
    }
}

/// Returns the name of a limit for a person.
fn limit_name(key: &str) -> &str {
    let limit = Limit::ALL.into_iter().find(|limit| limit.key() == key);
    limit.map_or(key, |limit| limit.name())
}

/// The result of a command in the process that serves the session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BashResult {
    output: BashOutput,
    command_stdout_bytes: usize,
}

/// Joins the warnings of a session and of one of its results.
fn joined(mut warnings: Vec<String>, further: Vec<String>) -> Vec<String> {
    for warning in further {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

impl BashResult {
    pub(super) fn new(output: BashOutput, command_stdout_bytes: usize) -> Self {
        Self { output, command_stdout_bytes }
    }

    pub(crate) fn output(&self) -> &BashOutput {
        &self.output
    }

    pub(super) fn into_output(self, warnings: Vec<String>) -> BashOutput {
        let Self { output, command_stdout_bytes } = self;
        let all = output.stdout.len();
        let own = output.stdout.get(..command_stdout_bytes);
        BashOutput {
            own_stdout: own.filter(|own| own.len() < all).map(str::to_owned),
            warnings: joined(warnings, output.warnings),
            ..output
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_its_output_as_json_and_if_it_is_composed() {
        let result = BashOutput { stdout: "a\nlinks".to_owned(), ..BashOutput::default() };
        let result = BashResult::new(result, 2).into_output(Vec::new());
        assert_eq!((result.command_stdout(), result.text().as_str()), ("a\n", "a\n"));
        let json = serde_json::to_string(&result).unwrap();
        assert_eq!(serde_json::from_str::<BashOutput>(&json).unwrap(), result);
        let composed = BashOutput { stdout: "a".to_owned(), ..BashOutput::default() };
        assert_eq!(composed.command_stdout(), "a");
    }

    #[test]
    fn a_plain_result_has_exactly_the_fields_of_the_reference() {
        let output = BashOutput { stdout: "x".into(), ..BashOutput::default() };
        let json = serde_json::to_string(&output).unwrap();
        assert_eq!(json, r#"{"stdout":"x","stderr":"","exitCode":0,"artifacts":[]}"#);
        assert_eq!(output.notes(), "");
    }

    #[test]
    fn notes_name_every_field_that_is_set() {
        let note = |path: &str| vec![FileNote::new(&path, &"why")];
        let output = BashOutput {
            artifacts: vec![Artifact {
                path: "/s/a".into(),
                relative_path: "a".into(),
                key: None,
                url: Some("file:///a".into()),
                entry: Some(1),
            }],
            artifacts_omitted: 1,
            timed_out: true,
            time_limit_ms: Some(1_500),
            limit_reached: Some("fileSize"),
            hint: Some("read /y: a rule\nno root".into()),
            killed: vec!["sleep".into(), "a\nb".into()],
            denied: vec![Denial {
                target: "/x".into(),
                access: "write",
                rule: "the rule".into(),
                remedy: Some("the remedy".into()),
                moved_to: Some("/x.moved".into()),
                is_shared: true,
            }],
            denied_omitted: 8,
            removed: vec!["r\n".into()],
            removed_omitted: 7,
            pending: vec![PendingGroup {
                reason: "why".into(),
                count: 9,
                files: vec!["p".into(), "q".into()],
            }],
            pending_omitted: 2,
            still_pending: 4,
            entry: 12,
            conflicts: vec![ConflictNote::new(&"c", &"c.other")],
            skipped: note("s"),
            skipped_omitted: 3,
            ..BashOutput::default()
        };
        assert_eq!(
            output.notes(),
            "removed: r\\n\nremoved: and 7 more\n\
             pending: p, q and 7 more: why\npending: and 2 more\n\
             still pending: 4 changes of earlier calls; `agent-tools session show ID` \
             lists them\n\
             not mirrored: s: why\nnot mirrored: and 3 more\n\
             changed on both sides: c; the second version is kept as c.other\n\
             denied: write /x: the rule; the remedy; it is /x.moved now; another command ran at \
             the same time\ndenied: and 8 more hosts\n\
             timed out after 1.5 s: the command and its children were killed\n\
             limit reached: file size\n\
             hint: read /y: a rule\nhint: no root\n\
             killed after the command: sleep, a\\nb\n\
             artifacts:\n  a: file:///a\n  and 1 more\n"
        );
    }
}
