//! Effects of requests and of external writers on the store.

use crate::settings::{Mutation, Setting};
use crate::state::{Content, Line, Numbered, Object, PATHS, Request, State, Token, Version, bit};

/// Contents of the external writer begin with this number.
pub(crate) const EXTERNAL: Content = 8;

/// Applies a request to the store, and returns whether the store accepted it.
pub(crate) fn arrive(setting: &Setting, state: &mut State, request: &Request) -> bool {
    match request {
        Request::Append(number, entry) => {
            let number = *number as usize;
            assert!(number <= state.log.len(), "a number is tried only if the one before exists");
            match state.log.get_mut(number) {
                None => {
                    state.log.push(Numbered::Entry(entry.clone()));
                    keep_promises(state, &entry.lines);
                }
                Some(numbered) if *numbered == Numbered::Deleted => {
                    *numbered = Numbered::Recreated(entry.clone());
                }
                Some(_) => return false,
            }
        }
        Request::PutBlob(_, blob) => {
            let mut blob = *blob;
            if !setting.multipart {
                blob.day = state.day;
            }
            state.blobs.retain(|other| other.name != blob.name);
            let place = state.blobs.binary_search(&blob).unwrap_or_else(|place| place);
            state.blobs.insert(place, blob);
        }
        Request::Put(path, file, expected) => {
            let path = *path as usize;
            let found = state.objects[path].map(|object| object.version.etag);
            let conditional = !setting.breaks(Mutation::PutUnconditionally);
            if conditional && found != *expected || blocked(setting, state, path) {
                return false;
            }
            put(setting, state, path, file.content, Some(file.token));
        }
        Request::Delete(path, expected) => {
            let path = *path as usize;
            let Some(object) = state.objects[path] else { return true };
            if object.version.etag != *expected {
                if setting.conditional_delete {
                    return false;
                }
                // The documented window of stores without conditional DELETE.
                if object.content >= EXTERNAL {
                    state.ledger.replaced |= bit(object.content);
                }
            }
            state.objects[path] = None;
        }
        Request::DeleteBlob(name) => state.blobs.retain(|blob| blob.name != *name),
        Request::DeleteEntries(below) => {
            for numbered in &mut state.log[..*below as usize] {
                *numbered = Numbered::Deleted;
            }
        }
    }
    true
}

/// Records which contents an entry of the log keeps beside and which it replaces.
fn keep_promises(state: &mut State, lines: &[Line]) {
    for line in lines {
        match line {
            Line::Beside(contents) => state.ledger.beside |= contents,
            Line::Drops(contents) => state.ledger.replaced |= contents,
            _ => {}
        }
    }
}

/// Returns whether a file system holds the other path, which is a directory above or a file below.
pub(crate) fn blocked(setting: &Setting, state: &State, path: usize) -> bool {
    setting.nested && !setting.attributes && state.objects[PATHS - 1 - path].is_some()
}

fn put(
    setting: &Setting,
    state: &mut State,
    path: usize,
    content: Content,
    token: Option<Token>,
) -> u8 {
    state.etags += 1;
    let etag = if setting.equal_etags { content } else { state.etags };
    if setting.equal_etags {
        state.etags = 0;
    }
    let version = Version { etag, modified: state.end() };
    let marker = token.filter(|_| setting.attributes);
    state.objects[path] = Some(Object { content, marker, version });
    etag
}

/// Another program writes an object. No two writes have equal bytes.
pub(crate) fn put_externally(setting: &Setting, state: &mut State, path: usize) {
    let content = EXTERNAL + setting.budget.external_puts - state.budget.external_puts;
    state.budget.external_puts -= 1;
    if let Some(object) = state.objects[path] {
        state.ledger.replaced |= bit(object.content);
    }
    put(setting, state, path, content, None);
    state.ledger.written |= bit(content);
}

/// Another program deletes an object.
pub(crate) fn delete_externally(state: &mut State, path: usize) {
    if let Some(object) = state.objects[path].take() {
        state.ledger.replaced |= bit(object.content);
    }
}
