//! Reading the log.

use std::rc::Rc;

use crate::settings::{Mutation, Setting};
use crate::state::{Content, Entry, File, Line, Numbered, PATHS, Snapshot, Token};

/// Returns the oldest number whose entry is connected to the end by an unbroken chain of hashes.
pub(crate) fn oldest(setting: &Setting, log: &[Numbered]) -> usize {
    let readable = |numbered: &Numbered| match numbered {
        Numbered::Entry(_) => true,
        Numbered::Deleted => false,
        Numbered::Recreated(_) => setting.breaks(Mutation::CountRecreatedNumbers),
    };
    log.iter().rposition(|numbered| !readable(numbered)).map_or(0, |gap| gap + 1)
}

/// Returns the entries that a reader trusts, with their numbers.
pub(crate) fn entries<'a>(
    setting: &Setting,
    log: &'a [Numbered],
) -> impl Iterator<Item = (usize, &'a Entry)> {
    let first = match setting.breaks(Mutation::CountRecreatedNumbers) {
        true => 0,
        false => oldest(setting, log),
    };
    log.iter().enumerate().skip(first).filter_map(|(number, numbered)| match numbered {
        Numbered::Entry(entry) | Numbered::Recreated(entry) => Some((number, &**entry)),
        Numbered::Deleted => None,
    })
}

/// Returns whether the log can be replayed: it has its first entry or a snapshot.
pub(crate) fn is_complete(setting: &Setting, log: &[Numbered]) -> bool {
    let is_snapshot = |line: &Line| matches!(line, Line::Snapshot(_));
    entries(setting, log).any(|(number, entry)| number == 0 || entry.lines.iter().any(is_snapshot))
}

/// Returns the complete state that the log describes.
pub(crate) fn replay(setting: &Setting, log: &[Numbered]) -> Snapshot {
    let mut state = Snapshot::default();
    for (number, entry) in entries(setting, log) {
        for line in &entry.lines {
            match line {
                Line::Own | Line::Release | Line::Beside(_) | Line::Drops(_) => {}
                Line::File(path, file) => {
                    state.files[*path as usize] = Some(*file);
                    state.adopted.extend(file.adopted.map(|version| (*path, version)));
                }
                Line::Removed(path) => {
                    state.files[*path as usize] = None;
                    state.removed[*path as usize] = Some(number as u8);
                }
                Line::Adopted(path, version) => state.adopted.push((*path, *version)),
                Line::Snapshot(snapshot) => state = snapshot.clone(),
            }
        }
    }
    state
}

/// Returns all versions of a path in the entries from a number.
pub(crate) fn versions(
    setting: &Setting,
    log: &[Numbered],
    path: usize,
    from: u8,
) -> impl Iterator<Item = Content> {
    entries(setting, log).filter(move |(number, _)| *number >= from as usize).flat_map(
        move |(_, entry)| {
            entry.lines.iter().filter_map(move |line| match line {
                Line::File(of, file) if *of as usize == path => Some(file.content),
                Line::Snapshot(snapshot) => snapshot.files[path].map(|file| file.content),
                _ => None,
            })
        },
    )
}

/// Returns whether another machine became the owner after the number.
pub(crate) fn owned_by_another(log: &[Numbered], machine: usize, after: u8, before: u8) -> bool {
    let between = log.get(after as usize + 1..before as usize).unwrap_or_default();
    between.iter().any(|numbered| match numbered {
        Numbered::Entry(entry) => is_own_of_another(entry, machine),
        Numbered::Deleted | Numbered::Recreated(_) => false,
    })
}

fn is_own_of_another(entry: &Entry, machine: usize) -> bool {
    entry.token.machine as usize != machine && entry.lines.contains(&Line::Own)
}

/// Returns the entry that a process of a machine would write under a number.
pub(crate) fn entry(number: u8, machine: usize, process: u8, lines: Vec<Line>) -> Rc<Entry> {
    Rc::new(Entry { token: Token { number, machine: machine as u8, process }, lines })
}

/// Returns the files of all trusted entries from a number.
pub(crate) fn files(
    setting: &Setting,
    log: &[Numbered],
    from: usize,
) -> impl Iterator<Item = File> {
    entries(setting, log)
        .filter(move |(number, _)| *number >= from)
        .flat_map(|(_, entry)| entry.lines.iter().flat_map(files_of))
}

/// Returns the files that a line names.
pub(crate) fn files_of(line: &Line) -> impl Iterator<Item = File> + use<> {
    let files = match line {
        Line::File(_, file) => [Some(*file), None],
        Line::Snapshot(snapshot) => snapshot.files,
        _ => [None; PATHS],
    };
    files.into_iter().flatten()
}
