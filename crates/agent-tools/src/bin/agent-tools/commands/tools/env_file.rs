//! Files of variables, whose values appear neither in a list of processes nor in a log.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Failure;
use crate::stdin;

/// The name of standard input.
pub(super) const STDIN: &str = "-";

/// Reads variables from a file, which has a JSON object of names and values.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let (shown, bytes) = if path == Path::new(STDIN) {
        ("standard input".into(), stdin::read("the variables")?)
    } else {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::not_run_text(format!("cannot read {shown}: {error}")))?;
        (shown, bytes)
    };
    let variables: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|error| {
        // The error's own text may show a value.
        let line = error.line();
        Failure::usage(format!(
            "{shown} of --env-file is no JSON object of names and texts, such as \
             {{\"NAME\": \"value\"}} (line {line})"
        ))
    })?;
    Ok(variables.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("variables");
        for content in ["[\"hunter2\"]", "\"hunter2\"", "{\"A\": [\"hunter2\"]}", "A=hunter2"] {
            std::fs::write(&path, content).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(!failure.message().contains("hunter2"), "{}", failure.message());
            assert!(failure.message().contains("JSON object"), "{}", failure.message());
        }
        std::fs::write(&path, "{\"B\": \"a\\nb\", \"A\": \"\"}").unwrap();
        let expected = [("A".into(), String::new()), ("B".into(), "a\nb".into())];
        assert_eq!(read(&path).unwrap(), expected);
    }
}
