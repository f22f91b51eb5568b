//! The three tools as a model sees them: names, descriptions, input schemas; and calls by name with
//! JSON.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::session::{BashOptions, LineRange, Session};
use crate::tool_error::ToolError;

/// The name of the tool that runs a command.
pub const BASH: &str = "bash";
/// The name of the tool that reads a file.
pub const READ_FILE: &str = "readFile";
/// The name of the tool that writes a file.
pub const WRITE_FILE: &str = "writeFile";

/// How many files of the session the description of `bash` names.
const FILES_NAMED: usize = 8;

/// A tool, described for a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tool {
    /// `bash`, `readFile` or `writeFile`.
    pub name: &'static str,
    /// What it does, for the model.
    pub description: String,
    /// The input as a JSON Schema (draft 07).
    pub input_schema: Value,
}

/// The tools of a session; `files` are paths in the session directory, and `instructions` an
/// embedder's own words.
pub(crate) fn describe(
    session_dir: &Path,
    files: &[String],
    instructions: Option<&str>,
) -> [Tool; 3] {
    [
        Tool {
            name: BASH,
            description: bash_description(session_dir, files, instructions),
            input_schema: bash_schema(),
        },
        Tool {
            name: READ_FILE,
            description: "Read a file of the session. Content that is not text comes back as base64.".to_owned(),
            input_schema: schema(
                &json!({
                    "path": { "type": "string", "description": "The path to the file to read" },
                    "startLine": { "type": "integer", "minimum": 1, "description": "The first line to read, counted from 1" },
                    "endLine": { "type": "integer", "minimum": 1, "description": "The last line to read" },
                }),
                &["path"],
            ),
        },
        Tool {
            name: WRITE_FILE,
            description: "Write a file of the session, replacing what was there. Missing directories are created."
                .to_owned(),
            input_schema: schema(
                &json!({
                    "path": { "type": "string", "description": "The path where the file should be written" },
                    "content": { "type": "string", "description": "The content to write to the file" },
                }),
                &["path", "content"],
            ),
        },
    ]
}

fn bash_schema() -> Value {
    schema(
        &json!({
            "command": { "type": "string", "description": "The bash command to execute" },
            "timeoutMs": { "type": "integer", "minimum": 1, "description": "How long the command may run, in milliseconds" },
        }),
        &["command"],
    )
}

fn schema(properties: &Value, required: &[&str]) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn bash_description(session_dir: &Path, files: &[String], instructions: Option<&str>) -> String {
    let mut text = format!(
        "Run a bash command in the session's sandbox and get its output, its exit code and links to the files it changed.\n\n\
         WORKING DIRECTORY: {dir}\n\
         Each command starts there, in a new shell: `cd` and variables do not last from one call to the next, files do. \
         Only this directory and /tmp can be written to, and there is no network.\n",
        dir = session_dir.display()
    );
    if !files.is_empty() {
        text.push_str("\nFiles there:\n");
        for file in files.iter().take(FILES_NAMED) {
            text.push_str(&format!("  {file}\n"));
        }
        if files.len() > FILES_NAMED {
            text.push_str(&format!("  and {} more\n", files.len() - FILES_NAMED));
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadFileInput {
    path: String,
    #[serde(default)]
    start_line: Option<usize>,
    #[serde(default)]
    end_line: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFileInput {
    path: String,
    content: String,
}

impl Session {
    /// Calls a tool by its name, with input shaped as its schema says; gives the tool's result
    /// object.
    ///
    /// # Errors
    /// [`ToolError::UnknownTool`], [`ToolError::Input`], and what the tool itself gives.
    ///
    /// # Cancel safety
    /// As that of the tool: dropping the future kills a running command.
    pub async fn call(&self, name: &str, input: Value) -> Result<Value, ToolError> {
        fn parse<T: serde::de::DeserializeOwned>(
            tool: &'static str,
            input: Value,
        ) -> Result<T, ToolError> {
            serde_json::from_value(input).map_err(|source| ToolError::Input { tool, source })
        }
        fn json(output: &impl serde::Serialize) -> Result<Value, ToolError> {
            serde_json::to_value(output).map_err(|source| ToolError::Output { source })
        }
        match name {
            BASH => {
                let input: BashInput = parse(BASH, input)?;
                let timeout = input.timeout_ms.map(Duration::from_millis);
                let options = BashOptions { timeout, ..BashOptions::default() };
                json(&self.bash_with(&input.command, options).await?)
            }
            READ_FILE => {
                let input: ReadFileInput = parse(READ_FILE, input)?;
                let range = match (input.start_line, input.end_line) {
                    (None, None) => None,
                    (first, last) => Some(LineRange { first: first.unwrap_or(1), last }),
                };
                json(&self.read_file_lines(&input.path, range).await?)
            }
            WRITE_FILE => {
                let input: WriteFileInput = parse(WRITE_FILE, input)?;
                json(&self.write_file(&input.path, input.content.as_bytes()).await?)
            }
            _ => Err(ToolError::UnknownTool { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_required_inputs_are_those_of_the_reference() {
        let tools = describe(Path::new("/s/1"), &[], None);
        let required =
            tools.each_ref().map(|tool| (tool.name, tool.input_schema["required"].to_string()));
        assert_eq!(
            required,
            [
                ("bash", r#"["command"]"#.to_owned()),
                ("readFile", r#"["path"]"#.to_owned()),
                ("writeFile", r#"["path","content"]"#.to_owned()),
            ]
        );
        assert!(tools.iter().all(|tool| tool.input_schema["additionalProperties"] == false));
    }

    #[test]
    fn the_description_names_eight_files_and_counts_the_rest() {
        let files: Vec<String> = (0..11).map(|n| format!("f{n}")).collect();
        let [bash, ..] = describe(Path::new("/s/1"), &files, Some("Speak French."));
        assert!(bash.description.contains("WORKING DIRECTORY: /s/1\n"));
        assert!(
            bash.description.contains("  f7\n  and 3 more\n") && !bash.description.contains("f8")
        );
        assert!(bash.description.ends_with("Speak French.\n"));
    }
}
