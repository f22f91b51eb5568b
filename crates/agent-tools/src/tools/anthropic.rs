//! The tools of Anthropic's `agent_toolset_20260401`, by their names and inputs there, on top of
//! the tools of a session.

mod words;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::call::ToolContent;
use super::definition::{Definition, object_schema, parse, result};
use super::list_files::{FindOptions, FindOrder};
use super::{bash, edit_file, grep, list_files, path_rules, read_file, write_file};
use crate::tool_error::ToolError;

/// The number of files that `glob` lists.
const MAX_FILES: usize = 1_000;

pub(super) const DEFINITIONS: &[Definition] = &[BASH, READ, WRITE, EDIT, GLOB, GREP];

const BASH: Definition = Definition {
    input_schema: || {
        object_schema(
            &json!({
                "command": {
                    "type": "string",
                    "description": "The command to run; left out only with restart",
                },
                "restart": {
                    "type": "boolean",
                    "description": "Changes nothing, because each command has a new shell",
                },
                "timeout_ms": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "How long the command may run, in milliseconds; 0 is the usual \
                                    time",
                },
            }),
            &[],
        )
    },
    output_schema: || {
        let mut schema = (bash::DEFINITION.output_schema)();
        // The answer to `restart` has no output.
        schema["required"] = json!([]);
        schema
    },
    call: |session, input, options| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let BashInput { command, restart, timeout_ms } = parse("bash", input)?;
            let Some(command) = command else {
                if restart == Some(true) {
                    let text = "nothing to restart: each command starts in a new shell";
                    return result(&json!({}), ToolContent::text(text.to_owned()));
                }
                return Err(failed("bash", "give `command`, or `restart`"));
            };
            let mut input = json!({ "command": command });
            if let Some(timeout) = timeout_ms.filter(|timeout| *timeout > 0) {
                input["timeoutMs"] = json!(timeout);
            }
            let called = (bash::DEFINITION.call)(session, input, options).await;
            called.map_err(|error| words::of_error("bash", error, &own))
        })
    },
    ..bash::DEFINITION
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BashInput {
    command: Option<String>,
    restart: Option<bool>,
    timeout_ms: Option<u64>,
}

const READ: Definition = Definition {
    name: "read",
    input_schema: || {
        object_schema(
            &json!({
                "file_path": file_path(),
                "view_range": {
                    "type": "array",
                    "items": { "type": "integer" },
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "The first and the last line, counted from 1; a last line below \
                                    1 is the end of the file",
                },
            }),
            &["file_path"],
        )
    },
    call: |session, input, options| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let ReadInput { file_path, view_range } = parse("read", input)?;
            let mut input = json!({ "path": file_path });
            if let Some((first, last)) = view_range {
                let first = u64::try_from(first).ok().filter(|first| *first > 0);
                input["startLine"] =
                    json!(first.ok_or_else(|| failed("read", "view_range begins with 1"))?);
                if last > 0 {
                    input["endLine"] = json!(last);
                }
            }
            let called = (read_file::DEFINITION.call)(session, input, options).await;
            called.map(words::of_part).map_err(|error| words::of_error("read", error, &own))
        })
    },
    describe: |surroundings| {
        format!(
            "Read a file of the session. {} At most 30000 characters are shown; the result then \
             says at which line to continue with view_range. Content that is neither text nor an \
             image comes back as base64.",
            path_rules(surroundings)
        )
    },
    ..read_file::DEFINITION
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadInput {
    file_path: String,
    view_range: Option<(i64, i64)>,
}

const WRITE: Definition = Definition {
    name: "write",
    input_schema: || {
        object_schema(
            &json!({
                "file_path": file_path(),
                "content": { "type": "string", "description": "The whole content of the file" },
            }),
            &["file_path", "content"],
        )
    },
    call: |session, input, options| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let fields = [("file_path", "path"), ("content", "content")];
            let input = renamed("write", input, &fields)?;
            let called = (write_file::DEFINITION.call)(session, input, options).await;
            called.map_err(|error| words::of_error("write", error, &own))
        })
    },
    ..write_file::DEFINITION
};

const EDIT: Definition = Definition {
    name: "edit",
    describe: |surroundings| {
        format!(
            "Replace a text in a file of the session. old_string must be exactly the text of the \
             file, with its indentation, and occur once, unless replace_all is set. A text that a \
             result shows as [redacted:NAME] cannot be replaced. {}",
            path_rules(surroundings)
        )
    },
    input_schema: || {
        object_schema(
            &json!({
                "file_path": file_path(),
                "old_string": { "type": "string", "description": "The text to replace" },
                "new_string": { "type": "string", "description": "The text to put in its place" },
                "replace_all": {
                    "type": "boolean",
                    "description": "Replace every occurrence, instead of the only one",
                },
            }),
            &["file_path", "old_string", "new_string"],
        )
    },
    call: |session, input, options| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let fields = [
                ("file_path", "path"),
                ("old_string", "oldString"),
                ("new_string", "newString"),
                ("replace_all", "replaceAll"),
            ];
            let input = renamed("edit", input, &fields)?;
            let called = (edit_file::DEFINITION.call)(session, input, options).await;
            called.map_err(|error| words::of_error("edit", error, &own))
        })
    },
    ..edit_file::DEFINITION
};

const GLOB: Definition = Definition {
    name: "glob",
    describe: |surroundings| {
        format!(
            "List the files of the session whose paths match a glob such as **/*.rs, those that \
             changed last first. {}",
            path_rules(surroundings)
        )
    },
    input_schema: || search_schema("The glob, relative to path"),
    call: |session, input, _| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let SearchInput { pattern, path } = parse("glob", input)?;
            let options = FindOptions {
                pattern: Some(pattern),
                path,
                order: FindOrder::Newest,
                limit: Some(MAX_FILES),
                ..FindOptions::default()
            };
            let found = session.find_files(&options).await;
            let found = found.map_err(|error| words::of_error("glob", error, &own))?;
            result(&found, ToolContent::text(found.text()))
        })
    },
    ..list_files::DEFINITION
};

const GREP: Definition = Definition {
    input_schema: || search_schema("The regular expression, in the syntax of ripgrep"),
    call: |session, input, options| {
        Box::pin(async move {
            let own = words::Own::of(&input);
            let fields = [("pattern", "pattern"), ("path", "path")];
            let input = renamed("grep", input, &fields)?;
            let called = (grep::DEFINITION.call)(session, input, options).await;
            called.map(words::of_search).map_err(|error| words::of_error("grep", error, &own))
        })
    },
    ..grep::DEFINITION
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchInput {
    pattern: String,
    path: Option<String>,
}

fn file_path() -> Value {
    json!({ "type": "string", "description": "The path of the file" })
}

fn search_schema(pattern: &str) -> Value {
    object_schema(
        &json!({
            "pattern": { "type": "string", "description": pattern },
            "path": {
                "type": "string",
                "description": "The directory to search; by default the session directory",
            },
        }),
        &["pattern"],
    )
}

/// Renames the fields of an input; another field is an error, like that of a derived parser.
fn renamed(tool: &'static str, input: Value, fields: &[(&str, &str)]) -> Result<Value, ToolError> {
    let input: Map<String, Value> = parse(tool, input)?;
    let mut output = Map::new();
    for (name, value) in input {
        let Some((_, new)) = fields.iter().find(|(old, _)| *old == name) else {
            let names: Vec<String> = fields.iter().map(|(old, _)| format!("`{old}`")).collect();
            let names = names.join(", ");
            let problem = format!("unknown field `{name}`, expected one of {names}");
            let source = serde_json::Error::custom(problem);
            return Err(ToolError::Input { tool, source });
        };
        output.insert((*new).to_owned(), value);
    }
    Ok(Value::Object(output))
}

fn failed(tool: &'static str, problem: &str) -> ToolError {
    ToolError::Failed { tool, problem: problem.to_owned() }
}
