//! Ownership and appends: rule 2 and section 3.

use std::rc::Rc;

use super::{apply, changes, retention};
use crate::log;
use crate::settings::{Mutation, Setting};
use crate::state::{Entry, Line, Numbered, PATHS, Request, Stage, State, bit};

/// Starts a process, which reads the log and sends `own`.
pub(crate) fn open(setting: &Setting, state: &mut State, m: usize) {
    let number = state.end();
    let machine = &mut state.machines[m];
    let unanswered = machine.pending.take();
    machine.stop(Stage::Owning);
    machine.process += 1;
    machine.out.clear();
    if machine.closing {
        machine.stage = Stage::Closing(0);
    } else if let Some((number, entry)) = unanswered
        && setting.breaks(Mutation::ResendByNewProcess)
    {
        machine.stage = Stage::Ready;
        machine.pending = Some((number, entry));
        resend(state, m);
    } else {
        append(state, m, number, vec![Line::Own]);
    }
}

/// Sends a new entry under the number.
pub(crate) fn append(state: &mut State, m: usize, number: u8, lines: Vec<Line>) {
    let machine = &mut state.machines[m];
    let entry = log::entry(number, m, machine.process, lines);
    machine.pending = Some((number, entry));
    resend(state, m);
}

/// Sends the unanswered entry again, with its token.
pub(crate) fn resend(state: &mut State, m: usize) {
    let machine = &mut state.machines[m];
    if let Some((number, entry)) = machine.pending.clone() {
        machine.send(Request::Append(number, entry));
    }
}

/// Receives the answer to a request.
pub(crate) fn answer(
    setting: &Setting,
    state: &mut State,
    m: usize,
    request: &Request,
    accepted: bool,
) {
    let machine = &mut state.machines[m];
    if matches!(machine.stage, Stage::Off | Stage::Fenced) {
        return;
    }
    match request {
        Request::Append(number, entry) => {
            if counts(setting, state, m, *number, entry, accepted) {
                acknowledge(setting, state, m, *number, &entry.clone());
            } else if setting.breaks(Mutation::ContinueAfterForeignEntry)
                && state.machines[m].stage == Stage::Ready
            {
                append(state, m, number + 1, entry.lines.clone());
            } else {
                fence(state, m);
            }
        }
        Request::PutBlob(path, blob) => {
            machine.uploads[*path as usize] = Some((blob.content, blob.name, machine.epoch));
        }
        Request::Put(path, file, _) if accepted => {
            let path = *path as usize;
            let etag = state.objects[path].map(|object| object.version.etag);
            machine.seen[path] = etag.map(|etag| (file.token, etag));
        }
        Request::Delete(path, _) if accepted => machine.seen[*path as usize] = None,
        Request::Put(..) | Request::Delete(..) => machine.listed = false,
        Request::DeleteBlob(_) | Request::DeleteEntries(_) => {}
    }
}

/// Returns whether an answered append stored the entry in this machine's epoch.
fn counts(
    setting: &Setting,
    state: &mut State,
    m: usize,
    number: u8,
    entry: &Rc<Entry>,
    accepted: bool,
) -> bool {
    let is_last = number + 1 == state.end();
    let stored = match &state.log[number as usize] {
        Numbered::Entry(stored) => stored == entry,
        Numbered::Deleted | Numbered::Recreated(_) => false,
    };
    let machine = &mut state.machines[m];
    if setting.breaks(Mutation::TakeTakenNumberForOwn) {
        return true;
    }
    if accepted {
        let trusted = !machine.stale || setting.breaks(Mutation::TrustLateAnswers);
        machine.stale = false;
        trusted || stored && is_last
    } else {
        stored && is_last
    }
}

/// Ends a process that learned of another owner. The working copy stays.
pub(crate) fn fence(state: &mut State, m: usize) {
    let machine = &mut state.machines[m];
    let stage = if machine.stage == Stage::Owning { Stage::Off } else { Stage::Fenced };
    machine.stop(stage);
}

fn acknowledge(setting: &Setting, state: &mut State, m: usize, number: u8, entry: &Entry) {
    let machine = &mut state.machines[m];
    machine.pending = None;
    if machine.stage == Stage::Owning {
        machine.epoch = number;
        machine.stage = Stage::Applying(0, number + 1);
        return;
    }
    state.ledger.acknowledged_late |= log::owned_by_another(&state.log, m, machine.epoch, number);
    state.ledger.removed |=
        std::mem::take(&mut machine.sent_drops).iter().fold(0, |all, some| all | some);
    machine.position = number + 1;
    for line in &entry.lines {
        record(setting, state, m, line);
    }
    if state.machines[m].garbage.is_some() {
        retention::delete_garbage(setting, state, m, number);
    }
}

/// Records a line of an acknowledged entry in the journal, and changes the working copy with it.
fn record(setting: &Setting, state: &mut State, m: usize, line: &Line) {
    let machine = &mut state.machines[m];
    match line {
        Line::File(path, file) => {
            let path = *path as usize;
            let (disk, changed) = (machine.disk[path], machine.changed(path));
            machine.base[path] = Some(*file);
            machine.deletable[path] = false;
            machine.uploads[path] = None;
            if let Some(version) = file.adopted {
                machine.seen[path] = Some((file.token, version.etag));
                if changed && disk != file.content {
                    state.ledger.beside |= bit(disk);
                }
                apply::place(setting, state, m, path, file.content);
            } else {
                state.ledger.acknowledged |= bit(file.content);
                machine.listed &= setting.attributes || !setting.projection;
            }
        }
        Line::Removed(path) => {
            let path = *path as usize;
            if !machine.changed(path) {
                machine.disk[path] = 0;
            }
            machine.base[path] = None;
            machine.deletable[path] = true;
            machine.uploads[path] = None;
            machine.listed = !setting.projection;
        }
        Line::Release => {
            machine.closing = !setting.breaks(Mutation::CloseWithoutMark);
            machine.stage = Stage::Closing(0);
        }
        Line::Own | Line::Snapshot(_) | Line::Adopted(..) | Line::Beside(_) | Line::Drops(_) => {}
    }
}

/// Does what a machine does next on its own if every request is answered at once.
///
/// Returns `false` if nothing is left to do.
pub(crate) fn progress(setting: &Setting, state: &mut State, m: usize) -> bool {
    let machine = &mut state.machines[m];
    if !machine.out.is_empty() {
        let request = machine.out.remove(0);
        let accepted = crate::store::arrive(setting, state, &request);
        answer(setting, state, m, &request, accepted);
        return true;
    }
    let (stage, pending, listed) = (machine.stage, machine.pending.is_some(), machine.listed);
    match stage {
        Stage::Off | Stage::Fenced => open(setting, state, m),
        Stage::Owning => resend(state, m),
        Stage::Applying(..) => apply::step(setting, state, m),
        Stage::Closing(_) => super::close::step(state, m),
        Stage::Ready if pending => resend(state, m),
        Stage::Ready if !listed => super::projection::list(setting, state, m),
        Stage::Ready if changes::can_flush(state, m) => {
            changes::flush(setting, state, m);
        }
        Stage::Ready => return false,
    }
    true
}

/// Number of paths, as the journal counts them.
pub(crate) const LAST: u8 = PATHS as u8;
