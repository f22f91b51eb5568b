//! Changes by the agent: rule 1.

use super::append;
use crate::log;
use crate::settings::{Mutation, Setting};
use crate::state::{
    Blob, Content, Contents, File, Line, PATHS, Request, Stage, State, StoredBlob, Token, bit,
};

/// The agent writes a file; in nested settings, it removes the other path first.
pub(crate) fn write(setting: &Setting, state: &mut State, m: usize, path: usize) {
    let content = setting.budget.writes - state.budget.writes + 1;
    state.budget.writes -= 1;
    if setting.nested {
        drop_content(state, m, PATHS - 1 - path);
    }
    // The new version outlives this call in any case, so the old one is replaced already.
    drop_content(state, m, path);
    state.ledger.replaced |= state.machines[m].dropped[path];
    state.machines[m].disk[path] = content;
    state.ledger.written |= bit(content);
}

/// The agent removes a file.
pub(crate) fn remove(setting: &Setting, state: &mut State, m: usize, path: usize) {
    state.budget.removals -= 1;
    let content = state.machines[m].disk[path];
    drop_content(state, m, path);
    let machine = &mut state.machines[m];
    let sent = machine.pending.is_some() && !setting.breaks(Mutation::IgnoreUnansweredEntries);
    if machine.base[path].is_none() && !sent {
        // The log does not know the file, so there is nothing to append.
        if let Some((number, entry)) = machine.pending.take() {
            let request = Request::Append(number, entry);
            machine.out.retain(|other| *other != request);
            state.delay(request);
        }
        state.machines[m].dropped[path] &= !bit(content);
        state.ledger.removed |= bit(content);
    }
}

/// Removes a content from the working copy. An acknowledged one is replaced with its entry.
fn drop_content(state: &mut State, m: usize, path: usize) {
    let machine = &mut state.machines[m];
    let content = std::mem::take(&mut machine.disk[path]);
    machine.dropped[path] |= bit(content);
    if state.ledger.acknowledged & bit(content) == 0 {
        state.ledger.replaced |= bit(content);
    }
}

/// Returns whether a machine has changes to store and may begin.
pub(crate) fn can_flush(state: &State, m: usize) -> bool {
    let machine = &state.machines[m];
    machine.stage == Stage::Ready
        && machine.pending.is_none()
        && machine.out.is_empty()
        && machine.any_changed()
}

/// Uploads missing blobs; with all blobs in the store, appends one entry for all changes.
pub(crate) fn flush(setting: &Setting, state: &mut State, m: usize) {
    let mut ready = true;
    for path in 0..PATHS {
        let machine = &state.machines[m];
        let content = machine.disk[path];
        if content == 0 || setting.inline || !machine.changed(path) {
            continue;
        }
        if uploaded(setting, state, m, path).is_none() {
            upload(setting, state, m, path, content);
            ready = false;
        }
    }
    if ready {
        append_changes(setting, state, m);
    }
}

/// Returns the blob of a path if an entry of this epoch may reference it.
fn uploaded(setting: &Setting, state: &State, m: usize, path: usize) -> Option<Blob> {
    let machine = &state.machines[m];
    let (content, blob, epoch) = machine.uploads[path]?;
    let interrupted = || {
        log::oldest(setting, &state.log) > epoch as usize
            || log::owned_by_another(&state.log, m, epoch, machine.epoch)
    };
    let usable = setting.breaks(Mutation::ReferenceUploadsOfEarlierEpochs) || !interrupted();
    (content == machine.disk[path] && usable).then_some(blob)
}

fn upload(setting: &Setting, state: &mut State, m: usize, path: usize, content: Content) {
    let day = state.day;
    let machine = &mut state.machines[m];
    machine.uploaded += 1;
    let name = match setting.breaks(Mutation::ReuseBlobNames) {
        true => Blob(u8::MAX, path as u8),
        false => Blob(m as u8, machine.uploaded),
    };
    machine.send(Request::PutBlob(path as u8, StoredBlob { name, content, day }));
}

fn append_changes(setting: &Setting, state: &mut State, m: usize) {
    let machine = &state.machines[m];
    let number = machine.position;
    let token = Token { number, machine: m as u8, process: machine.process };
    let changed = |path: &usize| machine.changed(*path);
    let (mut lines, mut requests) = (Vec::new(), Vec::new());
    for path in (0..PATHS).filter(changed).filter(|path| machine.disk[*path] == 0) {
        lines.push(Line::Removed(path as u8));
        if setting.breaks(Mutation::DeleteBeforeAcknowledgement)
            && let Some((_, etag)) = machine.seen[path]
        {
            requests.push(Request::Delete(path as u8, etag));
        }
    }
    for path in (0..PATHS).filter(changed).filter(|path| machine.disk[*path] != 0) {
        let blob = uploaded(setting, state, m, path).filter(|_| !setting.inline);
        let file = File { content: machine.disk[path], token, blob, adopted: None };
        lines.push(Line::File(path as u8, file));
        // Removals go before creations, so the other path's DELETE comes first.
        let waits = setting.nested && machine.base[PATHS - 1 - path].is_some();
        // Without a marker, an object whose entry was never stored looks like an external one.
        let early = setting.attributes || setting.breaks(Mutation::PutUnmarkedEarly);
        if setting.projection && !waits && early {
            let expected = machine.seen[path].map(|(_, etag)| etag);
            requests.push(Request::Put(path as u8, file, expected));
        }
    }
    let sent: [Contents; PATHS] =
        std::array::from_fn(|path| if changed(&path) { machine.dropped[path] } else { 0 });
    if sent != [0; PATHS] {
        lines.push(Line::Drops(sent.iter().fold(0, |all, some| all | some)));
    }
    append::append(state, m, number, lines);
    let machine = &mut state.machines[m];
    machine.sent_drops = sent;
    for (dropped, sent) in machine.dropped.iter_mut().zip(sent) {
        *dropped &= !sent;
    }
    for request in requests {
        machine.send(request);
    }
}
