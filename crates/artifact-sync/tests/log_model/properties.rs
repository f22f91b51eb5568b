//! The guarantees: nothing acknowledged is lost, nothing removed returns, and all copies converge.

use crate::log;
use crate::rules::append;
use crate::settings::Setting;
use crate::state::{Contents, Numbered, PATHS, Stage, State, bit};
use crate::store::EXTERNAL;

/// Number of steps after which a machine without new events must be quiet.
const SETTLED: usize = 60;

/// Returns the guarantee that a state violates.
pub(crate) fn violation(setting: &Setting, state: &State) -> Option<String> {
    if state.ledger.acknowledged_late {
        return Some("an entry was acknowledged after another owner's `own`".to_owned());
    }
    if let Some(violation) = lost(setting, state) {
        return Some(violation);
    }
    let idle = state.machines.iter().all(|machine| {
        let settled = match machine.stage {
            Stage::Off | Stage::Fenced => true,
            Stage::Ready => machine.listed && machine.pending.is_none(),
            Stage::Owning | Stage::Applying(..) | Stage::Closing(_) => false,
        };
        settled && machine.out.is_empty()
    });
    // Late requests may never arrive, so the machines settle without them too.
    if !idle {
        return None;
    }
    let orders = [[0, 1, 0], [1, 0, 1]];
    orders.iter().find_map(|order| unsettled(setting, state, order))
}

/// Checks that every promised content exists in this very state.
fn lost(setting: &Setting, state: &State) -> Option<String> {
    let ledger = &state.ledger;
    let external = external_objects(state);
    let stored = history(state) | external | ledger.beside | ledger.replaced;
    let lost = ledger.acknowledged & !stored;
    if lost != 0 {
        return Some(format!("acknowledged contents {} are lost", list(lost)));
    }
    let disks = disks(state);
    let lost = ledger.written & !stored & !disks;
    if lost != 0 {
        return Some(format!("written contents {} are nowhere", list(lost)));
    }
    let current = log::replay(setting, &state.log).files;
    let broken = current
        .iter()
        .flatten()
        .find(|file| file.blob.is_some_and(|blob| !state.has_blob(blob, file.content)));
    broken.map(|file| format!("the blob of the current content {} is gone", file.content))
}

/// Returns the contents that the retained log holds.
fn history(state: &State) -> Contents {
    let entries = state.log.iter().filter_map(|numbered| match numbered {
        Numbered::Entry(entry) => Some(entry),
        Numbered::Deleted | Numbered::Recreated(_) => None,
    });
    let files = entries.flat_map(|entry| entry.lines.iter()).flat_map(log::files_of);
    files
        .filter(|file| file.blob.is_none_or(|blob| state.has_blob(blob, file.content)))
        .fold(0, |contents, file| contents | bit(file.content))
}

/// Returns the contents of another program's objects in the projection.
fn external_objects(state: &State) -> Contents {
    let objects = state.objects.iter().flatten();
    objects
        .filter(|object| object.content >= EXTERNAL && object.marker.is_none())
        .fold(0, |contents, object| contents | bit(object.content))
}

fn disks(state: &State) -> Contents {
    let disks = state.machines.iter().flat_map(|machine| machine.disk);
    disks.fold(0, |contents, content| contents | bit(content))
}

/// Lets the machines open the session in turn without further events, and checks the result.
fn unsettled(setting: &Setting, state: &State, order: &[usize; 3]) -> Option<String> {
    let mut state = state.clone();
    for &m in order {
        let machine = &mut state.machines[m];
        machine.out.clear();
        machine.stop(Stage::Off);
        append::open(setting, &mut state, m);
        let quiet = (0..SETTLED).any(|_| !append::progress(setting, &mut state, m));
        if !quiet {
            return Some(format!("machine {m} never settles (order {order:?})"));
        }
    }
    let problem = lost(setting, &state).or_else(|| diverged(setting, &state))?;
    Some(format!("after settling in the order {order:?}, {problem}"))
}

fn diverged(setting: &Setting, state: &State) -> Option<String> {
    let files = log::replay(setting, &state.log).files;
    let current: [_; PATHS] = files.map(|file| file.map_or(0, |file| file.content));
    let objects = state.objects.map(|object| object.map_or(0, |object| object.content));
    let ledger = &state.ledger;
    let mut live = 0;
    for machine in &state.machines {
        if machine.disk != current {
            return Some(format!("a working copy {:?} is not the log {current:?}", machine.disk));
        }
        live = machine.disk.iter().fold(live, |contents, content| contents | bit(*content));
    }
    if live & ledger.removed != 0 {
        return Some(format!("removed contents {} returned", list(live & ledger.removed)));
    }
    if setting.projection && objects != current {
        return Some(format!("the projection {objects:?} is not the log {current:?}"));
    }
    let gone = ledger.written & !(live | ledger.beside | ledger.replaced);
    (gone != 0).then(|| format!("contents {} are in history only", list(gone)))
}

fn list(contents: Contents) -> String {
    let contents = (1..16).filter(|content| contents & bit(*content) != 0);
    format!("{:?}", contents.collect::<Vec<u8>>())
}
