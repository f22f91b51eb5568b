//! The tool `grep`: searches the files of the session for a regular expression.

mod expression;
mod matches;
mod output;

use sandbox_core::FileError;
use sandbox_core::internal::{EntryKind, Walk, read_open};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

use super::call::ToolContent;
use super::definition::{Definition, Effects, Surroundings, object_schema, parse, result};
use super::subtree::{Cancelled, EarlyEnd, Selection, TreeEntry, parse_file_glob};
use crate::redaction::Redaction;
use crate::session::{LocalSession, Session, blocking};
use crate::sharing::SearchFiles;
use crate::tool_error::ToolError;

use expression::Expression;
use matches::Search;

pub use output::{FoundLine, FoundLines};

/// The name of the tool that searches files.
pub const NAME: &str = "grep";

/// The usual number and the maximum number of lines that match.
const USUAL_LINES: usize = 100;
const MAX_LINES: usize = 1_000;
/// The maximum number of lines of context on each side.
const MAX_CONTEXT: usize = 20;
/// The note about a glob that matches files which the search leaves out.
const IGNORED: &str = "ignored files match the glob, and were left out; with includeIgnored, .git \
                       and the files that .gitignore excludes are searched too";
/// The size of the largest file that is searched.
const MAX_FILE_BYTES: u64 = 32 << 20;

pub(super) const DEFINITION: Definition = Definition {
    name: NAME,
    title: "Search files",
    effects: Effects::None,
    uses_network: false,
    describe,
    input_schema,
    output_schema: output::schema,
    call: |session, input, _| {
        Box::pin(async move {
            let options: GrepOptions = parse(NAME, input)?;
            let found = session.search_files(&options).await?;
            result(&found, ToolContent::text(found.text()))
        })
    },
};

fn describe(surroundings: &Surroundings<'_>) -> String {
    format!(
        "Search the text files of the session for lines that match a regular expression (the \
         syntax of ripgrep). One with \\n matches over lines. {} Binary files and files above \
         32 MiB are not searched, and the result counts them.",
        super::path_rules(surroundings)
    )
}

fn input_schema() -> Value {
    let number = |minimum: usize, maximum: usize, description: &str| {
        json!({
            "type": "integer",
            "minimum": minimum,
            "maximum": maximum,
            "description": description,
        })
    };
    object_schema(
        &json!({
            "pattern": { "type": "string", "description": "The regular expression" },
            "path": {
                "type": "string",
                "description": "The directory or the file; by default the session directory",
            },
            "glob": {
                "type": "string",
                "description": "A glob of the files to search. Without a slash, such as *.rs, it \
                                matches names at any depth; with one, such as src/**/*.rs, it is \
                                relative to path",
            },
            "ignoreCase": { "type": "boolean", "description": "Take a for A" },
            "context": number(0, MAX_CONTEXT, "The number of lines around each match"),
            "limit": number(1, MAX_LINES, "The maximum number of lines that match"),
            "includeIgnored": {
                "type": "boolean",
                "description": "Search .git and the files that .gitignore excludes too",
            },
        }),
        &["pattern"],
    )
}

/// Options of [`Session::search_files`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct GrepOptions {
    /// The regular expression, in the syntax of ripgrep. It matches within a line, unless it has
    /// `\n`.
    pub pattern: String,
    /// The directory or the file; by default the session directory.
    #[serde(default)]
    pub path: Option<String>,
    /// A glob of the files to search: of names at any depth if it has no slash, and otherwise
    /// relative to `path`.
    #[serde(default)]
    pub glob: Option<String>,
    /// True if upper and lower case make no difference.
    #[serde(default)]
    pub ignore_case: bool,
    /// The number of lines before and after each match, at most 20.
    #[serde(default)]
    pub context: usize,
    /// The maximum number of lines that match, from 1 to 1,000; by default 100.
    #[serde(default)]
    pub limit: Option<usize>,
    /// True to search `.git` and the files that `.gitignore` excludes too.
    #[serde(default)]
    pub include_ignored: bool,
}

impl GrepOptions {
    /// Creates options that search all files for a regular expression.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), ..Self::default() }
    }
}

impl Session {
    /// Searches the files of the session, or of its `/tmp`, for a regular expression. Symlinks are
    /// not followed. Files that the policy hides from commands are left out.
    ///
    /// # Errors
    /// Returns [`ToolError::Path`] if the path leaves the session, [`ToolError::File`] if it does
    /// not exist, and [`ToolError::Failed`] for an invalid expression, glob or number, and if the
    /// path is that of a FIFO, a socket, a device or a file above 32 MiB.
    ///
    /// # Cancel safety
    /// Nothing changes. The search ends soon after the future is dropped.
    #[tracing::instrument(
        name = "execute_tool",
        skip_all,
        fields(gen_ai.tool.name = NAME, gen_ai.conversation.id = %self.id())
    )]
    pub async fn search_files(&self, options: &GrepOptions) -> Result<FoundLines, ToolError> {
        let redact = self.settings.redact;
        self.run(SearchFiles { options: Cow::Borrowed(options), redact }).await
    }
}

impl LocalSession {
    pub(crate) async fn search_files(
        &self,
        call: SearchFiles<'_>,
    ) -> Result<FoundLines, ToolError> {
        let turn = self.begin().await?;
        let options = call.options.into_owned();
        let limit = options.limit.unwrap_or(USUAL_LINES);
        if !(1..=MAX_LINES).contains(&limit) {
            return Err(failed(format!("limit must be from 1 to {MAX_LINES}")));
        }
        if options.context > MAX_CONTEXT {
            return Err(failed(format!("context must be at most {MAX_CONTEXT}")));
        }
        let expression = Expression::compile(&options)?;
        let glob = options.glob.as_deref().map(|glob| parse_file_glob(NAME, glob)).transpose()?;
        let tree = self.tree(NAME, options.path.as_deref().unwrap_or("."))?;
        let selection =
            if options.include_ignored { Selection::All } else { Selection::NotIgnored };
        let loadout = call.redact.then(|| self.variables.current());
        let cancelled = Cancelled::default();
        let flag = cancelled.flag();
        let found = blocking(move || {
            let redactor = loadout.as_ref().map(|loadout| &*loadout.redactor);
            let redaction = Redaction::new(redactor);
            let mut search = Search::new(&expression, options.context, limit, redaction);
            if let Some((relative, shown)) = tree.single_file()? {
                let Some(file) = tree.open(&relative) else {
                    return Err(failed(format!("the session's policy denies reading {shown}")));
                };
                let read = read_open(&file, relative.as_ref(), MAX_FILE_BYTES);
                let content = read.map_err(|source| too_large(&shown, source))?;
                search.file(&shown, &content);
                return Ok(search.finish(Some(&shown)));
            }
            let is_match = |entry: &TreeEntry<'_>| {
                let path = entry.entry.path;
                entry.entry.kind == EntryKind::File
                    && entry.relative.is_some()
                    && glob.as_ref().is_none_or(|glob| glob.is_match(path))
            };
            let mut is_matched = false;
            let end = tree.walk(selection, &flag, |entry| {
                let Some(relative) = entry.relative.as_ref().filter(|_| is_match(&entry)) else {
                    return Walk::Enter;
                };
                is_matched = true;
                if entry.entry.size > MAX_FILE_BYTES {
                    search.pass_large();
                } else if let Some(file) = tree.open(relative)
                    && let Ok(content) = read_open(&file, relative.as_ref(), MAX_FILE_BYTES)
                {
                    search.file(&entry.shown, &content);
                }
                if search.is_full() { Walk::Stop } else { Walk::Enter }
            })?;
            let mut found = search.finish(None);
            found.unmatched_glob = options.glob.filter(|_| !is_matched);
            if found.unmatched_glob.is_some() && !options.include_ignored && end.is_none() {
                let visited = tree.walk(Selection::All, &flag, |entry| match is_match(&entry) {
                    true => Walk::Stop,
                    false => Walk::Enter,
                })?;
                let is_ignored = visited == Some(EarlyEnd::Stopped);
                found.notes.extend(is_ignored.then(|| IGNORED.to_owned()));
            }
            found.notes.extend(end.and_then(|end| end.note()));
            Ok(found)
        });
        let found = found.await??;
        match turn.confirm().await {
            Ok(_) => Ok(found),
            Err(error) => Err(self.sync_failed(error).await),
        }
    }
}

fn failed(problem: String) -> ToolError {
    ToolError::Failed { tool: NAME, problem }
}

/// Returns the error of reading a file that the input names.
fn too_large(path: &str, source: FileError) -> ToolError {
    match source {
        FileError::TooLarge { size, .. } => failed(format!(
            "{path} has {size} bytes, and files of at most 32 MiB are searched; use bash with grep"
        )),
        source => ToolError::File { source },
    }
}
