//! The projection and external changes: rules 3 and 4.

use super::append;
use crate::log;
use crate::settings::{Mutation, Setting};
use crate::state::{File, Line, Object, PATHS, Request, Snapshot, State, Token, bit};

/// Difference between the projection and the log at one path.
enum Difference {
    None,
    /// An object that we did not write.
    External(Object),
    /// The object of the path's current line is missing, and nothing of ours explains it.
    ExternalRemoval,
    /// An object to delete.
    Superfluous(Object),
    /// The object of the path's current line is missing, or an older one is in its place.
    Outdated(File, Option<Object>),
}

/// Lists the projection, appends external changes, and repairs the rest.
pub(crate) fn list(setting: &Setting, state: &mut State, m: usize) {
    let known = log::replay(setting, &state.log[..state.machines[m].position as usize]);
    let number = state.machines[m].position;
    let process = state.machines[m].process;
    let token = Token { number, machine: m as u8, process };
    state.machines[m].listed = true;
    if !setting.projection {
        return;
    }
    if shows_newer_entry(setting, state, m) {
        append::fence(state, m);
        return;
    }
    let (mut lines, mut requests) = (Vec::new(), Vec::new());
    for path in 0..PATHS {
        let difference = compare(setting, state, &known, m, path);
        state.machines[m].agrees[path] = matches!(difference, Difference::None);
        match difference {
            Difference::None => {}
            Difference::External(object) => {
                let other_adopted = lines.iter().any(|line| matches!(line, Line::File(..)));
                let occupied = setting.nested && (other_adopted || is_occupied(state, m, path));
                lines.extend(adopt(setting, state, m, path, object, token, occupied));
            }
            Difference::ExternalRemoval => {
                let machine = &mut state.machines[m];
                machine.seen[path] = None;
                if !machine.changed(path) {
                    lines.push(Line::Removed(path as u8));
                }
            }
            Difference::Superfluous(object) if can_delete(setting, state, m, path) => {
                requests.push(Request::Delete(path as u8, object.version.etag));
            }
            Difference::Superfluous(_) => lines.push(Line::Removed(path as u8)),
            Difference::Outdated(file, object) => {
                let other = state.objects[PATHS - 1 - path];
                if !setting.nested || other.is_none() {
                    let expected = object.map(|object| object.version.etag);
                    requests.push(Request::Put(path as u8, file, expected));
                }
            }
        }
    }
    if !lines.is_empty() {
        append::append(state, m, number, lines);
    }
    for request in requests {
        state.machines[m].send(request);
    }
}

/// Returns whether a marker names an entry after this machine's position.
///
/// Another owner wrote that entry, so this machine must not repair anything.
fn shows_newer_entry(setting: &Setting, state: &State, m: usize) -> bool {
    let position = state.machines[m].position;
    let mut markers = state.objects.iter().flatten().filter_map(|object| object.marker);
    !setting.breaks(Mutation::RepairNewerObjects) && markers.any(|token| token.number >= position)
}

fn compare(
    setting: &Setting,
    state: &mut State,
    known: &Snapshot,
    m: usize,
    path: usize,
) -> Difference {
    let machine = &mut state.machines[m];
    let current = machine.base[path];
    let Some(object) = state.objects[path] else {
        let Some(file) = current else {
            machine.seen[path] = None;
            return Difference::None;
        };
        let seen = machine.seen[path].is_some_and(|(token, _)| token == file.token);
        let seen = seen || setting.breaks(Mutation::TakeMissingForRemoved);
        if seen && known.removed[path].is_none() {
            return Difference::ExternalRemoval;
        }
        machine.seen[path] = None;
        return Difference::Outdated(file, None);
    };
    let etag = object.version.etag;
    let is_current = match current {
        Some(file) if setting.attributes && object.marker.is_some() => {
            object.marker == Some(file.token)
        }
        Some(file) => {
            file.adopted == Some(object.version) || {
                !setting.attributes && file.content == object.content
            }
        }
        None => false,
    };
    if let Some(file) = current.filter(|_| is_current) {
        machine.seen[path] = Some((file.token, etag));
        return Difference::None;
    }
    if !is_ours(setting, &state.log[..machine.position as usize], known, path, object) {
        return Difference::External(object);
    }
    match current {
        Some(file) => Difference::Outdated(file, Some(object)),
        None => Difference::Superfluous(object),
    }
}

/// Returns whether the log explains an object that is not the current one.
fn is_ours(
    setting: &Setting,
    log: &[crate::state::Numbered],
    known: &Snapshot,
    path: usize,
    object: Object,
) -> bool {
    let adopted = known.adopted.contains(&(path as u8, object.version));
    if object.marker.is_some() || adopted || setting.breaks(Mutation::TakeUnmarkedForOwn) {
        return true;
    }
    // Without markers, contents and times decide: a version from before the removal may be ours
    // only if the object is not later than the removal.
    let has_version =
        |from| log::versions(setting, log, path, from).any(|content| content == object.content);
    let ours = match known.removed[path] {
        Some(number) if !setting.breaks(Mutation::CompareTimesOnly) => {
            has_version(number + 1) || object.version.modified <= number && has_version(0)
        }
        Some(number) => object.version.modified <= number && has_version(0),
        None => has_version(0),
    };
    !setting.attributes && ours
}

/// Returns whether this epoch acknowledged the removal of a path.
fn can_delete(setting: &Setting, state: &State, m: usize, path: usize) -> bool {
    state.machines[m].deletable[path] || setting.breaks(Mutation::DeleteByOldRemoval)
}

/// Returns whether the other path, a directory above or a file below, is part of the session.
fn is_occupied(state: &State, m: usize, path: usize) -> bool {
    let (machine, other) = (&state.machines[m], PATHS - 1 - path);
    machine.disk[other] != 0 || machine.base[other].is_some()
}

/// Returns the lines that adopt an external object. The working copy changes with their answer.
fn adopt(
    setting: &Setting,
    state: &mut State,
    m: usize,
    path: usize,
    object: Object,
    token: Token,
    occupied: bool,
) -> Vec<Line> {
    let content = object.content;
    let adopted = Some(object.version);
    let line = Line::File(path as u8, File { content, token, blob: None, adopted });
    let machine = &mut state.machines[m];
    if occupied {
        // A working copy cannot hold both, so the external file gets another name.
        let aside = Line::Adopted(path as u8, object.version);
        let current = machine.base[path].map_or(0, |file| file.content);
        let beside = Line::Beside(bit(content) | bit(current));
        return vec![aside, Line::Removed(path as u8), beside];
    }
    if setting.breaks(Mutation::ApplyBeforeAppend) {
        machine.disk[path] = content;
    }
    let knows_all = setting.breaks(Mutation::OverwriteUnseen);
    match machine.base[path] {
        Some(file)
            if !knows_all && machine.seen[path].is_none_or(|(token, _)| token != file.token) =>
        {
            // The other writer did not see the current version.
            vec![line, Line::Beside(bit(file.content))]
        }
        _ => vec![line],
    }
}
