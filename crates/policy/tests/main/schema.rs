//! The JSON Schema beside the parser, by an evaluator of the keywords that it uses.

use policy::{ParseError, SandboxRuntimeConfig};
use serde_json::Value;

use crate::srt::generator::Generator;

/// Returns whether a value fulfils a schema.
fn fulfils(schema: &Value, value: &Value, root: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
    keywords.iter().all(|(keyword, argument)| {
        let matching =
            || argument.as_array().unwrap().iter().filter(|one| fulfils(one, value, root));
        let limit = || argument.as_f64().unwrap();
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" => true,
            // The parser does not judge the characters of a text.
            "pattern" => true,
            "$ref" => {
                let pointer = argument.as_str().unwrap().trim_start_matches('#');
                fulfils(root.pointer(pointer).unwrap(), value, root)
            }
            "anyOf" => matching().count() > 0,
            "oneOf" => matching().count() == 1,
            "allOf" => matching().count() == argument.as_array().unwrap().len(),
            "enum" => argument.as_array().unwrap().contains(value),
            "const" => argument == value,
            "type" => is_of_type(argument.as_str().unwrap(), value),
            "minimum" => value.as_f64().is_none_or(|number| number >= limit()),
            "maximum" => value.as_f64().is_none_or(|number| number <= limit()),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= limit()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= limit()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= limit()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= limit()),
            "required" => value.as_object().is_none_or(|object| {
                let mut keys = argument.as_array().unwrap().iter();
                keys.all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "properties" => value.as_object().is_none_or(|object| {
                object.iter().all(|(key, value)| {
                    argument.get(key).is_none_or(|schema| fulfils(schema, value, root))
                })
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let known = schema.get("properties");
                object.iter().all(|(key, value)| {
                    known.is_some_and(|known| known.get(key).is_some())
                        || fulfils(argument, value, root)
                })
            }),
            "items" => value.as_array().is_none_or(|items| match argument {
                Value::Array(schemas) => {
                    items.iter().zip(schemas).all(|(item, schema)| fulfils(schema, item, root))
                }
                schema => items.iter().all(|item| fulfils(schema, item, root)),
            }),
            other => panic!("the schema has the keyword {other}"),
        }
    })
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("the schema has the type {other}"),
    }
}

#[test]
fn the_schema_accepts_what_is_valid_and_rejects_what_the_parser_rejects() {
    let schema: Value = serde_json::from_str(&SandboxRuntimeConfig::json_schema()).unwrap();
    let mut generator = Generator::new(7);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..5_000 {
        let text = generator.settings();
        let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
        match SandboxRuntimeConfig::from_json(&text) {
            Ok(config) if config.validate().is_ok() => {
                accepted += 1;
                assert!(fulfils(&schema, &value, &schema), "{text}");
            }
            Err(ParseError::Value { problem, .. }) if problem == "is given twice" => {}
            Err(_) => {
                rejected += 1;
                assert!(!fulfils(&schema, &value, &schema), "{text}");
            }
            Ok(_) => {}
        }
    }
    assert!(accepted > 500 && rejected > 500, "{accepted} {rejected}");
}

#[test]
fn each_key_of_the_schema_has_a_description() {
    let schema: Value = serde_json::from_str(&SandboxRuntimeConfig::json_schema()).unwrap();
    let definitions = schema["definitions"].as_object().unwrap().values();
    let mut keys = 0;
    for object in definitions.chain([&schema]) {
        for (key, property) in object["properties"].as_object().into_iter().flatten() {
            keys += 1;
            assert!(property["description"].is_string(), "{key}");
        }
    }
    assert!(keys > 80, "{keys}");
}
