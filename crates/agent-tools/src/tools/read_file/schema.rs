//! The schemas of the tool `readFile`.

use serde_json::{Value, json};

use crate::tools::definition::{object_schema, output_schema};

pub(super) fn input() -> Value {
    let number = |minimum: u32, description: &str| {
        let kind = "integer";
        json!({ "type": kind, "minimum": minimum, "description": description })
    };
    object_schema(
        &json!({
            "path": { "type": "string", "description": "The path to the file to read" },
            "startLine": number(1, "The first line to read, counted from 1"),
            "endLine": number(1, "The last line to read"),
            "startByte": number(0, "The first byte to read, counted from 0, instead of lines"),
            "endByte": number(1, "The byte before which to stop"),
        }),
        &["path"],
    )
}

pub(super) fn output() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    output_schema(
        &json!({
            "content": {
                "type": "string",
                "description": "Text, or base64 if encoding says so; empty for an image",
            },
            "encoding": { "enum": ["base64"] },
            "mediaType": { "type": "string" },
            "totalLines": count,
            "totalBytes": count,
            "nextLine": {
                "type": "integer",
                "minimum": 1,
                "description": "The first line of the rest, if not all is shown",
            },
            "nextByte": {
                "type": "integer",
                "minimum": 0,
                "description": "The first byte of the rest, if not all is shown",
            },
            "redacted": { "type": "array", "items": { "type": "string" } },
            "unconfirmed": { "type": "string" },
        }),
        &["content"],
    )
}
