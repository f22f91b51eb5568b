//! Matches of several forms as places without overlaps.

use std::cmp::Reverse;

/// A form of a secret in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Index of the name.
    pub(super) owner: usize,
}

/// Merges overlapping matches, and sorts all of them. A merged match has the owner of the match
/// that starts first; of several, that of the longest.
pub(super) fn merge(found: &mut [Match]) -> Vec<Match> {
    found.sort_unstable_by_key(|one| (one.start, Reverse(one.end), one.owner));
    let mut merged: Vec<Match> = Vec::new();
    for one in found.iter() {
        match merged.last_mut() {
            Some(last) if one.start < last.end => last.end = last.end.max(one.end),
            _ => merged.push(*one),
        }
    }
    merged
}
