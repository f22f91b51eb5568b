//! Migration of a working copy that version 0.1 kept.

use std::io;
use std::path::{Path, PathBuf};

use crate::scan::RecordedSignature;
use crate::state::entry::Stage;
use crate::state::former::{FormerIndex, FormerRecord, sync_names};
use crate::state::ledger::Ledger;

impl Ledger {
    /// Records that the working copy of version 0.1 is migrated, and deletes its index. The error
    /// names the path.
    pub(crate) fn end_migration(&mut self) -> Result<(), (PathBuf, io::Error)> {
        self.set_stage(Stage::Open);
        let path = self.journal.path.clone();
        let dir = path.parent().unwrap_or(Path::new(""));
        if self.outdated.is_some() {
            self.compact();
        }
        if self.outdated.is_some() {
            return Err((path, io::Error::other("it cannot be replaced")));
        }
        self.journal
            .sync()
            .and_then(|()| sync_names(dir))
            .map_err(|error| (path.clone(), error))?;
        FormerIndex::delete(dir).map_err(|error| (dir.to_owned(), error))
    }

    /// Assumes that the working copy holds the files as the index of version 0.1 describes them.
    /// The journal does not learn of it.
    pub(crate) fn assume(&mut self, index: &FormerIndex) {
        for (path, file) in &index.files {
            if let Some(FormerRecord::Stored { signature, .. }) = file.record {
                let recorded = RecordedSignature { signature, is_racy: false };
                self.local.entry(path.clone()).or_insert(recorded);
            }
        }
    }
}
