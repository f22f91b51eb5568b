//! The schemas of the tool `bash`.

use serde_json::{Value, json};

use crate::tools::definition::{object_schema, output_schema};

pub(super) fn input() -> Value {
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

pub(super) fn output() -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let count = json!({ "type": "integer", "minimum": 0 });
    let notes = json!({ "type": "array", "items": { "type": "object" } });
    let text = json!({ "type": "string" });
    let artifact = json!({
        "type": "object",
        "properties": {
            "path": text, "relativePath": text, "key": text, "url": text, "entry": count,
        },
        "required": ["path", "relativePath"],
    });
    output_schema(
        &json!({
            "stdout": {
                "type": "string",
                "description": "Standard output, followed by the links of changed files",
            },
            "ownStdout": {
                "type": "string",
                "description": "Standard output without the links, if stdout has links",
            },
            "stderr": text,
            "stdoutFile": {
                "type": "string",
                "description": "A file with all of standard output, if stdout is shortened",
            },
            "stderrFile": text,
            "stdoutOmitted": count,
            "stderrOmitted": count,
            "exitCode": { "type": "integer" },
            "artifacts": { "type": "array", "items": artifact },
            "artifactsOmitted": count,
            "removed": texts,
            "removedOmitted": count,
            "timedOut": { "type": "boolean" },
            "timeLimitMs": count,
            "limitReached": text,
            "killed": texts,
            "hint": text,
            "denied": notes,
            "pending": notes,
            "pendingOmitted": count,
            "stillPending": count,
            "conflicts": notes,
            "skipped": notes,
            "skippedOmitted": count,
            "entry": count,
            "unconfirmed": text,
            "redacted": texts,
            "warnings": texts,
        }),
        &["stdout", "stderr", "exitCode", "artifacts"],
    )
}
