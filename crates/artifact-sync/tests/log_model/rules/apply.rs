//! Applying the log to the working copy: rule 5.

use super::append::LAST;
use crate::log;
use crate::settings::{Mutation, Setting};
use crate::state::{Content, PATHS, Stage, State, bit};

/// Applies the next path, or advances the position after the last one.
pub(crate) fn step(setting: &Setting, state: &mut State, m: usize) {
    let machine = &state.machines[m];
    let Stage::Applying(path, end) = machine.stage else { return };
    if !log::is_complete(setting, &state.log[..end as usize]) {
        // Another owner deleted entries that this process did not read yet, so it starts again.
        state.machines[m].stop(Stage::Off);
        return;
    }
    if path == LAST {
        advance(setting, state, m, end);
        let machine = &mut state.machines[m];
        machine.stage = Stage::Ready;
        machine.listed = !setting.projection;
    } else {
        apply(setting, state, m, path as usize, end);
        state.machines[m].stage = Stage::Applying(path + 1, end);
    }
}

/// Records the log up to a number as applied.
pub(crate) fn advance(setting: &Setting, state: &mut State, m: usize, end: u8) {
    let files = log::replay(setting, &state.log[..end as usize]).files;
    let machine = &mut state.machines[m];
    machine.base = files;
    machine.position = end;
    machine.restored = true;
    for path in 0..PATHS {
        if !machine.changed(path) {
            machine.dropped[path] = 0;
        }
    }
}

/// Makes a path of the working copy equal to the log, and keeps a changed file beside.
fn apply(setting: &Setting, state: &mut State, m: usize, path: usize, end: u8) {
    let log = &state.log[..end as usize];
    let current = log::replay(setting, log).files[path];
    let machine = &state.machines[m];
    let (target, disk) = (current.map_or(0, |file| file.content), machine.disk[path]);
    let (base, position) = (machine.base[path], machine.position);
    let missed_entries = log::oldest(setting, log) > position as usize
        && !setting.breaks(Mutation::KeepOldPositionsLive);
    let is_older = || {
        let lines = !setting.breaks(Mutation::CompareWithNetState);
        lines && log::versions(setting, log, path, position).any(|content| content == disk)
    };
    let local_only = disk != 0 && machine.changed(path) && disk != target;
    let (disk, beside) = if !machine.restored || !local_only {
        match current == base && machine.restored {
            // The path did not move in the log: a local removal stays to be appended.
            true => (disk, 0),
            false => (target, 0),
        }
    } else if is_older() {
        (target, 0)
    } else if missed_entries || current != base {
        (target, disk)
    } else {
        (disk, 0)
    };
    state.ledger.beside |= bit(beside);
    place(setting, state, m, path, disk);
}

/// Puts a content into the working copy.
pub(crate) fn place(setting: &Setting, state: &mut State, m: usize, path: usize, content: Content) {
    let machine = &mut state.machines[m];
    machine.disk[path] = content;
    let other = PATHS - 1 - path;
    if setting.nested && content != 0 && machine.disk[other] != 0 {
        // A working copy cannot hold both, so changed files above or below move aside.
        if machine.changed(other) {
            state.ledger.beside |= bit(machine.disk[other]);
        }
        machine.disk[other] = 0;
    }
}
