//! Warnings about variables that a session has reported, so that its next opening does not repeat
//! them.

use std::collections::BTreeSet;

use super::state::SessionState;

/// The name of the file with the warnings. They name variables, and have no values.
const REPORTED: &str = "reported.json";

impl SessionState {
    /// Returns the warnings that the last opening did not have, and records all of them. One whose
    /// cause was away in between is returned again.
    ///
    /// Without a usable record, all are returned.
    pub(crate) fn unreported(&self, warnings: Vec<String>) -> Vec<String> {
        let path = self.dir().path().join(REPORTED);
        let known: Option<BTreeSet<String>> =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let known = known.unwrap_or_default();
        let current: BTreeSet<String> = warnings.iter().cloned().collect();
        if current != known
            && let Ok(text) = serde_json::to_vec(&current)
        {
            // The next opening repeats what could not be recorded.
            let _ = std::fs::write(&path, text);
        }
        warnings.into_iter().filter(|warning| !known.contains(warning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use sandbox_core::SessionId;

    use crate::home::{Home, SessionState};

    #[test]
    fn a_warning_is_new_until_it_was_reported_and_after_it_was_away() {
        let dir = tempfile::tempdir().unwrap();
        let id = SessionId::parse("s").unwrap();
        let state = SessionState::try_lock(&Home::new(dir.path()), &id).unwrap().unwrap();
        let unreported = |warnings: &[&str]| {
            state.unreported(warnings.iter().map(|warning| (*warning).to_owned()).collect())
        };
        assert_eq!(unreported(&["a", "b"]), ["a", "b"]);
        assert_eq!(unreported(&["b", "c"]), ["c"]);
        assert_eq!(unreported(&["a", "b", "c"]), ["a"]);
        assert!(unreported(&["a", "b", "c"]).is_empty());
        std::fs::write(state.dir().path().join(super::REPORTED), "damaged").unwrap();
        assert_eq!(unreported(&["a"]), ["a"]);
    }
}
