//! The placeholders of a session's masked variables in its state. A program may have kept one in a
//! file, such as the configuration of git, so they outlive the process that has the session open.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use secrets::Masks;

use crate::home::{StateDir, write_to_disk};

/// The name of the file, an object with a placeholder for each name.
const FILE: &str = "placeholders.json";

/// The file with the placeholders of one session.
#[derive(Debug)]
pub(crate) struct Placeholders {
    path: PathBuf,
}

impl Placeholders {
    pub(crate) fn in_state(state: &StateDir) -> Self {
        Self { path: state.path().join(FILE) }
    }

    /// Returns the placeholders of earlier processes. A file that cannot be read has none.
    pub(super) fn load(&self) -> Masks {
        let read = || {
            let text = std::fs::read_to_string(&self.path).ok()?;
            serde_json::from_str::<BTreeMap<String, String>>(&text).ok()
        };
        Masks::with_placeholders(read().unwrap_or_default())
    }

    /// Writes the placeholders if there are others than before. Returns a warning if that fails.
    pub(super) fn keep(&self, before: &Masks, now: &Masks) -> Option<String> {
        if now.placeholders().eq(before.placeholders()) {
            return None;
        }
        let cause = self.write(now).err()?;
        Some(format!(
            "the placeholders of masked variables change when the session closes: {cause}"
        ))
    }

    fn write(&self, masks: &Masks) -> io::Result<()> {
        let placeholders: BTreeMap<&str, &str> = masks.placeholders().collect();
        let text = serde_json::to_string(&placeholders)?;
        let staged = self.path.with_extension("json.new");
        write_to_disk(&staged, &text).and_then(|()| std::fs::rename(&staged, &self.path))
    }
}

#[cfg(test)]
mod tests {
    use sandbox_core::SessionId;
    use secrets::Mask;

    use super::*;
    use crate::home::Home;

    #[test]
    fn placeholders_outlive_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let state = StateDir::create(&home, &SessionId::parse("s").unwrap()).unwrap();
        let open = || Placeholders::in_state(&state);
        let mask = || Mask::new("KEY", "a value of some length".into(), ["a.example"]);
        let before = open().load();
        let masks = before.renewed([mask()]).unwrap();
        assert_eq!(open().keep(&before, &masks), None);
        let again = open().load().renewed([mask()]).unwrap();
        assert_eq!(again.placeholder("KEY"), masks.placeholder("KEY"));
        std::fs::write(state.path().join(FILE), "damaged").unwrap();
        assert_eq!(open().load().placeholders().count(), 0);
        let nowhere = Placeholders { path: dir.path().join("absent/file") };
        assert!(nowhere.keep(&before, &masks).unwrap().contains("No such file"));
    }
}
