//! Search for many byte strings in one pass over a stream (Aho and Corasick, 1975).

use zeroize::Zeroize as _;

const ROOT: u32 = 0;

/// A state: a node in the trie of all patterns. It stands for the longest beginning of a pattern
/// with which the text ends.
#[derive(Clone)]
struct Node {
    /// Children, sorted by byte.
    edges: Vec<(u8, u32)>,
    /// Node of the longest proper suffix that is also the beginning of a pattern.
    fallback: u32,
    depth: u32,
    /// Longest pattern that ends here.
    found: Option<Found>,
}

/// A pattern that ends at the current position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Length in bytes.
    pub(super) length: usize,
    /// Number of its owner.
    pub(super) owner: usize,
}

/// An automaton that finds a set of patterns.
#[derive(Clone)]
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// Children of the root by byte. Most text never leaves the root.
    root: [u32; 256],
}

impl Automaton {
    /// Builds an automaton from patterns with the numbers of their owners. No pattern may be empty.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = (&'a [u8], usize)>) -> Self {
        let mut automaton = Self { nodes: vec![Node::at(0)], root: [ROOT; 256] };
        for (pattern, owner) in patterns {
            automaton.add(pattern, owner);
        }
        for &(byte, child) in &automaton.nodes[0].edges {
            automaton.root[usize::from(byte)] = child;
        }
        automaton.link();
        automaton
    }

    fn add(&mut self, pattern: &[u8], owner: usize) {
        let mut at = ROOT;
        for &byte in pattern {
            at = match self.child(at, byte) {
                Ok(child) => child,
                Err(place) => {
                    let child = u32::try_from(self.nodes.len())
                        .expect("patterns have fewer than 2^32 bytes");
                    let depth = self.nodes[at as usize].depth + 1;
                    self.nodes.push(Node::at(depth));
                    self.nodes[at as usize].edges.insert(place, (byte, child));
                    child
                }
            };
        }
        self.nodes[at as usize].found.get_or_insert(Found { length: pattern.len(), owner });
    }

    /// Sets the fallbacks, level by level, because a fallback depends on shallower ones.
    fn link(&mut self) {
        let mut level: Vec<u32> = self.nodes[0].edges.iter().map(|&(_, child)| child).collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            for at in level {
                for place in 0..self.nodes[at as usize].edges.len() {
                    let (byte, child) = self.nodes[at as usize].edges[place];
                    let fallback = self.step(self.nodes[at as usize].fallback, byte);
                    let inherited = self.nodes[fallback as usize].found;
                    let node = &mut self.nodes[child as usize];
                    node.fallback = fallback;
                    node.found = node.found.or(inherited);
                    next.push(child);
                }
            }
            level = next;
        }
    }

    fn child(&self, at: u32, byte: u8) -> Result<u32, usize> {
        let edges = &self.nodes[at as usize].edges;
        edges.binary_search_by_key(&byte, |&(byte, _)| byte).map(|place| edges[place].1)
    }

    /// Returns the state after one more byte. The initial state is `0`.
    pub(super) fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            if at == ROOT {
                return self.root[usize::from(byte)];
            }
            if let Ok(child) = self.child(at, byte) {
                return child;
            }
            at = self.nodes[at as usize].fallback;
        }
    }

    /// Returns the number of last bytes that can be the beginning of a pattern.
    pub(super) fn depth(&self, at: u32) -> usize {
        self.nodes[at as usize].depth as usize
    }

    /// Returns the longest pattern that ends in this state.
    pub(super) fn found(&self, at: u32) -> Option<Found> {
        self.nodes[at as usize].found
    }
}

impl Node {
    fn at(depth: u32) -> Self {
        Self { edges: Vec::new(), fallback: ROOT, depth, found: None }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for (byte, _) in &mut self.edges {
            byte.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(patterns: &[&str], text: &str) -> Vec<(usize, Found)> {
        let automaton =
            Automaton::new(patterns.iter().enumerate().map(|(owner, one)| (one.as_bytes(), owner)));
        let mut at = ROOT;
        let mut ends = Vec::new();
        for (place, &byte) in text.as_bytes().iter().enumerate() {
            at = automaton.step(at, byte);
            ends.extend(automaton.found(at).map(|found| (place + 1, found)));
        }
        ends
    }

    #[test]
    fn overlapping_patterns_are_found_at_their_ends() {
        let found = ends(&["he", "she", "his", "hers"], "ushers");
        assert_eq!(found, [(4, Found { length: 3, owner: 1 }), (6, Found { length: 4, owner: 3 })]);
    }

    #[test]
    fn a_pattern_inside_another_is_found_if_the_longer_one_does_not_match() {
        assert_eq!(ends(&["abcd", "bc"], "abce"), [(3, Found { length: 2, owner: 1 })]);
    }
}
