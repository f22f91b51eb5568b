//! Contents that the store has already.

use std::collections::{HashMap, HashSet};

use crate::log::{Content, FileVersion, Hash};
use crate::transfer::KnownContents;

/// Contents of file versions that the current state refers to, by hash.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Contents {
    by_hash: HashMap<Hash, Content>,
    sizes: HashSet<u64>,
}

impl Contents {
    pub(in crate::mirror) fn add(&mut self, file: &FileVersion) {
        self.by_hash.insert(file.hash, file.content.clone());
        self.sizes.insert(file.size);
    }

    pub(in crate::mirror) fn iter(&self) -> impl Iterator<Item = &Content> {
        self.by_hash.values()
    }
}

impl KnownContents for Contents {
    fn has_size(&self, size: u64) -> bool {
        self.sizes.contains(&size)
    }

    fn find(&self, hash: &Hash) -> Option<Content> {
        self.by_hash.get(hash).cloned()
    }
}
