//! The tool `listFiles`: lists the files of the session that match a pattern, page by page.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::Write;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use sandbox_core::FileKind;
use sandbox_core::internal::{EntryKind, Walk};
use secrets::Redactor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::ToolContent;
use super::definition::{
    Definition, Effects, Surroundings, object_schema, output_schema, parse, result,
};
use super::subtree::{Cancelled, Selection, Tree, TreeEntry, parse_glob};
use crate::printable::{Printable, json_string};
use crate::redaction::{Redaction, names_in};
use crate::session::{LocalSession, Session, blocking};
use crate::sharing::FindFiles;
use crate::tool_error::ToolError;

/// The name of the tool that lists files.
pub const NAME: &str = "listFiles";

/// The usual number and the maximum number of files of a page.
const USUAL_FILES: usize = 200;
const MAX_FILES: usize = 1_000;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    title: "List files",
    effects: Effects::None,
    uses_network: false,
    describe,
    input_schema,
    output_schema: output,
    call: |session, input, _| {
        Box::pin(async move {
            let options: FindOptions = parse(NAME, input)?;
            let found = session.find_files(&options).await?;
            result(&found, ToolContent::text(found.text()))
        })
    },
};

fn describe(surroundings: &Surroundings<'_>) -> String {
    format!(
        "List the files and directories of the session whose paths match a pattern. {} The names \
         of directories end with a slash. At most {MAX_FILES} are listed at once; the result then \
         says how to continue with `after`.",
        super::path_rules(surroundings)
    )
}

fn input_schema() -> Value {
    object_schema(
        &json!({
            "pattern": {
                "type": "string",
                "description": "A glob relative to path, such as *.md for one directory or \
                                **/*.md for all; by default ** for all files",
            },
            "path": {
                "type": "string",
                "description": "The directory; by default the session directory",
            },
            "after": {
                "type": "string",
                "description": "The last path of the page before",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_FILES,
                "description": "The maximum number of files",
            },
            "includeIgnored": {
                "type": "boolean",
                "description": "List .git and the files that .gitignore excludes too",
            },
        }),
        &[],
    )
}

fn output() -> Value {
    let text = json!({ "type": "string" });
    let file = json!({
        "type": "object",
        "properties": {
            "path": text,
            "kind": { "enum": ["file", "directory", "symlink", "other"] },
            "size": { "type": "integer", "minimum": 0 },
        },
        "required": ["path", "kind", "size"],
    });
    output_schema(
        &json!({
            "files": { "type": "array", "items": file },
            "nextAfter": {
                "type": "string",
                "description": "The `after` of the next page, if there are more files",
            },
            "redacted": { "type": "array", "items": text },
            "note": text,
        }),
        &["files"],
    )
}

/// Options of [`Session::find_files`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FindOptions {
    /// A glob relative to `path`; by default all files.
    pub pattern: Option<String>,
    /// The directory; by default the session directory.
    pub path: Option<String>,
    /// The last path of the page before.
    pub after: Option<String>,
    /// The maximum number of files, from 1 to 1,000; by default 200.
    pub limit: Option<usize>,
    /// True to find `.git` and the files that `.gitignore` excludes too.
    pub include_ignored: bool,
    /// The order of the files.
    #[serde(skip)]
    pub order: FindOrder,
}

/// The order of the result of [`Session::find_files`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FindOrder {
    /// By path, so that there are pages.
    #[default]
    Path,
    /// Regular files only, those that changed last first. There is one page.
    Newest,
}

/// The result of the tool `listFiles`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FoundFiles {
    /// The files and directories.
    pub files: Vec<FoundFile>,
    /// The [`FindOptions::after`] of the next page, if there are more files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<String>,
    /// The names of the variables whose values `[redacted:NAME]` replaces in paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// The reason for which files may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A file that [`Session::find_files`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundFile {
    /// The path, as the file tools take it.
    pub path: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: FileKind,
    /// The size in bytes.
    pub size: u64,
}

impl FoundFiles {
    /// Renders the result as plain text for a model: a path on each line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for FoundFile { path, kind, .. } in &self.files {
            let slash = if *kind == FileKind::Directory { "/" } else { "" };
            let _ = writeln!(text, "{}{slash}", Printable(path));
        }
        if self.files.is_empty() {
            text.push_str("no files match\n");
        }
        if let Some(after) = &self.next_after {
            // An escaped name would be another place, and one may begin with a blank.
            let _ = writeln!(text, "there are more: continue with after={}", json_string(after));
        }
        if let Some(note) = &self.note {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

impl Session {
    /// Lists the files of the session, or of its `/tmp`, that match a pattern. Symlinks are not
    /// followed. Files that the policy hides from commands are left out.
    ///
    /// # Errors
    /// Returns [`ToolError::Path`] if the path leaves the session, [`ToolError::File`] if it is no
    /// directory, and [`ToolError::Failed`] for an invalid pattern or limit.
    ///
    /// # Cancel safety
    /// Nothing changes. The walk ends soon after the future is dropped.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn find_files(&self, options: &FindOptions) -> Result<FoundFiles, ToolError> {
        let (order, redact) = (options.order, self.settings.redact);
        self.run(FindFiles { options: Cow::Borrowed(options), order, redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn find_files(&self, call: FindFiles<'_>) -> Result<FoundFiles, ToolError> {
        let turn = self.begin().await?;
        let options = call.options.into_owned();
        let limit = options.limit.unwrap_or(USUAL_FILES);
        if !(1..=MAX_FILES).contains(&limit) {
            let problem = format!("limit must be from 1 to {MAX_FILES}");
            return Err(ToolError::Failed { tool: NAME, problem });
        }
        let pattern = options.pattern.clone().unwrap_or_else(|| "**".to_owned());
        let glob = parse_glob(NAME, &pattern)?;
        let tree = self.tree(NAME, options.path.as_deref().unwrap_or("."))?;
        let (order, cancelled) = (call.order, Cancelled::default());
        let flag = cancelled.flag();
        let loadout = call.redact.then(|| self.variables.current());
        let found = blocking(move || {
            let redactor = loadout.as_ref().map(|loadout| &*loadout.redactor);
            let is_match = |entry: &TreeEntry<'_>| glob.is_match(entry.entry.path);
            let mut found = match order {
                FindOrder::Path => by_path(&tree, &options, limit, redactor, &flag, is_match),
                FindOrder::Newest => newest(&tree, &options, limit, &flag, is_match),
            }?;
            let is_empty = found.files.is_empty() && options.after.is_none();
            if is_empty && found.note.is_none() && !pattern.contains('/') && pattern != "**" {
                found.note = Some(format!(
                    "{} is searched in one directory; **/{0} searches those below it too",
                    Printable(&pattern)
                ));
            }
            let mut redaction = Redaction::new(redactor);
            let paths = found.files.iter_mut().map(|file| &mut file.path);
            paths.chain(&mut found.next_after).for_each(|path| redaction.apply(path));
            found.redacted = redaction.into_names();
            Ok::<_, ToolError>(found)
        });
        let found = found.await??;
        match turn.confirm().await {
            Ok(_) => Ok(found),
            Err(error) => Err(self.sync_failed(error).await),
        }
    }
}

impl FindOptions {
    fn selection(&self) -> Selection {
        if self.include_ignored { Selection::All } else { Selection::NotIgnored }
    }
}

fn found(entry: &TreeEntry<'_>) -> FoundFile {
    let (kind, size) = (file_kind(entry.entry.kind), entry.entry.size);
    FoundFile { path: entry.shown.clone(), kind, size }
}

/// Lists a page in the order of paths.
fn by_path(
    tree: &Tree,
    options: &FindOptions,
    limit: usize,
    redactor: Option<&Redactor>,
    cancelled: &AtomicBool,
    is_match: impl Fn(&TreeEntry<'_>) -> bool,
) -> Result<FoundFiles, ToolError> {
    let mut page = FoundFiles::default();
    let after = options.after.as_deref().map(|path| path.trim_end_matches('/'));
    // A path with a placeholder has no place in the order, so the entry that is shown so has it.
    let hidden = after.filter(|after| !names_in(after).is_empty()).zip(redactor);
    let mut is_reached = false;
    let end = tree.walk(options.selection(), cancelled, |entry| {
        let is_before = match hidden {
            Some(_) if is_reached => false,
            Some((after, redactor)) => {
                is_reached = redactor.redact(&entry.shown) == after;
                true
            }
            None => after.is_some_and(|after| entry.shown.split('/').le(after.split('/'))),
        };
        if is_before || !is_match(&entry) {
            return Walk::Enter;
        }
        if page.files.len() == limit {
            page.next_after = page.files.last().map(|file| file.path.clone());
            return Walk::Stop;
        }
        page.files.push(found(&entry));
        Walk::Enter
    })?;
    page.note = end.and_then(|end| end.note());
    Ok(page)
}

/// Lists the files that changed last.
fn newest(
    tree: &Tree,
    options: &FindOptions,
    limit: usize,
    cancelled: &AtomicBool,
    is_match: impl Fn(&TreeEntry<'_>) -> bool,
) -> Result<FoundFiles, ToolError> {
    let mut files: Vec<(Reverse<SystemTime>, FoundFile)> = Vec::new();
    let end = tree.walk(options.selection(), cancelled, |entry| {
        if entry.entry.kind == EntryKind::File && is_match(&entry) {
            files.push((Reverse(entry.entry.modified), found(&entry)));
        }
        Walk::Enter
    })?;
    files.sort_by_key(|(modified, _)| *modified);
    let omitted = files.len().saturating_sub(limit);
    let more = (omitted > 0).then(|| format!("{omitted} older files are not listed"));
    let note = end.and_then(|end| end.note()).or(more);
    let files = files.into_iter().take(limit).map(|(_, file)| file).collect();
    Ok(FoundFiles { files, note, ..FoundFiles::default() })
}

fn file_kind(kind: EntryKind) -> FileKind {
    match kind {
        EntryKind::File => FileKind::File,
        EntryKind::Directory => FileKind::Directory,
        EntryKind::Symlink => FileKind::Symlink,
        EntryKind::Other => FileKind::Other,
    }
}
