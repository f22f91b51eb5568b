//! The schemas of the tools for processes.

use serde_json::{Value, json};

use crate::tools::definition::{object_schema, output_schema};

pub(super) fn start_input() -> Value {
    object_schema(
        &json!({
            "command": { "type": "string", "description": "The bash command to start" },
            "cwd": {
                "type": "string",
                "description": "The working directory as commands name it",
            },
            "timeoutMs": {
                "type": "integer",
                "minimum": 1,
                "description": "How long the process may run, in milliseconds",
            },
        }),
        &["command"],
    )
}

pub(super) fn read_input() -> Value {
    object_schema(
        &json!({
            "processId": process_id(),
            "input": {
                "type": "string",
                "description": "Text for the standard input; a line needs its line break",
            },
            "endInput": {
                "type": "boolean",
                "description": "Whether the standard input ends after this text",
            },
            "waitMs": {
                "type": "integer",
                "minimum": 0,
                "description": "How long to wait for output, in milliseconds; 1000 by default",
            },
        }),
        &["processId"],
    )
}

pub(super) fn stop_input() -> Value {
    object_schema(
        &json!({
            "processId": process_id(),
            "signal": {
                "type": "string",
                "enum": ["TERM", "INT", "KILL"],
                "description": "The signal that the process gets first; TERM by default",
            },
        }),
        &["processId"],
    )
}

pub(super) fn output() -> Value {
    output_schema(
        &json!({
            "processId": process_id(),
            "output": { "type": "string", "description": "The output since the last call" },
            "omittedBytes": { "type": "integer", "minimum": 0 },
            "remainingBytes": { "type": "integer", "minimum": 0 },
            "redacted": { "type": "array", "items": { "type": "string" } },
            "isRunning": { "type": "boolean" },
            "exitCode": { "type": "integer" },
            "result": { "type": "object" },
            "note": { "type": "string" },
            "error": { "type": "string" },
        }),
        &["processId", "output", "isRunning"],
    )
}

fn process_id() -> Value {
    json!({ "type": "string", "description": "The id that startProcess has returned" })
}
