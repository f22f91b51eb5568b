//! Objects that have the number of an entry far behind the end of the log.
//!
//! Entries are consecutive, but collected garbage leaves gaps, and a damaged entry looks like an
//! object of another program. So a log that ends with such an object is refused: it may have been
//! the newest snapshot. Only a person knows who wrote it.

use crate::log::store::{LogStore, ReadError, StoredEntry};

/// Objects that are read to find out whether all of them are unknown.
const MOST_READ: usize = 32;

impl LogStore {
    /// Reads the last of the listed entries. Returns `None` if it is gone or nothing was listed.
    pub(crate) async fn read_last(
        &self,
        numbers: Vec<u64>,
    ) -> Result<Option<StoredEntry>, ReadError> {
        let Some(last) = numbers.last() else { return Ok(None) };
        match self.read(*last).await {
            Err(error) => Err(self.explain_end(&numbers, error).await),
            stored => stored,
        }
    }

    /// Returns the error for a log whose end cannot be read. If the last objects follow a gap and
    /// are no entries, or a single one does not continue the log, it names the last one.
    pub(crate) async fn explain_end(&self, numbers: &[u64], error: ReadError) -> ReadError {
        let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        let (before, run) = numbers.split_at(gap.map_or(0, |gap| gap + 1));
        let end = before.last().copied().unwrap_or(0);
        if run.first() == Some(&1) {
            return error;
        }
        let problem = match (&error, run) {
            (ReadError::Missing { .. }, [_]) => "does not continue it",
            (ReadError::Entry { .. }, run) if self.has_no_entry(run).await => "is no entry",
            _ => return error,
        };
        let last = run.last().copied().unwrap_or(end);
        ReadError::Stray { key: self.entry_key(last).to_string(), end, problem }
    }

    async fn has_no_entry(&self, numbers: &[u64]) -> bool {
        for number in numbers.iter().take(MOST_READ) {
            match self.read(*number).await {
                // An entry of a newer version of the program is no object of another one.
                Err(ReadError::Entry { is_newer: false, .. }) => {}
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;

    use super::*;
    use crate::log::entry::append_checksummed;

    #[tokio::test]
    async fn an_entry_of_a_newer_format_is_none_of_another_program() {
        let log = LogStore::new(Arc::new(InMemory::new()), Key::from("logs/user_u/s"));
        let mut newer = Vec::new();
        append_checksummed(&mut newer, &serde_json::json!({ "format": 99 }));
        for (content, is_stray) in [(newer, false), (b"not an entry".to_vec(), true)] {
            log.store().put(&log.entry_key(57), content.into()).await.unwrap();
            let error = log.read_last(vec![3, 57]).await.unwrap_err();
            assert_eq!(matches!(error, ReadError::Stray { end: 3, .. }), is_stray, "{error:?}");
        }
    }
}
