//! Revisions of sources, by which a change is noticed without a load.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// An opaque mark of a source's state at the time of a load.
///
/// Only equality has a meaning. A revision contains no part of a value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Revision(Vec<u8>);

impl Revision {
    /// Creates a revision from a mark, such as a version number of the caller's own source.
    pub fn new(mark: impl Into<Vec<u8>>) -> Self {
        Self(mark.into())
    }

    /// Returns the revision of a set of files: their identities, sizes and times. Returns `None` if
    /// the first one cannot be examined.
    pub(crate) fn of_files(paths: &[&Path]) -> Option<Self> {
        let mut mark = Vec::new();
        for (at, path) in paths.iter().enumerate() {
            match path.metadata() {
                Ok(found) => {
                    for number in [found.dev(), found.ino(), found.size()] {
                        mark.extend(number.to_le_bytes());
                    }
                    let times =
                        [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
                    mark.extend(times.into_iter().flat_map(i64::to_le_bytes));
                }
                Err(_) if at == 0 => return None,
                Err(_) => mark.push(0),
            }
        }
        Some(Self(mark))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revision").finish_non_exhaustive()
    }
}

/// Answer to the question whether a source has changed since a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed {
    /// The variables are the same.
    No,
    /// The variables may differ.
    Yes,
    /// The source cannot tell without a load. Callers load again after [`RELOAD_AFTER`].
    ///
    /// [`RELOAD_AFTER`]: crate::RELOAD_AFTER
    Unknown,
}
