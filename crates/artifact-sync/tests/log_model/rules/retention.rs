//! History and garbage: rule 11.

use super::append;
use crate::log;
use crate::settings::{Mutation, Setting};
use crate::state::{Blob, Line, PATHS, Request, Snapshot, State};

/// Lists blobs and appends the snapshot that fences their deletion.
pub(crate) fn collect(setting: &Setting, state: &mut State, m: usize) {
    state.budget.collections -= 1;
    let any_age = setting.breaks(Mutation::CollectIgnoringAge);
    let machine = &state.machines[m];
    let listed = state
        .blobs
        .iter()
        .filter(|blob| any_age || blob.day < state.day)
        .map(|blob| blob.name)
        .filter(|name| machine.uploads.iter().flatten().all(|(_, blob, _)| blob != name));
    let listed: Vec<Blob> = listed.collect();
    let number = machine.position;
    if setting.breaks(Mutation::CollectWithoutSnapshot) {
        delete_unreferenced(setting, state, m, &listed, 0, number);
        return;
    }
    state.machines[m].garbage = Some(listed);
    let snapshot = snapshot(setting, state, m);
    append::append(state, m, number, vec![Line::Snapshot(snapshot)]);
}

/// Returns the complete state that this machine knows, with the records that are still needed.
pub(crate) fn snapshot(setting: &Setting, state: &State, m: usize) -> Snapshot {
    let machine = &state.machines[m];
    let mut snapshot = log::replay(setting, &state.log[..machine.position as usize]);
    for path in 0..PATHS {
        let is_old = snapshot.removed[path].is_none_or(|number| number < state.old_entries);
        if machine.agrees[path] && is_old || setting.breaks(Mutation::ForgetRemovals) {
            snapshot.removed[path] = None;
            // The current file's object stays recorded: it is still there after a removal.
            let current = snapshot.files[path].and_then(|file| file.adopted);
            let current = current.filter(|_| !setting.breaks(Mutation::ForgetCurrentAdoption));
            snapshot
                .adopted
                .retain(|(of, version)| *of as usize != path || Some(*version) == current);
        }
    }
    snapshot
}

/// Deletes what the acknowledged snapshot made superfluous.
pub(crate) fn delete_garbage(setting: &Setting, state: &mut State, m: usize, number: u8) {
    let Some(listed) = state.machines[m].garbage.take() else { return };
    let below = match setting.breaks(Mutation::CollectIgnoringAge) {
        true => number,
        false => state.old_entries.min(number),
    };
    state.machines[m].send(Request::DeleteEntries(below));
    delete_unreferenced(setting, state, m, &listed, below, number + 1);
}

/// Deletes the listed blobs that no entry in a range of the log references.
fn delete_unreferenced(
    setting: &Setting,
    state: &mut State,
    m: usize,
    listed: &[Blob],
    from: u8,
    end: u8,
) {
    let log = &state.log[..end as usize];
    let referenced: Vec<Option<Blob>> =
        log::files(setting, log, from as usize).map(|file| file.blob).collect();
    for blob in listed.iter().filter(|blob| !referenced.contains(&Some(**blob))) {
        state.machines[m].send(Request::DeleteBlob(*blob));
    }
}
