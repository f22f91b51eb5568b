//! List of everything in a working copy whose store is lost, for a report before it is deleted.

use sandbox_core::SessionDir;

use crate::paths::relative;
use crate::report::Pending;
use crate::scan::{IgnoreRules, Ignored, Skipped, ignored, walk};

/// Content of a working copy without a copy in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files and symlinks that would be mirrored.
    pub files: Vec<Pending>,
    /// Files that cannot be mirrored.
    pub skipped: Vec<Skipped>,
    /// Ignored files and the topmost ignored directories.
    pub ignored: Vec<Ignored>,
}

impl Inventory {
    /// Lists a directory without the excluded name. Each file gets the `reason`. Blocks.
    pub fn of(dir: &SessionDir, rules: &IgnoreRules, excluded: &str, reason: &str) -> Self {
        let mut rules = rules.clone();
        rules.add_top_level(excluded.to_owned());
        let found = walk(dir, &rules, None);
        let files = found.files.iter().map(|entry| &entry.path);
        let paths = files.chain(found.symlinks.iter().map(|entry| &entry.path));
        let mut files: Vec<Pending> = paths
            .filter_map(|path| Some(Pending { path: relative(path)?, reason: reason.to_owned() }))
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files, skipped: found.skipped, ignored: ignored(dir, &rules) }
    }
}
