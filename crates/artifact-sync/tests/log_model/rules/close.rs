//! Closing a session: rule 7.

use super::append::{self, LAST};
use super::{changes, retention};
use crate::settings::{Mutation, Setting};
use crate::state::{Line, Machine, Stage, State};

/// Returns whether everything is stored, so that the session may be closed.
pub(crate) fn can_close(setting: &Setting, state: &State, m: usize) -> bool {
    let machine = &state.machines[m];
    let early = setting.breaks(Mutation::CloseBeforeAcknowledgement);
    machine.stage == Stage::Ready
        && machine.listed
        && (early || machine.pending.is_none() && machine.out.is_empty())
        && (early || !changes::can_flush(state, m))
        && machine
            .base
            .iter()
            .flatten()
            .all(|file| file.blob.is_none_or(|blob| state.has_blob(blob, file.content)))
}

/// Appends the snapshot that releases the session.
pub(crate) fn close(setting: &Setting, state: &mut State, m: usize) {
    state.budget.closes -= 1;
    if setting.breaks(Mutation::CloseBeforeAcknowledgement) {
        let machine = &mut state.machines[m];
        let requests = std::mem::take(&mut machine.out);
        *machine = Machine::new(machine.process, machine.uploaded);
        machine.stage = Stage::Fenced;
        machine.out = requests;
        return;
    }
    let snapshot = retention::snapshot(setting, state, m);
    let number = state.machines[m].position;
    append::append(state, m, number, vec![Line::Snapshot(snapshot), Line::Release]);
}

/// Deletes the next path of the closed working copy, or the journal after the last one.
pub(crate) fn step(state: &mut State, m: usize) {
    let machine = &mut state.machines[m];
    let Stage::Closing(path) = machine.stage else { return };
    if path == LAST {
        *machine = Machine::new(machine.process, machine.uploaded);
    } else {
        machine.disk[path as usize] = 0;
        machine.stage = Stage::Closing(path + 1);
    }
}
