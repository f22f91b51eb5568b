//! The tool `writeFile`: writes a whole file of the session, then mirrors it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::Access;
use sandbox_core::RelativePath;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::ToolContent;
use super::definition::{self, Definition, Effects, Surroundings, object_schema, parse, result};
use super::edit_file::placeholders;
use super::read_file::ByteRange;
use crate::printable::Printable;
use crate::session::{INLINE_BYTES, LocalSession, Session, blocking};
use crate::sharing::WriteFile;
use crate::tool_error::ToolError;
use crate::workspace::is_artifact;

/// The name of the tool that writes a file.
pub const NAME: &str = "writeFile";

/// Reason for which a session directory has no room.
const FULL: &str = "the session directory would exceed its limit on bytes or files; delete some";
/// Units of `st_blocks`, and of the space that a file takes on most file systems.
const BLOCK_BYTES: u64 = 512;
const PAGE_BYTES: u64 = 4096;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    title: "Write a file",
    effects: Effects::Idempotent,
    uses_network: false,
    describe,
    input_schema,
    output_schema,
    call: |session, input, _| {
        Box::pin(async move {
            let WriteFileInput { path, content, encoding } = parse(NAME, input)?;
            let content = match encoding {
                Encoding::Utf8 => content.into_bytes(),
                Encoding::Base64 => decode(&content)?,
            };
            session.check_placeholders(&path, &content).await?;
            let output = session.write_file(&path, &content).await?;
            result(&output, ToolContent::text(output.text()))
        })
    },
};

fn describe(surroundings: &Surroundings<'_>) -> String {
    format!(
        "Write a file of the session, replacing what was there. \
         Missing directories are created. Content with [redacted:NAME], which a result shows for \
         a value, cannot be written. {}",
        super::path_rules(surroundings)
    )
}

fn input_schema() -> Value {
    object_schema(
        &json!({
            "path": {
                "type": "string",
                "description": "The path where the file should be written",
            },
            "content": { "type": "string", "description": "The content to write to the file" },
            "encoding": {
                "type": "string",
                "enum": ["utf-8", "base64"],
                "description": "base64 if the content is base64 of binary content",
            },
        }),
        &["path", "content"],
    )
}

fn output_schema() -> Value {
    let text = json!({ "type": "string" });
    let properties = json!({
        "success": { "const": true },
        "path": { "type": "string", "description": "The path of the file in the sandbox" },
        "url": text,
        "key": text,
        "pending": text,
        "entry": { "type": "integer", "minimum": 0 },
        "note": text,
    });
    definition::output_schema(&properties, &["success", "path"])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFileInput {
    path: String,
    content: String,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum Encoding {
    #[default]
    #[serde(rename = "utf-8", alias = "utf8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

/// Refuses a path that can only be one of a directory.
fn check_name(path: &str) -> Result<(), ToolError> {
    if !["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) {
        return Ok(());
    }
    let problem =
        format!("{path} is the path of a directory; add the name of a file, as in dir/notes.txt");
    Err(ToolError::Failed { tool: NAME, problem })
}

/// Returns a text with the ASCII characters of content in any encoding.
fn ascii_of(content: &[u8]) -> Cow<'_, str> {
    // In UTF-16 and UTF-32, each ASCII character has NUL bytes beside it.
    if content.contains(&0) {
        let others: Vec<u8> = content.iter().copied().filter(|byte| *byte != 0).collect();
        return Cow::Owned(String::from_utf8_lossy(&others).into_owned());
    }
    String::from_utf8_lossy(content)
}

/// Decodes base64, which may be folded.
fn decode(content: &str) -> Result<Vec<u8>, ToolError> {
    let text: String = content.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|error| ToolError::Failed {
        tool: NAME,
        problem: format!("the content is not base64: {error}"),
    })
}

/// The result of the tool `writeFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriteFileOutput {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The path on the host and in the sandbox.
    pub path: String,
    /// A link that opens the stored file, if the store can make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `<bucket>/<full key>` once the file is in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The reason if the file is not in the store yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// The number of the entry in the session log that holds the file; absent if it is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// The place of the file, if the agent may mean another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl WriteFileOutput {
    /// Renders the result as plain text for a model.
    pub fn text(&self) -> String {
        let path = Printable(&self.path);
        let link = self.url.iter().map(|url| format!("{path}: {}\n", Printable(url)));
        format!("wrote {path}\n{}{}", self.notes(), link.collect::<String>())
    }

    /// Renders everything but the path and the link as lines for a person or a model.
    pub fn notes(&self) -> String {
        let Self { success: _, path: _, url: _, key: _, pending, entry: _, note } = self;
        let pending = pending.iter().map(|reason| format!("pending: {}\n", Printable(reason)));
        let note = note.iter().map(|note| format!("note: {}\n", Printable(note)));
        pending.chain(note).collect()
    }
}

impl Session {
    /// Refuses content with a placeholder that a result showed for the value of a variable: the
    /// file would lose the value. The file may have that very placeholder already. The content may
    /// be binary, or text of any encoding. The tool `writeFile` checks what it writes, and
    /// [`Session::write_file`] does not.
    ///
    /// # Errors
    /// Returns [`ToolError::Failed`] if the content has a placeholder that the file does not have,
    /// and the session redacts its results.
    pub async fn check_placeholders(
        &self,
        path: &str,
        content: impl AsRef<[u8]>,
    ) -> Result<(), ToolError> {
        if !self.settings.redact {
            return Ok(());
        }
        let text = ascii_of(content.as_ref());
        if placeholders(&text).next().is_none() {
            return Ok(());
        }
        let whole = ByteRange { start: 0, end: None };
        let existing = self.read_range(path, whole).await.map(|read| read.bytes);
        let existing = existing.unwrap_or_default();
        let existing = ascii_of(&existing);
        let Some(found) = placeholders(&text).find(|found| !existing.contains(found)) else {
            return Ok(());
        };
        let problem = format!(
            "{path}: the content has {found}, which only stands for the value of a variable in \
             results, and nothing was written; change the text around it with a command or an \
             edit, or let a command write the value with $NAME"
        );
        Err(ToolError::Failed { tool: NAME, problem })
    }

    /// Writes a whole file of the session, creating missing directories, then mirrors it. Starts no
    /// process. A path below `/tmp` names the file that commands see there, which is not mirrored.
    ///
    /// A failing store never fails the call: the result reports the file as pending.
    ///
    /// # Errors
    /// Returns [`ToolError::Path`] if the path leaves the session, [`ToolError::Failed`] if it ends
    /// with a slash, [`ToolError::Denied`] if the policy denies writing, and [`ToolError::File`] or
    /// [`ToolError::Write`] if the system call fails. The latter has a source of the kind
    /// `QuotaExceeded` if the session directory would exceed its limits.
    ///
    /// # Cancel safety
    /// The file has its old or its new content. The next call mirrors a file that was written and
    /// not mirrored.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn write_file(
        &self,
        path: &str,
        content: &[u8],
    ) -> Result<WriteFileOutput, ToolError> {
        self.check_path(path)?;
        check_name(path)?;
        let redact = self.settings.redact;
        self.run(WriteFile { path: path.into(), content: content.into(), redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn write_file(
        &self,
        path: &str,
        content: &[u8],
    ) -> Result<WriteFileOutput, ToolError> {
        let turn = self.begin().await?;
        let place = self.locate(NAME, path)?;
        let (absolute, relative) = (&place.absolute, &place.relative);
        let (error, failed) =
            (|source| place.error(self, source), |source: io::Error| place.write_error(source));
        if place.is_of_session() {
            self.check_access(absolute, Access::Write)?;
        }
        place.check_tmp(self, Access::Write)?;
        let mut staged = place.dir()?.stage(relative).map_err(error)?;
        let mut written = relative.clone();
        if place.is_of_session() {
            let real = staged.real_path().map_err(error)?;
            self.check_access(&real, Access::Write)?;
            self.reserve(absolute, content.len()).await.map_err(failed)?;
            // The log has the file under the name that symlinks lead to.
            let below = real.strip_prefix(self.dir()).ok().and_then(Path::to_str);
            written = below.and_then(|path| RelativePath::parse(path).ok()).unwrap_or(written);
        }
        if content.len() <= INLINE_BYTES {
            staged.write_all(content).map_err(failed)?;
            staged.commit().map_err(error)?;
        } else {
            let content = content.to_vec();
            blocking(move || staged.write_all(&content).map(|()| staged))
                .await?
                .map_err(failed)?
                .commit()
                .map_err(error)?;
        }
        let mut output = WriteFileOutput {
            success: true,
            path: absolute.to_string_lossy().into_owned(),
            url: None,
            key: None,
            pending: None,
            entry: None,
            note: place.anchored(),
        };
        if place.is_of_session() {
            self.store(&written, &mut output).await?;
        }
        // Without an answer of the store, the file is pending.
        if let Err(error) = turn.confirm().await {
            return Err(self.sync_failed(error).await);
        }
        Ok(output)
    }

    /// Applies the policy to a file that was written, and mirrors the file.
    async fn store(
        &self,
        relative: &RelativePath,
        output: &mut WriteFileOutput,
    ) -> Result<(), ToolError> {
        if self.sandbox().affects_policy(relative.as_ref()) {
            self.reapply_policy().await;
        }
        if let Some(mirror) = self.workspace.mirror.as_ref().filter(|_| is_artifact(relative)) {
            let stored = mirror.put_file(relative).await;
            let report = match stored.and_then(|report| mirror.check().map(|()| report)) {
                Ok(report) => report,
                Err(error) => return Err(self.sync_failed(error).await),
            };
            let is_written = |path: &RelativePath| path == relative;
            let changed = report.changed.into_iter().find(|changed| is_written(&changed.path));
            if let Some(changed) = changed {
                output.entry = changed.entry;
                output.url = changed.url;
                output.key = changed.key.map(|key| self.workspace.display_key(&key));
            }
            let pending = report.pending.into_iter().find(|pending| is_written(&pending.path));
            output.pending = pending.map(|pending| pending.reason);
        }
        Ok(())
    }

    /// Checks that the session directory has room for a file in the place of what is there.
    pub(crate) async fn reserve(&self, path: &Path, len: usize) -> io::Result<()> {
        let replaced = std::fs::symlink_metadata(path).ok();
        let taken = replaced.as_ref().map_or(0, |replaced| replaced.blocks() * BLOCK_BYTES);
        let bytes = (len as u64).next_multiple_of(PAGE_BYTES).saturating_sub(taken);
        let is_missing = |path: &&Path| std::fs::symlink_metadata(path).is_err();
        let files = path.ancestors().take_while(is_missing).count() as u64;
        if self.sandbox().reserve(bytes, files).await {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, FULL))
    }
}
