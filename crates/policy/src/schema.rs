//! The JSON Schema of the settings, made from their types.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::config::SandboxRuntimeConfig;

impl SandboxRuntimeConfig {
    /// Returns the JSON Schema (draft 7) of the settings, for editors.
    ///
    /// It knows every key, its type, and simple limits. It rejects nothing that
    /// [`from_json`](Self::from_json) and [`validate`](Self::validate) accept. The grammar of
    /// domains and the rules between settings are checked by `validate` alone.
    pub fn json_schema() -> String {
        let settings = SchemaSettings::draft07().with_transform(RecursiveTransform(without_null));
        let mut schema = settings.into_generator().into_root_schema_for::<Self>();
        schema.insert("title".to_owned(), "Settings of sandbox-runtime 0.0.83".into());
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    }
}

/// Removes `null`: an optional key may be absent, but not null.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [only] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.insert("allOf".to_owned(), Value::Array(vec![only]));
        }
    }
    // The widths of Rust's integers are no formats that editors know.
    schema.remove("format");
}
