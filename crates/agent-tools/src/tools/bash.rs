//! The tool `bash`: runs a command in the session's sandbox, then mirrors the files it changed.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use policy::Access;
use sandbox_core::{CommandStatus, ExecErrorKind, Limit, Sandbox, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::definition::{Definition, object_schema, parse, to_json};
use crate::denials::{self, Denial};
use crate::output::{
    Artifact, ConflictNote, FileNote, MirrorNotes, for_display, is_false, is_zero, link_block,
};
use crate::session::{LocalSession, Session};
use crate::sharing::{Bash, FixedText, parse_limit};
use crate::tool_error::ToolError;

/// The name of the tool that runs a command.
pub const NAME: &str = "bash";

/// The number of files of the session that the description names.
const FILES_NAMED: usize = 8;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    is_read_only: false,
    describe: |surroundings| {
        describe(surroundings.session_dir, &surroundings.file_names, surroundings.instructions)
    },
    input_schema,
    call: |session, input| {
        Box::pin(async move {
            let input: BashInput = parse(NAME, input)?;
            let timeout = input.timeout_ms.map(Duration::from_millis);
            let options = BashOptions { timeout, ..BashOptions::default() };
            to_json(&session.bash_with(&input.command, options).await?)
        })
    },
};

fn input_schema() -> Value {
    object_schema(
        &json!({
            "command": { "type": "string", "description": "The bash command to execute" },
            "timeoutMs": {
                "type": "integer",
                "minimum": 1,
                "description": "How long the command may run, in milliseconds",
            },
        }),
        &["command"],
    )
}

fn describe(session_dir: &Path, file_names: &[String], instructions: Option<&str>) -> String {
    let mut text = format!(
        "Run a bash command in the session's sandbox and get its output, its exit code and links \
         to the files it changed.\n\n\
         WORKING DIRECTORY: {dir}\n\
         Each command starts there, in a new shell: `cd` and variables do not last from one call \
         to the next, files do. \
         Only this directory and /tmp can be written to, and there is no network.\n",
        dir = session_dir.display()
    );
    if !file_names.is_empty() {
        text.push_str("\nFiles there:\n");
        for name in file_names.iter().take(FILES_NAMED) {
            text.push_str(&format!("  {name}\n"));
        }
        if file_names.len() > FILES_NAMED {
            text.push_str(&format!("  and {} more\n", file_names.len() - FILES_NAMED));
        }
    }
    text.push_str(
        "\nCommon operations:\n\
         \x20 ls -la                     list files\n\
         \x20 find . -name '*.csv'       find files by name\n\
         \x20 grep -rn PATTERN .         search in files\n\
         \x20 head -n 50 FILE            see the beginning of a file\n",
    );
    if let Some(instructions) = instructions {
        text.push('\n');
        text.push_str(instructions);
        text.push('\n');
    }
    text
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BashInput {
    command: String,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// Options of one call of `bash`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BashOptions {
    /// The time limit of the command; by default that of the session (120 s).
    pub timeout: Option<Duration>,
    /// The standard input of the command.
    pub stdin: Vec<u8>,
}

/// The result of the tool `bash`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct BashOutput {
    /// Standard output, cut to 30,000 UTF-16 units, followed by the block of artifact links.
    pub stdout: String,
    /// Standard error, cut the same way.
    pub stderr: String,
    /// The exit code as a shell reports it: 128 + n after signal n, 124 after a timeout.
    pub exit_code: i32,
    /// Files that the command created or changed, at most 50.
    pub artifacts: Vec<Artifact>,
    /// The number of further files that the command created or changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifacts_omitted: usize,
    /// True if the command was killed because it exceeded its time limit.
    #[serde(skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// The limit of the session that the command reached, if one is known: `memory`, `processes`,
    /// `cpuTime` or `fileSize`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "parse_limit")]
    pub limit_reached: Option<FixedText>,
    /// Failures on standard error that the policy explains, at most 5, and quarantined paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// Changes that are not in the store yet, at most 50. Later calls and closing try again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<FileNote>,
    /// The number of further pending changes.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending_omitted: usize,
    /// The number of deleted files whose stored copies were kept, because suspiciously many files
    /// were deleted at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub removals_held_back: usize,
    /// Files that another writer had changed in the store too, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<ConflictNote>,
    /// Files that cannot be stored, at most 50. Each is reported once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<FileNote>,
    /// The number of further files that cannot be stored.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped_omitted: usize,
    /// Warnings from opening the session; only the first result has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The id of the session, for [`BashOutput::notes`].
    #[serde(skip)]
    session: String,
    /// The length of the command's output in `stdout`, which the block of links follows.
    #[serde(skip)]
    command_stdout_bytes: usize,
}

impl BashOutput {
    /// Returns standard output without the block of links.
    pub fn command_stdout(&self) -> &str {
        &self.stdout[..self.command_stdout_bytes]
    }

    /// Renders everything but the two streams, the exit code and the warnings as lines for a
    /// person.
    pub fn notes(&self) -> String {
        // Without `..`, so that a new field cannot be forgotten here.
        let Self {
            stdout: _,
            stderr: _,
            exit_code: _,
            artifacts,
            artifacts_omitted,
            timed_out,
            limit_reached,
            denied,
            pending,
            pending_omitted,
            removals_held_back,
            conflicts,
            skipped,
            skipped_omitted,
            // `Session::warnings` has them before the first command runs.
            warnings: _,
            session,
            command_stdout_bytes: _,
        } = self;
        let mut notes = String::new();
        note_artifacts(&mut notes, artifacts, *artifacts_omitted);
        note_files(&mut notes, "pending", pending, *pending_omitted);
        note_files(&mut notes, "not mirrored", skipped, *skipped_omitted);
        if *removals_held_back > 0 {
            let _ = writeln!(
                notes,
                "removals held back: {removals_held_back} files were deleted at once; \
                 `agent-tools session sync {session} --confirm-removals` deletes their stored \
                 copies"
            );
        }
        for ConflictNote { relative_path, kept_as } in conflicts {
            let _ = writeln!(
                notes,
                "changed on both sides: {relative_path}; the other version is {kept_as}"
            );
        }
        for denial in denied {
            let _ = writeln!(notes, "denied: {denial}");
        }
        if *timed_out {
            notes += "timed out: the command and its children were killed\n";
        }
        if let Some(limit) = limit_reached {
            let _ = writeln!(notes, "limit reached: {}", limit_name(limit));
        }
        notes
    }

    fn add_mirror_notes(&mut self, notes: MirrorNotes, artifact_label: &str) {
        let MirrorNotes {
            artifacts,
            artifacts_omitted,
            pending,
            pending_omitted,
            removals_held_back,
            conflicts,
            skipped,
            skipped_omitted,
        } = notes;
        self.stdout += &link_block(artifact_label, &artifacts, artifacts_omitted);
        (self.artifacts, self.artifacts_omitted) = (artifacts, artifacts_omitted);
        (self.pending, self.pending_omitted) = (pending, pending_omitted);
        self.removals_held_back = removals_held_back;
        self.conflicts = conflicts;
        (self.skipped, self.skipped_omitted) = (skipped, skipped_omitted);
    }
}

fn note_artifacts(notes: &mut String, artifacts: &[Artifact], omitted: usize) {
    if !artifacts.is_empty() {
        notes.push_str("artifacts:\n");
    }
    for Artifact { path: _, relative_path, key, url } in artifacts {
        let link = url.as_deref().or(key.as_deref()).unwrap_or("not in the store yet");
        let _ = writeln!(notes, "  {relative_path}: {link}");
    }
    if omitted > 0 {
        let _ = writeln!(notes, "  and {omitted} more");
    }
}

fn note_files(notes: &mut String, subject: &str, files: &[FileNote], omitted: usize) {
    for FileNote { relative_path, reason } in files {
        let _ = writeln!(notes, "{subject}: {relative_path}: {reason}");
    }
    if omitted > 0 {
        let _ = writeln!(notes, "{subject}: and {omitted} more");
    }
}

/// Returns the key of a limit that no other field of the result reports.
fn limit_key(limit: Limit) -> Option<&'static str> {
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

impl Session {
    /// Runs a bash command with the default options; see [`Session::bash_with`].
    ///
    /// # Errors
    /// Like [`Session::bash_with`].
    ///
    /// # Cancel safety
    /// Like [`Session::bash_with`].
    pub async fn bash(&self, command: &str) -> Result<BashOutput, ToolError> {
        self.bash_with(command, BashOptions::default()).await
    }

    /// Runs a bash command in the sandbox, then mirrors the files it changed.
    ///
    /// A non-zero exit, a signal and a timeout are results. A failing store never fails the call:
    /// the result lists the files that could not be uploaded as pending.
    ///
    /// # Errors
    /// Returns [`ToolError::Exec`] if the command could not be run, and [`ToolError::Sharing`] if
    /// the process that serves the session fails the call.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command. The next call mirrors the files it had changed.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn bash_with(
        &self,
        command: &str,
        options: BashOptions,
    ) -> Result<BashOutput, ToolError> {
        let BashOptions { timeout, stdin } = options;
        let result = self
            .run(Bash {
                command: command.into(),
                timeout: timeout.unwrap_or(self.settings.timeout),
                stdin: stdin.into(),
                artifact_label: self.settings.artifact_label.as_str().into(),
            })
            .await?;
        let warnings = self.take_unreported_warnings();
        Ok(result.into_output(self.id(), warnings))
    }
}

/// The result of a command in the process that serves the session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BashResult {
    output: BashOutput,
    command_stdout_bytes: usize,
}

impl BashResult {
    fn into_output(self, session: &SessionId, warnings: Vec<String>) -> BashOutput {
        let Self { output, command_stdout_bytes } = self;
        let is_valid = output.stdout.is_char_boundary(command_stdout_bytes);
        let all = output.stdout.len();
        BashOutput {
            warnings,
            session: session.to_string(),
            command_stdout_bytes: if is_valid { command_stdout_bytes } else { all },
            ..output
        }
    }
}

impl LocalSession {
    pub(crate) async fn bash(&self, call: Bash<'_>) -> Result<BashResult, ToolError> {
        let sandbox = self.sandbox();
        let mut spec = self.command_spec(&call.command, &sandbox);
        spec.stdin = call.stdin.into_owned();
        spec.timeout = call.timeout;
        let ran = match sandbox.exec(spec).await {
            Ok(ran) => ran,
            Err(source) => {
                if source.kind() == ExecErrorKind::Ended {
                    self.reopen_sandbox(&sandbox).await;
                }
                return Err(ToolError::Exec { source });
            }
        };
        let stdout = for_display("stdout", &ran.stdout);
        let stderr = for_display("stderr", &ran.stderr);
        let mut denied = self.explain_stderr(&stderr);
        denied.extend(ran.quarantined.iter().map(|quarantined| {
            let reason = self.denial_reason(&quarantined.path, Access::Write);
            denials::from_quarantined(quarantined, reason)
        }));
        let command_stdout_bytes = stdout.len();
        let mut output = BashOutput {
            stdout,
            stderr,
            exit_code: ran.status.code(),
            timed_out: ran.status == CommandStatus::TimedOut,
            limit_reached: ran.limit_reached().and_then(limit_key),
            denied,
            ..BashOutput::default()
        };
        if let Some(mirror) = &self.workspace.mirror {
            let notes = MirrorNotes::new(mirror.sync().await, &self.workspace);
            output.add_mirror_notes(notes, &call.artifact_label);
        }
        Ok(BashResult { output, command_stdout_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_eight_files_and_counts_the_rest() {
        let files: Vec<String> = (0..11).map(|n| format!("f{n}")).collect();
        let description = describe(Path::new("/s/1"), &files, Some("Speak French."));
        assert!(description.contains("WORKING DIRECTORY: /s/1\n"));
        assert!(description.contains("  f7\n  and 3 more\n") && !description.contains("f8"));
        assert!(description.ends_with("Speak French.\n"));
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
            }],
            artifacts_omitted: 1,
            timed_out: true,
            limit_reached: Some("fileSize"),
            denied: vec![Denial {
                target: "/x".into(),
                access: "write",
                rule: "the rule".into(),
                remedy: Some("the remedy".into()),
                moved_to: Some("/x.moved".into()),
            }],
            pending: note("p"),
            pending_omitted: 2,
            removals_held_back: 60,
            session: "s1".into(),
            conflicts: vec![ConflictNote::new(&"c", &"c.other")],
            skipped: note("s"),
            skipped_omitted: 3,
            ..BashOutput::default()
        };
        assert_eq!(
            output.notes(),
            "artifacts:\n  a: file:///a\n  and 1 more\n\
             pending: p: why\npending: and 2 more\n\
             not mirrored: s: why\nnot mirrored: and 3 more\n\
             removals held back: 60 files were deleted at once; \
             `agent-tools session sync s1 --confirm-removals` deletes their stored copies\n\
             changed on both sides: c; the other version is c.other\n\
             denied: write /x: the rule; the remedy; it is /x.moved now\n\
             timed out: the command and its children were killed\n\
             limit reached: file size\n"
        );
    }
}
