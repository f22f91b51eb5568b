//! Breadth-first search through all states.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::actions::{self, Action};
use crate::properties;
use crate::settings::Setting;
use crate::state::State;

/// Result of a search.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// No state violates a guarantee.
    Holds {
        states: usize,
        complete: bool,
    },
    Violated {
        states: usize,
        violation: String,
        trace: Vec<String>,
    },
}

/// Explores all states, or as many as the limit allows.
pub(crate) fn explore(setting: &Setting, limit: usize) -> Outcome {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let initial = State::new(setting);
    let mut known = HashSet::from([hasher.hash_one(&initial)]);
    // The first step of each state, and the state before it; the initial state has none.
    let mut steps: Vec<Option<(usize, Action)>> = vec![None];
    let mut queue = VecDeque::from([(0, initial)]);
    while let Some((index, state)) = queue.pop_front() {
        for action in actions::enabled(setting, &state) {
            let next = actions::step(setting, &state, action);
            if !known.insert(hasher.hash_one(&next)) {
                continue;
            }
            steps.push(Some((index, action)));
            if let Some(violation) = properties::violation(setting, &next) {
                let trace = trace(setting, &steps);
                return Outcome::Violated { states: steps.len(), violation, trace };
            }
            if steps.len() >= limit {
                return Outcome::Holds { states: steps.len(), complete: false };
            }
            queue.push_back((steps.len() - 1, next));
        }
    }
    Outcome::Holds { states: steps.len(), complete: true }
}

/// Returns the steps that lead to the newest state.
fn trace(setting: &Setting, steps: &[Option<(usize, Action)>]) -> Vec<String> {
    let mut path = Vec::new();
    let mut index = steps.len() - 1;
    while let Some((before, action)) = steps[index] {
        path.push(action);
        index = before;
    }
    let mut state = State::new(setting);
    let describe = |action| {
        let description = actions::describe(&state, action);
        state = actions::step(setting, &state, action);
        description
    };
    path.into_iter().rev().map(describe).collect()
}
