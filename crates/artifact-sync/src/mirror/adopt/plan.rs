//! Plan of adoptions: the lines for external objects, and the paths that they get.

use sandbox_core::RelativePath;

use super::{Adoption, EXECUTABLE_MODE, External, MODE};
use crate::log::{Author, FileVersion, Hash, Line, Node, Origin, Token, unix_seconds};
use crate::mirror::place::conflict_path;
use crate::paths::{parents, under};
use crate::state::{Ledger, Version};

/// Returns the path at which an external object becomes a file. A file system cannot hold a file
/// and others below it, so the object gets another name then.
pub(super) fn place_of(ledger: &Ledger, object: &RelativePath, version: &Version) -> RelativePath {
    let nodes = &ledger.log().nodes;
    let text = object.as_str();
    let is_taken = |path: &str| {
        matches!(nodes.get(path), Some(Node::File(_) | Node::Symlink { .. }))
            || ledger.is_claimed(path)
    };
    let tag = Hash::of(format!("{version:?}").as_bytes());
    // The topmost one is the one that exists.
    if let Some(above) = parents(text).filter(|above| is_taken(above)).last()
        && let Ok(taken) = RelativePath::parse(above)
    {
        let renamed = format!("{}{}", conflict_path(&taken, tag), &text[above.len()..]);
        return RelativePath::parse(&renamed).unwrap_or_else(|_| object.clone());
    }
    let has_files_below = under(nodes, text).any(|(below, _)| below != text);
    if has_files_below { conflict_path(object, tag) } else { object.clone() }
}

/// Plans the lines that adopt an external object.
pub(super) fn plan_adoption(
    ledger: &Ledger,
    external: External,
    lines: &mut Vec<Line>,
) -> Option<Adoption> {
    let External { path: object, place, fetched, version, content, modified, is_executable } =
        external;
    let nodes = &ledger.log().nodes;
    let text = object.as_str();
    // What changed meanwhile is left to the next refresh.
    if place != place_of(ledger, &object, &version) {
        return None;
    }
    let before = ledger.log().file(text);
    let mode = before.map_or(if is_executable { EXECUTABLE_MODE } else { MODE }, |file| file.mode);
    let file = FileVersion {
        size: fetched.size,
        hash: fetched.hash,
        mode,
        modified,
        token: Token::random(),
        number: 0,
        content,
        origin: Origin::External,
        adopted: Some(Box::new(version.clone())),
    };
    if place != object {
        let path = place;
        let file = FileVersion { adopted: None, ..file };
        lines.push(Line::Adopted { path: text.to_owned(), version });
        if before.is_none() && !nodes.contains_key(text) {
            lines.push(Line::Removed {
                path: text.to_owned(),
                by: Author::Engine,
                at: unix_seconds(),
                number: 0,
            });
        }
        lines.push(Line::File { path: path.as_str().to_owned(), file: file.clone() });
        return Some(Adoption { path, object, fetched, file, beside: None });
    }
    lines.push(Line::File { path: text.to_owned(), file: file.clone() });
    // The other writer replaced the current version knowingly only if its object was seen.
    let unseen =
        before.filter(|before| ledger.seen(text).is_none_or(|seen| seen.token != before.token));
    let beside = unseen.map(|before| {
        let copy =
            FileVersion { token: Token::random(), number: 0, adopted: None, ..before.clone() };
        let path = conflict_path(&object, before.hash);
        lines.push(Line::File { path: path.as_str().to_owned(), file: copy.clone() });
        (path, copy)
    });
    Some(Adoption { path: object.clone(), object, fetched, file, beside })
}
